"""Snapshots and restores of a whole fleet under the real engine, on the sandbox's clouds without machines."""

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.engine import EngineError
from mailinfra.sandbox.providers.gcp.api import GoogleApi
from tests.recorded import RecordedSandbox, declare, names

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

FLEET: dict[str, Any] = {
    "name": "snaps",
    "domains": ["snaps.test"],
    "zones": {"eu": {"countries": ["DE", "IE"]}},
    "regions": [
        {
            "cloud": "aws",
            "region": "eu-central-1",
            "zone": "eu",
            "network": "203.0.113.0/27",
            "groups": [
                {"name": "edge", "roles": ["mx", "submission", "imap", "egress"]},
                {"name": "store", "roles": ["mailbox"], "data_gib": 10},
            ],
        },
        {
            "cloud": "gcp",
            "region": "europe-west3",
            "zone": "eu",
            "network": "203.0.113.32/27",
            "groups": [
                {"name": "edge", "roles": ["mx"]},
                {"name": "store", "roles": ["mailbox"], "data_gib": 10},
            ],
        },
    ],
    "dns": {"parent": {"provider": "cloudflare", "account_id": "0123456789abcdef0123456789abcdef"}},
    "placement": {"default": "eu-central-1"},
    "clouds": {"gcp": {"project": "sandbox-mail"}},
}
STARTED = "aws:ec2transitgateway/instanceState:InstanceState"


def run(sandbox: RecordedSandbox, ahead: timedelta) -> dict[str, list[str]]:
    done: dict[str, list[str]] = sandbox.control.call(
        "schedules.run", at=(datetime.now(UTC) + ahead).isoformat()
    )
    return done


def test_a_fleets_volumes_have_snapshots_by_the_hour_and_are_restored_beside_the_old_ones(
    recorded_sandbox: RecordedSandbox, tmp_path: Path
) -> None:
    sandbox, declared = recorded_sandbox, copy.deepcopy(FLEET)
    stack = sandbox.fleet(tmp_path / "project", "snaps", declared)
    stack.up(lambda _event: None)
    stack.refresh_finds_nothing()
    assert stack.changes() == {}

    made = run(sandbox, timedelta(hours=1))["made"]
    (ebs,) = (name for name in made if name.startswith("snap-"))
    (google,) = (name for name in made if not name.startswith("snap-"))
    ec2 = sandbox.aws("ec2", "eu-central-1")
    (found,) = ec2.describe_snapshots(SnapshotIds=[ebs])["Snapshots"]
    (old,) = ec2.describe_volumes(Filters=[{"Name": "tag:data-class", "Values": ["mail"]}])["Volumes"]
    tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
    assert (found["VolumeId"], found["Encrypted"]) == (old["VolumeId"], True)
    assert (tags["residency-zone"], tags["data-class"]) == ("eu", "mail")
    api = GoogleApi(**sandbox.control.call("gcp.endpoint"))
    seen = api.call("GET", f"/compute/v1/projects/sandbox-mail/global/snapshots/{google}")
    assert (seen["storageLocations"], seen["labels"]["residency-zone"]) == (["europe-west3"], "eu")

    for region, snapshot in ((0, ebs), (1, google)):
        declared["regions"][region]["groups"][1]["from_snapshot"] = {"1": snapshot}
    declare(tmp_path / "project", "snaps", declared)
    done = stack.up_changes()
    volumes = {urn for urn in done if "/volume:Volume::" in urn or "/disk:Disk::" in urn}
    assert {done[urn] for urn in volumes} == {"create"}, "no volume goes"
    assert len(volumes) == 2
    assert {done[urn] for urn in done if STARTED in urn} == {"create"}
    assert names(done, "update") == {"snaps-europe-west3-store-store-1"}, "a server keeps its queue"
    moved = {urn.rsplit("::", 1)[1] for urn, what in done.items() if "replace" in what}
    assert moved == {"snaps-eu-central-1-store-store-1-mail-attached"}
    (instance,) = {
        entry["InstanceId"]
        for volume in ec2.describe_volumes(Filters=[{"Name": "snapshot-id", "Values": [ebs]}])["Volumes"]
        for entry in volume["Attachments"]
    }
    (server,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
    assert server["State"]["Name"] == "running", "it was stopped while its volume was exchanged"
    assert ec2.describe_volumes(VolumeIds=[old["VolumeId"]])["Volumes"][0]["Attachments"] == []
    stack.refresh_finds_nothing()
    assert stack.changes() == {}

    for region in (0, 1):
        declared["regions"][region]["groups"][1]["keep_replaced"] = False
    declare(tmp_path / "project", "snaps", declared)
    with pytest.raises(EngineError, match="protect"):
        stack.pulumi("preview")
    stack.pulumi("state", "unprotect", "--all", "--yes")
    assert names(stack.changes(), "delete") >= {
        "snaps-eu-central-1-store-store-1-mail",
        "snaps-europe-west3-store-store-1-mail",
    }
    stack.up(lambda _event: None)
    with pytest.raises(ec2.exceptions.ClientError, match=r"InvalidVolume\.NotFound"):
        ec2.describe_volumes(VolumeIds=[old["VolumeId"]])
    stack.pulumi("state", "unprotect", "--all", "--yes")
    stack.destroy(lambda _event: None)
    # Snapshots outlive what they were made of, as in the clouds, until they are too old or deleted by hand.
    ec2.describe_snapshots(SnapshotIds=[ebs])
