"""Logs are kept long enough and cannot be changed."""

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.traces_retention import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_copies import s3_copy
from tests.policy_helpers import changed, found, places, resource, settings
from tests.unit.policy.test_rule_traces_audit_log import TRAIL

GROUP = resource("aws:cloudwatch/logGroup:LogGroup", "group", {"retentionInDays": 365})
EVENTS = resource("aws:cloudtrail/eventDataStore:EventDataStore", "lake", {"retentionPeriod": 2555})
CONFIGS = [
    resource(
        f"gcp:logging/{kind}BucketConfig:{kind[0].upper()}{kind[1:]}BucketConfig",
        kind,
        {"retentionDays": 365, **({"locked": True} if kind == "project" else {})},
    )
    for kind in ("project", "folder", "organization", "billingAccount")
]


def audit(suffix: str = "", days: int = 365) -> list[Resource]:
    """A trail and its locked bucket."""
    bucket, _, lock = s3_copy(suffix, name="audit", tags={"data-class": "logs"})
    return [TRAIL, bucket, changed(lock, rule={"defaultRetention": {"mode": "COMPLIANCE", "days": days}})]


SINK = resource(
    "gcp:logging/projectSink:ProjectSink", "sink", {"destination": "storage.googleapis.com/archive"}
)
ARCHIVE = resource(
    "gcp:storage/bucket:Bucket",
    "archive",
    {"name": "archive", "retentionPolicy": {"retentionPeriod": "31536000", "isLocked": True}},
)
GOOD = ([GROUP, EVENTS, *CONFIGS], audit(), audit("V2"), [SINK, ARCHIVE])


@pytest.mark.parametrize(
    ("days", "clean"), [(365, True), (400, True), (0, True), (None, True), (364, False), (False, False)]
)
def test_a_log_group_keeps_its_logs(days: object, clean: bool) -> None:
    assert (places(RULE, [changed(GROUP, retentionInDays=days)]) == []) == clean


def test_a_group_of_another_class_is_left_alone() -> None:
    assert found(RULE, [changed(GROUP, retentionInDays=7, tags={"data-class": "operations"})]) == []
    assert found(RULE, [changed(GROUP, retentionInDays=7, tags={"data-class": "logs"})]) != []


def test_cloud_logging_keeps_thirty_days_by_itself() -> None:
    assert places(RULE, [changed(CONFIGS[1], retentionDays=None)]) == [("folder", "retentionDays")]
    assert places(RULE, [changed(CONFIGS[0], locked=None)]) == [("project", "locked")]


def test_the_bucket_of_a_trail_is_locked() -> None:
    trail, bucket, _ = audit()
    assert places(RULE, [trail, bucket]) == [("audit", "")]
    assert places(RULE, audit(days=100)) == [("audit-lock", "rule.defaultRetention.days")]


def test_the_bucket_of_a_sink_is_locked() -> None:
    open_ = changed(ARCHIVE, retentionPolicy={"retentionPeriod": "31536000"})
    assert places(RULE, [SINK, open_]) == [("archive", "retentionPolicy.isLocked")]
    assert found(RULE, [open_]) == []


def test_the_days_are_the_configs() -> None:
    assert found(RULE, [GROUP], settings(traces={"retention_days": 366})) != []


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, [changed(GROUP, retentionInDays=UNKNOWN)])
    assert items and items[0].finding.unknown
