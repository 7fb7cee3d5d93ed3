"""The replicator with a doveadm that only pretends, alone and behind two real gates."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailinfra.node.replica import replicator as module
from mailinfra.node.replica.gate import Gate, doorkeeper, listen, opened
from mailinfra.node.replica.replicator import Replicator, Settings
from mailinfra.node.replica.schedule import Job
from mailinfra.node.replica.watch import maildir
from mailinfra.node.replica.wire import STRANGER
from tests.node_helpers import Authority
from tests.unit.test_node_replica_gate import ANNA, COPY, HOME, equip
from tests.unit.test_node_replica_watch import box, deliver

DOVEADM = r"""
# Speaks over its standard input and output as dsync does: many bytes each way, and then it ends.
import json, os, pathlib, subprocess, sys, threading
folder, command, *rest = sys.argv[1:]
folder = pathlib.Path(folder)
log = lambda item: (folder / "calls").open("a").write(json.dumps(item) + "\n")
size = 300_000
if command == "dsync-server":
    data = b""
    while len(data) < size:
        data += os.read(0, size)
    while data:
        data = data[os.write(1, data.upper()):]
    log(["dsync-server", *rest])
else:
    at = rest.index("-s") + 2
    link = subprocess.Popen(
        [*rest[at + 1:], "dsync-server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    def give():
        data = b"x" * size
        try:
            while data:
                data = data[link.stdin.write(data):]
        except OSError:
            pass  # the other side went away
    # Waited for: a thread that is still at a stream when the interpreter ends makes it abort.
    giver = threading.Thread(target=give)
    giver.start()
    out = b""
    while len(out) < size and (more := link.stdout.read(size - len(out))):
        out += more
    giver.join()
    link.stdin.close()
    link.wait()
    code = int((folder / "code").read_text()) if (folder / "code").exists() else 0
    log(["sync", *rest[: at], len(out), link.returncode])
    print("STATE==")
    sys.exit(75 if out != b"X" * size or link.returncode else code)
"""


def doveadm(folder: Path) -> tuple[str, ...]:
    """The command of a doveadm that keeps its notes in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "doveadm.py").write_text(DOVEADM)
    return (sys.executable, "-I", "-S", str(folder / "doveadm.py"), str(folder))


def calls(folder: Path, command: str) -> list[list[Any]]:
    """What a doveadm was called with."""
    path = folder / "calls"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [item for item in found if item[0] == command]


async def soon(check: Callable[[], Any], seconds: float = 15) -> Any:
    """What a check gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    return found


class Two:
    """HOME and COPY, each with its gate and its replicator, one mailbox of anna's at HOME."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = Authority(names=(HOME, COPY))
        self.gates = {
            "home": Gate(equip(folder / "home", authority, HOME, followed={ANNA: COPY})),
            "copy": Gate(equip(folder / "copy", authority, COPY, follows={ANNA: HOME})),
        }
        self.door = opened(0)
        self.gates["home"].settings = replace(self.gates["home"].settings, port=self.door.getsockname()[1])
        self.root = Path(maildir(folder / "home/mail", ANNA))
        box(self.root)
        self.home, self.copy = self.replicator("home"), self.replicator("copy")
        self.tasks: dict[str, asyncio.Future[Any]] = {}

    def replicator(self, name: str) -> Replicator:
        gate, place = self.gates[name].settings, self.folder / name
        return Replicator(
            Settings(
                os.getuid(),
                place / "mail",
                gate.gate,
                gate.dsync,
                place / "status.json",
                doveadm(place / "log"),
            )
        )

    def syncs(self) -> list[list[Any]]:
        return calls(self.folder / "home/log", "sync")

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.home.settings.status.read_text())
        return told

    def begin(self, name: str) -> None:
        replicator = self.replicator(name)
        setattr(self, name, replicator)
        self.tasks[name] = asyncio.ensure_future(replicator.work())

    async def end(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def run(folder: Path, play: Callable[[Two], Awaitable[None]]) -> None:
    open_connection = asyncio.open_connection

    async def here(host: str, port: int, **more: Any) -> Any:
        return await open_connection("127.0.0.1", port, **more)

    async def main() -> None:
        two = Two(folder)
        servers = [await listen(gate) for gate in two.gates.values()]
        two.tasks["door"] = asyncio.ensure_future(doorkeeper(two.gates["copy"], two.door))
        try:
            await asyncio.wait_for(play(two), 60)
        finally:
            two.door.close()
            for server in servers:
                server.close()
            # The servers' own tasks last: one that is cancelled before its first step leaves its connection open.
            for tasks in (two.tasks.values(), asyncio.all_tasks() - {asyncio.current_task()}):
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.05)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "open_connection", here)
        patch.setattr(module, "POLL_SECONDS", 0.05)
        patch.setattr(module, "ASK_SECONDS", 0.5)
        patch.setattr(module, "STATUS_SECONDS", 0.05)
        asyncio.run(main())


def test_from_a_delivery_to_the_replica_and_through_its_absence(tmp_path: Path) -> None:
    async def play(two: Two) -> None:
        two.begin("copy")
        two.begin("home")
        # At first everything, then what changed, with what dsync said last.
        (first,) = await soon(two.syncs)
        assert first[1:] == ["-u", ANNA, "-l", "30", "-T", "120", "-s", "", 300_000, 0]
        assert calls(tmp_path / "copy/log", "dsync-server") == [["dsync-server", "-u", ANNA, "-T", "120"]]
        await soon(lambda: two.status()["unchecked"] == 0)
        deliver(two.root)
        second = (await soon(lambda: two.syncs()[1:]))[0]
        assert second[8] == "STATE=="
        await soon(lambda: two.status()["pending"] == 0)
        assert two.status()["syncs"] == 2
        # Nothing more without a change.
        await asyncio.sleep(1.5)
        assert len(two.syncs()) == 2
        # The replica goes away.
        await two.end("copy")
        await soon(lambda: COPY in two.status()["unreachable"])
        (two.root / "cur/1:2,S").unlink()
        await soon(lambda: two.status()["lag_seconds"] > 0.2)
        assert len(two.syncs()) == 2
        told = two.status()
        assert (told["users"], told["pending"], told["failing"]) == (1, 1, 0)
        assert told["last_error"].startswith(f"{COPY}: unreachable: ")
        assert ANNA not in json.dumps(told)
        # It is back, as another run: nothing that was remembered is believed.
        two.begin("copy")
        third = (await soon(lambda: two.syncs()[2:]))[0]
        assert third[8] == ""
        await soon(lambda: two.status()["pending"] == 0 and not two.status()["unchecked"])
        assert two.status()["lag_seconds"] == 0
        assert two.status()["unreachable"] == {}

    run(tmp_path, play)


def test_a_failure_is_counted_and_tried_again(tmp_path: Path) -> None:
    async def play(two: Two) -> None:
        two.begin("copy")
        (tmp_path / "home/log/code").write_text("2")
        two.begin("home")
        await soon(lambda: len(two.syncs()) >= 2)
        assert [sync[1] for sync in two.syncs()[:2]] == ["-u", "-1"]
        (tmp_path / "home/log/code").unlink()
        await soon(lambda: two.status()["failing"] == 0 and two.status()["unchecked"] == 0)
        assert two.status()["failures"] >= 1
        assert two.status()["last_error"] == f"{COPY}: dsync ended with exit code 2"

    run(tmp_path, play)


def test_another_runs_epoch_is_refused(tmp_path: Path) -> None:
    async def play(two: Two) -> None:
        two.begin("copy")
        await soon(two.copy.settings.dsync.exists)
        good = Job(ANNA, COPY, two.copy.epoch, "", False)
        assert (await two.home.run(good))[:2] == (0, "STATE==")
        code, _, complaint = await two.home.run(replace(good, epoch="0" * 32))
        assert code == 75
        assert "NO another epoch" in complaint
        assert len(calls(tmp_path / "copy/log", "dsync-server")) == 1

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"SYNC\n", b"NO not a request\n"),
        (b"x" * 600, b"NO not a request\n"),
        (b"LIST none\n", b"NO not a request\n"),
        (b"SYNC anna@example.test " + b"0" * 32 + b"\n", b"NO another epoch\n"),
    ],
)
def test_what_the_gate_would_not_say_is_refused(tmp_path: Path, line: bytes, answer: bytes) -> None:
    async def play(two: Two) -> None:
        two.begin("copy")
        await soon(two.copy.settings.dsync.exists)
        reader, writer = await asyncio.open_unix_connection(str(two.copy.settings.dsync))
        writer.write(line)
        assert await reader.readline() == answer
        writer.close()

    run(tmp_path, play)


def test_only_the_gate_is_served_and_only_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(two: Two) -> None:
        async def asked(replicator: Replicator) -> bytes:
            reader, writer = await asyncio.open_unix_connection(str(replicator.settings.dsync))
            writer.write(f"CHECK {ANNA}\n".encode())
            answer = await reader.readline()
            writer.close()
            return answer

        two.begin("copy")
        await soon(two.copy.settings.dsync.exists)
        assert await asked(two.copy) == f"OK {two.copy.epoch}\n".encode()
        monkeypatch.setattr(module, "SERVERS", 0)
        assert await asked(two.copy) == b"NO busy\n"
        two.copy.settings = replace(two.copy.settings, peer=os.getuid() + 1)
        assert await asked(two.copy) == b"NO not for you\n"

    run(tmp_path, play)


def test_a_doveadm_that_is_not_there_or_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(two: Two) -> None:
        job = Job(ANNA, COPY, "0" * 32, "", False)
        two.home.settings = replace(two.home.settings, doveadm=("/nonexistent/doveadm",))
        assert (await two.home.run(job))[0] == 127
        monkeypatch.setattr(module, "JOB_SECONDS", 0.3)
        two.home.settings = replace(two.home.settings, doveadm=("sh", "-c", "sleep 100 & sleep 100"))
        assert (await two.home.run(job))[0] == 124

    run(tmp_path, play)


def test_the_command_line() -> None:
    line = Replicator(Settings(1)).command(Job(ANNA, COPY, "0" * 32, "AB==", True))
    link = [sys.executable, "-I", "-S", str(Path(module.__file__).with_name("link.py"))]
    assert line == [
        *(
            "/usr/bin/doveadm",
            "-o",
            "stats_writer_socket_path=",
            "-c",
            "/etc/dovecot/mail.conf",
            "sync",
            "-1",
        ),
        *("-u", ANNA, "-l", "30", "-T", "120", "-s", "AB=="),
        *("--", *link, "/run/mailinfra-replica/gate", ANNA, "0" * 32),
    ]


def test_a_user_of_whom_the_replica_has_not_heard_yet_holds_up_nobody(tmp_path: Path) -> None:
    async def play(two: Two) -> None:
        path = two.gates["home"].settings.replicas
        fresh = {f"new{number}@example.test": COPY for number in range(3)}
        path.write_text(json.dumps({"followed": {**fresh, ANNA: COPY}, "follows": {}}))
        two.begin("copy")
        two.begin("home")
        await soon(lambda: two.home.settings.status.exists() and two.status()["unchecked"] == 3)
        assert {sync[2] for sync in two.syncs() if sync[-1] == 0} == {ANNA}
        await soon(lambda: two.status()["failing"] == 3)
        # Then it has.
        copy = two.gates["copy"].settings.replicas
        copy.with_suffix(".new").write_text(
            json.dumps({"followed": {}, "follows": dict.fromkeys((*fresh, ANNA), HOME)})
        )
        copy.with_suffix(".new").replace(copy)
        await soon(lambda: not two.status()["unchecked"] and not two.status()["failing"], 40)

    run(tmp_path, play)


def test_a_replica_that_knows_none_of_the_users_is_not_reached(tmp_path: Path) -> None:
    async def play(two: Two) -> None:
        path = two.gates["copy"].settings.replicas
        path.write_text(json.dumps({"followed": {}, "follows": {}}))
        two.begin("copy")
        two.begin("home")
        await soon(
            lambda: two.home.settings.status.exists() and two.status()["unreachable"] == {COPY: STRANGER}
        )
        assert two.syncs() == []

    run(tmp_path, play)


@pytest.mark.parametrize("ticks", range(4))
def test_an_end_that_comes_together_with_work_is_an_end(tmp_path: Path, ticks: int) -> None:
    async def main() -> None:
        replicator = Replicator(Settings(os.getuid(), gate=tmp_path / "gate"))
        working = asyncio.ensure_future(replicator.working())
        await asyncio.sleep(0.05)
        replicator.wake.set()
        for _ in range(ticks):
            await asyncio.sleep(0)
        working.cancel()
        ended, _ = await asyncio.wait([working], timeout=5)
        assert working in ended and working.cancelled()

    asyncio.run(main())
