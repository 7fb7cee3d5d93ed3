"""Brings mail back from a copy into live mailboxes: restored by restic into a private folder, merged by Dovecot.

`doveadm import` adds messages with their GUIDs, flags, keywords and dates, and touches nothing that is there; what is
there already is left out before (`merge`), since it would add it again. Neither `doveadm sync -1`, which takes what
the mailbox lacks for deleted, nor `doveadm backup`, which deletes what is newer, would do.
"""

import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from mailinfra.node.agent.node import Node
from mailinfra.node.backup.access import Access
from mailinfra.node.backup.merge import Copy, copies, missing
from mailinfra.node.backup.repository import opened, password_of, repositories
from mailinfra.node.backup.requests import Progress, Request
from mailinfra.node.backup.restic import Restic
from mailinfra.node.backup.run import Place
from mailinfra.node.backup.sources import home, is_message
from mailinfra.node.backup.verify import escaped, remove

log = logging.getLogger("restore")

CHUNK = 500
"""Messages that are restored and merged at a time, at least; an interruption loses no more than that."""
MOST = 4000
"""And at most: their paths go onto a command line."""
HEAD = 256 * 1024
"""Bytes of a message in which its Message-ID is looked for."""
SCRATCH = ".restore"
"""The private folder on the mail volume. No domain has such a name."""
META = ("dovecot-uidlist", "dovecot-keywords", "dovecot-uidvalidity", "subscriptions", "maildirfolder")
PATH = re.compile(r"[^\0\n]+")


class RestoreError(Exception):
    """The restore cannot be done, or not for all; says why."""


@dataclass(frozen=True)
class Snapshot:
    """One snapshot in one repository."""

    made: datetime
    id: str
    paths: frozenset[str]
    restic: Restic


class Dovecot:
    """The live mailboxes, through doveadm. Users are found by Dovecot's own user database."""

    def __init__(self, command: Sequence[str] = ("doveadm",)) -> None:
        self.command = tuple(command)

    def do(self, *arguments: str, accept: Sequence[int] = (0,)) -> str:
        """What a command prints. `RestoreError` with what it says when it fails."""
        done = subprocess.run([*self.command, *arguments], capture_output=True, check=False)
        if done.returncode not in accept:
            text = " ".join(done.stderr.decode(errors="replace").split())
            raise RestoreError(f"doveadm {' '.join(arguments[:4])}: {text[-500:]}")
        return done.stdout.decode(errors="replace")

    def messages(self, user: str) -> list[tuple[str, str]]:
        """The folder and GUID of every message of a user."""
        text = self.do("-f", "json", "fetch", "-u", user, "mailbox guid", "all")
        found: list[dict[str, str]] = json.loads(text or "[]")
        return [(item["mailbox"], item["guid"]) for item in found]

    def folders(self, user: str, maildir: Path | None = None) -> list[str]:
        """The names of a user's folders, or of those in a maildir that is not the live one."""
        other = ("-o", f"mail_location=maildir:{maildir}") if maildir else ()
        return self.do(*other, "mailbox", "list", "-u", user).splitlines()

    def create(self, user: str, names: Sequence[str]) -> None:
        """Make folders and subscribe to them. One that came into being meanwhile is fine."""
        for name in names:
            self.do("mailbox", "create", "-u", user, "-s", "--", name, accept=(0, 65))

    def add(self, user: str, maildir: Path) -> None:
        """Add every message of a maildir. The quota is not asked: this mail was the user's already."""
        self.do("-o", "mail_plugins=", "import", "-u", user, "-s", f"maildir:{maildir}", "", "all")


def utf7(name: str) -> str:
    """A folder's name on disk (`.Projects.P&AOQ-`, modified UTF-7 of RFC 3501 5.1.3) as doveadm says it."""

    def decoded(match: re.Match[str]) -> str:
        text = match[1].replace(",", "/")
        return f"+{text}-".encode().decode("utf-7") if text else "&"

    try:
        return re.sub(r"&([A-Za-z0-9+,]*)-", decoded, name.removeprefix("."))
    except UnicodeDecodeError:
        return name.removeprefix(".")


class Restore:
    """One request, on one node."""

    def __init__(
        self,
        node: Node,
        where: Place,
        request: Request,
        say: Callable[[Progress], None],
        dovecot: Dovecot | None = None,
    ) -> None:
        self.node, self.where, self.request, self.say = node, where, request, say
        self.dovecot = dovecot or Dovecot()
        self.progress = Progress(request.id, node.hostname, "running")
        self.scratch = where.mail / SCRATCH

    def told(self, **changes: Any) -> None:
        """Say how far it is."""
        self.progress = replace(self.progress, **changes)
        self.say(self.progress)

    def run(self, users: Sequence[str], entry: Access) -> None:
        """Do it for these users. One that fails does not keep the others from theirs: `RestoreError` at the end."""
        self.told(users=len(users))
        failed: list[str] = []
        with ExitStack() as stack:
            snapshots = list(self.snapshots(entry, stack))
            if not snapshots:
                raise RestoreError(
                    f"{self.request.source}: no copy that was made at or before {self.request.at}"
                )
            for number, user in enumerate(users, 1):
                try:
                    self.user(user, snapshots)
                except RestoreError as error:
                    failed.append(f"{user}: {error}")
                    log.warning("%s", failed[-1])
                self.told(users_done=number)
        if failed:
            raise RestoreError(f"{len(failed)} of {len(users)} mailboxes: {failed[0]}")

    def snapshots(self, entry: Access, stack: ExitStack) -> Iterator[Snapshot]:
        """All snapshots of the source region that are not too late, the newest first."""
        found: list[Snapshot] = []
        for number, repository in enumerate(repositories(entry, self.request.source)):
            if repository.began > self.request.at:
                continue
            own = (repository.region, repository.node) == (self.node.region, self.node.name)
            try:
                password = password_of(entry, self.where.passwords if own else None, repository)
            except KeyError:
                continue
            folder = self.where.state / f"restore-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            restic = stack.enter_context(opened(entry, repository, password, folder, writable=False))
            try:
                restic.backend.bucket.size(f"{repository.prefix}/config")
            except KeyError:
                # Begun, and never written into.
                continue
            with restic.run("snapshots", "--json", "--no-lock") as done:
                found += [
                    Snapshot(made, item["id"], frozenset(item["paths"]), restic)
                    for item in done.json() or ()
                    if (made := _time(item["time"])) <= self.request.at
                ]
        yield from sorted(found, key=lambda item: item.made, reverse=True)

    def user(self, user: str, snapshots: Sequence[Snapshot]) -> None:
        """Restore one mailbox from the newest copy that has it."""
        folder = home(user, self.where.mail)
        snapshot = next((item for item in snapshots if str(folder) in item.paths), None)
        if not snapshot:
            if self.request.mailbox:
                raise RestoreError(f"no copy at or before {self.request.at} has this mailbox")
            return
        made = snapshot.made.strftime("%Y-%m-%dT%H:%M:%SZ")
        oldest = min(filter(None, (self.progress.copy, made)))
        with self.private(user) as target:
            maildir = target / str(folder).lstrip("/") / "Maildir"
            found, names = self.look(user, snapshot, target, maildir)
            wanted = missing(found, self.dovecot.messages(user), names)
            self.told(copied=self.progress.copied + len(found), copy=oldest)
            if self.request.message:
                self.one(user, snapshot, target, maildir, wanted)
                return
            self.told(missing=self.progress.missing + len(wanted))
            if not self.request.apply:
                return
            there = set(self.dovecot.folders(user))
            self.dovecot.create(user, [name for name in names.values() if name not in there])
            for chunk in chunks(wanted):
                self.fetch(snapshot, target, chunk)
                self.dovecot.add(user, maildir)
                clear(maildir)
                self.told(restored=self.progress.restored + len(chunk))

    def one(self, user: str, snapshot: Snapshot, target: Path, maildir: Path, wanted: Sequence[Copy]) -> None:
        """Restore the message of one Message-ID, in all folders that it was in."""
        for chunk in chunks(wanted):
            self.fetch(snapshot, target, chunk)
            hits = 0
            for copy in chunk:
                file = target / copy.path.lstrip("/")
                if file.is_file() and message_id(file) == self.request.message:
                    hits += 1
                else:
                    file.unlink(missing_ok=True)
            self.told(missing=self.progress.missing + hits)
            if hits and self.request.apply:
                self.dovecot.add(user, maildir)
                self.told(restored=self.progress.restored + hits)
            clear(maildir)

    def look(
        self, user: str, snapshot: Snapshot, target: Path, maildir: Path
    ) -> tuple[list[Copy], dict[str, str]]:
        """The messages in a copy, and the names of its folders by their names on disk."""
        folder = home(user, self.where.mail)
        root = f"{folder}/Maildir"
        with snapshot.restic.run(
            "ls", "--json", "--no-lock", "--recursive", snapshot.id, str(folder)
        ) as done:
            listed = [
                (str(line["path"]), str(line["mtime"]))
                for line in done.lines()
                if line.get("struct_type") == "node"
                and line.get("type") == "file"
                # A line feed in a name would be two patterns; Dovecot makes no such name.
                and PATH.fullmatch(str(line["path"]))
            ]
        patterns = [f"{escaped(root)}/{name}" for name in META]
        patterns += [f"{escaped(root)}/.*/{name}" for name in META]
        self.restored(snapshot, target, patterns)
        uidlists = {}
        if maildir.is_dir():
            for place in (maildir, *maildir.glob(".*")):
                if (file := place / "dovecot-uidlist").is_file():
                    uidlists["" if place == maildir else place.name] = file.read_text(errors="replace")
        found = copies([item for item in listed if is_message(item[0], self.where.mail)], uidlists)
        names = {"": "INBOX"} | {copy.folder: utf7(copy.folder) for copy in found if copy.folder}
        names |= {folder: utf7(folder) for folder in uidlists if folder}
        return found, names

    def fetch(self, snapshot: Snapshot, target: Path, chunk: Sequence[Copy]) -> None:
        """Restore some messages' files."""
        self.restored(snapshot, target, [escaped(copy.path) for copy in chunk])

    def restored(self, snapshot: Snapshot, target: Path, patterns: Sequence[str]) -> None:
        """Restore what matches into the private folder."""
        included = [f"--include={pattern}" for pattern in patterns]
        snapshot.restic.do("restore", "--no-lock", snapshot.id, f"--target={target}", *included)
        for place in target.rglob("Maildir"):
            for box in (place, *(item for item in place.glob(".*") if item.is_dir())):
                for part in ("cur", "new", "tmp"):
                    if not (box / part).is_dir():
                        (box / part).mkdir()
                        _like(box / part, box)

    @contextmanager
    def private(self, user: str) -> Iterator[Path]:
        """A folder on the mail volume that only root and Dovecot's own user come into, gone at the end."""
        remove(self.scratch)
        target = self.scratch / self.request.id
        self.scratch.mkdir(mode=0o700)
        _like(self.scratch, self.where.mail)
        target.mkdir(mode=0o700)
        _like(target, self.where.mail)
        try:
            yield target
        finally:
            remove(self.scratch)


def chunks(wanted: Sequence[Copy]) -> Iterator[Sequence[Copy]]:
    """The messages in portions: for a large mailbox larger ones, for each costs a walk through the snapshot."""
    size = min(MOST, max(CHUNK, len(wanted) // 20))
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def clear(maildir: Path) -> None:
    """Remove the messages of a private maildir, and what Dovecot remembers of them."""
    for box in (maildir, *(item for item in maildir.glob(".*") if item.is_dir())):
        for part in ("cur", "new"):
            for file in (box / part).glob("*"):
                file.unlink()
        for index in box.glob("dovecot.*"):
            index.unlink()


def message_id(path: Path) -> str:
    """The Message-ID of a message file, or nothing."""
    with path.open("rb") as file:
        head = BytesHeaderParser().parsebytes(file.read(HEAD))
    return "".join(str(head.get("Message-ID", "")).split())


def _like(path: Path, other: Path) -> None:
    status = other.stat()
    os.chown(path, status.st_uid, status.st_gid)


def _time(text: str) -> datetime:
    # Go's nanoseconds are more than Python takes.
    whole = re.sub(r"\.\d+", "", text).replace("Z", "+00:00")
    return datetime.fromisoformat(whole).astimezone(UTC)
