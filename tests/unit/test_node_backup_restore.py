"""Restores on a node: real restic and a vault in memory; Dovecot is played by folders and GUIDs."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailinfra.node.backup.merge import place
from mailinfra.node.backup.requests import REQUESTS, Progress, Request, dump, parse_progress, progress_key
from mailinfra.node.backup.restore import Dovecot, RestoreError, chunks, message_id, utf7
from mailinfra.node.backup.run import Place, attempt
from mailinfra.node.backup.serve import Restores, users
from mailinfra.node.backup.sources import is_message
from mailinfra.node.backup.status import stamp
from tests.backup_helpers import USER, VAULT, Clock, MemoryVault, deliver, restic_program, route
from tests.node_helpers import MemoryBucket, agent_node

__all__ = ["restic_program"]


class Mailboxes(Dovecot):
    """Live mailboxes: of each user the folders and the GUIDs in them. GUIDs are file names."""

    def __init__(self) -> None:
        super().__init__(("false",))
        self.found: dict[str, list[tuple[str, str]]] = {}
        self.made: list[str] = []
        self.adds = 0
        self.breaks_at = 0

    def messages(self, user: str) -> list[tuple[str, str]]:
        """See `Dovecot.messages`."""
        return list(self.found.get(user, []))

    def folders(self, user: str, maildir: Path | None = None) -> list[str]:
        """See `Dovecot.folders`."""
        return ["INBOX", *{folder for folder, _ in self.found.get(user, [])}]

    def create(self, user: str, names: object) -> None:
        """See `Dovecot.create`."""
        self.made += names  # type: ignore[arg-type]

    def add(self, user: str, maildir: Path) -> None:
        """See `Dovecot.add`: like it, adds what is there already once more."""
        self.adds += 1
        if self.adds == self.breaks_at:
            raise RestoreError("killed for the test")
        assert maildir.stat().st_mode & 0o007 == 0 or maildir.parents[5].stat().st_mode & 0o777 == 0o700
        for path in sorted(maildir.rglob("*")):
            if path.is_file() and is_message(str(path), maildir):
                folder, name = place(str(path))
                self.found.setdefault(user, []).append((folder.lstrip(".") or "INBOX", name))


class Store:
    """A node with a backup of one mailbox: two messages in INBOX, one filed."""

    def __init__(self, folder: Path) -> None:
        self.node = replace(agent_node(folder, ["mailbox"]), group="store")
        self.bucket, self.vault, self.clock, self.live = MemoryBucket(), MemoryVault(), Clock(), Mailboxes()
        self.bucket.objects["backup/vault.json"] = json.dumps(VAULT).encode()
        self.place = Place(folder / "backup", folder / "directory" / "current", folder / "mail")
        self.place.lookups.mkdir()
        (self.place.lookups / "routes.jsonl").write_text(route(USER, self.node.hostname))
        self.files = [
            deliver(self.place.mail, USER, 1),
            deliver(self.place.mail, USER, 2),
            deliver(self.place.mail, USER, 3, ".Filed"),
        ]
        os.utime(self.files[0], (1, 1))
        self.place.state.mkdir()
        self.place.status.write_text(json.dumps({"last_verified": stamp(self.clock())}))
        status = attempt(self.node, self.place, self.bucket, lambda *_: self.vault.access, self.clock)
        assert status is not None
        assert status.error == ""

    def ask(self, **changes: object) -> Request:
        """An operator's request."""
        at = datetime.now(UTC).replace(microsecond=0)
        at = at.replace(year=at.year + 1)
        known = Request(
            id=f"{len(self.bucket.objects):016x}",
            created=self.clock(),
            at=at,
            source=self.node.region,
            target=self.node.region,
            apply=True,
            mailbox=USER,
        )
        request = replace(known, **changes)  # type: ignore[arg-type]
        self.bucket.objects[f"{REQUESTS}{request.id}.json"] = dump(request)
        return request

    def serve(self) -> Restores:
        """The program, just started."""
        return Restores(
            self.node, self.place, self.bucket, lambda *_: self.vault.access, self.clock, self.live
        )

    def told(self, request: Request) -> Progress:
        """What the node said last."""
        return parse_progress(self.bucket.objects[progress_key("store", request.id, self.node.name)])


@pytest.fixture
def store(tmp_path: Path, restic_program: str) -> Store:
    return Store(tmp_path)


def test_a_mailbox_comes_back_newest_first_and_once(store: Store) -> None:
    there = store.files[1].name.partition(":")[0]
    store.live.found[USER] = [("INBOX", there), ("INBOX", "newer")]
    dry = store.ask(apply=False)
    store.serve().step()
    assert (store.told(dry).missing, store.told(dry).restored, store.live.adds) == (2, 0, 0)
    request = store.ask()
    server = store.serve()
    server.step()
    said = store.told(request)
    assert (said.state, said.error, said.copied, said.missing, said.restored) == ("done", "", 3, 2, 2)
    assert store.live.made == ["Filed"]
    assert sorted(store.live.found[USER]) == sorted(
        [
            ("INBOX", "newer"),
            *[(place(str(f))[0].lstrip(".") or "INBOX", place(str(f))[1]) for f in store.files],
        ]
    )
    server.step()
    again = store.ask()
    store.serve().step()
    assert store.told(again).missing == 0
    assert len(store.live.found[USER]) == 4
    assert not (store.place.mail / ".restore").exists()


def test_one_message_comes_back_by_its_id(store: Store) -> None:
    request = store.ask(message="<m3@x>")
    store.serve().step()
    assert store.told(request).restored == 1
    assert [folder for folder, _ in store.live.found[USER]] == ["Filed"]
    none = store.ask(message="<other@x>")
    store.serve().step()
    assert (store.told(none).state, store.told(none).missing) == ("done", 0)


def test_what_was_interrupted_is_finished_without_doubles(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailinfra.node.backup.restore.CHUNK", 1)
    request = store.ask()

    class Killed(BaseException):
        pass

    whole = store.live.add

    def add(user: str, maildir: Path) -> None:
        whole(user, maildir)
        if store.live.adds == 2:
            raise Killed

    monkeypatch.setattr(store.live, "add", add)
    with pytest.raises(Killed):
        store.serve().step()
    # The newest were first.
    assert [name[:10] for _, name in store.live.found[USER]] != ["1795449201", "1795449201"]
    assert ("INBOX", place(str(store.files[0]))[1]) not in store.live.found[USER]
    store.serve().step()
    assert store.told(request).state == "done"
    assert store.told(request).restored == 1
    assert len(store.live.found[USER]) == len(set(store.live.found[USER])) == 3


def test_a_copy_that_old_is_not_there(store: Store) -> None:
    request = store.ask(at=datetime(2020, 1, 1, tzinfo=UTC))
    store.serve().step()
    assert store.told(request).state == "failed"
    assert "at or before 2020" in store.told(request).error


def test_without_its_own_file_the_password_is_unwrapped_and_without_the_key_it_is_said(store: Store) -> None:
    for path in (store.place.state / "passwords").iterdir():
        path.unlink()
    request = store.ask()
    store.serve().step()
    assert store.told(request).restored == 3
    store.vault.key_works = False
    refused = store.ask()
    store.serve().step()
    assert "the vault's key" in store.told(refused).error


def test_requests_for_others_and_hostile_ones_are_passed_over(store: Store) -> None:
    store.ask(target="europe-west3")
    store.ask(created=datetime(2020, 1, 1, tzinfo=UTC))
    store.bucket.objects[f"{REQUESTS}{'a' * 16}.json"] = b"{"
    store.bucket.objects[f"{REQUESTS}{'b' * 16}.json"] = dump(store.ask())
    store.bucket.objects[f"{REQUESTS}../../x.json"] = b"{}"
    store.serve().step()
    done = [key for key in store.bucket.objects if key.startswith("restore/status/")]
    assert not any("aaaa" in key or "bbbb" in key for key in done)


def test_a_region_that_may_not_read_the_copies_says_so(store: Store) -> None:
    request = store.ask(source="us-east-1")
    store.serve().step()
    assert "has no vault with the mail of us-east-1" in store.told(request).error
    assert store.live.adds == 0


def test_only_own_users_and_those_that_are_followed(store: Store) -> None:
    host, home = store.node.hostname, "store-1.europe-west3.nodes.example.test"
    routes = (
        route(USER, host)
        + route("ben@example.test", home, replica=host)
        + route("carl@example.test", home, replica="store-2.eu-central-1.nodes.example.test")
        + route("dora@example.test", "store-1.eu-west-1.nodes.example.test", replica=host)
        + '{"address": "x@example.test", "kind": "alias", "targets": ["anna@example.test"]}\n'
    ).encode()
    everything = store.ask(mailbox="", everything=True, source="europe-west3")
    assert users(everything, store.node, routes) == [USER, "ben@example.test"]
    assert users(store.ask(mailbox="carl@example.test"), store.node, routes) == []


def test_names_of_folders_are_said_as_dovecot_says_them() -> None:
    assert utf7(".Projects.P&AOQ-per") == "Projects.Päper"
    assert utf7(".A&-B") == "A&B"
    assert utf7(".&!!-") == "&!!-"


def test_a_message_id_is_read_from_the_head_only(tmp_path: Path) -> None:
    file = tmp_path / "m"
    file.write_bytes(b"Subject: x\nMessage-ID:\n <a@b>\n\nMessage-ID: <body@b>\n")
    assert message_id(file) == "<a@b>"
    file.write_bytes(b"\xff\xfe\0\n\nMessage-ID: <body@b>\n")
    assert message_id(file) == ""


def test_portions_grow_with_the_mailbox() -> None:
    from mailinfra.node.backup.merge import Copy

    def sizes(count: int) -> list[int]:
        return [len(part) for part in chunks([Copy("p", "", "g", "t")] * count)]

    assert sizes(1) == [1]
    assert sizes(1001) == [500, 500, 1]
    assert sizes(200_000) == [4000] * 50


def test_dovecot_that_fails_is_quoted() -> None:
    with pytest.raises(RestoreError, match="no such thing"):
        Dovecot(("sh", "-c", "echo no such thing >&2; exit 75")).do("fetch")
