"""Snapshots of one region's mail volumes, on either cloud."""

import json
from functools import cache
from typing import Any

import pytest

from mailinfra.errors import ConfigError
from mailinfra_components import MailSnapshots
from mailinfra_components.snapshots import TAG, rights, trust
from tests.declared import Program, declare

ACCOUNT = "123456789012"
AWS: dict[str, Any] = {
    "cloud": "aws",
    "region": "eu-central-1",
    "zone": "eu",
    "days": 7,
    "account": ACCOUNT,
    "alarms": "arn:topic",
}
GCP: dict[str, Any] = {
    "cloud": "gcp",
    "region": "europe-west3",
    "zone": "eu",
    "days": 7,
    "disks": [
        {"name": f"store-{n}", "disk": f"disk-{n}", "availability_zone": "europe-west3-a"} for n in (1, 2)
    ],
}


@cache
def aws() -> Program:
    return declare(lambda: MailSnapshots("snaps", AWS))  # type: ignore[arg-type]


@cache
def gcp() -> Program:
    return declare(lambda: MailSnapshots("snaps", GCP))  # type: ignore[arg-type]


def test_aws_makes_them_hourly_of_the_tagged_volumes_and_keeps_them_for_days() -> None:
    policy = aws().named("snaps-hourly").inputs
    assert (policy["region"], policy["state"]) == ("eu-central-1", "ENABLED")
    assert policy["executionRoleArn"] == "arn:aws:test:::snaps-role"
    details = policy["policyDetails"]
    assert (details["resourceTypes"], details["targetTags"]) == (["VOLUME"], {TAG: "snaps"})
    (schedule,) = details["schedules"]
    assert (schedule["createRule"]["interval"], schedule["createRule"]["intervalUnit"]) == (1, "HOURS")
    assert schedule["retainRule"] == {"interval": 7, "intervalUnit": "DAYS"}
    assert schedule["copyTags"] is True
    assert "crossRegionCopyRules" not in schedule, "nothing leaves the region"


def test_google_makes_them_hourly_of_each_disk_and_keeps_them_in_the_region() -> None:
    policy = gcp().named("snaps-hourly").inputs["snapshotSchedulePolicy"]
    assert policy["schedule"] == {"hourlySchedule": {"hoursInCycle": 1, "startTime": "00:00"}}
    assert policy["retentionPolicy"]["maxRetentionDays"] == 7
    properties = policy["snapshotProperties"]
    assert (properties["storageLocations"], properties["guestFlush"]) == ("europe-west3", False)
    assert properties["labels"] == {
        "managed-by": "mailinfra",
        "mailinfra-name": "snaps",
        "residency-zone": "eu",
        "data-class": "mail",
    }
    attached = gcp().of("gcp:compute/diskResourcePolicyAttachment:DiskResourcePolicyAttachment")
    assert [(item.inputs["disk"], item.inputs["name"], item.inputs["zone"]) for item in attached] == [
        ("disk-1", "snaps-hourly", "europe-west3-a"),
        ("disk-2", "snaps-hourly", "europe-west3-a"),
    ]


def test_the_operators_are_told_of_failures() -> None:
    patterns = {
        name: json.loads(aws().named(f"snaps-{name}").inputs["eventPattern"]) for name in ("failed", "ended")
    }
    assert patterns["ended"]["source"] == ["aws.dlm"]
    assert patterns["ended"]["detail"] == {"state": ["ERROR"]}
    assert patterns["failed"]["detail"] == {"event": ["createSnapshot"], "result": ["failed"]}
    targets = aws().of("aws:cloudwatch/eventTarget:EventTarget")
    assert {(item.inputs["rule"], item.inputs["arn"]) for item in targets} == {
        ("snaps-failed", "arn:topic"),
        ("snaps-ended", "arn:topic"),
    }


def test_the_service_may_make_snapshots_of_these_volumes_and_delete_its_own_and_nothing_else() -> None:
    statements = {s["Sid"]: s for s in json.loads(rights("eu-central-1", ACCOUNT, "snaps"))["Statement"]}
    ours = {"StringEquals": {f"aws:ResourceTag/{TAG}": "snaps"}}
    for sid in ("Volumes", "Expire"):
        assert statements[sid]["Condition"] == ours
    assert statements["Volumes"]["Resource"] == f"arn:aws:ec2:eu-central-1:{ACCOUNT}:volume/*"
    for sid in ("Make", "Mark", "Expire"):
        assert statements[sid]["Resource"] == "arn:aws:ec2:eu-central-1::snapshot/*"
    changing = {s["Action"] for sid, s in statements.items() if sid != "Look"}
    assert changing == {"ec2:CreateSnapshot", "ec2:CreateTags", "ec2:DeleteSnapshot"}
    assert all(action.startswith("ec2:Describe") for action in statements["Look"]["Action"])


def test_the_service_acts_for_this_account_only() -> None:
    (statement,) = json.loads(trust(ACCOUNT))["Statement"]
    assert statement["Principal"] == {"Service": "dlm.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


def test_a_cloud_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="cloud: found 'moon'"):
        declare(lambda: MailSnapshots("snaps", {**AWS, "cloud": "moon"}))  # type: ignore[typeddict-item]
