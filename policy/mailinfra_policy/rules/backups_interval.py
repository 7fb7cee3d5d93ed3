"""Copies are made at least as often as the fleet may lose mail (the recovery point objective)."""

from collections.abc import Iterator

from mailinfra_policy.copies import (
    BUCKETS,
    DLM,
    GCP_PLAN,
    PLAN,
    S3_REPLICA,
    SCHEDULE,
    UNSCHEDULED,
    copies,
    enough,
    stores,
    tells,
)
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, Value, show


def judge_stack(context: Context) -> Iterator[Finding]:
    """The copies of each store that are made often enough suffice by themselves; else the others are named."""
    limit = context.config.backups.rpo_minutes
    for store in stores(context):
        found = copies(store, context)
        often = [copy for copy in found if isinstance(copy.interval, int) and copy.interval <= limit]
        if not enough(store, found, context) and enough(store, often, context):
            for copy in found:
                if copy not in often:
                    yield Finding(
                        copy.resource,
                        copy.path,
                        _shown(copy.interval),
                        f"at most {limit} minutes between two copies of {store.name}",
                        copy.interval is UNKNOWN,
                    )


def _shown(interval: Value) -> str:
    if interval is UNKNOWN:
        return show(interval)
    return "no schedule that can be told" if interval >= UNSCHEDULED else f"{interval} minutes"


def _copy(resource: Resource, value: Value) -> bool:
    return resource.tag("backup-of") is not None and value is not None


RULE = Rule(
    id="backups-interval",
    title="Copies of mail are no older than the recovery point objective",
    severity=Severity.HIGH,
    why="What came in since the last copy is lost with the store.",
    mend="Shorten the schedule, or say with the tag backup-interval-minutes how often the copy is made.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(c)"),
        Control(Framework.SOC2, "A1.2"),
        Control(Framework.ISO27001, "A.8.13"),
    ),
    covers={
        PLAN: (
            Guard("rules[*].schedule", wrong=("cron(0 3 * * ? *)", "rate(1 day)", "cron(0 * ? * MON *)")),
        ),
        DLM: (Guard("policyDetails.schedules[*].createRule.interval", wrong=(2, 24), where=tells),),
        SCHEDULE: (
            Guard("snapshotSchedulePolicy.schedule.hourlySchedule.hoursInCycle", wrong=(2, 24), where=tells),
        ),
        GCP_PLAN: (
            Guard("backupRules[*].standardSchedule.hourlyFrequency", wrong=(6, 24)),
            Guard("backupRules[*].standardSchedule.recurrenceType", wrong=("DAILY", "WEEKLY")),
        ),
        S3_REPLICA: (Guard("rules[*].destination.replicationTime.status", wrong=("Disabled",)),),
        **{
            token: (
                Guard(
                    f'{"tags" if token.startswith("aws") else "labels"}["backup-interval-minutes"]',
                    wrong=("61", "1440", "hourly", "-1"),
                    when=_copy,
                ),
            )
            for token in BUCKETS
        },
    },
    judge_stack=judge_stack,
)
