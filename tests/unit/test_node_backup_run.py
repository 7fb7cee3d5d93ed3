"""Runs of a node's backup with the real restic, against a vault in memory; and when they are due, without it."""

import json
import os
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.node.agent.node import Node
from mailinfra.node.backup.run import Place, attempt, due
from mailinfra.node.backup.status import Status, key, stamp
from mailinfra.node.backup.vault import GENERATION_DAYS
from tests.backup_helpers import USER, VAULT, Clock, MemoryVault, deliver, restic_program, route
from tests.node_helpers import MemoryBucket, agent_node

__all__ = ["restic_program"]


class Store:
    """A mailbox node with one user, and its backup."""

    def __init__(self, folder: Path) -> None:
        self.node: Node = replace(agent_node(folder, ["mailbox"]), group="store")
        self.mail = folder / "mail"
        self.bucket, self.vault, self.clock = MemoryBucket(), MemoryVault(), Clock()
        self.bucket.objects["backup/vault.json"] = json.dumps(VAULT).encode()
        self.place = Place(folder / "backup", folder / "directory" / "current", self.mail)
        self.place.lookups.mkdir()
        routes = route(USER, self.node.hostname) + route(
            "ben@example.test", "store-9.elsewhere.nodes.example.test"
        )
        (self.place.lookups / "routes.jsonl").write_text(routes)
        # Verified just now: restic takes a second to open a repository, and a sample takes three of them.
        self.place.state.mkdir()
        self.place.status.write_text(json.dumps({"last_verified": stamp(self.clock())}))
        deliver(self.mail, USER, 1)
        # A replica of somebody else's mail, which is in its home's repository.
        deliver(self.mail, "ben@example.test", 1, text="not mine")

    def run(self, **ahead: float) -> Status:
        """A run that is due, some time after the last one (an hour if nothing is said)."""
        self.clock.ahead(**(ahead or {"hours": 1}))
        status = attempt(self.node, self.place, self.bucket, lambda *_: self.vault.access, self.clock)
        assert status is not None
        return status

    @property
    def generations(self) -> list[str]:
        """The generations in the vault."""
        return self.vault.bucket.folders(f"{self.node.region}/{self.node.name}/")


@pytest.fixture
def store(tmp_path: Path, restic_program: str) -> Store:
    return Store(tmp_path)


def test_mail_goes_into_the_vault_and_is_verified(store: Store) -> None:
    first = store.run(days=2)
    assert first.error == ""
    assert first.verified == 1
    assert first.last_success == first.last_run == first.last_verified == stamp(store.clock())
    deliver(store.mail, USER, 2)
    second = store.run()
    assert (second.error, second.generation) == ("", first.generation)
    assert second.bytes > first.bytes
    # A day has to be over until a sample is restored again.
    assert second.last_verified == first.last_verified
    told = json.loads(store.bucket.objects[key(store.node)])
    assert told["snapshot"] == second.snapshot
    assert json.loads(store.place.status.read_text()) == told


def test_nothing_in_the_vault_tells_what_it_holds_and_nothing_is_written_twice(store: Store) -> None:
    deliver(store.mail, USER, 7, text="a secret that must not be seen " * 9)
    store.run()
    before = dict(store.vault.bucket.objects)
    store.run()
    objects = store.vault.bucket.objects
    assert all(objects[name] == data for name, data in before.items())
    assert not any(b"secret" in data or b"anna" in data for data in objects.values())
    creates = [call for call in store.vault.bucket.calls if call.startswith("create")]
    assert len(creates) == len(set(creates)) == len(objects)
    assert not any("/locks/" in name for name in objects)


def test_the_password_is_in_one_private_file_only(store: Store, tmp_path: Path) -> None:
    status = store.run()
    file = store.place.state / "passwords" / status.generation
    assert file.stat().st_mode & 0o777 == 0o600
    password = file.read_bytes()
    others = [path for path in tmp_path.rglob("*") if path.is_file() and path != file]
    assert not any(password in path.read_bytes() for path in others)
    assert not any(password in data for data in store.vault.bucket.objects.values())


def test_restic_is_given_no_secret_on_its_command_line(
    store: Store, restic_program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "argv"
    spy = tmp_path / "spy"
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{seen}\nexec {restic_program} "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setattr("mailinfra.node.backup.restic.RESTIC", str(spy))
    status = store.run()
    assert status.error == ""
    arguments = seen.read_text()
    assert "backup" in arguments
    assert (store.place.state / "passwords" / status.generation).read_text() not in arguments
    assert "http:" not in arguments


def test_what_is_somebody_elses_is_not_in_it(store: Store, restic_program: str) -> None:
    status = store.run()
    from mailinfra.node.backup.repository import Repository, opened

    repository = Repository(store.node.region, store.node.name, status.generation)
    password = (store.place.state / "passwords" / status.generation).read_text()
    with (
        opened(
            store.vault.access, repository, password, store.place.state / "look", writable=False
        ) as restic,
        restic.run("ls", "--no-lock", "latest") as done,
    ):
        text = done.output.read_text()
    assert "/anna/" in text
    assert "/ben/" not in text


@pytest.mark.parametrize("status", [403])
def test_a_bucket_that_refuses_is_said_and_the_next_run_is_fine(store: Store, status: int) -> None:
    good = store.run()
    store.vault.bucket.status = status
    refused = store.run()
    assert "refused for the test" in refused.error
    assert (refused.last_success, refused.generation) == (good.last_success, good.generation)
    store.vault.bucket.status = None
    assert store.run().error == ""
    assert store.generations == [good.generation]


def test_a_bucket_that_does_not_answer_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailinfra.node.backup.rest.PATIENCE_SECONDS", 0.5)
    good = store.run()
    store.vault.bucket.status = 503
    assert "refused for the test" in store.run().error
    store.vault.bucket.status = None
    after = store.run()
    assert (after.error, after.generation) == ("", good.generation)


@pytest.mark.parametrize("kind", ["data", "index", "config"])
def test_a_repository_that_is_damaged_is_followed_by_a_new_one(store: Store, kind: str) -> None:
    good = store.run()
    objects = store.vault.bucket.objects
    for name in [name for name in objects if f"/{kind}" in name]:
        objects[name] = objects[name][:-9] + b"corrupted"
    deliver(store.mail, USER, 2)
    status = store.run(days=2)
    assert status.generation != good.generation
    assert store.generations == [good.generation, status.generation]
    assert any("is damaged" in note for note in status.notes)
    assert status.last_success == stamp(store.clock())
    again = store.run(days=2)
    assert (again.error, again.generation, again.verified) == ("", status.generation, 2)


def test_a_message_that_changed_on_disk_is_not_verified(store: Store) -> None:
    path = deliver(store.mail, USER, 3)
    good = store.run()
    before = path.stat()
    path.write_text(path.read_text().replace("Subject: 3", "Subject: 4"))
    # As a failing disk would do it: restic cannot see that it has to be read again.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    store.clock.ahead(days=2)
    from mailinfra.node.backup.run import Run

    run = Run(store.node, store.place, store_vault(), store.vault.access, store.clock)
    status = run.verified(good)
    assert "another message than the live one" in status.error
    assert "anna" not in status.error


def test_a_key_that_goes_is_said_while_backups_go_on(store: Store) -> None:
    good = store.run()
    store.vault.key_works = False
    deliver(store.mail, USER, 2)
    status = store.run(days=GENERATION_DAYS + 1)
    assert "pending deletion" in status.error
    assert status.generation == good.generation
    assert status.last_success == stamp(store.clock())
    store.vault.key_works = True
    after = store.run()
    assert (after.error, len(store.generations)) == ("", 2)


def test_without_a_key_from_the_start_there_is_no_backup_and_it_is_said(store: Store) -> None:
    store.vault.key_works = False
    status = store.run()
    assert "pending deletion" in status.error
    assert status.last_success == ""
    assert store.vault.bucket.objects == {}


@pytest.mark.parametrize("cause", ["age", "password", "state", "vault"])
def test_a_new_generation_is_begun(store: Store, cause: str) -> None:
    good = store.run()
    hours = 1.0
    if cause == "age":
        hours = 24.0 * GENERATION_DAYS
    elif cause == "password":
        (store.place.state / "passwords" / good.generation).unlink()
    elif cause == "state":
        (store.place.state / "current.json").write_text("{")
    else:
        store.bucket.objects["backup/vault.json"] = json.dumps({**VAULT, "bucket": "vault-new"}).encode()
    status = store.run(hours=hours)
    assert status.error == ""
    assert status.generation > good.generation


def test_a_run_that_was_killed_is_gone_on_with(
    store: Store, restic_program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "killed"
    wrapper.write_text(f'#!/bin/sh\n[ "$1" = backup ] && kill -9 $$\nexec {restic_program} "$@"\n')
    wrapper.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr("mailinfra.node.backup.restic.RESTIC", str(wrapper))
        broken = store.run()
    assert "ended with -9" in broken.error
    status = store.run()
    assert (status.error, len(store.generations)) == ("", 1)


def test_a_full_disk_is_said(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.run()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", full)
        status = store.run()
    assert "No space left on device" in status.error
    assert store.run().error == ""


def test_a_control_bucket_that_is_away_keeps_nobody_from_a_backup(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mailinfra.node.agent.bucket import BucketError

    store.run()

    def away(*_: object) -> None:
        raise BucketError("away", 503)

    monkeypatch.setattr(store.bucket, "get", away)
    monkeypatch.setattr(store.bucket, "put", away)
    deliver(store.mail, USER, 2)
    status = store.run()
    assert (status.error, status.last_success) == ("", stamp(store.clock()))
    assert json.loads(store.place.status.read_text())["last_success"] == stamp(store.clock())


def test_without_a_vault_nothing_is_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    del store.bucket.objects["backup/vault.json"]
    assert attempt(store.node, store.place, store.bucket, lambda *_: store.vault.access, store.clock) is None
    assert store.vault.bucket.calls == []


def store_vault() -> object:
    from tests.backup_helpers import vault

    return vault()


@given(
    rpo=st.integers(5, 60),
    seconds=st.floats(0, 7200),
    age=st.timedeltas(min_value=timedelta(), max_value=timedelta(hours=3)),
)
def test_mail_waits_for_no_longer_than_the_rpo(rpo: int, seconds: float, age: timedelta) -> None:
    clock = Clock()
    status = Status(last_run=stamp(clock.now - age), last_success=stamp(clock.now - age), seconds=seconds)
    latest = timedelta(minutes=rpo) - timedelta(seconds=min(seconds, rpo * 30))
    if age >= latest:
        assert due(status, rpo, clock())
    if age <= timedelta(minutes=rpo) / 2 - timedelta(seconds=2):
        assert not due(status, rpo, clock())


def test_due_after_failures_and_when_the_clock_was_set_back() -> None:
    clock = Clock()
    assert due(Status(), 15, clock())
    future = stamp(clock.now + timedelta(hours=2))
    assert due(Status(last_run=future, last_success=future), 15, clock())
    ran, good = stamp(clock.now - timedelta(seconds=60)), stamp(clock.now - timedelta(minutes=10))
    failed = Status(last_run=ran, last_success=good, error="x")
    assert not due(failed, 60, clock())
    assert due(replace(failed, last_run=stamp(clock.now - timedelta(seconds=121))), 60, clock())
    assert not due(Status(last_run=ran), 15, clock())
