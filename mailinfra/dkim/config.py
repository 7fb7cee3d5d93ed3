"""The milter's config: a JSON file, checked, and turned into one signing identity for each domain."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailinfra.dkim.pool import Pool
from mailinfra.dkim.signers import load

DEFAULTS: dict[str, Any] = {
    "require_auth": False,
    "match_sender": False,
    "deadline": 20.0,
    "life": 0,
    "header_bytes": 1 << 20,
    "header_fields": 1000,
}
KEY_DEFAULTS: dict[str, Any] = {"concurrency": 32}


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


def take(table: Any, path: str, kinds: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a JSON object with defaults filled in, each of its kind. Raises `ValueError`."""
    if not isinstance(table, dict):
        raise ValueError(f"{path}: found {table!r}; allowed: an object")
    if unknown := sorted(table.keys() - kinds):
        raise ValueError(f"{path}.{unknown[0]}: unknown; allowed: {', '.join(kinds)}")
    values = {**defaults, **table}
    for name, kind in kinds.items():
        if name not in values:
            raise ValueError(f"{path}.{name}: missing")
        value = values[name]
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not right or (kind in (int, (int, float)) and (value < 0 or (not value and name != "life"))):
            wanted = "a positive number" if kind in (int, (int, float)) else kind.__name__
            raise ValueError(f"{path}.{name}: found {value!r}; allowed: {wanted}")
    return values


def unicode(domain: str) -> str:
    """Return a domain with its IDNA labels (`xn--`) decoded (RFC 5891 4.4, RFC 3492)."""
    labels = domain.split(".")
    return ".".join(
        label[4:].encode().decode("punycode") if label.startswith("xn--") else label for label in labels
    )


def read(path: Path) -> Config:
    """Return the config in a file. Raises `ValueError` or `OSError` that names what is wrong."""
    number = (int, float)
    kinds: dict[str, Any] = {"listen": str, "require_auth": bool, "match_sender": bool}
    kinds |= {"deadline": number, "life": int, "header_bytes": int, "header_fields": int, "keys": list}
    values = take(json.loads(path.read_text()), "config", kinds, DEFAULTS)
    identities: dict[str, Identity] = {}
    for index, item in enumerate(values.pop("keys")):
        place = f"config.keys[{index}]"
        key = take(
            item, place, {"selector": str, "domains": list, "signer": dict, "concurrency": int}, KEY_DEFAULTS
        )
        try:
            pool = Pool(load(key["signer"]), key["concurrency"], values["deadline"])
        except ValueError as error:
            raise ValueError(f"{place}.signer: {error}") from error
        for domain in map(str.lower, key["domains"]):
            if domain in identities:
                raise ValueError(f"{place}.domains: {domain} has a key already")
            identity = Identity(domain, key["selector"], pool)
            identities |= {domain: identity, unicode(domain): identity}
    if not identities:
        raise ValueError("config.keys: no domain; at least one is needed")
    return Config(identities=identities, **values)
