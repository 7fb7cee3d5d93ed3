"""One run of a node's backup: whether it is due, the snapshot, and what to do about each thing that can go wrong."""

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mailinfra.node.agent.bucket import Bucket, BucketError, ExistsError, control
from mailinfra.node.agent.directory import ROUTES
from mailinfra.node.agent.google import ApiError
from mailinfra.node.agent.node import Node, write
from mailinfra.node.backup import vault as vaults
from mailinfra.node.backup.access import Access, AccessError, access
from mailinfra.node.backup.repository import (
    Current,
    Passwords,
    Repository,
    begin,
    opened,
    read_current,
    ready,
    stale,
    write_current,
)
from mailinfra.node.backup.restic import INCOMPLETE, Restic, ResticError, UnreachableError
from mailinfra.node.backup.sources import EXCLUDED, MAIL, sources, users
from mailinfra.node.backup.status import Status, load, moment, report, stamp
from mailinfra.node.backup.vault import Vault
from mailinfra.node.backup.verify import MismatchError, verify

log = logging.getLogger("backup")

RETRY_SECONDS = 120
"""After a run that failed, the next one begins this much later."""
TRIES = 3
"""How often a snapshot is taken anew because files were renamed while it was."""
READ_DATA = "256M"
"""How much of a repository is read and checked each time that it is verified, at random."""

EXPECTED = (AccessError, ApiError, BucketError, ExistsError, ResticError, UnreachableError, MismatchError)
"""What can go wrong outside this node, beside `OSError` and `ValueError`."""


@dataclass(frozen=True)
class Place:
    """Where a node's backup keeps what it knows, and where the mail is."""

    state: Path
    lookups: Path
    mail: Path = MAIL

    @property
    def status(self) -> Path:
        """The status file."""
        return self.state / "status.json"

    @property
    def now(self) -> Path:
        """While this file is there a run is due. `touch` it and start the unit to have one at once."""
        return self.state / "now"

    @property
    def passwords(self) -> Passwords:
        """The generations' passwords."""
        return Passwords(self.state / "passwords")


def place(node: Node) -> Place:
    """The places on a real node."""
    return Place(node.state / "backup", node.state / "directory" / "current")


def due(status: Status, rpo_minutes: int, now: datetime) -> bool:
    """Whether a run has to begin now so that no mail waits for longer than `rpo_minutes` to be in the vault.

    Mail that comes just after a run has looked is in the next one's snapshot, which takes as long as the last one
    did: so the next run begins that much earlier. A clock that was set back makes it due.
    """
    last, good = moment(status.last_run), moment(status.last_success)
    if not last or not good or last > now or good > now:
        return not last or last > now or now - last >= timedelta(seconds=RETRY_SECONDS)
    if status.error and last > good:
        return now - last >= timedelta(seconds=RETRY_SECONDS)
    spare = min(timedelta(seconds=2 * status.seconds + 60), timedelta(minutes=rpo_minutes) / 2)
    return now - good >= timedelta(minutes=rpo_minutes) - spare


def known_vault(bucket: Bucket, state: Path) -> Vault | None:
    """The vault as the control bucket tells of it; where that cannot be asked, as it last did."""
    kept = state / "vault.json"
    try:
        stored = bucket.get(vaults.KEY)
        if stored:
            found = vaults.parse(stored.data)
            if not kept.exists() or kept.read_bytes() != stored.data:
                write(kept, stored.data, 0o600)
            return found
    except KeyError:
        # None was ever told of: this zone has no place for a vault.
        pass
    except (BucketError, ApiError, ValueError) as error:
        log.warning("%s: %s; going on with what was known", vaults.KEY, error)
    return vaults.parse(kept.read_bytes()) if kept.exists() else None


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether this is the only run. The kernel ends the hold of one that was killed."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class Run:
    """One run into a node's repository."""

    def __init__(
        self, node: Node, where: Place, vault: Vault, entry: Access, clock: Callable[[], datetime]
    ) -> None:
        self.node, self.where, self.vault, self.entry, self.clock = node, where, vault, entry, clock
        self.notes: list[str] = []
        self.state = where.state / "current.json"

    def backup(self, status: Status) -> Status:
        """A snapshot, in a new generation where one is due or the current one is damaged."""
        current, complaint = self.generation()
        try:
            status = self.snapshot(status, current)
        except ResticError as error:
            if not self.damaged(current):
                raise
            self.notes.append(f"{current.generation} is damaged ({error}): a new generation was begun")
            status = self.snapshot(status, self.fresh())
        return replace(status, error=complaint)

    def generation(self) -> tuple[Current, str]:
        """The generation to write into, and what is wrong although that can be done."""
        current = read_current(self.state)
        password = self.where.passwords.get(current.generation) if current else ""
        why = stale(current, password, self.vault.bucket, self.clock())
        usable = current is not None and bool(password) and current.vault == self.vault.bucket
        try:
            if why:
                fresh = self.fresh()
                if current:
                    self.notes.append(f"a new generation was begun: {why}")
                return fresh, ""
            # A key that is to be deleted must be noticed before a new generation needs it.
            self.entry.wrap(b"probe", f"{self.node.region}/{self.node.name}/probe")
        except (AccessError, ApiError) as error:
            if not current or not usable:
                raise
            return current, f"passwords cannot be wrapped any more: {error}"
        if not current:
            raise RuntimeError("a generation that is not stale is there")
        return current, ""

    def fresh(self) -> Current:
        """A new generation, the current one from now on."""
        _, current = begin(
            self.entry,
            self.where.passwords,
            self.node.region,
            self.node.name,
            self.vault.bucket,
            self.clock(),
        )
        write_current(self.state, current)
        return current

    @contextmanager
    def restic(self, current: Current) -> Iterator[Restic]:
        """restic on a generation of this node's."""
        repository = Repository(self.node.region, self.node.name, current.generation)
        password = self.where.passwords.get(current.generation)
        with opened(self.entry, repository, password, self.where.state / "restic", writable=True) as restic:
            yield restic

    def snapshot(self, status: Status, current: Current) -> Status:
        """Add a snapshot to a generation."""
        began = self.clock()
        addresses = users((self.where.lookups / ROUTES).read_bytes(), self.node.hostname)
        paths = sources(addresses, self.node.state / "directory", self.where.mail)
        excluded = [f"--exclude={pattern}" for pattern in EXCLUDED]
        with self.restic(current) as restic:
            if not current.ready:
                restic.do("init", "--quiet")
                current = ready(current)
                write_current(self.state, current)
            for _ in range(TRIES):
                parent = [f"--parent={current.snapshot}"] if current.snapshot else []
                arguments = ("backup", "--json", f"--host={self.node.hostname}", *parent, *excluded)
                listed = ("--files-from-verbatim", "-")
                given = "".join(f"{path}\n" for path in paths).encode()
                with restic.run(*arguments, *listed, accept=(0, INCOMPLETE), stdin=given) as done:
                    summary = next(line for line in done.lines() if line.get("message_type") == "summary")
                    code = done.code
                current = replace(current, snapshot=str(summary["snapshot_id"]))
                write_current(self.state, current)
                if not code:
                    break
        return replace(
            status,
            last_success=stamp(began),
            seconds=(self.clock() - began).total_seconds(),
            generation=current.generation,
            snapshot=current.snapshot,
            bytes=int(summary["total_bytes_processed"]),
            added=int(summary["data_added"]),
            unread=int(code == INCOMPLETE),
        )

    def damaged(self, current: Current) -> bool:
        """Whether a generation can no longer be trusted: restic says so, and the bucket is not to blame."""
        if not current.ready:
            return False
        try:
            with self.restic(current) as restic:
                restic.do("check", "--quiet")
        except ResticError:
            return True
        return False

    def verified(self, status: Status) -> Status:
        """Restore a sample and check a part of all data. What is damaged is followed by a new generation at once."""
        current = read_current(self.state)
        if not current:
            return status
        try:
            with self.restic(current) as restic:
                restic.do("check", "--quiet", f"--read-data-subset={READ_DATA}")
                count = verify(restic, current.snapshot, self.where.state / "sample", self.where.mail)
        except (ResticError, MismatchError) as error:
            self.notes.append(f"{current.generation} is damaged ({error}): a new generation was begun")
            status = self.snapshot(status, self.fresh())
            return replace(status, error=f"verification: {current.generation}: {error}")
        return replace(status, last_verified=stamp(self.clock()), verified=count)


def utc() -> datetime:
    """The time now."""
    return datetime.now(UTC)


def attempt(
    node: Node,
    where: Place,
    bucket: Bucket,
    enter: Callable[[Node, Vault], Access] = access,
    clock: Callable[[], datetime] = utc,
) -> Status | None:
    """Back up and verify if that is due. The status; None when nothing was due."""
    where.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(where.state / "lock") as first:
        if not first:
            return None
        status = load(where.status)
        vault = known_vault(bucket, where.state)
        asked = where.now.exists()
        if not vault or not (asked or due(status, vault.rpo_minutes, clock())):
            return None
        status = replace(status, node=node.hostname, last_run=stamp(clock()))
        run = Run(node, where, vault, enter(node, vault), clock)
        try:
            status = run.backup(status)
            checked = moment(status.last_verified)
            age = clock() - checked if checked else None
            if asked or age is None or not timedelta() <= age < timedelta(hours=vault.verify_hours):
                status = run.verified(status)
        except (*EXPECTED, OSError, ValueError, KeyError) as error:
            status = replace(status, error=f"{type(error).__name__}: {error}")
        status = replace(status, notes=tuple(run.notes))
        where.now.unlink(missing_ok=True)
        report(node, bucket, where.status, status)
        return status


def main(node: Node) -> int:
    """What the unit runs. Exit code 1 when something is wrong, which the status names."""
    os.umask(0o077)
    status = attempt(node, place(node), control(node))
    if status:
        log.info(
            "%s", json.dumps({"snapshot": status.snapshot, "bytes": status.bytes, "notes": status.notes})
        )
    if status and status.error:
        log.error("%s", status.error)
        return 1
    return 0
