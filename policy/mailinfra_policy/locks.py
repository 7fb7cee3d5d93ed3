"""What keeps a vault or bucket from being emptied or changed: locks and retention."""

import re
from collections.abc import Iterator

from mailinfra_policy.copies import GCP_VAULT, S3_BUCKETS
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Finding
from mailinfra_policy.values import UNKNOWN, Value, show

VAULT_LOCK = "aws:backup/vaultLockConfiguration:VaultLockConfiguration"
AIR_GAPPED = "aws:backup/logicallyAirGappedVault:LogicallyAirGappedVault"
OBJECT_LOCKS = (
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration",
    "aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2",
)
_MODES = {"COMPLIANCE": ("COMPLIANCE",), "GOVERNANCE": ("COMPLIANCE", "GOVERNANCE")}


def open_to_change(vessel: Resource, stack: Stack, days: int, weakest: str) -> Iterator[Finding]:
    """Why what lies in a vault or bucket could be changed or deleted within `days`; nothing where it cannot.

    `weakest` is the weakest lock that counts: `COMPLIANCE`, or `GOVERNANCE` too.
    """
    if vessel.type == AIR_GAPPED:
        yield from _days(vessel, "minRetentionDays", vessel.get("minRetentionDays"), days)
    elif vessel.type == "aws:backup/vault:Vault":
        yield from _vault(vessel, stack, days, weakest)
    elif vessel.type == GCP_VAULT:
        path = "backupMinimumEnforcedRetentionDuration"
        yield from _days(vessel, path, _of_seconds(vessel.get(path)), days)
    elif vessel.type in S3_BUCKETS:
        yield from _object_lock(vessel, stack, days, weakest)
    else:
        period = vessel.get("retentionPolicy.retentionPeriod")
        yield from _days(vessel, "retentionPolicy.retentionPeriod", _of_seconds(period), days)
        locked = vessel.get("retentionPolicy.isLocked")
        if locked is not True:
            yield Finding(vessel, "retentionPolicy.isLocked", show(locked), "true", locked is UNKNOWN)


def _vault(vault: Resource, stack: Stack, days: int, weakest: str) -> Iterator[Finding]:
    locks = stack.referring(vault, "backupVaultName", VAULT_LOCK)
    if not locks:
        yield Finding(vault, "", "no VaultLockConfiguration", f"a vault lock of at least {days} days")
    for lock in locks:
        yield from _days(lock, "minRetentionDays", lock.get("minRetentionDays"), days)
        grace = lock.get("changeableForDays")
        if weakest == "COMPLIANCE" and grace is None:
            yield Finding(
                lock, "changeableForDays", show(grace), "days after which nobody can take the lock off"
            )


def _object_lock(bucket: Resource, stack: Stack, days: int, weakest: str) -> Iterator[Finding]:
    locks = [(lock, "rule.defaultRetention") for lock in stack.referring(bucket, "bucket", *OBJECT_LOCKS)]
    if not locks and bucket.get("objectLockConfiguration.rule") is not None:
        locks = [(bucket, "objectLockConfiguration.rule.defaultRetention")]
    if not locks:
        yield Finding(bucket, "", "no object lock", f"an object lock of at least {days} days")
    for lock, base in locks:
        mode = lock.get(f"{base}.mode")
        if mode is UNKNOWN or mode not in _MODES[weakest]:
            allowed = " or ".join(_MODES[weakest])
            yield Finding(lock, f"{base}.mode", show(mode), allowed, mode is UNKNOWN)
        years = lock.get(f"{base}.years")
        if years is None:
            yield from _days(lock, f"{base}.days", lock.get(f"{base}.days"), days)
        else:
            total = years * 365 if isinstance(years, int) else years
            yield from _days(lock, f"{base}.years", total, days)


def _days(resource: Resource, path: str, value: Value, days: int) -> Iterator[Finding]:
    if value is UNKNOWN or isinstance(value, bool) or not isinstance(value, int | float) or value < days:
        shown = show(value) if value is UNKNOWN or value is None else f"{value:g} days"
        yield Finding(resource, path, shown, f"at least {days} days", value is UNKNOWN)


def _of_seconds(value: Value) -> Value:
    """A duration in seconds (`2592000` or `2592000s`) as days."""
    match = re.fullmatch(r"(\d+)s?", value) if isinstance(value, str) else None
    return int(match[1]) / 86_400 if match else UNKNOWN if value is UNKNOWN else None
