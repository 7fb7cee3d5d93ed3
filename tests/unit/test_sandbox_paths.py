"""Where the sandbox keeps its things, and its lock."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mailinfra.sandbox.paths import BusyError, Paths, SandboxError, file_lock, sandbox_lock


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    return tmp_path


def test_folders_follow_xdg(home: Path) -> None:
    paths = Paths.of("other")
    assert paths.state == home / "s/mailinfra/other"
    assert paths.cache == home / "c/mailinfra"
    assert not paths.exists()
    assert oct(paths.folder("pki").stat().st_mode & 0o777) == "0o700"
    assert paths.exists()


def test_relative_xdg_folders_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert Paths.of().state == Path.home() / ".local/state/mailinfra/sandbox"


def test_the_id_is_short_and_one_for_each_state_root(home: Path) -> None:
    ids = {Paths.of(name).id for name in ("a", "b", "sandbox")}
    assert len(ids) == 3
    # Eight more characters make an interface's name, of which the kernel takes 15.
    assert all(len(identity) == 6 and identity.isalnum() for identity in ids)
    assert Paths.of("a").id == Paths.of("a").id


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "-a", "1", "a" * 32, "a b"])
def test_a_bad_name_is_refused(home: Path, name: str) -> None:
    with pytest.raises(SandboxError, match="allowed are a lower-case letter"):
        Paths.of(name)


def test_a_state_root_too_deep_for_a_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/" + "x" * 100)
    with pytest.raises(SandboxError, match="at most 107 bytes; set XDG_STATE_HOME"):
        Paths.of()


def test_a_second_holder_is_refused_with_the_first_ones_id(home: Path) -> None:
    paths = Paths.of()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from mailinfra.sandbox.paths import *\n"
            "with sandbox_lock(Paths.of()):\n print('held', flush=True); input()",
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match=rf"another up or down runs \(process {holder.pid}\)"),
            sandbox_lock(paths),
        ):
            pass
        holder.kill()
    # The lock of a process that was killed is free, though its file is still there.
    lock = paths.state.with_name("sandbox.lock")
    assert lock.exists()
    with sandbox_lock(paths):
        assert lock.read_text() == f"{os.getpid()}\n"
    assert not lock.exists()


def test_a_lock_file_removed_by_its_last_holder_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our open and our lock the last holder removed the file: a newcomer would make and lock another."""
    path = tmp_path / "lock"
    lock = fcntl.flock
    locked: list[int] = []

    def remove_first(descriptor: int, operation: int) -> None:
        if not locked:
            path.unlink()
        locked.append(descriptor)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with file_lock(path, "busy"):
        assert len(locked) == 2
        assert path.exists()
        with pytest.raises(BusyError), file_lock(path, "busy"):
            pass
