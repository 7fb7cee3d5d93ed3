"""Logs are kept long enough, and nobody can take them away before."""

from collections.abc import Iterator

from mailinfra_policy.copies import S3_BUCKETS
from mailinfra_policy.expect import is_true, within
from mailinfra_policy.locks import OBJECT_LOCKS, open_to_change
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.rules.traces_audit_log import TRAIL
from mailinfra_policy.values import UNKNOWN, Value

_GROUP = "aws:cloudwatch/logGroup:LogGroup"
_EVENTS = "aws:cloudtrail/eventDataStore:EventDataStore"
_BUCKET_CONFIGS = (
    "gcp:logging/projectBucketConfig:ProjectBucketConfig",
    "gcp:logging/folderBucketConfig:FolderBucketConfig",
    "gcp:logging/organizationBucketConfig:OrganizationBucketConfig",
    "gcp:logging/billingAccountBucketConfig:BillingAccountBucketConfig",
)
_LOCKABLE = frozenset(_BUCKET_CONFIGS[:1])
_SINKS = (
    "gcp:logging/projectSink:ProjectSink",
    "gcp:logging/folderSink:FolderSink",
    "gcp:logging/organizationSink:OrganizationSink",
)
_GCS = "gcp:storage/bucket:Bucket"
_FLOW = "aws:ec2/flowLog:FlowLog"
_FOREVER = 10**6


def judge_stack(context: Context) -> Iterator[Finding]:
    """Log groups and log buckets; and the buckets that trails, flow logs and sinks write to."""
    stack, wanted = context.stack, context.config.traces
    days = wanted.retention_days
    for group in stack.of(_GROUP):
        data = group.tag(context.config.tags.data)
        if data is None or data is UNKNOWN or data in wanted.log_classes:
            # Nothing, or 0, keeps them for ever.
            value = group.get("retentionInDays")
            if value != 0 or isinstance(value, bool):
                yield from within(group, "retentionInDays", days, _FOREVER, "days", default=_FOREVER)
    for store in stack.of(_EVENTS):
        yield from within(store, "retentionPeriod", days, _FOREVER, "days", default=2555)
        yield from is_true(store, "terminationProtectionEnabled", default=True)
    for config in stack.of(*_BUCKET_CONFIGS):
        yield from within(config, "retentionDays", days, _FOREVER, "days", default=30)
        if config.type in _LOCKABLE:
            yield from is_true(config, "locked")
    for bucket in log_buckets(stack):
        yield from open_to_change(bucket, stack, days, context.config.backups.object_lock)


def log_buckets(stack: Stack) -> list[Resource]:
    """The buckets of the stack that trails, flow logs and sinks write to.

    Not those of S3's own access logs: AWS does not deliver these into a bucket with a default retention.
    """
    found = [
        bucket for trail in stack.of(TRAIL) for bucket in stack.referred(trail, "s3BucketName", *S3_BUCKETS)
    ]
    for flow in stack.of(_FLOW):
        found += stack.referred(flow, "logDestination", *S3_BUCKETS)
    for sink in stack.of(*_SINKS):
        destination = sink.get("destination")
        if isinstance(destination, str):
            name = destination.removeprefix("storage.googleapis.com/")
            found += [bucket for bucket in stack.of(_GCS) if name in (bucket.get("name"), bucket.id)]
        else:
            found += stack.referred(sink, "destination", _GCS)
    return list(dict.fromkeys(found))


def _logs(resource: Resource, stack: Stack) -> bool:
    """For guards: whether a bucket, or the bucket that a lock belongs to, holds logs."""
    ours = [resource] if resource.type == _GCS else stack.referred(resource, "bucket", *S3_BUCKETS)
    return bool(set(ours) & set(log_buckets(stack)))


def _kept(group: Resource, _value: Value) -> bool:
    return group.tag("data-class") in (None, "logs")


RULE = Rule(
    id="traces-retention",
    title="Logs are kept long enough and cannot be changed",
    severity=Severity.MEDIUM,
    why="A break-in is found months later, and whoever did it deletes the logs first if that can be done.",
    mend="Keep log groups and log buckets for traces.retention_days; lock the buckets of trails and sinks (object "
    "lock; retentionPolicy with isLocked) and Cloud Logging's (locked). Tag other logs with another data class.",
    controls=(
        Control(Framework.SOC2, "CC7.3"),
        Control(Framework.ISO27001, "A.8.15"),
        Control(Framework.ISO27001, "A.5.28"),
    ),
    covers={
        _GROUP: (Guard("retentionInDays", wrong=(1, 30, 364, "365"), needed=False, when=_kept),),
        _EVENTS: (
            Guard("retentionPeriod", wrong=(7, 364), needed=False),
            Guard("terminationProtectionEnabled", wrong=(False,), needed=False),
        ),
        **{
            token: (
                Guard("retentionDays", wrong=(30, 364)),
                *([Guard("locked", wrong=(False,))] if token in _LOCKABLE else []),
            )
            for token in _BUCKET_CONFIGS
        },
        **{
            token: (
                Guard("", where=_logs),
                Guard("rule.defaultRetention.mode", wrong=("GOVERNANCE",), where=_logs),
                Guard("rule.defaultRetention.days", wrong=(30, 364), where=_logs),
            )
            for token in OBJECT_LOCKS
        },
        _GCS: (
            Guard("retentionPolicy.isLocked", wrong=(False,), where=_logs),
            Guard("retentionPolicy.retentionPeriod", wrong=("86400",), where=_logs),
        ),
    },
    judge_stack=judge_stack,
)
