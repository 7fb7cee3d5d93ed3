"""What the sandbox needs of the host."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox import setup
from mailinfra.sandbox.paths import SandboxError
from mailinfra.sandbox.setup import Need


@pytest.fixture
def said() -> list[str]:
    return []


def need(name: str, here: list[str], machines: bool) -> Need:
    return Need(name, f"{name}-package", lambda: name in here, machines)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A Debian host whose user is root; the list is what is installed."""
    here: list[str] = []
    monkeypatch.setattr(setup, "NEEDS", (need("library", here, False), need("nspawn", here, True)))
    monkeypatch.setattr(setup, "obstacles", list)
    monkeypatch.setattr(setup.os, "geteuid", lambda: 0)
    monkeypatch.setattr(setup.shutil, "which", lambda _: "/usr/bin/apt-get")

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if command[1] == "install":
            here.extend(name.removesuffix("-package") for name in command if name.endswith("-package"))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(setup.subprocess, "run", run)
    return here


def test_what_is_missing_is_installed(host: list[str], said: list[str]) -> None:
    assert setup.ensure(said.append).machines
    assert host == ["library", "nspawn"]
    assert said == ["installing library-package, nspawn-package (apt)"]
    said.clear()
    assert setup.ensure(said.append).machines
    assert said == [], "nothing to do"


def test_without_machines_less_is_needed(host: list[str], said: list[str]) -> None:
    setup.ensure(said.append, want_machines=False)
    assert host == ["library"]


def test_without_root_what_only_machines_need_is_an_obstacle(
    host: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(setup, "obstacles", lambda: ["machines need root"])
    host.append("library")
    ready = setup.ensure(said.append)
    assert ready.obstacles == ("machines need root",)
    assert not ready.machines
    host.clear()
    with pytest.raises(
        SandboxError, match=r"missing: library; on Debian as root: apt-get install library-package$"
    ):
        setup.ensure(said.append)


def test_without_apt_the_packages_are_named(
    host: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup.shutil, "which", lambda _: None)
    host.append("library")
    ready = setup.ensure(said.append)
    assert ready.obstacles == ("machines need nspawn; on Debian as root: apt-get install nspawn-package",)


def test_a_failing_apt_is_told(host: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command[1])
        return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package\n")

    monkeypatch.setattr(setup.subprocess, "run", run)
    with pytest.raises(SandboxError, match=r"(?s)apt could not install library-package.*Unable to locate"):
        setup.ensure(said.append)
    assert commands == ["install", "update", "install"], "a stale list of packages is renewed once"


def test_no_machines_without_root_or_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.os, "geteuid", lambda: 1000)
    assert setup.obstacles() == [
        "machines need root: network namespaces, mounts and control groups; run `up` as root"
    ]
    monkeypatch.setattr(setup.platform, "system", lambda: "Darwin")
    assert setup.obstacles() == ["machines need Linux; this is Darwin"]


def test_an_unprivileged_container_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.os, "geteuid", lambda: 0)
    monkeypatch.setattr(setup, "_succeeds", lambda *_: False)
    monkeypatch.setattr(setup, "cgroup_roots", lambda: [tmp_path])
    monkeypatch.setattr(setup.os, "access", lambda *_: False)
    monkeypatch.setattr(setup, "file_system", lambda _: "overlay")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = "\n".join(setup.obstacles())
    assert "machines need namespaces of their own, which this host refuses" in found
    assert f"not on overlayfs, as {tmp_path}/mailinfra/sandbox is; set XDG_STATE_HOME" in found


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    assert setup.file_system(Path("/proc/self/not/there")) == "proc"
    assert setup.file_system(tmp_path) == setup.file_system(tmp_path / "not/made/yet") != ""


def test_softhsm_is_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.ctypes.util, "find_library", lambda _: None)
    monkeypatch.setenv("SOFTHSM2_MODULE", str(tmp_path / "module.so"))
    assert not setup._softhsm()
    (tmp_path / "module.so").touch()
    assert setup._softhsm()


def test_the_limit_is_raised_and_never_lowered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "limit"
    monkeypatch.setattr(setup, "Path", lambda _: limit)
    limit.write_text("128\n")
    assert setup.raise_limits() == "fs.inotify.max_user_instances: 128 -> 4096"
    assert limit.read_text() == "4096\n"
    limit.write_text("100000\n")
    assert setup.raise_limits() is None
    assert limit.read_text() == "100000\n"
