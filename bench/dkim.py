"""DKIM signing: our milter with a key in a PKCS#11 token against OpenDKIM with a key file.

Same machine, messages, driver and number of connections. The rounds of the two alternate, and the ratio is
the median over the rounds. Needs softhsm2 and opendkim.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.dkim_postfix import postfix

CONNECTIONS, MESSAGES, ROUNDS, SIZE = 32, 600, 15, 5000
"""Short rounds, and many: what else the machine does then falls on both sides of a ratio alike."""
CONCURRENCY = 8
"""HSM calls at a time of each of our workers."""
HSM_DELAY = 0.015
"""Seconds added to each HSM call in the second comparison."""
WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""Ends a process when this one ends, however it ends."""
WORKERS = os.cpu_count() or 1
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
STEPS = 0x1FFFFF & ~0x100000
NO_REPLY = {b"C": 0x1000, b"H": 0x2000, b"M": 0x4000, b"R": 0x8000, b"T": 0x10000, b"N": 0x40000}
NO_REPLY |= {b"L": 0x80, b"B": 0x80000}
LEFT_OUT = {b"C": 0x1, b"H": 0x2, b"M": 0x4, b"R": 0x8, b"B": 0x10, b"L": 0x20, b"N": 0x40, b"T": 0x200}
CHILD = """
import os, sys, time
from mailinfra.dkim import milter
from mailinfra.dkim.signers import pkcs11
delay, sign = float(sys.argv.pop(1)), pkcs11.Key.sign
os.dup2(int(sys.argv.pop(1)), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
def slow(key, digest):
    time.sleep(delay)
    return sign(key, digest)
if delay:
    pkcs11.Key.sign = slow
milter.main()
"""
OPENDKIM = """
Domain example.test
Selector s1
KeyFile {folder}/key.pem
Socket local:{path}
UMask 000
Mode s
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
OversignHeaders From,To,Subject
InternalHosts {folder}/hosts
RequireSafeKeys no
Syslog no
Background no
"""


def packet(code: bytes, data: bytes = b"") -> bytes:
    """Return one packet of the milter protocol."""
    return struct.pack("!I", 1 + len(data)) + code + data


def message(seed: int) -> tuple[dict[bytes, bytes], bytes]:
    """Return the header fields, LF-folded, and the body of `SIZE` octets of one message."""
    words = random.Random(seed)
    lines, size = [], 0
    while size < SIZE:
        line = " ".join("".join(words.choices("abcdefghijklmno", k=words.randint(2, 9))) for _ in range(11))
        lines.append(line.encode())
        size += len(line) + 2
    fields = {
        b"Received": b"from client.example.test (client.example.test [192.0.2.9])\n\tby mx.example.test "
        b"(Postfix) with ESMTPSA id 4QUEUEID\n\tfor <somebody@outside.test>; Mon, 1 Jun 2026 10:00:00 +0000",
        b"From": b'"A. User" <user@example.test>',
        b"To": b"Some Body <somebody@outside.test>,\n\tanother@outside.test",
        b"Subject": b"message %d of the comparison" % seed,
        b"Date": b"Mon, 1 Jun 2026 10:00:00 +0000",
        b"Message-ID": b"<%d.1234567890@example.test>" % seed,
        b"MIME-Version": b"1.0",
        b"Content-Type": b"text/plain; charset=utf-8",
        b"Content-Transfer-Encoding": b"7bit",
        b"User-Agent": b"bench",
    }
    return fields, b"\r\n".join(lines) + b"\r\n"


def commands(seed: int) -> list[tuple[bytes, bytes]]:
    """Return the milter protocol's commands of one message."""
    fields, body = message(seed)
    return [
        (b"M", b"<user@example.test>\0"),
        (b"R", b"<somebody@outside.test>\0"),
        (b"T", b""),
        *((b"L", name + b"\0" + value + b"\0") for name, value in fields.items()),
        (b"N", b""),
        (b"B", body),
        (b"D", b"Ei\x004QUEUEID\0"),
        (b"E", b""),
    ]


def whole(seed: int) -> bytes:
    """Return one message as a file with LF lines, less the Received: field, which Postfix adds itself."""
    fields, body = message(seed)
    head = b"".join(name + b": " + value + b"\n" for name, value in fields.items() if name != b"Received")
    return head + b"\n" + body.replace(b"\r\n", b"\n")


@dataclass
class Run:
    """One round against one milter."""

    left: int
    """Messages still to be sent."""
    signed: int = 0
    seconds: list[float] = field(default_factory=list)
    """From the end of a message to its answer."""


class Driver(asyncio.Protocol):
    """One connection of an MTA that sends message after message, and waits for every reply that is due.

    As Postfix does, what needs no reply is sent together with what does.
    """

    transport: asyncio.Transport

    def __init__(self, run: Run) -> None:
        self.run, self.rest, self.steps = run, b"", 0
        self.done = asyncio.get_running_loop().create_future()
        self.held = b""
        self.todo: list[bytes] = []
        self.started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(packet(b"O", struct.pack("!III", 6, 0x1FF, STEPS)))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the milter closed the connection"))

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        at = 0
        while len(data) - at >= 5:
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if len(data) < end:
                break
            self.got(data[at + 4 : at + 5], data[at + 5 : end])
            at = end
        self.rest = data[at:]

    def got(self, code: bytes, data: bytes) -> None:
        if code == b"O":
            self.steps = struct.unpack("!III", data[:12])[2]
            self.todo = self.batch(
                [(b"C", b"client.example.test\x004\x0f\xb9192.0.2.9\0"), (b"H", b"client.example.test\0")]
            )
        elif code not in b"cartyd":
            self.run.signed += b"DKIM-Signature" in data
            return
        elif code not in b"ca":
            self.done.set_exception(ConnectionError(f"the milter answered {code!r} {data!r}"))
            return
        elif self.started and not self.todo:
            self.run.seconds.append(time.perf_counter() - self.started)
        if not self.todo:
            if not self.run.left:
                self.done.set_result(None)
                self.transport.write(packet(b"Q"))
                return
            self.run.left -= 1
            self.todo = self.batch(COMMANDS[self.run.left % len(COMMANDS)])
        part = self.todo.pop(0)
        if not self.todo:
            self.started = time.perf_counter()
        self.transport.write(part)

    def batch(self, commands: list[tuple[bytes, bytes]]) -> list[bytes]:
        """Return what to write, cut after each command that has a reply."""
        parts, part = [], self.held
        for code, data in commands:
            if self.steps & LEFT_OUT.get(code, 0):
                continue
            part += packet(code, data)
            if code != b"D" and not self.steps & NO_REPLY.get(code, 0):
                parts.append(part)
                part = b""
        self.held = part
        return parts


COMMANDS = [commands(seed) for seed in range(64)]


async def drive(path: str, count: int) -> tuple[float, list[float]]:
    """Send messages over all connections; return messages a second and the sorted seconds of each end."""
    run = Run(count)
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    drivers = [(await loop.create_unix_connection(lambda: Driver(run), path))[1] for _ in range(CONNECTIONS)]
    await asyncio.gather(*(driver.done for driver in drivers))
    taken = time.perf_counter() - start
    assert run.signed == count, f"{path}: {run.signed} of {count} messages were signed"
    return count / taken, sorted(run.seconds)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody answers on a UNIX socket."""
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not answer at {path}")


def make_keys(folder: Path) -> dict[str, str]:
    """Make a token with an RSA-2048 key, and a key file; return the environment that finds the token."""
    (folder / "tokens").mkdir()
    (folder / "softhsm.conf").write_text(
        f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    (folder / "pin").write_text("1234")
    env = {**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm.conf")}
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = folder / "key.pem"
    pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, *kind))
    pem.chmod(0o600)
    token = ["--token", "bench", "--pin", "1234"]
    for command in (
        ["--init-token", "--free", "--label", "bench", "--so-pin", "1234", "--pin", "1234"],
        ["--import", str(pem), *token, "--label", "s1", "--id", "01"],
    ):
        subprocess.run(["softhsm2-util", *command], env=env, check=True, capture_output=True)
    return env


@contextlib.contextmanager
def ours(folder: Path, env: dict[str, str], delay: float, path: Path) -> Iterator[None]:
    """Run our milter at a path, a worker for each core on one socket, as systemd would."""
    module = next(module for module in MODULES if Path(module).exists())
    signer = {
        "kind": "pkcs11",
        "module": module,
        "token": "bench",
        "label": "s1",
        "pin_file": str(folder / "pin"),
    }
    config = folder / "milter.json"
    key = {"selector": "s1", "domains": ["example.test"], "concurrency": CONCURRENCY, "signer": signer}
    config.write_text(json.dumps({"listen": "systemd", "keys": [key]}))
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(1024)
        passed = listener.fileno()
        child = [*WITH_US, sys.executable, "-c", CHILD, str(delay), str(passed), "--config", str(config)]
        for _ in range(WORKERS):
            process = subprocess.Popen(child, env=env, pass_fds=[passed])
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield


@contextlib.contextmanager
def opendkim(folder: Path, path: Path) -> Iterator[None]:
    """Run OpenDKIM with the same key in a file, at a path."""
    (folder / "hosts").write_text("0.0.0.0/0\n")
    (folder / "opendkim.conf").write_text(OPENDKIM.format(folder=folder, path=path))
    process = subprocess.Popen([*WITH_US, "opendkim", "-f", "-x", str(folder / "opendkim.conf")])
    try:
        wait_for(path, process)
        yield
    finally:
        process.terminate()
        process.wait()


def percentile(seconds: list[float], part: float) -> float:
    """Return a percentile of sorted seconds, in milliseconds."""
    return 1000 * seconds[int(part * (len(seconds) - 1))]


def rows() -> Iterator[dict[str, object]]:
    """Measure, and yield one row for each figure. Needs root for the Postfix."""
    names = ("ours", "slow", "opendkim")
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        mta = stack.enter_context(postfix(folder / "mta", names))
        env = make_keys(folder)
        paths = [mta.milters / f"{name}.sock" for name in names]
        stack.enter_context(ours(folder, env, 0, paths[0]))
        stack.enter_context(ours(folder, env, HSM_DELAY, paths[1]))
        stack.enter_context(opendkim(folder, paths[2]))
        for path in paths:  # the first messages load libraries and open sessions
            asyncio.run(drive(str(path), 10 * CONNECTIONS))
        rounds = [[asyncio.run(drive(str(path), MESSAGES)) for path in paths] for _ in range(ROUNDS)]
        for name in names:
            mta.drive(name, whole(0), 2 * CONNECTIONS, CONNECTIONS)
        through = [
            [mta.drive(name, whole(0), MESSAGES, CONNECTIONS) for name in names] for _ in range(ROUNDS)
        ]
    direct = [[rate for rate, _ in one] for one in rounds]
    for title, index, limit, rates in (
        ("DKIM milter, key in a PKCS#11 token / OpenDKIM, key file", 0, 1.2, direct),
        ("DKIM milter, 15 ms more for each HSM call / OpenDKIM, key file", 1, 0.9, direct),
        ("Postfix with our milter / Postfix with OpenDKIM", 0, 1.0, through),
        ("Postfix with our milter, 15 ms more for each HSM call / with OpenDKIM", 1, None, through),
    ):
        yield {
            "name": title,
            "ours": statistics.median(one[index] for one in rates),
            "reference": statistics.median(one[2] for one in rates),
            "ratio": statistics.median(one[index] / one[2] for one in rates),
            "unit": "messages/s",
            "better": "higher",
            "limit": limit,
        }
    for part in (0.5, 0.99):
        with_delay, without = (
            statistics.median(percentile(one[index][1], part) for one in rounds) for index in (1, 0)
        )
        yield {
            "name": f"DKIM milter, p{100 * part:g} of the wait at the end of a message: 15 ms more / none",
            "ours": with_delay,
            "reference": without,
            "ratio": with_delay / without,
            "unit": "ms",
            "better": "lower",
            "limit": None,
        }


if __name__ == "__main__":
    for row in rows():
        print(row)
