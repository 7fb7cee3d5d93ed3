"""Processes that outlive the one that started them, known again beyond doubt: by id and start time
together.
"""

import json
import os
import select
import signal
from dataclasses import asdict, dataclass
from pathlib import Path


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (field 22 of /proc/<pid>/stat, proc(5)); None if
    there is none.

    A process that ended and was not waited for yet still has one.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def children(pid: int) -> list[int]:
    """The ids of a process's children, of all its threads."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.extend(int(child) for child in (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found


@dataclass(frozen=True)
class Process:
    """A process of ours. An id alone is reused by the kernel; with its start time (clock ticks) it is not."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process with that id now, None if there is none."""
        started = start_time(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def load(cls, path: Path) -> "Process | None":
        """What `save` wrote, if that very process still lives; else None."""
        try:
            process = cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return process if process.alive() else None

    def save(self, path: Path) -> None:
        """Remember the process in a file."""
        write_atomic(path, json.dumps(asdict(self)))

    def alive(self) -> bool:
        """Whether this very process still lives, any of its threads."""
        return not self.wait(0)

    def send(self, number: int) -> bool:
        """Send a signal to this very process, never to a later one with the same id. False if it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The descriptor pins the id; only now is the comparison worth something.
            if start_time(self.pid) != self.started:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def wait(self, timeout: float | None) -> bool:
        """Wait until it is gone, at most `timeout` seconds. Whether it is."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if start_time(self.pid) != self.started:
                return True
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(None if timeout is None else max(0, int(timeout * 1000))))
        finally:
            os.close(descriptor)


def write_atomic(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file's content so that a crash leaves the old or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
