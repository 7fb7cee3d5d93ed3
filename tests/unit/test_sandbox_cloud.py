"""The daemon without machines: it needs no root."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox import cloud
from mailinfra.sandbox.cloud import Cloud, leftovers, start_cloud, stop_cloud
from mailinfra.sandbox.context import Context
from mailinfra.sandbox.control import Conflict, ControlClient, InvalidParams, NotFound, NotRunning
from mailinfra.sandbox.network import Network
from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.processes import Process
from mailinfra.sandbox.supervisor import MachineExists, NoSuchMachine


def quiet(_what: str, _seconds: float) -> None:
    pass


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    paths = Paths.of("unit")
    yield paths
    stop_cloud(paths)


def start(paths: Paths) -> ControlClient:
    return start_cloud(paths, with_machines=False, progress=quiet, parts=())


def test_up_and_down(paths: Paths) -> None:
    client = start(paths)
    status = client.call("status")
    assert (status["name"], status["id"], status["machines_booted"]) == ("unit", paths.id, False)
    assert start(paths).call("status")["pid"] == status["pid"], "one that runs is left as it is"
    assert leftovers(paths)
    stop_cloud(paths)
    assert leftovers(paths) == []
    stop_cloud(paths)
    with pytest.raises(NotRunning):
        client.call("status")


def test_a_killed_daemon_is_replaced(paths: Paths) -> None:
    client = start(paths)
    first = Process.load(paths.daemon_pid)
    assert first is not None
    assert first.send(signal.SIGKILL)
    assert first.wait(5)
    assert start(paths).call("status")["pid"] != first.pid
    assert client.alive()


def test_down_ends_what_a_killed_daemon_and_its_parts_left(paths: Paths) -> None:
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    process = Process.of(child)
    assert process is not None
    process.save(paths.folder("aws") / "moto.json")
    (paths.folder("aws") / "other.json").write_text('{"pid": 1}')
    stop_cloud(paths)
    assert process.wait(5)
    os.waitpid(child, 0)
    assert leftovers(paths) == []


def test_a_daemon_that_does_not_come_up_shows_its_log(paths: Paths) -> None:
    (paths.state / "control.sock").mkdir(parents=True)
    with pytest.raises(
        SandboxError,
        match=r"(?s)the sandbox's daemon ended at once; its log is .*cloud\.log:\n.*control\.sock",
    ):
        start(paths)


def test_a_users_own_look_at_a_log_is_no_leftover(paths: Paths) -> None:
    log = paths.folder("logs") / "x.log"
    code = "import time; print('up', flush=True); time.sleep(60)"
    with (
        subprocess.Popen([sys.executable, "-c", code, str(log)], stdout=subprocess.PIPE) as reader,
        subprocess.Popen(
            [sys.executable, "-c", code, "mailinfra.sandbox.x", str(log)], stdout=subprocess.PIPE
        ) as part,
    ):
        for process in (reader, part):
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
        assert [pid for pid, _ in cloud._processes(paths)] == [part.pid]
        reader.kill()
        part.kill()


def test_what_cannot_be_removed_is_named(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud.disks, "remove_tree", lambda _: None)
    paths.folder("x")
    with pytest.raises(SandboxError, match=f"left: folder {paths.state}"):
        stop_cloud(paths)
    monkeypatch.undo()


class Part:
    """A part of the cloud that notes what is done to it."""

    name = "part"

    def __init__(self, log: list[str], fails: str = "") -> None:
        self.log, self.fails = log, fails

    def start(self, context: Context) -> None:
        self.log.append("start")
        assert not context.machines
        if self.fails == "start":
            raise RuntimeError("no start")

    def stop(self) -> None:
        self.log.append("stop")
        if self.fails == "stop":
            raise RuntimeError("no stop")

    def methods(self) -> dict[str, Any]:
        return {"twice": lambda number: 2 * number}


def run(paths: Paths, monkeypatch: pytest.MonkeyPatch, log: list[str], fails: str = "") -> Cloud:
    class Module:
        @staticmethod
        def Service() -> Part:  # noqa: N802 - the name that the daemon looks for
            return Part(log, fails)

    monkeypatch.setitem(cloud.SERVICES, "part", "a.module")
    monkeypatch.setattr(cloud.importlib, "import_module", lambda _: Module)
    return Cloud(paths, False, ("part",))


@pytest.mark.parametrize("fails", ["", "stop"])
def test_a_part_is_started_offered_and_stopped(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    import threading

    log: list[str] = []
    made = run(paths, monkeypatch, log, fails)
    thread = threading.Thread(target=made.run)
    paths.state.mkdir(parents=True, exist_ok=True)
    thread.start()
    client = ControlClient(paths.control_socket, timeout=5)
    while not client.alive():
        assert thread.is_alive()
    assert client.call("part.twice", number=4) == 8
    assert client.call("status")["services"] == ["part"]
    client.call("shutdown")
    thread.join(10)
    assert log == ["start", "stop"]


def test_a_part_that_cannot_start_ends_the_daemon(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    made = run(paths, monkeypatch, log, "start")
    with pytest.raises(RuntimeError, match="no start"):
        made.run()
    assert log == ["start", "stop"]
    assert not paths.control_socket.exists()


def test_the_supervisors_errors_are_the_sockets() -> None:
    for raised, expected in ((NoSuchMachine("x"), NotFound), (MachineExists("x"), Conflict)):
        with pytest.raises(expected, match="x"), cloud._translated():
            raise raised
    with pytest.raises(InvalidParams, match="not a machine"):
        cloud._spec({"id": "x"})
    with pytest.raises(InvalidParams, match="not firewall rules"):
        cloud._rules([{"ports": [1, 2]}])


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    from mailinfra.sandbox.context import StateFile

    router = Network("x", tmp_path, StateFile(tmp_path / "n.json"))
    methods = cloud._network_methods(None, router)  # type: ignore[arg-type]
    with pytest.raises(InvalidParams, match=r"300\.1\.1\.1"):
        methods["network.map_address"](public="300.1.1.1")
    assert methods["network.mapping"]() == {}


def test_without_an_image_the_daemon_says_what_to_do(paths: Paths) -> None:
    with pytest.raises(SandboxError, match=r"image 'node' is missing in .*; run `mailinfra sandbox up`"):
        Cloud(paths, True, ())
