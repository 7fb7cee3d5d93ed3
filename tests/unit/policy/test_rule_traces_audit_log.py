"""The clouds' audit logs are on, in all regions, and provable."""

from dataclasses import replace
from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.traces_audit_log import AUDIT_CONFIGS, RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_copies import DISK, VOLUME
from tests.policy_helpers import changed, found, places, resource

TRAIL = resource(
    "aws:cloudtrail/trail:Trail",
    "trail",
    {
        "s3BucketName": "audit",
        "isMultiRegionTrail": True,
        "enableLogFileValidation": True,
        "kmsKeyId": "key",
    },
)


def audit(token: str = AUDIT_CONFIGS[0], **more: Any) -> Resource:
    kinds = [{"logType": kind} for kind in ("ADMIN_READ", "DATA_READ", "DATA_WRITE")]
    return resource(token, "audit", {"service": "allServices", "auditLogConfigs": kinds, **more})


FAR = changed(replace(VOLUME, urn=f"{VOLUME.urn}-far", name="far"), region="eu-west-1")
OWN = changed(TRAIL, isMultiRegionTrail=False)
GOOD = ([VOLUME, FAR, TRAIL], [VOLUME, OWN], *([DISK, audit(token)] for token in AUDIT_CONFIGS))


def test_a_cloud_with_stores_needs_its_own() -> None:
    assert places(RULE, [VOLUME, DISK]) == [("mail", ""), ("mail", "")]
    assert places(RULE, [VOLUME, DISK, TRAIL]) == [("mail", "")]


@pytest.mark.parametrize("value", [None, 1, False])
def test_a_trail_of_one_region_does_not_follow_another(value: object) -> None:
    trail = changed(TRAIL, isMultiRegionTrail=value)
    assert places(RULE, [VOLUME, FAR, trail]) == [("trail", "isMultiRegionTrail")]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("enableLogFileValidation", False),
        ("enableLogging", False),
        ("includeGlobalServiceEvents", False),
        ("kmsKeyId", None),
    ],
)
def test_a_fault_of_the_trail_is_named(path: str, value: object) -> None:
    assert places(RULE, [VOLUME, changed(TRAIL, **{path: value})]) == [("trail", path)]


def test_every_kind_of_access_is_recorded() -> None:
    partial = audit(auditLogConfigs=[{"logType": "ADMIN_READ"}, {"logType": "DATA_READ"}])
    (item,) = found(RULE, [DISK, partial])
    assert (item.finding.path, item.finding.found) == ("auditLogConfigs", "no DATA_WRITE")


def test_nobody_is_exempted() -> None:
    kinds = [{"logType": kind, "exemptedMembers": ["user:a@example.test"]} for kind in ("DATA_READ",)]
    whole = audit().props["auditLogConfigs"]
    assert places(RULE, [DISK, audit(auditLogConfigs=[*whole, *kinds])]) == [
        ("audit", "auditLogConfigs[3].exemptedMembers")
    ]


def test_a_config_of_one_service_is_not_enough() -> None:
    assert places(RULE, [DISK, audit(service="storage.googleapis.com")]) == [("mail", "")]


def test_unknown_is_found_and_said() -> None:
    for stack in (
        [VOLUME, FAR, changed(TRAIL, isMultiRegionTrail=UNKNOWN)],
        [DISK, audit(service=UNKNOWN)],
        [DISK, audit(auditLogConfigs=UNKNOWN)],
    ):
        assert any(item.finding.unknown for item in found(RULE, stack))


def test_a_stack_without_stores_needs_none() -> None:
    assert found(RULE, [resource("aws:ec2/vpc:Vpc", "net", {})]) == []
