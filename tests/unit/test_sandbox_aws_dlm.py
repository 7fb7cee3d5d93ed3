"""Data Lifecycle Manager over moto's EC2, without a daemon."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from mailinfra.sandbox.aws.dlm import EXPIRES_TAG, POLICY_TAG, LifecyclePolicies, check
from mailinfra.sandbox.context import StateFile
from mailinfra.sandbox.control import InvalidParams

REGION = "eu-central-1"
SCHEDULE: dict[str, Any] = {
    "name": "hourly",
    "createRule": {"interval": 1, "intervalUnit": "HOURS", "times": "00:00"},
    "retainRule": {"interval": 7, "intervalUnit": "DAYS"},
    "copyTags": True,
    "tagsToAdd": {"added": "yes"},
}


def policy(state: str = "ENABLED", region: str = REGION, **changes: Any) -> dict[str, Any]:
    details = {
        "policyType": "EBS_SNAPSHOT_MANAGEMENT",
        "resourceTypes": ["VOLUME"],
        "targetTags": {"mail": "yes"},
        "schedules": [{**SCHEDULE, **changes}],
    }
    return {"region": region, "state": state, "details": details}


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from moto import mock_aws

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield boto3.client("ec2", region_name=REGION)


@pytest.fixture
def policies(ec2: Any, tmp_path: Path) -> LifecyclePolicies:
    return LifecyclePolicies(
        StateFile(tmp_path / "policies.json"), lambda region: boto3.client("ec2", region_name=region)
    )


def volume(ec2: Any, **tags: str) -> str:
    made = ec2.create_volume(
        AvailabilityZone=f"{REGION}a",
        Size=1,
        TagSpecifications=[
            {"ResourceType": "volume", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    )
    return str(made["VolumeId"])


def hours(number: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=number)


def test_every_hour_each_tagged_volume_gets_a_snapshot(ec2: Any, policies: LifecyclePolicies) -> None:
    mine = volume(ec2, mail="yes", owner="me")
    volume(ec2, mail="no")
    policies.put("policy-1", policy())
    moment = hours(1)
    done = policies.run(moment)
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=done["made"])["Snapshots"]
    assert snapshot["VolumeId"] == mine
    tags = {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]}
    assert (tags["mail"], tags["owner"], tags["added"]) == ("yes", "me", "yes")
    assert tags[POLICY_TAG] == "policy-1"
    assert datetime.fromisoformat(tags[EXPIRES_TAG]) == moment + timedelta(days=7)


def test_a_time_is_served_once_and_a_new_policy_waits_for_its_first(
    ec2: Any, policies: LifecyclePolicies
) -> None:
    volume(ec2, mail="yes")
    policies.put("policy-1", policy())
    assert policies.run(datetime.now(UTC))["made"] == []
    # As if it had been made two hours ago.
    held = policies._state.load()
    held["policy-1"]["since"] = hours(-2).isoformat()
    policies._state.save(held)
    now = datetime.now(UTC)
    assert len(policies.run(now)["made"]) == 1
    assert policies.run(now)["made"] == []
    policies.put("policy-1", policy(copyTags=False))
    assert policies.run(now)["made"] == [], "a change makes none"


def test_what_is_too_old_goes(ec2: Any, policies: LifecyclePolicies) -> None:
    volume(ec2, mail="yes")
    policies.put("policy-1", policy())
    (first,) = policies.run(hours(1))["made"]
    policies.run(hours(24))
    done = policies.run(hours(1 + 7 * 24))
    assert done["expired"] == [first]
    policies.delete("policy-1")
    assert policies.get("policy-1") is None
    assert policies.run(hours(1000)) == {"made": [], "expired": []}, "snapshots outlive their policy"


def test_so_many_are_kept_of_each_volume(ec2: Any, policies: LifecyclePolicies) -> None:
    volume(ec2, mail="yes"), volume(ec2, mail="yes")
    policies.put("policy-1", policy(retainRule={"count": 2}))
    first = policies.run(hours(1))["made"]
    policies.run(hours(2))
    assert sorted(policies.run(hours(3))["expired"]) == sorted(first)
    assert len(first) == 2


def test_a_policy_that_is_off_does_nothing(ec2: Any, policies: LifecyclePolicies) -> None:
    volume(ec2, mail="yes")
    policies.put("policy-1", policy("DISABLED"))
    assert policies.run(hours(1)) == {"made": [], "expired": []}
    policies.put("policy-1", policy())
    policies.clear()
    assert policies.get("policy-1") is None


def test_one_policys_trouble_is_not_the_others(
    ec2: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def client(region: str) -> Any:
        if region == "us-east-1":
            raise ValueError("no region")
        return boto3.client("ec2", region_name=region)

    policies = LifecyclePolicies(StateFile(tmp_path / "policies.json"), client)
    volume(ec2, mail="yes")
    policies.put("policy-1", policy(region="us-east-1"))
    policies.put("policy-2", policy())
    assert len(policies.run(hours(1))["made"]) == 1
    assert "policy-1 did not run" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"createRule": {"cronExpression": "cron(0 * * * ? *)"}}, "createRule: found cronExpression"),
        ({"createRule": {"interval": 5}}, "createRule: hours: found 5"),
        ({"retainRule": {}}, "retainRule: found {}; allowed: a count"),
        ({"retainRule": {"interval": 1, "intervalUnit": "HOURS"}}, "retainRule"),
        ({"crossRegionCopyRules": [{"targetRegion": "us-east-1"}]}, "crossRegionCopyRules: found a value"),
    ],
)
def test_what_is_not_carried_out_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParams) as raised:
        check(policy(**wrong))
    assert said in str(raised.value)
    check(policy())
    with pytest.raises(InvalidParams, match="state: found 'ON'"):
        check(policy("ON"))
