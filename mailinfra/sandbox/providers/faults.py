"""Faults on demand, for the tests that show that an `up` after one recovers.

`MAILINFRA_SANDBOX_FAULTS` holds rules separated by `;`, each `<operation> <type> <fault>`: the operation is
create, read, update or delete; the type a token or `*`; the fault one of

- `error`: the cloud refuses the call;
- `error-after`: the call is done in the cloud, then its set-up fails;
- `die`: the plugin dies before the call;
- `die-after`: the plugin dies when the call was done and before the engine hears of it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mailinfra.sandbox.providers.errors import ProviderError

VARIABLE = "MAILINFRA_SANDBOX_FAULTS"
OPERATIONS = ("create", "read", "update", "delete")
KINDS = ("error", "error-after", "die", "die-after")
EXIT_CODE = 71


@dataclass(frozen=True)
class Fault:
    """One rule."""

    operation: str
    token: str
    kind: str


def parse(text: str) -> tuple[Fault, ...]:
    """The rules in a text. Raises `ProviderError` naming what is wrong and what is allowed."""
    faults = []
    for rule in filter(None, (part.strip() for part in text.split(";"))):
        words = rule.split()
        if len(words) != 3 or words[0] not in OPERATIONS or words[2] not in KINDS:
            raise ProviderError(
                f"{VARIABLE}: found {rule!r}; allowed: <{'|'.join(OPERATIONS)}> <type or *> <{'|'.join(KINDS)}>"
            )
        faults.append(Fault(*words))
    return tuple(faults)


def from_environment(environment: Mapping[str, str] = os.environ) -> tuple[Fault, ...]:
    """The rules that the environment asks for."""
    return parse(environment.get(VARIABLE, ""))


def find(faults: tuple[Fault, ...], operation: str, token: str) -> str | None:
    """The fault for an operation on a type, if any."""
    return next((f.kind for f in faults if f.operation == operation and f.token in {"*", token}), None)


def before(kind: str | None, operation: str, token: str) -> None:
    """Called before the cloud is."""
    if kind == "die":
        os._exit(EXIT_CODE)
    if kind == "error":
        raise ProviderError(f"{operation} {token}: InternalError: a fault that {VARIABLE} asked for")


def after(kind: str | None) -> bool:
    """Called when the cloud has done its part; whether the set-up is to fail."""
    if kind == "die-after":
        os._exit(EXIT_CODE)
    return kind == "error-after"
