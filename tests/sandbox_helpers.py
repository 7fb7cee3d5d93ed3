"""A sandbox as the system tests use it, and ways to look at what it left."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.cloud import start_cloud, stop_cloud
from mailinfra.sandbox.control import ControlClient
from mailinfra.sandbox.model import MachineSpec
from mailinfra.sandbox.paths import Paths, sandbox_lock


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox and how to use it."""

    paths: Paths
    client: ControlClient

    def create(self, *specs: MachineSpec) -> None:
        """Boot machines and wait until all run."""
        for spec in specs:
            self.client.call("machines.create", spec=spec.to_json())
        for spec in specs:
            self.running(spec.id)

    def running(self, machine: str) -> dict[str, Any]:
        """Wait until the machine runs."""
        status: dict[str, Any] = self.client.call("machines.wait", id=machine, states=["running", "failed"])
        assert status["state"] == "running", status["reason"]
        return status

    def execute(self, machine: str, *command: str, timeout: float = 30) -> dict[str, Any]:
        """Run a command on a machine."""
        result: dict[str, Any] = self.client.call(
            "machines.execute", id=machine, command=command, timeout=timeout
        )
        return result

    def shell(self, machine: str, script: str, timeout: float = 30) -> str:
        """Run a script on a machine that must succeed; its output."""
        done = self.execute(machine, "sh", "-euc", script, timeout=timeout)
        assert done["code"] == 0, f"{script}: {done['stdout']}{done['stderr']}"
        return str(done["stdout"])


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    """The first true value of `check`, tried for so long; the last one when none came."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.1)


def traces(paths: Paths) -> list[str]:
    """What there is of a sandbox on this host, found without the sandbox's own code."""
    found = [f"folder {paths.state}"] if paths.state.exists() else []
    found += [f"namespace {name}" for name in _lines("ip", "netns", "list") if name.startswith(paths.id)]
    found += [
        f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if str(paths.state) in line
    ]
    found += [
        f"loop {line}" for line in _lines("losetup", "--list", "--noheadings") if str(paths.state) in line
    ]
    found += [f"group {line}" for line in _lines("find", "/sys/fs/cgroup", "-name", f"{paths.id}-*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if f"{paths.id}-" in line or str(paths.state) in line:
            found.append(f"process {process.name} {line}")
    return found


def _lines(*command: str) -> Sequence[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def quiet(_what: str, _seconds: float) -> None:
    """Progress that nobody needs to see."""


@contextmanager
def machines(name: str, parts: Sequence[str], state: Path, cache: Path) -> Iterator[Sandbox]:
    """A sandbox with machines, and of the clouds' APIs these parts, its state below a folder. It leaves no trace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        patch.setenv("XDG_CACHE_HOME", str(cache.parent))
        paths = Paths.of(name)
        with sandbox_lock(paths):
            client = start_cloud(paths, with_machines=True, progress=quiet, parts=parts)
        try:
            yield Sandbox(paths, client)
        finally:
            with sandbox_lock(paths):
                stop_cloud(paths)
        assert traces(paths) == []
