"""Runs restic against a `Backend`: secrets by environment, patience with the bucket bounded, output as data."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailinfra.node.backup.rest import Backend

RESTIC = "restic"
INCOMPLETE = 3
"""restic's exit code for a snapshot that lacks files that could not be read."""
TAIL = 600


class ResticError(Exception):
    """restic did not do what it should; the end of what it said."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class UnreachableError(Exception):
    """The bucket, or the identity that opens it, refuses or does not answer. The repository may be in order."""


@dataclass(frozen=True)
class Done:
    """A restic command that has ended: its exit code, and where its output is (until the command's scope ends)."""

    code: int
    output: Path

    def lines(self) -> Iterator[dict[str, Any]]:
        """The JSON objects that it printed, one a line; other lines are passed over."""
        with self.output.open("rb") as file:
            for line in file:
                if line.startswith(b"{"):
                    yield json.loads(line)

    def json(self) -> Any:
        """The one JSON text that it printed."""
        return json.loads(self.output.read_bytes())


@dataclass(frozen=True)
class Restic:
    """One repository as restic is used on it. `folder` is private, for its cache and scratch files."""

    backend: Backend
    password: str
    folder: Path

    def environment(self) -> dict[str, str]:
        """What restic is told. Nothing of it is ever on a command line."""
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
            "RESTIC_REPOSITORY": self.backend.url,
            "RESTIC_PASSWORD": self.password,
            "GOMAXPROCS": "2",
        }

    @contextmanager
    def run(self, *arguments: str, accept: Sequence[int] = (0,), stdin: bytes = b"") -> Iterator[Done]:
        """Run a command. `ResticError` for an exit code that is not accepted, `UnreachableError` without a bucket."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="run-") as scratch:
            output, errors, given = (Path(scratch, name) for name in ("out", "err", "in"))
            given.write_bytes(stdin)
            with output.open("wb") as out, errors.open("wb") as err, given.open("rb") as source:
                process = subprocess.Popen(
                    [RESTIC, *arguments], stdin=source, stdout=out, stderr=err, env=self.environment()
                )
                try:
                    self._wait(process)
                finally:
                    if process.poll() is None:
                        process.kill()
                        process.wait()
            text = self._tail(errors) or self._tail(output)
            if process.returncode in accept:
                yield Done(process.returncode, output)
                return
        if self.backend.trouble.hopeless:
            raise UnreachableError(f"the vault's bucket: {self.backend.trouble.text}")
        raise ResticError(
            f"restic {arguments[0]} ended with {process.returncode}: {text}", process.returncode
        )

    def do(self, *arguments: str, accept: Sequence[int] = (0,), stdin: bytes = b"") -> int:
        """Run a command for its effect: its exit code."""
        with self.run(*arguments, accept=accept, stdin=stdin) as done:
            return done.code

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        delay = 0.02
        while process.poll() is None:
            if self.backend.trouble.hopeless:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                raise UnreachableError(f"the vault's bucket: {self.backend.trouble.text}")
            time.sleep(delay)
            delay = min(delay * 1.5, 0.5)

    def _tail(self, path: Path) -> str:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - TAIL, 0))
            text = file.read().decode(errors="replace")
        for secret in (self.password, self.backend.login, self.backend.login.partition(":")[2]):
            text = text.replace(secret, "***")
        return " ".join(text.split())
