"""Processes known by id and start time."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailinfra.sandbox.processes import Process, children, start_time, write_atomic


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_process_is_remembered_and_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    process = Process.of(sleeper.pid)
    assert process is not None
    process.save(tmp_path / "p")
    assert Process.load(tmp_path / "p") == process
    assert not process.wait(0.01)
    assert process.send(signal.SIGTERM)
    assert process.wait(5)
    # Not waited for by its parent yet, and still dead.
    assert not process.alive()
    assert Process.load(tmp_path / "p") is None
    sleeper.wait()
    assert process.wait(0)
    assert not process.send(signal.SIGTERM)
    assert start_time(sleeper.pid) is None
    assert Process.of(sleeper.pid) is None


def test_another_process_with_the_same_id_is_not_touched(sleeper: subprocess.Popen[bytes]) -> None:
    now = start_time(sleeper.pid)
    assert now is not None
    impostor = Process(sleeper.pid, now - 1)
    assert not impostor.alive()
    assert not impostor.send(signal.SIGKILL)
    assert sleeper.poll() is None


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"pid": 1}', '{"other": 2}', "3"])
def test_a_file_that_names_no_process_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "p").write_text(text)
    assert Process.load(tmp_path / "p") is None
    assert Process.load(tmp_path / "absent") is None


def test_children_of_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    import os

    assert sleeper.pid in children(os.getpid())
    assert children(sleeper.pid) == []


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_atomic(tmp_path / "f", "old")
    write_atomic(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "new"
    assert oct((tmp_path / "f").stat().st_mode & 0o777) == "0o600"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
