"""The milter's config: a JSON file, checked, and turned into one signing identity for each domain."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailinfra.dkim.pool import Pool
from mailinfra.dkim.signers import load

KINDS: dict[str, type] = {
    "listen": str,
    "keys": list,
    "require_auth": bool,
    "match_sender": bool,
    "deadline": float,
    "life": int,
    "header_bytes": int,
    "header_fields": int,
}
DEFAULTS: dict[str, Any] = {
    "require_auth": False,
    "match_sender": False,
    "deadline": 20.0,
    "life": 0,
    "header_bytes": 1 << 20,
    "header_fields": 1000,
}
KEY_KINDS: dict[str, type] = {"selector": str, "domains": list, "signer": dict, "concurrency": int}
KEY_DEFAULTS = {"concurrency": 32}


@dataclass(frozen=True)
class Identity:
    """As whom, and with which HSM, a domain's mail is signed."""

    domain: str
    selector: str
    pool: Pool


@dataclass(frozen=True)
class Config:
    """What the config file says.

    `listen` is `unix:/path` or `inet:host:port`. `require_auth` and `match_sender` are `auth` and `match` of
    `policy.judge`. `deadline` is the most seconds that a signature may take, `life` the seconds until it
    expires (0: never). A message with more than `header_bytes` or `header_fields` is refused.
    """

    listen: str
    require_auth: bool
    match_sender: bool
    deadline: float
    life: int
    header_bytes: int
    header_fields: int
    identities: Mapping[str, Identity]
    """By domain, in lower case; a domain with IDNA labels is here in both forms (RFC 8616)."""


def take(table: Any, path: str, kinds: Mapping[str, type], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a JSON object with defaults filled in, each of its kind. Raises `ValueError`."""
    if not isinstance(table, dict):
        raise ValueError(f"{path}: found {table!r}; allowed: an object")
    values = {**defaults, **table}
    for name in [*kinds, *table]:
        if name not in kinds:
            raise ValueError(f"{path}.{name}: unknown; allowed: {', '.join(kinds)}")
        if name not in values:
            raise ValueError(f"{path}.{name}: missing")
        value, kind = values[name], kinds[name]
        number = type(value) in (int, kind) and kind in (int, float)
        if not ((value > 0 or (name == "life" and value == 0)) if number else type(value) is kind):
            wanted = f"a positive {kind.__name__}" if kind in (int, float) else kind.__name__
            raise ValueError(f"{path}.{name}: found {value!r}; allowed: {wanted}")
    return values


def word(value: Any, path: str) -> str:
    """Return a domain or selector in lower case: LDH names, internationalised ones as A-labels. See `take`."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w.-]+", value, re.ASCII):
        raise ValueError(
            f"{path}: found {value!r}; allowed: letters, digits, '-', '_', '.' (xn-- for others)"
        )
    return value.lower()


def unicode(domain: str) -> str:
    """Return a domain with its A-labels (`xn--`) decoded (RFC 5890 2.3.2.1, RFC 3492)."""
    labels = domain.split(".")
    return ".".join(
        label[4:].encode().decode("punycode") if label.startswith("xn--") else label for label in labels
    )


def read(path: Path) -> Config:
    """Return the config in a file. Raises `ValueError` or `OSError` that names what is wrong."""
    values = take(json.loads(path.read_text()), "config", KINDS, DEFAULTS)
    identities: dict[str, Identity] = {}
    for index, item in enumerate(values.pop("keys")):
        place = f"config.keys[{index}]"
        key = take(item, place, KEY_KINDS, KEY_DEFAULTS)
        selector = word(key["selector"], f"{place}.selector")
        try:
            pool = Pool(load(key["signer"]), key["concurrency"], values["deadline"])
        except ValueError as error:
            raise ValueError(f"{place}.signer: {error}") from error
        for number, name in enumerate(key["domains"]):
            here = f"{place}.domains[{number}]"
            domain = word(name, here)
            if domain in identities:
                raise ValueError(f"{here}: {domain} has a key already")
            identity = Identity(domain, selector, pool)
            try:
                identities |= {domain: identity, unicode(domain): identity}
            except UnicodeError:
                raise ValueError(f"{here}: found {name!r}; allowed: A-labels that decode") from None
    if not identities:
        raise ValueError("config.keys: no domain; at least one is needed")
    return Config(identities=identities, **values)
