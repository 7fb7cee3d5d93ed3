"""Snapshots of real volumes: a moment of a file system that is being written to, restored in seconds."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from mailinfra.sandbox.model import MachineSpec
from mailinfra.sandbox.providers.gcp.api import GoogleApi, segment
from tests.sandbox_helpers import Sandbox, eventually, machines

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

REGION, ZONE = "eu-central-1", "projects/p/zones/europe-west3-a"
RESTORE_SECONDS = 10
"""More than enough here; the clouds take seconds as well, and read the blocks in later."""
MAIL = {"mailinfra-snapshots": "mail", "data-class": "mail"}
SPEC = MachineSpec(
    id="store-1",
    kind="aws",
    hostname="store-1.example.test",
    region=REGION,
    country="DE",
    private_ipv4="203.0.113.4",
)
WRITER = r"""
import os
def put(name, number):
    with open(f"/mnt/{name}", "w") as file:
        file.write(f"{number}\n")
        file.flush()
        os.fsync(file.fileno())
number = 0
while True:
    number += 1
    put("first", number)
    put("second", number)
    os.makedirs(f"/mnt/mail/{number % 97}", exist_ok=True)
    put(f"mail/{number % 97}/{number}", number)
"""
"""Writes without an end: `second` is never ahead of `first`, and never more than one behind."""


@pytest.fixture(scope="module")
def clouds(
    machines_can_boot: None, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[Sandbox]:
    """Both clouds with machines, without a fleet."""
    parts = ("dns", "aws", "gcp", "schedules")
    with machines("snapshots", parts, tmp_path_factory.mktemp("state"), cache) as found:
        yield found


@pytest.fixture(scope="module")
def ec2(clouds: Sandbox) -> Any:
    return boto3.client(
        "ec2",
        region_name=REGION,
        endpoint_url=clouds.client.call("aws.info")["endpoint"],
        aws_access_key_id="sandbox",
        aws_secret_access_key="sandbox",
    )


@pytest.fixture(scope="module")
def google(clouds: Sandbox) -> GoogleApi:
    found = clouds.client.call("gcp.endpoint")
    return GoogleApi(found["url"], found["token"])


@pytest.fixture(scope="module")
def volume(clouds: Sandbox, ec2: Any) -> str:
    """The mail volume of a server that writes to it without a pause."""
    tags = [{"Key": key, "Value": value} for key, value in MAIL.items()]
    made = ec2.create_volume(
        AvailabilityZone=f"{REGION}a",
        Size=2,
        TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
    )
    found = str(made["VolumeId"])
    clouds.create(replace(SPEC, volumes={found: "/dev/sdf"}, volume_bytes={found: 2 << 30}))
    clouds.shell(
        SPEC.id, "mkfs.ext4 -q -L mail /dev/sdf; mount /dev/sdf /mnt; mkdir /mnt/mail; echo kept > /mnt/kept"
    )
    clouds.shell(
        SPEC.id,
        f"cat > /root/writer.py <<'END'\n{WRITER}\nEND\nsystemd-run -q --unit=writer python3 /root/writer.py",
    )
    assert eventually(lambda: clouds.execute(SPEC.id, "test", "-s", "/mnt/second")["code"] == 0)
    return found


def numbers(clouds: Sandbox, folder: str) -> tuple[int, int]:
    first, second = clouds.shell(SPEC.id, f"cat {folder}/first {folder}/second").split()
    return int(first), int(second)


def test_a_lost_volume_is_restored_in_seconds_as_it_was(clouds: Sandbox, ec2: Any, volume: str) -> None:
    before = numbers(clouds, "/mnt")
    snapshot = ec2.create_snapshot(VolumeId=volume, Description="by hand")["SnapshotId"]
    assert eventually(lambda: numbers(clouds, "/mnt")[0] > before[0] + 5), "writing goes on"
    clouds.shell(SPEC.id, "systemctl stop writer; rm -r /mnt/mail /mnt/kept; sync")
    began = time.monotonic()
    made = ec2.create_volume(AvailabilityZone=f"{REGION}a", SnapshotId=snapshot)
    clouds.client.call("machines.stop", id=SPEC.id)
    assert clouds.client.call("machines.get", id=SPEC.id)["state"] == "stopped"
    restored = made["VolumeId"]
    assert made["Size"] == 2
    spec = replace(SPEC, volumes={restored: "/dev/sdf"}, volume_bytes={restored: 2 << 30})
    clouds.client.call("machines.update", spec=spec.to_json())
    clouds.client.call("machines.start", id=SPEC.id)
    clouds.running(SPEC.id)
    taken = time.monotonic() - began
    # Clean even without its journal being played back, and whole.
    clouds.shell(SPEC.id, "e2fsck -fn /dev/sdf; mount -o noatime /dev/sdf /mnt")
    assert clouds.shell(SPEC.id, "cat /mnt/kept").strip() == "kept"
    first, second = numbers(clouds, "/mnt")
    assert second <= first <= second + 1, "one moment, not the times of a copy"
    assert first >= before[0]
    files = int(clouds.shell(SPEC.id, "find /mnt/mail -type f | wc -l"))
    assert second - 1 <= files <= second + 1
    assert taken < RESTORE_SECONDS
    # The old one is still there, with what was done to it.
    assert (clouds.paths.state / "volumes" / f"{volume}.img").exists()
    ec2.delete_snapshot(SnapshotId=snapshot)
    assert not (clouds.paths.state / "snapshots" / f"{snapshot}.img").exists()


def test_lifecycle_manager_makes_snapshots_by_the_hour_and_lets_them_expire(
    clouds: Sandbox, ec2: Any, volume: str
) -> None:
    details = {
        "policyType": "EBS_SNAPSHOT_MANAGEMENT",
        "resourceTypes": ["VOLUME"],
        "targetTags": {"mailinfra-snapshots": "mail"},
        "schedules": [
            {
                "name": "hourly",
                "createRule": {"interval": 1, "intervalUnit": "HOURS", "times": "00:00"},
                "retainRule": {"interval": 2, "intervalUnit": "DAYS"},
                "copyTags": True,
            }
        ],
    }
    policy = {"region": REGION, "state": "ENABLED", "details": details}
    clouds.client.call("aws.put_lifecycle_policy", id="policy-1", policy=policy)
    start = datetime.now(UTC)
    assert run(clouds, start)["made"] == [], "not before the hour"
    (first,) = run(clouds, start + timedelta(hours=1))["made"]
    (second,) = run(clouds, start + timedelta(hours=2))["made"]
    found = {
        item["SnapshotId"]: item for item in ec2.describe_snapshots(SnapshotIds=[first, second])["Snapshots"]
    }
    assert {item["VolumeId"] for item in found.values()} == {volume}
    tags = {tag["Key"]: tag["Value"] for tag in found[first]["Tags"]}
    assert tags.items() >= MAIL.items()
    assert all((clouds.paths.state / "snapshots" / f"{name}.img").exists() for name in found)
    done = run(clouds, start + timedelta(days=2, hours=1))
    assert done["expired"] == [first]
    assert not (clouds.paths.state / "snapshots" / f"{first}.img").exists()
    clouds.client.call("aws.delete_lifecycle_policy", id="policy-1")
    ec2.describe_snapshots(SnapshotIds=[second])


def test_compute_engine_does_the_same(clouds: Sandbox, google: GoogleApi) -> None:
    def post(kind: str, name: str, inputs: dict[str, Any]) -> Any:
        return google.call("POST", f"/sandbox/{kind}/{segment(name)}", inputs)["outputs"]

    post("disk", f"{ZONE}/disks/mail", {"name": "mail", "size": 2})
    spec = replace(SPEC, id="store-2", kind="gcp", private_ipv4="203.0.113.36", region="europe-west3")
    spec = replace(spec, volumes={"mail": "/dev/disk/by-id/google-data"}, volume_bytes={"mail": 2 << 30})
    clouds.create(spec)
    clouds.shell(
        spec.id,
        "mkfs.ext4 -q /dev/disk/by-id/google-data; mount /dev/disk/by-id/google-data /mnt; echo mail > /mnt/mail",
    )
    schedule = {
        "schedule": {"hourlySchedule": {"hoursInCycle": 1, "startTime": "00:00"}},
        "retentionPolicy": {"maxRetentionDays": 2},
        "snapshotProperties": {"labels": {"data-class": "mail"}, "storageLocations": ["europe-west3"]},
    }
    policy = "projects/p/regions/europe-west3/resourcePolicies/hourly"
    post("resourcePolicy", policy, {"name": "hourly", "snapshotSchedulePolicy": schedule})
    post("diskPolicy", f"{ZONE}/disks/mail/hourly", {"name": "hourly", "disk": "mail"})
    start = datetime.now(UTC)
    # The file was never synced: the kernel writes it out when the file system is held still.
    (made,) = run(clouds, start + timedelta(hours=1))["made"]
    found = google.call("GET", f"/compute/v1/projects/p/global/snapshots/{made}")
    assert (found["storageLocations"], found["labels"]) == (["europe-west3"], {"data-class": "mail"})
    clouds.shell(spec.id, "rm /mnt/mail; sync")
    post("disk", f"{ZONE}/disks/again", {"name": "again", "snapshot": made})
    clouds.client.call(
        "machines.update", spec=replace(spec, volumes={"again": "/dev/sdz"}, volume_bytes={}).to_json()
    )
    assert clouds.shell(spec.id, "mkdir /again; mount /dev/sdz /again; cat /again/mail").strip() == "mail"
    assert run(clouds, start + timedelta(days=2, hours=1))["expired"] == [made]
    assert google.find(f"/compute/v1/projects/p/global/snapshots/{made}") is None


def run(clouds: Sandbox, at: datetime) -> dict[str, list[str]]:
    done: dict[str, list[str]] = clouds.client.call("schedules.run", at=at.isoformat())
    return done
