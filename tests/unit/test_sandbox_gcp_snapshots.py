"""Compute Engine's snapshots and schedules, without machines."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest

from mailinfra.sandbox.gcp import snapshots
from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.compute import Compute, Machines, Names
from mailinfra.sandbox.gcp.http import ApiError
from mailinfra.sandbox.paths import SandboxError
from tests.gcp_helpers import PROJECT, account, grant, operator

ZONE = f"projects/{PROJECT}/zones/europe-west3-a"
POLICY = f"projects/{PROJECT}/regions/europe-west3/resourcePolicies/hourly"
REST = f"/compute/v1/projects/{PROJECT}"
SCHEDULE = {
    "schedule": {"hourlySchedule": {"hoursInCycle": 1, "startTime": "00:00"}},
    "retentionPolicy": {"maxRetentionDays": 7},
    "snapshotProperties": {"labels": {"data-class": "mail"}, "storageLocations": "europe-west3"},
}


@dataclass
class Disks:
    """Remembers what the supervisor would be asked."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    refuse: bool = False

    def snapshot_volume(self, volume: str, snapshot: str, size: int) -> None:
        if self.refuse:
            raise SandboxError("it cannot be held still")
        self.asked.append(("snapshot", volume, snapshot, size >> 30))

    def restore_volume(self, volume: str, snapshot: str, size: int) -> None:
        self.asked.append(("restore", volume, snapshot, size >> 30))

    def delete_snapshot(self, snapshot: str) -> None:
        self.asked.append(("delete", snapshot))

    def delete_volume(self, volume: str) -> None:
        self.asked.append(("delete volume", volume))


@dataclass
class World:
    """The APIs with one disk."""

    apis: GoogleApis
    compute: Compute
    disks: Disks

    def __call__(self, method: str, kind: str, name: str, inputs: Any = None) -> dict[str, Any]:
        return operator(self.apis)(method, f"/sandbox/{kind}/{quote(name, safe='')}", inputs)

    def schedule(self) -> None:
        self("POST", "resourcePolicy", POLICY, {"name": "hourly", "snapshotSchedulePolicy": SCHEDULE})
        self("POST", "diskPolicy", f"{ZONE}/disks/mail/hourly", {"name": "hourly", "disk": "mail"})

    def run(self, hours: float) -> dict[str, list[str]]:
        return snapshots.run(self.compute, self.apis.resources, datetime.now(UTC) + timedelta(hours=hours))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    apis = GoogleApis(tmp_path)
    disks = Disks()
    compute = Compute(apis.store, apis.identity, cast(Machines, disks), cast(Names, None))
    for kind, handler in {**compute.kinds(), **snapshots.kinds(compute)}.items():
        apis.resources.add(kind, handler)
    apis.add(snapshots.SnapshotApi(compute, apis.resources))
    made = World(apis, compute, disks)
    made("POST", "disk", f"{ZONE}/disks/mail", {"name": "mail", "size": 20})
    yield made
    apis.close()


def test_a_snapshot_is_made_read_listed_and_deleted(world: World) -> None:
    call = operator(world.apis)
    done = call(
        "POST",
        f"{REST}/zones/europe-west3-a/disks/mail/createSnapshot",
        {"name": "now", "labels": {"a": "b"}},
    )
    assert done["status"] == "DONE"
    found = call("GET", f"{REST}/global/snapshots/now")
    assert (found["name"], found["diskSizeGb"], found["status"]) == ("now", "20", "READY")
    assert found["sourceDisk"].endswith("/zones/europe-west3-a/disks/mail")
    assert (found["labels"], found["storageLocations"]) == ({"a": "b"}, ["europe-west3"])
    assert [item["name"] for item in call("GET", f"{REST}/global/snapshots")["items"]] == ["now"]
    call("DELETE", f"{REST}/global/snapshots/now")
    assert call.code("GET", f"{REST}/global/snapshots/now") == 404
    assert world.disks.asked == [("snapshot", "mail", "gcp-now", 20), ("delete", "gcp-now")]


@pytest.mark.parametrize(
    ("disk", "body", "code"),
    [
        ("mail", {"name": "Not A Name"}, 400),
        ("mail", {}, 400),
        ("mail", {"name": "now", "guestFlush": True}, 400),
        ("mail", {"name": "now", "chainName": "x"}, 400),
        ("other", {"name": "now"}, 400),
    ],
)
def test_what_cannot_be_is_refused(world: World, disk: str, body: dict[str, Any], code: int) -> None:
    call = operator(world.apis)
    assert call.code("POST", f"{REST}/zones/europe-west3-a/disks/{disk}/createSnapshot", body) == code
    assert call("GET", f"{REST}/global/snapshots")["items"] == []


def test_one_that_fails_is_not_there(world: World) -> None:
    world.disks.refuse = True
    with pytest.raises(ApiError, match="held still"):
        operator(world.apis)(
            "POST", f"{REST}/zones/europe-west3-a/disks/mail/createSnapshot", {"name": "now"}
        )
    assert operator(world.apis)("GET", f"{REST}/global/snapshots")["items"] == []


def test_no_server_may_make_see_or_delete_snapshots(world: World) -> None:
    member, node = account(world.apis, "store-nodes")
    grant(world.apis, f"projects/{PROJECT}", "roles/storage.admin", member)
    operator(world.apis)("POST", f"{REST}/zones/europe-west3-a/disks/mail/createSnapshot", {"name": "now"})
    assert (
        node.code("POST", f"{REST}/zones/europe-west3-a/disks/mail/createSnapshot", {"name": "mine"}) == 403
    )
    assert node.code("GET", f"{REST}/global/snapshots") == 403
    assert node.code("GET", f"{REST}/global/snapshots/now") == 403
    assert node.code("DELETE", f"{REST}/global/snapshots/now") == 403
    assert node.code("DELETE", "/sandbox/snapshot/now") == 403


def test_a_disk_is_made_of_a_snapshot_and_not_smaller_than_it(world: World) -> None:
    operator(world.apis)("POST", f"{REST}/zones/europe-west3-a/disks/mail/createSnapshot", {"name": "now"})
    outputs = world("POST", "disk", f"{ZONE}/disks/again", {"name": "again", "snapshot": "now"})["outputs"]
    assert outputs["size"] == 20
    link = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/snapshots/now"
    world("POST", "disk", f"{ZONE}/disks/larger", {"name": "larger", "snapshot": link, "size": 30})
    assert world.disks.asked[1:] == [
        ("restore", "again", "gcp-now", 20),
        ("restore", "larger", "gcp-now", 30),
    ]
    with pytest.raises(ApiError, match="cannot be smaller than the snapshot"):
        world("POST", "disk", f"{ZONE}/disks/small", {"name": "small", "snapshot": "now", "size": 10})
    with pytest.raises(ApiError, match="does not exist"):
        world("POST", "disk", f"{ZONE}/disks/none", {"name": "none", "snapshot": "none"})


def test_a_schedule_makes_one_every_hour_and_lets_them_expire(world: World) -> None:
    world.schedule()
    assert world.run(0) == {"made": [], "expired": []}, "a new one waits for its hour"
    (first,) = world.run(1)["made"]
    assert first.startswith("mail-europe-west3-a-")
    found = operator(world.apis)("GET", f"{REST}/global/snapshots/{first}")
    assert (found["autoCreated"], found["labels"]) == (True, {"data-class": "mail"})
    assert found["sourceSnapshotSchedulePolicy"].endswith("/resourcePolicies/hourly")
    operator(world.apis)("POST", f"{REST}/zones/europe-west3-a/disks/mail/createSnapshot", {"name": "mine"})
    done = world.run(1 + 7 * 24)
    assert done["expired"] == [first], "what was made by hand stays"
    assert len(done["made"]) == 1


def test_a_disk_has_one_schedule_and_a_schedule_that_is_used_stays(world: World) -> None:
    world.schedule()
    other = POLICY.replace("hourly", "other")
    world("POST", "resourcePolicy", other, {"name": "other", "snapshotSchedulePolicy": SCHEDULE})
    with pytest.raises(ApiError, match="already being used"):
        world("POST", "diskPolicy", f"{ZONE}/disks/mail/other", {"name": "other", "disk": "mail"})
    with pytest.raises(ApiError, match="already being used"):
        world("DELETE", "resourcePolicy", POLICY)
    world("DELETE", "disk", f"{ZONE}/disks/mail")
    world("DELETE", "resourcePolicy", POLICY)


@pytest.mark.parametrize(
    "policy",
    [
        {"instanceSchedulePolicy": {"timeZone": "UTC"}},
        {"snapshotSchedulePolicy": {"schedule": {"weeklySchedule": {}}}},
        {
            "snapshotSchedulePolicy": {
                "schedule": {"hourlySchedule": {"hoursInCycle": 5, "startTime": "00:00"}}
            }
        },
    ],
)
def test_other_policies_are_refused(world: World, policy: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as raised:
        world("POST", "resourcePolicy", POLICY, {"name": "hourly", **policy})
    assert raised.value.code == 400


def test_a_daily_schedule_runs_daily(world: World) -> None:
    daily = {"schedule": {"dailySchedule": {"daysInCycle": 1, "startTime": "00:00"}}}
    world("POST", "resourcePolicy", POLICY, {"name": "hourly", "snapshotSchedulePolicy": daily})
    world("POST", "diskPolicy", f"{ZONE}/disks/mail/hourly", {"name": "hourly", "disk": "mail"})
    assert len(world.run(24)["made"]) == 1
    assert world.run(1000)["expired"] == [], "kept for ever where no retention is said"


def test_one_disks_trouble_is_told_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.schedule()
    world.disks.refuse = True
    assert world.run(1) == {"made": [], "expired": []}
    assert "did not run" in caplog.text
