"""Keeps the replicas of this node's users up to date, and takes in what other nodes send of theirs: runs dsync.

Runs as vmail, which owns the mail and no key: the gate decides who may sync whom. `doveadm` runs as vmail too, with a
configuration that names no TLS key; Dovecot lets every user ask its userdb for mailboxes of their own user id.

A change is seen within a second and synced at once, incrementally: dsync's state of the last sync tells what has to be
looked at. Every user is compared as a whole when this begins, when the replica's own program has begun anew (it may
have come back with another volume), and once an hour. What is remembered is remembered in memory only, so that a mail
volume that was put back to an earlier state is never compared with a memory of later.
"""

import asyncio
import json
import logging
import os
import pwd
import random
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailinfra.node.replica import watch
from mailinfra.node.replica.schedule import Job, Schedule
from mailinfra.node.replica.wire import (
    LINE_BYTES,
    LINE_SECONDS,
    STRANGER,
    RefusedError,
    Request,
    answered,
    caller,
    refusal,
    request,
)

log = logging.getLogger("replicator")

STATUS = Path("/var/lib/mailinfra/replica/status.json")
"""How it goes, of no user in particular: `time` of writing and `lag_seconds`, the age of the oldest change that is not
on its replica; `users` that are followed; `pending` of them with such a change; `unchecked`, not yet compared since
this program or the replica's began; `failing`, whose last sync failed; `unreachable`, hosts of replicas with the
reason; `last_error`, which may be long over; `syncs` and `failures` since the beginning; `serving`, syncs from others
under way."""

POLL_SECONDS = 1.0
"""Between two looks at all maildirs; more where a look takes long, so that looking takes a twentieth of a processor."""
REST = 19
SLICE = 200
"""Maildirs that are looked at before others get their turn."""
ASK_SECONDS = 10.0
"""Between two questions to a peer, and to the gate for the users."""
ASK_USERS = 5
"""In how many users' names a peer is asked."""
STATUS_SECONDS = 2.0
JOB_SECONDS = 6 * 3600.0
"""The longest sync: the first one of a very large mailbox."""
STALL_SECONDS = 120
LOCK_SECONDS = 30
SERVERS = 32
"""Syncs from others at a time."""
ERROR_BYTES = 4096
STATE = re.compile(r"[A-Za-z0-9+/=]+")


@dataclass(frozen=True)
class Settings:
    """What the replicator is told; `peer` is the user id of the gate."""

    peer: int
    mail: Path = Path("/srv/mail")
    gate: Path = Path("/run/mailinfra-replica/gate")
    dsync: Path = Path("/run/mailinfra-replicator/dsync")
    status: Path = STATUS
    doveadm: tuple[str, ...] = (
        "/usr/bin/doveadm",
        "-o",
        "stats_writer_socket_path=",
        "-c",
        "/etc/dovecot/mail.conf",
    )
    """Dovecot's statistics are for its own user, and the whole configuration names the TLS key."""
    link: tuple[str, ...] = (sys.executable, "-I", "-S", str(Path(__file__).with_name("link.py")))


@dataclass
class Replicator:
    """The work of one run, whose `epoch` its peers remember."""

    settings: Settings
    schedule: Schedule = field(default_factory=Schedule)
    epoch: str = field(default_factory=lambda: secrets.token_hex(16))
    seen: dict[str, watch.Seen] = field(default_factory=dict)
    version: str = "none"
    counts: dict[str, int] = field(default_factory=lambda: {"syncs": 0, "failures": 0, "serving": 0})
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    # What the maildirs say.

    def look(self, user: str) -> watch.Seen:
        """A user's maildir now."""
        return watch.look(watch.maildir(self.settings.mail, user), self.seen.get(user, watch.NOTHING))

    def newest(self, user: str) -> float:
        """The time of a new user's last change, and their maildir's state from now on."""
        self.seen[user] = self.look(user)
        return self.seen[user].newest

    async def looking(self) -> None:
        """Look at all maildirs, again and again."""
        while True:
            began, spent = time.monotonic(), 0.0
            for number, user in enumerate(list(self.schedule.boxes)):
                if number % SLICE == 0:
                    spent += time.monotonic() - began
                    await asyncio.sleep(0)
                    began = time.monotonic()
                self.glance(user)
            spent += time.monotonic() - began
            self.wake.set()
            await asyncio.sleep(max(POLL_SECONDS, REST * spent))

    def glance(self, user: str) -> None:
        """Look at one user's maildir."""
        before, now = self.seen.get(user, watch.NOTHING), self.look(user)
        self.seen[user] = now
        if now.mark != before.mark and user in self.schedule.boxes:
            self.schedule.changed(user, min(now.newest or time.time(), time.time()))

    # What the gate says.

    async def ask(self, line: bytes) -> tuple[bytes, bytes]:
        """The gate's answer to a line, and what follows it."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.settings.gate))
        except OSError as error:
            raise RefusedError(f"no gate: {type(error).__name__}") from None
        try:
            writer.write(line)
            async with asyncio.timeout(3 * LINE_SECONDS):
                first = await reader.readline()
            async with asyncio.timeout(LINE_SECONDS):
                return first, await reader.read()
        except (OSError, ValueError, TimeoutError) as error:
            raise RefusedError(f"the gate: {type(error).__name__}") from None
        finally:
            writer.close()

    async def learn(self) -> None:
        """Take up the users that the directory has now."""
        first, rest = await self.ask(f"LIST {self.version}\n".encode())
        if first == b"SAME\n":
            return
        if not first.startswith(b"USERS "):
            raise RefusedError(first.decode(errors="replace").strip() or "no list of users")
        followed = dict(line.split(" ", 1) for line in rest.decode().splitlines())
        self.schedule.users(followed, self.newest)
        self.seen = {user: seen for user, seen in self.seen.items() if user in followed}
        self.version = first.decode().split()[1]
        log.info("%d users are followed", len(followed))

    async def check(self, host: str) -> None:
        """Ask a peer whether it is there, and for its epoch."""
        try:
            epoch = await self.epoch_of(host)
        except RefusedError as error:
            if (peer := self.schedule.peers.get(host)) and peer.error != str(error):
                log.warning("%s: %s", host, error)
            self.schedule.missed(host, str(error), time.time())
        else:
            self.schedule.reached(host, epoch, time.time(), ASK_SECONDS)
        self.wake.set()

    async def epoch_of(self, host: str) -> str:
        """A peer's epoch. It is asked in the name of one user, and of others where it has not heard of that one yet:
        two directories are never quite of the same moment."""
        users = [user for user, box in self.schedule.boxes.items() if box.host == host]
        refused = RefusedError("no users")
        for user in random.sample(users, min(ASK_USERS, len(users))):
            first, _ = await self.ask(Request("CHECK", user).line())
            try:
                return answered(first)
            except RefusedError as error:
                refused = error
                if str(error) != STRANGER:
                    break
        raise refused

    # Syncs of our own users.

    async def working(self) -> None:
        """Begin what is to be done, as soon as it is."""
        asking: dict[str, asyncio.Task[None]] = {}
        listed, told = 0.0, ""
        while True:
            now = time.time()
            if now - listed > ASK_SECONDS:
                listed = now
                try:
                    await self.learn()
                    told = ""
                except (RefusedError, ValueError) as error:
                    if told != str(error):
                        told = str(error)
                        log.warning("users: %s", told)
                    listed = now - ASK_SECONDS + 2
            for host in self.schedule.to_ask(now):
                if host not in asking or asking[host].done():
                    asking[host] = asyncio.create_task(self.check(host))
            while job := self.schedule.next(time.time()):
                self.start(self.sync(job))
            self.wake.clear()
            # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with its result.
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.wake.wait()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the rest."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def sync(self, job: Job) -> None:
        """One sync. What changes from here on is a change that comes after it."""
        self.seen[job.user] = self.look(job.user)
        began = time.monotonic()
        code, state, error = await self.run(job)
        self.counts["syncs"] += 1
        if code:
            self.counts["failures"] += 1
            log.warning("%s: exit code %d: %s", job.user, code, error)
        log.debug("%s: %.3f s, %s", job.user, time.monotonic() - began, "all" if not job.state else "changes")
        self.schedule.done(job, code, state, time.time())
        self.glance(job.user)
        self.wake.set()

    def command(self, job: Job) -> list[str]:
        """dsync's command line for a job. Two-way, but for the `one_way` jobs, which delete nothing either."""
        flags = ["-1"] if job.one_way else []
        flags += ["-u", job.user, "-l", str(LOCK_SECONDS), "-T", str(STALL_SECONDS), "-s", job.state]
        link = [*self.settings.link, str(self.settings.gate), job.user, job.epoch]
        return [*self.settings.doveadm, "sync", *flags, "--", *link]

    async def run(self, job: Job) -> tuple[int, str, str]:
        """Run dsync: its exit code, its new state, and its complaints."""
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command(job),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        except OSError as error:
            return 127, "", str(error)
        try:
            async with asyncio.timeout(JOB_SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            return 124, "", f"not done in {JOB_SECONDS:g} s"
        finally:
            await _ended(process)
        state = out.decode("ascii", "replace").strip()
        complaint = err[-ERROR_BYTES:].decode(errors="replace").strip()
        return process.returncode or 0, state if STATE.fullmatch(state) else "", complaint

    # Syncs of others' users.

    async def serving(self) -> None:
        """Take in what the gate lets through."""
        path = self.settings.dsync
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.bind(str(path))
            # Anybody may open it: who it is, the kernel tells.
            path.chmod(0o666)
            door.listen(64)
            door.setblocking(False)
            while True:
                link, _ = await asyncio.get_running_loop().sock_accept(door)
                self.start(self.serve(link))

    async def serve(self, link: socket.socket) -> None:
        """One request. dsync gets the socket itself as its standard input and output."""
        loop = asyncio.get_running_loop()
        with link:
            try:
                async with asyncio.timeout(LINE_SECONDS):
                    line = await _line(link)
                if caller(link) != self.settings.peer:
                    raise RefusedError("not for you")
                wanted = request(line)
                if wanted.verb == "SYNC" and wanted.epoch != self.epoch:
                    raise RefusedError("another epoch")
                if self.counts["serving"] >= SERVERS:
                    raise RefusedError("busy")
                await loop.sock_sendall(link, f"OK {self.epoch}\n".encode())
                if wanted.verb == "CHECK":
                    return
                link.setblocking(True)  # as a program expects of its standard input
                process = await asyncio.create_subprocess_exec(
                    *self.settings.doveadm,
                    "dsync-server",
                    "-u",
                    wanted.user,
                    "-T",
                    str(STALL_SECONDS),
                    stdin=link.fileno(),
                    stdout=link.fileno(),
                    env={"PATH": os.defpath},
                    start_new_session=True,
                )
            except RefusedError as error:
                log.warning("refused: %s", error)
                await loop.sock_sendall(link, refusal(str(error)))
                return
            except (OSError, TimeoutError) as error:
                log.warning("a sync from outside: %s", error or type(error).__name__)
                return
        self.counts["serving"] += 1
        try:
            code = await process.wait()
        finally:
            self.counts["serving"] -= 1
            await _ended(process)
        if code:
            log.warning("%s: dsync-server ended with exit code %d", wanted.user, code)

    # How it goes.

    async def telling(self) -> None:
        """Write the status file, again and again."""
        scratch = self.settings.status.with_suffix(".new")
        while True:
            now = time.time()
            told = {"time": round(now, 3), **self.schedule.report(now), **self.counts}
            # No fsync: after a crash it is worth nothing.
            scratch.write_text(json.dumps(told, indent=1) + "\n")
            scratch.replace(self.settings.status)
            await asyncio.sleep(STATUS_SECONDS)

    async def work(self) -> None:
        """All of it, until cancelled. Whatever fails for good ends the program, and systemd starts it again."""
        parts: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = (
            self.serving,
            self.looking,
            self.working,
            self.telling,
        )
        try:
            await asyncio.gather(*(part() for part in parts))
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """See to it that a process, with those that it began, has ended."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _line(link: socket.socket) -> bytes:
    """A line, byte by byte: what follows it is dsync's."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LINE_BYTES:
        piece = await asyncio.get_running_loop().sock_recv(link, 1)
        if not piece:
            break
        line += piece
    return line


async def main() -> None:
    """Work until SIGTERM."""
    settings = Settings(pwd.getpwnam("mailinfra").pw_uid)
    working = asyncio.ensure_future(Replicator(settings).work())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    try:
        await working
    except asyncio.CancelledError:
        log.info("ended")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    asyncio.run(main())
