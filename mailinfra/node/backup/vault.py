"""What a node is told of a vault: `backup/vault.json` in the control bucket, checked strictly."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "backup/vault.json"
"""Where the vault of the region's own mail is told of, in the region's control bucket."""
OTHERS = "backup/vaults/"
"""Below it, named `<region>.json`, the vaults of the regions whose mail this region's nodes follow: they may read."""
GENERATION_DAYS = 30
"""A repository is continued for so long; then the next generation begins, with a whole copy of the mail."""
NAME = re.compile(r"[A-Za-z0-9._:/*@-]{1,512}")
ENDPOINT = re.compile(r"(?:https://[a-z0-9.-]+(?::\d{1,5})?)?")


@dataclass(frozen=True)
class Vault:
    """A locked bucket, who may come in and how, and how it is used."""

    cloud: str
    region: str
    bucket: str
    key: str
    """The KMS key that wraps the repositories' passwords: its ARN, or its resource name at Google."""
    access: Mapping[str, str]
    """AWS: `role` and `audience`; Google: `audience`; nothing where the node's own identity is known there."""
    endpoints: Mapping[str, str]
    """`storage`, `kms` and `sts`, empty for the public ones."""
    rpo_minutes: int
    retention_days: int
    verify_hours: int


def key(source: str, own: str) -> str:
    """Where nodes of the region `own` are told of the vault with the mail of the region `source`."""
    return KEY if source == own else f"{OTHERS}{source}.json"


def parse(data: bytes) -> Vault:
    """The vault that a JSON object describes. `ValueError` says what is wrong."""
    return from_json(json.loads(data))


def from_json(known: Any) -> Vault:
    """The vault that plain data describes. `ValueError` says what is wrong."""
    if not isinstance(known, dict):
        raise ValueError("vault: not an object")
    if known.get("cloud") not in ("aws", "gcp"):
        raise ValueError(f"vault: cloud is {known.get('cloud')!r}, not aws or gcp")
    texts = {name: _text(known, name, NAME) for name in ("region", "bucket", "key")}
    access = {name: _text(_object(known, "access"), name, NAME) for name in _object(known, "access")}
    endpoints = {
        name: _text(_object(known, "endpoints"), name, ENDPOINT) for name in _object(known, "endpoints")
    }
    if access and ("audience" not in access or (known["cloud"] == "aws" and "role" not in access)):
        raise ValueError(f"vault: access has {sorted(access)}")
    bounds = {"rpo_minutes": (1, 1440), "retention_days": (1, 3650), "verify_hours": (1, 8760)}
    numbers = {name: _number(known, name, low, high) for name, (low, high) in bounds.items()}
    return Vault(
        cloud=known["cloud"],
        region=texts["region"],
        bucket=texts["bucket"],
        key=texts["key"],
        access=access,
        endpoints=endpoints,
        rpo_minutes=numbers["rpo_minutes"],
        retention_days=numbers["retention_days"],
        verify_hours=numbers["verify_hours"],
    )


def _object(known: dict[str, Any], name: str) -> dict[str, Any]:
    value = known.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"vault: {name} is {value!r}")
    return value


def _text(known: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = known.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"vault: {name} is {value!r}")
    return value


def _number(known: dict[str, Any], name: str, low: int, high: int) -> int:
    value = known.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"vault: {name} is {value!r}, not {low} to {high}")
    return value
