"""The hardware security module of the sandbox's Google Cloud: a SoftHSM token and the processes that use it.

Keys are generated inside the token, sensitive and not extractable; only digests go in, only signatures and public
keys come out. PINs are random and lie beside the token in a file that only its owner can read.
"""

import contextlib
import fcntl
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MODULE_PATHS: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


class HsmError(Exception):
    """The token refused an operation, or cannot be used."""


def find_module() -> str:
    """The path of SoftHSM's PKCS#11 module: `SOFTHSM2_MODULE`, else where distributions put it.

    Raises HsmError when there is none, naming what to install.
    """
    wanted = os.environ.get("SOFTHSM2_MODULE")
    for path in (wanted,) if wanted else MODULE_PATHS:
        if Path(path).is_file():
            return path
    where = wanted or ", ".join(MODULE_PATHS)
    raise HsmError(
        f"SoftHSM's module was not found (looked for {where}): install it (Debian: `apt install libsofthsm2`) "
        "or name it in SOFTHSM2_MODULE"
    )


class _Worker:
    """One child process with one session; used by one caller at a time."""

    def __init__(self, module: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mailinfra.sandbox.gcp.hsm_worker",
                module,
                str(folder / "tokens"),
                str(folder / "pins.json"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm2.conf")},
        )
        try:
            self.ask({})
        except (OSError, ValueError) as error:
            self.close()
            raise HsmError(f"the SoftHSM token in {folder} did not open: {error}") from error

    def ask(self, request: dict[str, str]) -> dict[str, str]:
        """Sends one request (none: only waits for the greeting). Raises OSError or ValueError if the child died."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101
        if request:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise OSError(f"its process ended with code {self._process.wait()}")
        answer: dict[str, str] = json.loads(line)
        return answer

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Hsm:
    """The token under `folder`, used through `sessions` processes at once.

    About 700 RSA-2048 signatures a second for each core. Safe to use from threads. A session whose process died is
    opened again and the request repeated once: every operation may be repeated (a key is made under an id that the
    caller chose).
    """

    def __init__(self, folder: Path, sessions: int = 2) -> None:
        self._folder = folder
        self._module = find_module()
        (folder / "tokens").mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "softhsm2.conf").write_text(
            f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        pins = folder / "pins.json"
        if not pins.exists():
            draft = folder / f"pins.json.{secrets.token_hex(4)}"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({"so_pin": secrets.token_hex(16), "pin": secrets.token_hex(16)}, file)
            draft.replace(pins)
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._closed = False
        self._sessions = sessions
        self._writing = threading.Lock()
        first = self._open()  # alone: it makes the token
        for worker in [None] * (sessions - 1) + [first]:
            self._idle.put(worker)  # the others open when they are first needed

    def _open(self) -> _Worker:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two clouds on one state root must not make two tokens
            return _Worker(self._module, self._folder)

    @contextlib.contextmanager
    def _worker(self) -> Iterator[_Worker]:
        taken = self._idle.get()
        worker: _Worker | None = None
        try:
            if self._closed:
                raise HsmError("the token is closed")
            worker = taken or self._open()
            yield worker
        except (OSError, ValueError):
            if worker is not None:
                worker.close()
                worker = None
            raise
        finally:
            self._idle.put(worker)

    def _ask(self, op: str, **arguments: str) -> str:
        for last in (False, True):
            try:
                with self._worker() as worker:
                    answer = worker.ask({"op": op, **arguments})
                    if answer.get("kind") == "LookupError" and not last:
                        raise OSError("it does not see every key")
                break
            except (OSError, ValueError) as error:
                if last:
                    raise HsmError(f"the HSM failed twice: {error}") from error
        if "error" in answer:
            raise HsmError(answer["error"])
        return answer["ok"]

    def _write(self, op: str, **arguments: str) -> str:
        # SoftHSM's processes tell each other of changes by a counter in a file; two that write at once both read
        # the same count, and one of them never learns of the other's object.
        with self._writing:
            return self._ask(op, **arguments)

    def generate(self, key: str, algorithm: str) -> str:
        """Makes the key (hex id, Cloud KMS algorithm); its public half as PEM, "" for a symmetric key."""
        return self._write("generate", key=key, algorithm=algorithm)

    def sign(self, key: str, algorithm: str, digest: str) -> str:
        """Base64 signature over a base64 digest. Raises HsmError (no such key, wrong length of the digest)."""
        return self._ask("sign", key=key, algorithm=algorithm, digest=digest)

    def encrypt(self, key: str, plaintext: str, aad: str) -> str:
        """AES-256-GCM; all base64."""
        return self._ask("encrypt", key=key, plaintext=plaintext, aad=aad)

    def decrypt(self, key: str, ciphertext: str, aad: str) -> str:
        """The reverse of `encrypt`; raises HsmError when anything was altered."""
        return self._ask("decrypt", key=key, ciphertext=ciphertext, aad=aad)

    def random(self, size: int) -> str:
        """`size` random bytes, base64."""
        return self._ask("random", size=str(size))

    def destroy(self, key: str) -> None:
        """Removes the key from the token for good."""
        self._write("destroy", key=key)

    def close(self) -> None:
        """Ends the sessions; waits for those in use. The token stays on disk."""
        self._closed = True
        # Once closed, a taken worker comes back and the next taker is refused; so all can be waited for.
        for worker in [self._idle.get() for _ in range(self._sessions)]:
            if worker is not None:
                worker.close()
        for _ in range(self._sessions):
            self._idle.put(None)
