"""Failing over and back: nothing but the routes changes, everywhere that can be told."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from mailinfra import names
from mailinfra.directory import Directory, User
from mailinfra.errors import ConfigError
from mailinfra.failover import fail_back, fail_over
from mailinfra.fleet import Fleet
from mailinfra.publish import PublishError, Store, Stored, publish
from tests.fleets import fleet
from tests.unit.test_publish import HASH

FLEET = fleet()
COUNTRIES = ("DE", "NL", "US", "FR", "AT")


@dataclass
class Memory:
    """A control bucket in memory."""

    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    broken: bool = False

    def get(self, path: str) -> Stored | None:
        if self.broken:
            raise PublishError("no answer")
        found = self.objects.get(path)
        return Stored(found[0], str(found[1]), found[1]) if found else None

    def put(self, path: str, body: bytes, version: str | None) -> None:
        before = self.get(path)
        assert version == (before.version if before else None)
        self.objects[path] = (body, int(version or 0) + 1)


def user(number: int, **more: Any) -> User:
    attributes = {"country": COUNTRIES[number % len(COUNTRIES)]}
    address = f"user{number}@example.test"
    return User.model_validate({"address": address, "attributes": attributes, "password_hash": HASH, **more})


USERS = [user(0, aliases=["zero@example.test"]), *(user(number) for number in range(1, 20))]


@pytest.fixture
def stores() -> dict[str, Memory]:
    """The control buckets of a fleet whose directory was published."""
    made = {region.region: Memory() for region in FLEET.regions}
    publish(FLEET, directory(), as_stores(made))
    return made


def directory(*more: User) -> Directory:
    return Directory(users=(*USERS, *more), groups=())


def as_stores(made: dict[str, Memory]) -> dict[str, Store]:
    return dict(made)


def routes(store: Memory) -> dict[str, dict[str, Any]]:
    lines = store.objects[names.ROUTES_KEY][0].splitlines()
    return {item["address"]: item for item in map(json.loads, lines)}


def test_the_replicas_of_a_lost_region_become_the_homes(stores: dict[str, Memory]) -> None:
    before = routes(stores["us-east-1"])
    stores["eu-central-1"].broken = True
    outcome = fail_over(FLEET, as_stores(stores), ["eu-central-1"])
    lost = {
        name for name, item in before.items() if item["home"] == "eu-central-1" and item["kind"] == "user"
    }
    assert outcome.moved == {("eu-central-1", "europe-west3"): len(lost)}
    assert outcome.whole
    assert outcome.told == ("europe-west3", "us-east-1", "us-central1")
    assert outcome.untold == {"eu-central-1": "no answer"}
    after = routes(stores["us-east-1"])
    assert lost
    for name, old in before.items():
        if name in lost:
            assert after[name]["home"] == "europe-west3"
            assert after[name]["zone"] == old["zone"]
            assert (after[name]["mailbox_host"], after[name]["replica"]) == (
                old["replica"],
                old["mailbox_host"],
            )
        elif name == "zero@example.test":
            assert after[name]["mailbox_host"] == after["user0@example.test"]["mailbox_host"]
        else:
            assert after[name] == old
    assert {
        store.objects[names.ROUTES_KEY][0] for name, store in stores.items() if name != "eu-central-1"
    } == {stores["us-east-1"].objects[names.ROUTES_KEY][0]}


def test_it_can_be_run_again_and_tells_those_that_were_not_told(stores: dict[str, Memory]) -> None:
    stores["us-central1"].broken = True
    first = fail_over(FLEET, as_stores(stores), ["eu-central-1"])
    assert first.untold["us-central1"] == "no answer"
    stores["us-central1"].broken = False
    again = fail_over(FLEET, as_stores(stores), ["eu-central-1"])
    assert set(again.told) == stores.keys()
    assert routes(stores["us-central1"]) == routes(stores["us-east-1"])
    whole = {name: store.objects[names.ROUTES_KEY] for name, store in stores.items()}
    assert fail_over(FLEET, as_stores(stores), ["eu-central-1"]).moved == {}
    assert {name: store.objects[names.ROUTES_KEY] for name, store in stores.items()} == whole


def test_failing_back_leaves_the_directory_as_it_was(stores: dict[str, Memory]) -> None:
    before = {name: store.objects[names.ROUTES_KEY][0] for name, store in stores.items()}
    fail_over(FLEET, as_stores(stores), ["eu-central-1"])
    outcome = fail_back(FLEET, as_stores(stores), ["eu-central-1"])
    assert set(outcome.moved) == {("europe-west3", "eu-central-1")}
    assert outcome.untold == {}
    assert {name: store.objects[names.ROUTES_KEY][0] for name, store in stores.items()} == before


def test_the_region_that_was_lost_is_told_when_it_is_back(stores: dict[str, Memory]) -> None:
    stores["eu-central-1"].broken = True
    fail_over(FLEET, as_stores(stores), ["eu-central-1"])
    stores["eu-central-1"].broken = False
    # What it believes still is the old directory: what was published last counts.
    publish(FLEET, directory(), as_stores(stores))
    assert routes(stores["eu-central-1"]) == routes(stores["us-east-1"])
    assert "eu-central-1" not in {item["home"] for item in routes(stores["eu-central-1"]).values()}


def test_a_whole_zone_that_is_lost_has_nobody_to_take_over(stores: dict[str, Memory]) -> None:
    outcome = fail_over(FLEET, as_stores(stores), ["eu-central-1", "europe-west3"])
    assert outcome.moved == {}
    assert set(outcome.left) == {"eu-central-1", "europe-west3"}
    assert not outcome.whole
    assert any("restore them" in line for line in outcome.lines())


def test_a_directory_published_meanwhile_leaves_people_where_they_are(stores: dict[str, Memory]) -> None:
    fail_over(FLEET, as_stores(stores), ["eu-central-1"])
    there = routes(stores["us-east-1"])
    report = publish(FLEET, directory(user(100)), as_stores(stores))
    assert report.moves == ()
    after = routes(stores["us-east-1"])
    assert after.keys() - there.keys() == {"user100@example.test"}
    assert {name: after[name] for name in there} == there
    fail_back(FLEET, as_stores(stores), ["eu-central-1"])
    assert all(
        item["home"] == "eu-central-1" for item in routes(stores["us-east-1"]).values() if "origin" in item
    )
    assert not any("origin" in item for item in routes(stores["us-east-1"]).values())


@pytest.mark.parametrize("wrong", [["moon-1"], [region.region for region in FLEET.regions]])
def test_a_region_that_cannot_be_meant_is_refused(stores: dict[str, Memory], wrong: list[str]) -> None:
    for move in (fail_over, fail_back):
        before = {name: dict(store.objects) for name, store in stores.items()}
        with pytest.raises(ConfigError, match="REGION"):
            move(FLEET, as_stores(stores), wrong)
        assert {name: dict(store.objects) for name, store in stores.items()} == before


def test_nobody_to_tell_is_an_error(stores: dict[str, Memory]) -> None:
    for store in stores.values():
        store.broken = True
    with pytest.raises(PublishError, match="no region could be told"):
        fail_over(FLEET, as_stores(stores), ["eu-central-1"])


@pytest.mark.parametrize("body", [b"{", b"[]\n", b'{"kind": "user"}\n', b"\xff\n"])
def test_what_is_no_directory_is_left_alone(stores: dict[str, Memory], body: bytes) -> None:
    stores["us-central1"].objects[names.ROUTES_KEY] = (body, 7)
    outcome = fail_over(FLEET, as_stores(stores), ["eu-central-1"])
    assert "not a directory of ours" in outcome.untold["us-central1"]
    assert stores["us-central1"].objects[names.ROUTES_KEY] == (body, 7)


def test_a_fleet_without_replicas_says_who_is_left() -> None:
    dev: Fleet = fleet("dev")
    made = {region.region: Memory() for region in dev.regions}
    mine = User.model_validate({"address": "anna@dev.example.com", "attributes": {}, "password_hash": HASH})
    publish(dev, Directory(users=(mine,), groups=()), as_stores(made))
    outcome = fail_over(dev, as_stores(made), ["eu-central-1"])
    assert outcome.left == {"eu-central-1": 1}
