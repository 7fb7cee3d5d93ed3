"""Somebody is told when a key is about to go, and when a copy was not made."""

import json
import re
from collections.abc import Iterator, Mapping

from mailinfra_policy.copies import DLM, GCP_PLAN, PLAN, SCHEDULE
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.rules.traces_audit_log import TRAIL
from mailinfra_policy.stores import regions
from mailinfra_policy.values import UNKNOWN, Value, document

_KEY = "aws:kms/key:Key"
_RULE = "aws:cloudwatch/eventRule:EventRule"
_TARGET = "aws:cloudwatch/eventTarget:EventTarget"
_FILTER = "aws:cloudwatch/logMetricFilter:LogMetricFilter"
_ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"
_NOTIFICATIONS = "aws:backup/vaultNotifications:VaultNotifications"
_GCP_KEY = "gcp:kms/cryptoKey:CryptoKey"
_POLICY = "gcp:monitoring/alertPolicy:AlertPolicy"
_METRIC = "gcp:logging/metric:Metric"
_LOST_KEYS = ("DisableKey", "ScheduleKeyDeletion")
_FAILED = ("BACKUP_JOB_FAILED",)
_WORDS: Mapping[str, tuple[str, ...]] = {
    _GCP_KEY: ("DestroyCryptoKeyVersion", "UpdateCryptoKeyVersion"),
    GCP_PLAN: ("backupdr.googleapis.com",),
    SCHEDULE: ("ScheduledSnapshots",),
}
"""What the filter of an alert at Google names, by the type that makes it needed: methods of Cloud KMS' audit log,
Backup and DR's service, the method under which Compute Engine logs scheduled snapshots."""


def judge_stack(context: Context) -> Iterator[Finding]:
    """What the stack has that can fail, and who is told."""
    stack = context.stack
    yield from _aws_keys(stack)
    for token, source, states in (
        (PLAN, "aws.backup", ("FAILED",)),
        (DLM, "aws.dlm", ("ERROR",)),
    ):
        for resource in stack.of(token):
            told = regions(resource, stack) <= _ruled(stack, source, "state", states)
            if token == PLAN:
                told = told or _notified(resource, stack)
            if not told:
                yield Finding(
                    resource,
                    "",
                    "no alarm on failed copies",
                    f"an EventRule with a target on {source}, state {states[0]}, in its region",
                )
    for token, words in _WORDS.items():
        for resource in stack.of(token):
            if token == SCHEDULE and resource.get("snapshotSchedulePolicy") is None:
                continue
            if not any(_alerts(policy, words, stack) for policy in stack.of(_POLICY)):
                yield Finding(
                    resource,
                    "",
                    "no alarm when it fails or is destroyed" if token != _GCP_KEY else "no alarm on its end",
                    f"an AlertPolicy with channels, whose filter names {' and '.join(words)}",
                )
                break


def _aws_keys(stack: Stack) -> Iterator[Finding]:
    if any(_counted(item, stack) for item in stack.of(_FILTER)):
        return
    ruled = _ruled(stack, "aws.kms", "eventName", _LOST_KEYS)
    said: set[frozenset[str]] = set()
    for key in stack.of(_KEY):
        here = regions(key, stack)
        if not here <= ruled and here not in said:
            said.add(here)
            yield Finding(
                key,
                "",
                f"no alarm on the end of keys in {', '.join(sorted(here))}",
                "an EventRule with a target in each region, or a metric filter on a trail of all regions with an "
                f"alarm, on {' and '.join(_LOST_KEYS)}",
            )


def _ruled(stack: Stack, source: str, field: str, values: tuple[str, ...]) -> frozenset[str]:
    """The regions in which a rule tells a target of these events."""
    return frozenset(
        region
        for rule in stack.of(_RULE)
        if rule.get("state") in (None, "ENABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS")
        and rule.get("isEnabled") in (None, True)
        and _catches(rule.get("eventPattern"), source, field, values)
        and stack.referring(rule, "rule", _TARGET)
        for region in regions(rule, stack)
    )


def _catches(pattern: Value, source: str, field: str, values: tuple[str, ...]) -> bool:
    if not isinstance(pattern, str):
        return False
    try:
        found = document(pattern)
    except json.JSONDecodeError:
        return False
    if not isinstance(found, Mapping) or source not in _list(found.get("source")):
        return False
    detail = found.get("detail")
    if detail is None:
        return True
    said = _list(detail.get(field)) if isinstance(detail, Mapping) else []
    return all(value in said for value in values)


def _list(value: Value) -> list[Value]:
    return value if isinstance(value, list) else []


def _counted(item: Resource, stack: Stack) -> bool:
    """Whether a metric filter on a trail of all regions counts the end of keys, and an alarm tells somebody."""
    pattern = item.get("pattern")
    if not isinstance(pattern, str) or not all(re.search(rf"\b{word}\b", pattern) for word in _LOST_KEYS):
        return False
    groups = {item.get("logGroupName")} - {None, UNKNOWN}
    followed = any(
        trail.get("isMultiRegionTrail") is True
        and (
            set(stack.referred(trail, "cloudWatchLogsGroupArn")) & set(stack.referred(item, "logGroupName"))
            or any(
                isinstance(arn := trail.get("cloudWatchLogsGroupArn"), str)
                and f":log-group:{name}:" in f"{arn}:"
                for name in groups
            )
        )
        for trail in stack.of(TRAIL)
    )
    metric, space = item.get("metricTransformation.name"), item.get("metricTransformation.namespace")
    return followed and any(
        isinstance(metric, str)
        and (alarm.get("metricName"), alarm.get("namespace")) == (metric, space)
        and bool(_list(alarm.get("alarmActions")) or alarm.get("alarmActions") is UNKNOWN)
        and alarm.get("actionsEnabled") in (None, True)
        for alarm in stack.of(_ALARM)
    )


def _notified(plan: Resource, stack: Stack) -> bool:
    """Whether all vaults that a plan writes to tell of failed jobs."""
    vaults = [
        vault
        for path, _ in plan.each("rules[*]")
        for vault in stack.referred(plan, f"{path}.targetVaultName", "aws:backup/vault:Vault")
    ]
    return bool(vaults) and all(
        any(
            all(event in _list(item.get("backupVaultEvents")) for event in _FAILED)
            for item in stack.referring(vault, "backupVaultName", _NOTIFICATIONS)
        )
        for vault in vaults
    )


def _alerts(policy: Resource, words: tuple[str, ...], stack: Stack) -> bool:
    channels = policy.get("notificationChannels")
    if policy.get("enabled") not in (None, True) or channels in (None, []):
        return False
    filters = [value for _, value in policy.each("conditions[*].conditionMatchedLog.filter")]
    for _, value in policy.each("conditions[*].conditionThreshold.filter"):
        for metric in stack.of(_METRIC):
            name = metric.get("name")
            known = isinstance(name, str) and isinstance(value, str)
            if known and re.search(rf'logging\.googleapis\.com/user/{re.escape(name)}"', value):
                filters.append(metric.get("filter"))
    return all(
        any(isinstance(text, str) and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) for text in filters)
        for word in words
    )


def _speaks(policy: Resource, _value: Value) -> bool:
    """Whether an alert is about what this rule asks for: its filters name a word of it, or a metric made of logs.
    Alerts on other things (a disk that fills, a vault that nobody writes to) may be turned off."""
    known = {word for words in _WORDS.values() for word in words}
    filters = [
        text
        for kind in ("conditionMatchedLog", "conditionThreshold")
        for _, text in policy.each(f"conditions[*].{kind}.filter")
    ]
    return any(
        isinstance(text, str)
        and ("logging.googleapis.com/user/" in text or any(word in text for word in known))
        for text in filters
    )


def _watches(rule: Resource, _value: Value) -> bool:
    pattern = rule.get("eventPattern")
    return isinstance(pattern, str) and any(
        f'"{source}"' in pattern for source in ("aws.kms", "aws.backup", "aws.dlm")
    )


def _watched(target: Resource, stack: Stack) -> bool:
    return any(_watches(rule, None) for rule in stack.referred(target, "rule", _RULE))


def _counts(item: Resource, _value: Value) -> bool:
    return isinstance(item.get("pattern"), str) and _LOST_KEYS[1] in item.get("pattern")


def _rings(alarm: Resource, stack: Stack) -> bool:
    metrics = {item.get("metricTransformation.name") for item in stack.of(_FILTER) if _counts(item, None)}
    return alarm.get("metricName") in metrics - {UNKNOWN}


RULE = Rule(
    id="traces-alarms",
    title="Somebody is told of keys that are about to go and of copies that failed",
    severity=Severity.HIGH,
    why="A key's deletion can be called off only while it waits; a backup that fails unseen is missed when needed.",
    mend="Add an EventRule with a target (AWS) or an AlertPolicy with notification channels (GCP) for the end of keys "
    "and for failed backups.",
    controls=(
        Control(Framework.SOC2, "CC7.2"),
        Control(Framework.ISO27001, "A.8.16"),
        Control(Framework.GDPR, "Art. 32(1)(d)"),
    ),
    covers={
        _KEY: (),
        PLAN: (),
        DLM: (),
        _GCP_KEY: (),
        GCP_PLAN: (),
        SCHEDULE: (),
        _RULE: (
            Guard("", when=_watches),
            Guard("eventPattern", wrong=('{"source": ["aws.ec2"]}', "{}"), when=_watches),
            Guard("state", wrong=("DISABLED",), needed=False, when=_watches),
        ),
        _TARGET: (Guard("", where=_watched), Guard("rule", wrong=("other",), where=_watched)),
        _FILTER: (
            Guard("", when=_counts),
            Guard("pattern", wrong=('{ $.eventName = "DisableKey" }',), when=_counts),
        ),
        _ALARM: (
            Guard("", where=_rings),
            Guard("alarmActions", wrong=([],), opaque=True, where=_rings),
            Guard("metricName", wrong=("x",), where=_rings),
        ),
        _NOTIFICATIONS: (Guard(""), Guard("backupVaultEvents", wrong=(["RESTORE_JOB_FAILED"],))),
        _POLICY: (
            Guard("", when=_speaks),
            Guard("notificationChannels", wrong=([],), opaque=True, when=_speaks),
            Guard("enabled", wrong=(False,), needed=False, when=_speaks),
        ),
        _METRIC: (Guard(""), Guard("filter", wrong=("severity=ERROR",))),
    },
    judge_stack=judge_stack,
)
