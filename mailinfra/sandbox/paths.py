"""Where the sandbox keeps its things, and the lock that lets one `up` or `down` work on it at a time."""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailinfra.errors import UserError

DEFAULT_NAME = "sandbox"
CONTROL_SOCKET = "control.sock"
"""The daemon's socket, in the state root."""
SOCKET_PATH_LIMIT = 107
"""Longest path of a UNIX socket in bytes (sun_path less its terminating null; unix(7))."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


class SandboxError(UserError):
    """Something in the sandbox that its user can mend; the message says what and how."""


class BusyError(SandboxError):
    """Another process works on the same sandbox."""


def _xdg(variable: str, fallback: str) -> Path:
    """A base folder of the XDG specification; relative values are ignored, as it demands."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / fallback


@dataclass(frozen=True)
class Paths:
    """The folders of one sandbox.

    `state` is all that the sandbox keeps (`$XDG_STATE_HOME/mailinfra/<name>`); `cache` is what any sandbox
    of this user may reuse (`$XDG_CACHE_HOME/mailinfra`).
    """

    name: str
    state: Path
    cache: Path

    @classmethod
    def of(cls, name: str = DEFAULT_NAME) -> "Paths":
        """The folders of the sandbox `name`. Raises `SandboxError` for a name that cannot be used."""
        if not _NAME.fullmatch(name):
            raise SandboxError(
                f"sandbox name {name!r}: allowed are a lower-case letter, then at most 30 of a-z, 0-9 and '-'"
            )
        paths = cls(
            name=name,
            state=_xdg("XDG_STATE_HOME", ".local/state") / "mailinfra" / name,
            cache=_xdg("XDG_CACHE_HOME", ".cache") / "mailinfra",
        )
        if len(os.fsencode(paths.control_socket)) > SOCKET_PATH_LIMIT:
            raise SandboxError(
                f"{paths.control_socket}: a UNIX socket's path has at most {SOCKET_PATH_LIMIT} bytes; "
                "set XDG_STATE_HOME to a shorter folder"
            )
        return paths

    @property
    def id(self) -> str:
        """Short prefix of every kernel object's name, unique to the state root (two users, two sandboxes)."""
        return "m" + hashlib.sha256(os.fsencode(self.state)).hexdigest()[:5]

    @property
    def control_socket(self) -> Path:
        """The daemon's UNIX socket."""
        return self.state / CONTROL_SOCKET

    @property
    def daemon_log(self) -> Path:
        """What the daemon prints."""
        return self.state / "cloud.log"

    @property
    def daemon_pid(self) -> Path:
        """Who the daemon is: see `processes.Process`."""
        return self.state / "cloud.pid"

    def folder(self, name: str) -> Path:
        """A folder inside the state root, made if need be, readable by its owner only."""
        path = self.state / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def exists(self) -> bool:
        """Whether anything of this sandbox is on disk."""
        return self.state.exists()


@contextmanager
def file_lock(path: Path, busy: str) -> Iterator[None]:
    """Hold `path` as a lock file that names its holder, and remove it at the end.

    Raises `BusyError` at once when another process holds it: `busy`, then that process's id. A lock dies
    with its process, so a crash leaves at most an empty lock file, which the next holder reuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise BusyError(f"{busy} (process {holder}); wait for it, or end it") from None
        # The holder before us may have removed the file between our open and our lock: then we hold a ghost.
        try:
            current = path.stat().st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            current = False
        if current:
            break
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def sandbox_lock(paths: Paths) -> Iterator[None]:
    """Hold the sandbox for one `up` or `down`. Raises `BusyError` naming the process that holds it."""
    # Beside the state root, not in it: `down` removes the state root while it holds the lock.
    lock = paths.state.with_name(f"{paths.name}.lock")
    with file_lock(lock, f"sandbox {paths.name!r} is busy: another up or down runs"):
        yield
