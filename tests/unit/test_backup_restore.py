"""`mailinfra restore`: what it asks of whom, what it refuses, and what it says."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from mailinfra import names
from mailinfra.backup import restore
from mailinfra.backup.plan import copies
from mailinfra.backup.restore import (
    Order,
    RestoreError,
    Scope,
    at_time,
    directory,
    orders,
    send,
    summary,
    target,
    wait,
)
from mailinfra.cli import app
from mailinfra.fleet import Fleet
from mailinfra.node.backup.requests import REQUESTS, Progress, dump_progress, parse, progress_key
from mailinfra.publish import PublishError, Stored
from tests.backup_helpers import route
from tests.fleets import fleet

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
HOSTS = {
    region: f"store-1.{region}.nodes.example.test" for region in ("eu-central-1", "europe-west3", "us-east-1")
}
USERS = {
    "anna@example.test": "eu-central-1",
    "carl@example.test": "europe-west3",
    "bob@second.test": "us-east-1",
}
ROUTES = "".join(route(user, HOSTS[home]) for user, home in USERS.items()).encode() + (
    b'{"address": "all@example.test", "kind": "alias", "targets": ["anna@example.test"]}\n'
)


class MemoryStore:
    """A control bucket in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {names.ROUTES_KEY: ROUTES}
        self.away = False

    def get(self, path: str) -> Stored | None:
        """See `mailinfra.publish.Store`."""
        if self.away:
            raise PublishError("away")
        return Stored(self.objects[path], "1", 1.0) if path in self.objects else None

    def put(self, path: str, body: bytes, version: str | None) -> None:
        """See `mailinfra.publish.Store`."""
        if self.away:
            raise PublishError("away")
        assert version is None
        self.objects[path] = body


@pytest.fixture(scope="module")
def mail() -> Fleet:
    return fleet()


def planned(mail: Fleet, scope: Scope, **more: str) -> list[Order]:
    return orders(mail, scope, ROUTES, at=NOW, now=NOW, **more)  # type: ignore[arg-type]


def test_the_home_restores_its_own(mail: Fleet) -> None:
    (order,) = planned(mail, Scope(mailbox="anna@example.test", message="<a@b>"))
    request = order.request
    assert (request.source, request.target, request.apply) == ("eu-central-1", "eu-central-1", False)
    assert (request.mailbox, request.message) == ("anna@example.test", "<a@b>")
    assert order.nodes == (HOSTS["eu-central-1"],)


def test_a_domain_takes_a_request_for_each_home(mail: Fleet) -> None:
    found = planned(mail, Scope(domain="example.test"))
    assert [(item.request.source, item.nodes) for item in found] == [
        (region, (HOSTS[region],)) for region in ("eu-central-1", "europe-west3")
    ]
    assert len({item.request.id for item in found}) == 2


def test_the_replica_restores_where_it_follows(mail: Fleet) -> None:
    assert {store.region: store.replica for store in copies(mail)}["eu-central-1"] == "europe-west3"
    (order,) = planned(mail, Scope(region="eu-central-1"), to="europe-west3")
    assert (order.request.source, order.request.target) == ("eu-central-1", "europe-west3")
    assert order.request.everything
    assert order.nodes == (HOSTS["europe-west3"],)


@pytest.mark.parametrize(
    ("scope", "to", "source", "why"),
    [
        (Scope(), "", "", "exactly one"),
        (Scope(mailbox="anna@example.test", domain="example.test"), "", "", "exactly one"),
        (Scope(message="<a@b>"), "", "", "exactly one"),
        (Scope(domain="example.test", message="<a@b>"), "", "", "--message needs --mailbox"),
        (Scope(mailbox="anna@example.test", message="a@b"), "", "", "angles"),
        (Scope(mailbox="nobody@example.test"), "", "", "nobody at"),
        (Scope(domain="other.test"), "", "", "not of this fleet"),
        (Scope(region="mars"), "", "", "holds no mail"),
        (Scope(mailbox="anna@example.test"), "mars", "", "no region of this fleet"),
        (Scope(mailbox="anna@example.test"), "us-east-1", "", "may not leave the zone eu"),
        (Scope(mailbox="bob@second.test"), "eu-central-1", "", "may not leave the zone us"),
        (Scope(mailbox="anna@example.test"), "", "us-east-1", "may not leave the zone us"),
        (Scope(region="eu-central-1"), "us-central1", "", "nothing was done"),
    ],
)
def test_what_must_not_be_is_refused(mail: Fleet, scope: Scope, to: str, source: str, why: str) -> None:
    with pytest.raises(RestoreError, match=why):
        planned(mail, scope, to=to, source=source)


def test_a_third_region_of_the_zone_cannot_read_the_copies() -> None:
    from tests.fleets import AWS_REGION

    wide = fleet(regions__4={**AWS_REGION})
    with pytest.raises(RestoreError, match="eu-west-1 may not read the copies of eu-central-1"):
        target(wide, "eu-central-1", "eu-central-1", "eu-west-1")


@pytest.mark.parametrize("text", ["yesterday", "2026-11-23T10:00:00", "2027-01-01T00:00:00Z"])
def test_a_time_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(RestoreError, match="--at"):
        at_time(text, NOW)


def test_times_are_taken_with_any_zone() -> None:
    assert at_time("", NOW) == NOW
    assert at_time("2026-11-23T10:30:00+01:00", NOW) == datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def test_a_directory_that_is_none_is_said(mail: Fleet) -> None:
    with pytest.raises(RestoreError, match="not a directory of ours"):
        orders(mail, Scope(mailbox="a@b"), b"{}", at=NOW, now=NOW)
    away, near = MemoryStore(), MemoryStore()
    away.away = True
    assert directory({"a": away, "b": near}, "a") == ROUTES
    with pytest.raises(RestoreError, match="away"):
        directory({"a": away})
    near.objects.clear()
    with pytest.raises(RestoreError, match="no directory"):
        directory({"b": near})


def test_a_request_goes_where_it_is_done_and_is_waited_for(mail: Fleet) -> None:
    store = MemoryStore()
    (order,) = planned(mail, Scope(mailbox="anna@example.test"))
    send({"eu-central-1": store}, order)
    assert parse(store.objects[f"{REQUESTS}{order.request.id}.json"]) == order.request
    node = order.nodes[0]
    running = Progress(order.request.id, node, "running", users=1, missing=7, restored=3)
    key = progress_key("store", order.request.id, "store-1")
    steps = iter(
        [b"not json", dump_progress(running), dump_progress(replace(running, state="done", users_done=1))]
    )
    said: list[str] = []

    def sleep(_: float) -> None:
        store.objects[key] = next(steps)

    results = wait({"eu-central-1": store}, order, said.append, limit=100, sleep=sleep)
    assert [result.state for result in results] == ["done"]
    assert "has not answered yet" in said[0]
    assert "3 of 7 messages" in said[-1]
    (text,) = summary(order, results)
    assert "7 would be restored" in text


def test_who_is_silent_is_named_and_the_wait_ends(mail: Fleet) -> None:
    (order,) = planned(mail, Scope(mailbox="anna@example.test"))
    times = iter(range(0, 1000, 50))
    with pytest.raises(RestoreError, match=r"not through after 100 s .*does it run.*safe"):
        wait(
            {"eu-central-1": MemoryStore()},
            order,
            lambda _: None,
            limit=100,
            sleep=lambda _: None,
            clock=lambda: float(next(times)),
        )


def test_a_bucket_that_is_away_points_to_the_replica(mail: Fleet) -> None:
    store = MemoryStore()
    store.away = True
    (order,) = planned(mail, Scope(mailbox="anna@example.test"))
    with pytest.raises(RestoreError, match="try another --to"):
        send({"eu-central-1": store}, order)


def command(monkeypatch: pytest.MonkeyPatch, store: MemoryStore, *options: str) -> tuple[int, str]:
    monkeypatch.setattr("mailinfra.cli._fleet_and_stores", lambda *_: (fleet(), dict.fromkeys(HOSTS, store)))
    done = CliRunner().invoke(app, ["restore", *options], catch_exceptions=False)
    return done.exit_code, done.output


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", 1)])
def test_the_command_asks_waits_and_says(monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    store = MemoryStore()

    def sleep(_: float) -> None:
        (key,) = [name for name in store.objects if name.startswith(REQUESTS)]
        request = parse(store.objects[key])
        assert not request.apply
        progress = Progress(
            request.id, HOSTS["eu-central-1"], state, 1, 1, 9, 4, 0, error="why" if code else ""
        )
        store.objects[progress_key("store", request.id, "store-1")] = dump_progress(progress)

    monkeypatch.setattr(restore.time, "sleep", sleep)
    monkeypatch.setattr(restore.wait, "__kwdefaults__", {**restore.wait.__kwdefaults__, "sleep": sleep})
    exit_code, text = command(monkeypatch, store, "--mailbox", "Anna@Example.test")
    assert exit_code == code
    assert "4 would be restored" in text
    assert "Nothing was changed" in text
    assert json.dumps("why").strip('"') in text or not code


def test_a_refusal_of_the_command_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    with pytest.raises(RestoreError, match=re.escape("may not leave the zone eu")):
        command(monkeypatch, store, "--mailbox", "anna@example.test", "--to", "us-east-1", "--apply")
    assert set(store.objects) == {names.ROUTES_KEY}
