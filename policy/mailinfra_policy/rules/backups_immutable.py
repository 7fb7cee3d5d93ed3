"""Copies that nobody can change or delete for as long as the config says."""

from collections.abc import Iterator

from mailinfra_policy.copies import BUCKETS, GCP_VAULT, VAULTS, away, copies, holds_copies, stores
from mailinfra_policy.locks import AIR_GAPPED, OBJECT_LOCKS, VAULT_LOCK, open_to_change
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every vault and bucket with copies is locked, and each store has a locked copy that lies away."""
    wanted = context.config.backups
    seen: dict[str, list[Finding]] = {}
    for store in stores(context):
        kept = False
        found = copies(store, context)
        for copy in found:
            vessel = copy.vessel
            if vessel is None:
                continue
            if vessel.urn not in seen:
                seen[vessel.urn] = [
                    *open_to_change(vessel, context.stack, wanted.retention_days, wanted.object_lock)
                ]
                yield from seen[vessel.urn]
            kept = kept or (not seen[vessel.urn] and away(copy, store, context))
        if not kept and not any(seen[copy.vessel.urn] for copy in found if copy.vessel):
            yield Finding(
                store,
                "",
                "no locked copy in another cloud or region of the same zone",
                f"a copy in a vault or bucket that is locked for at least {wanted.retention_days} days",
            )


RULE = Rule(
    id="backups-immutable",
    title="Copies of mail cannot be changed or deleted",
    severity=Severity.CRITICAL,
    why="Whoever breaks in deletes the backups first; a lock holds against every administrator, and against mistakes.",
    mend="Lock the vault (VaultLockConfiguration with changeableForDays), the bucket (object lock in COMPLIANCE mode; "
    "retentionPolicy with isLocked at GCS) or use a Backup and DR vault, for at least backups.retention_days.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(c)"),
        Control(Framework.SOC2, "A1.2"),
        Control(Framework.ISO27001, "A.8.13"),
    ),
    covers={
        **{token: () for token in BUCKETS if token.startswith("aws")},
        "gcp:storage/bucket:Bucket": (
            Guard("retentionPolicy.isLocked", wrong=(False, "true"), where=holds_copies),
            Guard("retentionPolicy.retentionPeriod", wrong=("3600", "2591999"), where=holds_copies),
        ),
        VAULTS[0]: (),
        AIR_GAPPED: (Guard("minRetentionDays", wrong=(1, 29)),),
        GCP_VAULT: (Guard("backupMinimumEnforcedRetentionDuration", wrong=("86400s", "2591999s")),),
        VAULT_LOCK: (
            Guard(""),
            Guard("minRetentionDays", wrong=(1, 29)),
            Guard("changeableForDays", opaque=True),
        ),
        **{
            token: (
                Guard("", where=holds_copies),
                Guard("rule.defaultRetention.mode", wrong=("GOVERNANCE", "compliance"), where=holds_copies),
                Guard("rule.defaultRetention.days", wrong=(1, 29), where=holds_copies),
            )
            for token in OBJECT_LOCKS
        },
    },
    judge_stack=judge_stack,
)
