"""What a KMS key is for, as its type says it. Sources: the API references of AWS KMS and Cloud KMS."""

import re
from enum import StrEnum

from mailinfra_policy.resource import Resource
from mailinfra_policy.values import UNKNOWN, Unknown, Value

AWS_KEY = "aws:kms/key:Key"
AWS_REPLICA = "aws:kms/replicaKey:ReplicaKey"
AWS_EXTERNAL = "aws:kms/externalKey:ExternalKey"
AWS_EXTERNAL_REPLICA = "aws:kms/replicaExternalKey:ReplicaExternalKey"
GCP_KEY = "gcp:kms/cryptoKey:CryptoKey"
DAY = 86_400
"""Seconds."""


class Purpose(StrEnum):
    """What a key does."""

    ENCRYPTS = "encrypts"
    SIGNS = "signs"
    OTHER = "other"


_PURPOSES = {
    "ENCRYPT_DECRYPT": Purpose.ENCRYPTS,
    "SIGN_VERIFY": Purpose.SIGNS,
    "ASYMMETRIC_SIGN": Purpose.SIGNS,
    "GENERATE_VERIFY_MAC": Purpose.OTHER,
    "KEY_AGREEMENT": Purpose.OTHER,
    "MAC": Purpose.OTHER,
    "ASYMMETRIC_DECRYPT": Purpose.OTHER,
    "RAW_ENCRYPT_DECRYPT": Purpose.OTHER,
    "KEY_ENCAPSULATION": Purpose.OTHER,
}


def purpose(key: Resource) -> Purpose | Unknown:
    """What a key of AWS KMS or Cloud KMS is for; a name that no cloud knows counts as signing and is judged as such."""
    value = key.get("purpose" if key.type == GCP_KEY else "keyUsage")
    if isinstance(value, Unknown):
        return UNKNOWN
    return _PURPOSES.get(str(value or "ENCRYPT_DECRYPT"), Purpose.SIGNS)


def seconds(value: Value) -> float | None:
    """A duration such as `7776000s` or `1.5s`; None for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d{1,9})?)s", value) if isinstance(value, str) else None
    return float(found[1]) if found else None
