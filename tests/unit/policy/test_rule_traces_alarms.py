"""Somebody is told of keys that are about to go and of copies that failed."""

import json
from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.traces_alarms import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_copies import dlm, schedule
from tests.policy_dns import instead, without
from tests.policy_helpers import changed, found, places, resource
from tests.unit.policy.test_rule_traces_audit_log import TRAIL

KEY = resource("aws:kms/key:Key", "key", {"region": "eu-central-1"})


def watch(name: str, source: str, region: str = "eu-central-1", **detail: list[str]) -> list[Resource]:
    """An event rule and its target."""
    pattern = json.dumps({"source": [source], **({"detail": detail} if detail else {})})
    return [
        resource(
            "aws:cloudwatch/eventRule:EventRule",
            name,
            {"name": name, "region": region, "eventPattern": pattern},
        ),
        resource("aws:cloudwatch/eventTarget:EventTarget", f"{name}-target", {"rule": name, "arn": "topic"}),
    ]


ENDS = ["DisableKey", "ScheduleKeyDeletion"]
BY_RULE = [
    KEY,
    *watch("keys", "aws.kms", eventName=ENDS),
    dlm(),
    *watch("snapshots-failed", "aws.dlm", state=["ERROR"]),
]
PLAN = resource(
    "aws:backup/plan:Plan", "plan", {"region": "eu-central-1", "rules": [{"targetVaultName": "near"}]}
)
BY_METRIC = [
    KEY,
    changed(TRAIL, cloudWatchLogsGroupArn="arn:aws:logs:eu-central-1:111122223333:log-group:audit:*"),
    resource(
        "aws:cloudwatch/logMetricFilter:LogMetricFilter",
        "ends",
        {
            "logGroupName": "audit",
            "pattern": '{ ($.eventName = "DisableKey") || ($.eventName = "ScheduleKeyDeletion") }',
            "metricTransformation": {"name": "KeysEnd", "namespace": "Mail", "value": "1"},
        },
    ),
    resource(
        "aws:cloudwatch/metricAlarm:MetricAlarm",
        "alarm",
        {"metricName": "KeysEnd", "namespace": "Mail", "alarmActions": ["topic"]},
    ),
    PLAN,
    resource("aws:backup/vault:Vault", "near", {"name": "near", "region": "eu-central-1"}),
    resource(
        "aws:backup/vaultNotifications:VaultNotifications",
        "told",
        {"backupVaultName": "near", "backupVaultEvents": ["BACKUP_JOB_FAILED"], "snsTopicArn": "topic"},
    ),
]
GCP_KEY = resource("gcp:kms/cryptoKey:CryptoKey", "key", {})
GCP_PLAN = resource("gcp:backupdisasterrecovery/backupPlan:BackupPlan", "plan", {})


def alert(name: str, text: str, **more: Any) -> Resource:
    """An alert on log lines."""
    return resource(
        "gcp:monitoring/alertPolicy:AlertPolicy",
        name,
        {
            "conditions": [{"conditionMatchedLog": {"filter": text}}],
            "notificationChannels": ["people"],
            **more,
        },
    )


KMS = 'protoPayload.methodName=("DestroyCryptoKeyVersion" OR "UpdateCryptoKeyVersion")'
BY_ALERT = [
    GCP_KEY,
    alert("keys", KMS),
    GCP_PLAN,
    alert("backups", 'resource.labels.service="backupdr.googleapis.com" severity=ERROR'),
    schedule(),
    alert("snapshots", 'protoPayload.methodName="ScheduledSnapshots" severity=ERROR'),
]
SILENT = resource(
    "gcp:monitoring/alertPolicy:AlertPolicy",
    "silent",
    {
        "conditions": [{"conditionAbsent": {"filter": 'resource.type="gcs_bucket"', "duration": "2700s"}}],
        "notificationChannels": ["people"],
    },
)
"""An alert that this rule asks for nowhere: its mutants are none of this rule's."""
BY_GCP_METRIC = [
    GCP_KEY,
    resource("gcp:logging/metric:Metric", "metric", {"name": "keys-end", "filter": KMS}),
    changed(
        alert("keys", ""),
        conditions=[{"conditionThreshold": {"filter": 'metric.type="logging.googleapis.com/user/keys-end"'}}],
    ),
]
GOOD = (BY_RULE, BY_METRIC, [*BY_ALERT, SILENT], BY_GCP_METRIC)


def test_what_nobody_watches_is_found() -> None:
    assert places(RULE, [KEY, PLAN, dlm()]) == [("key", ""), ("plan", ""), ("snapshots", "")]
    assert places(RULE, [GCP_KEY, GCP_PLAN, schedule()]) == [("hourly", ""), ("key", ""), ("plan", "")]


def test_each_region_with_keys_needs_its_rule() -> None:
    other = changed(resource("aws:kms/key:Key", "other", {}), region="eu-west-1")
    assert places(RULE, [*BY_RULE, other]) == [("other", "")]
    assert found(RULE, [*BY_RULE, other, *watch("more", "aws.kms", "eu-west-1", eventName=ENDS)]) == []
    assert found(RULE, [*BY_METRIC, other]) == []


@pytest.mark.parametrize(
    "pattern",
    [
        '{"source": ["aws.kms"], "detail": {"eventName": ["DisableKey"]}}',
        '{"source": ["aws.s3"]}',
        "[]",
        "no",
        UNKNOWN,
    ],
)
def test_a_rule_on_something_else_does_not_count(pattern: object) -> None:
    rule = next(item for item in BY_RULE if item.name == "keys")
    assert places(RULE, instead(BY_RULE, changed(rule, eventPattern=pattern))) == [("key", "")]


def test_a_rule_without_a_target_tells_nobody() -> None:
    assert places(RULE, without(BY_RULE, "keys-target")) == [("key", "")]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("alarm", {"alarmActions": None}),
        ("alarm", {"actionsEnabled": False}),
        ("trail", {"isMultiRegionTrail": False}),
        ("ends", {"logGroupName": "other"}),
    ],
)
def test_every_link_of_the_chain_counts(name: str, more: dict[str, Any]) -> None:
    item = next(item for item in BY_METRIC if item.name == name)
    assert places(RULE, instead(BY_METRIC, changed(item, **more))) == [("key", "")]


@pytest.mark.parametrize("more", [{"enabled": False}, {"notificationChannels": []}])
def test_an_alert_that_reaches_nobody_does_not_count(more: dict[str, Any]) -> None:
    assert places(RULE, [GCP_KEY, alert("keys", KMS, **more)]) == [("key", "")]


def test_a_word_is_a_whole_word() -> None:
    assert places(RULE, [GCP_KEY, alert("keys", KMS.replace("Destroy", "NotDestroy"))]) == [("key", "")]


def test_a_policy_that_places_machines_needs_none() -> None:
    assert found(RULE, [changed(schedule(), snapshotSchedulePolicy=None)]) == []


def test_an_alert_on_something_else_is_not_one_on_keys() -> None:
    assert places(RULE, [GCP_KEY, SILENT]) == [("key", "")]
