"""The signing milter: speaks libmilter's protocol (version 6) to Postfix, and signs in the region's HSM.

A message leaves signed, or is refused (5xx: it is not ours to sign), or is to be tried again (4xx: the HSM
gave no signature in time). It never leaves unsigned.

    python3 -m mailinfra.dkim.milter --config /etc/mailinfra/milter.json

SIGHUP reads the config again (`listen` aside), SIGUSR1 logs the counters. Python uses one core a process:
for more, and for a restart that turns no mail away, let systemd hold the socket, in a `.socket` unit that the
instances of a template service name in `Sockets=`.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from mailinfra.dkim.canonical import Body, header
from mailinfra.dkim.config import Config, read
from mailinfra.dkim.policy import FORBIDDEN, NAME, RefusedError, judge
from mailinfra.dkim.sign import NAME as SIGNATURE
from mailinfra.dkim.sign import SIGNED, finish, prepare
from mailinfra.dkim.signers import SignError

log = logging.getLogger("milter")

# Bits of the option negotiation (mfapi.h, mfdef.h).
ADD_HEADERS, SET_MACROS = 0x1, 0x100
# No connect, HELO, RCPT, end of headers, unknown commands, DATA.
SKIP = 0x1 | 0x2 | 0x8 | 0x40 | 0x100 | 0x200
# Commands that have an answer, and the bit by which the MTA does without it.
NO_REPLY = {"C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "T": 0x10000, "U": 0x20000}
NO_REPLY |= {"N": 0x40000, "L": 0x80, "B": 0x80000}
MACROS = b"\0\0\0\2{auth_authen}\0\0\0\0\5i\0"
# Postfix sends bodies in pieces of 64 KiB and header fields whole (header_size_limit, 100 KiB by default).
PACKET_BYTES = 2 << 20
CONTINUE = b"\0\0\0\1c"
BACKLOG = 1024


class ProtocolError(Exception):
    """What came is not the milter protocol."""


def packet(code: bytes, data: bytes = b"") -> bytes:
    """Return one packet: its length, its code, its data."""
    return struct.pack("!I", 1 + len(data)) + code + data


class Message:
    """What is kept of one message: the fields to be signed, all of From:, the state of the body's hash."""

    def __init__(self, sender: bytes, login: bytes) -> None:
        self.sender, self.login = sender, login
        self.fields: list[tuple[bytes, bytes]] = []
        self.froms: list[bytes] = []
        self.count = self.size = 0
        self.problem = ""
        self.body = Body()

    def add(self, name: bytes, value: bytes, config: Config) -> None:
        """Take one header field in."""
        self.count += 1
        self.size += len(name) + len(value)
        if self.count > config.header_fields or self.size > config.header_bytes:
            allowed = f"{config.header_fields} fields, {config.header_bytes} bytes"
            self.problem = f"552 5.3.4 Header too large, allowed: {allowed}"
        elif not NAME.fullmatch(name) or FORBIDDEN.search(value):
            self.problem = (
                "554 5.6.0 A header field holds NUL, a bare CR or LF, or no valid name (RFC 5322 2.2)"
            )
        if self.problem:
            return
        lower = name.rstrip().lower()
        if lower == b"from":
            self.froms.append(value)
        if lower in SIGNED:
            self.fields.append((lower, header(name, value)))


class Service:
    """The config, the messages that are being signed, the counters."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = read(path)
        self.counts = Counter[str]()
        self.endings: set[asyncio.Task[None]] = set()

    async def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM, then end what is under way."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number, act in {
            signal.SIGTERM: stop.set,
            signal.SIGINT: stop.set,
            signal.SIGHUP: self.reload,
            signal.SIGUSR1: self.report,
        }.items():
            loop.add_signal_handler(number, act)
        # A few connections at a time, so that workers on one socket share them; the queue itself is long.
        server = await loop.create_server(lambda: Connection(self), sock=listener, backlog=2)
        listener.listen(BACKLOG)
        notify(b"READY=1")
        await stop.wait()
        server.close()
        if self.endings:
            await asyncio.wait(self.endings, timeout=self.config.deadline)

    def reload(self) -> None:
        """Read the config again; one that is wrong changes nothing."""
        try:
            self.config = read(self.path)
        except (OSError, ValueError) as error:
            log.error("%s: %s; the old config stays", self.path, error)
        else:
            log.warning("config read again")

    def report(self) -> None:
        """Log what was done, and the median and 99th percentile of the last HSM calls, in milliseconds."""
        pools = {identity.pool for identity in self.config.identities.values()}
        seconds = sorted(second for pool in pools for second in pool.seconds.copy())
        p50, p99 = (1000 * seconds[int(len(seconds) * part)] if seconds else 0.0 for part in (0.5, 0.99))
        counts = " ".join(
            f"{name}={self.counts[name]}" for name in ("signed", "tempfailed", "rejected", "garbage")
        )
        log.warning("stats pid=%d %s hsm_p50_ms=%.1f hsm_p99_ms=%.1f", os.getpid(), counts, p50, p99)

    async def answer(self, message: Message, queue_id: str) -> bytes:
        """Return the packets that end a message."""
        config = self.config
        try:
            body_hash = message.body.digest()
            if message.body.strays:
                message.problem = "554 5.6.0 The body holds a bare CR or LF (RFC 5321 2.3.8)"
            if message.problem:
                raise RefusedError(message.problem)
            identity = judge(
                config.identities,
                message.froms,
                message.sender,
                message.login,
                auth=config.require_auth,
                match=config.match_sender,
            )
            value, digest = prepare(
                message.fields,
                body_hash,
                domain=identity.domain,
                selector=identity.selector,
                now=int(time.time()),
                life=config.life,
            )
            value = finish(value, await identity.pool.sign(digest))
        except RefusedError as error:
            self.counts["rejected"] += 1
            log.warning("%s: rejected: %s", queue_id, error)
            return packet(b"y", f"{error}\0".encode())
        except Exception as error:
            self.counts["tempfailed"] += 1
            log.error("%s: tempfailed: %s", queue_id, error, exc_info=not isinstance(error, SignError))
            return packet(b"y", b"451 4.7.5 The message cannot be signed now, try again later\0")
        self.counts["signed"] += 1
        return packet(b"i", b"\0\0\0\0" + SIGNATURE + b"\0" + value.encode() + b"\0") + CONTINUE


class Connection(asyncio.Protocol):
    """One connection of the MTA: packets in, replies out. What is not the protocol ends it."""

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self.service = service
        self.buffer = bytearray()
        self.ending: asyncio.Task[None] | None = None
        """The end of a message that waits for its signature; what comes meanwhile waits in the buffer."""
        self.message: Message | None = None
        self.macros: dict[bytes, bytes] = {}
        """Those of the next command."""
        self.quiet: str | None = None
        """Commands that get no reply; None before the negotiation."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop signing what nobody waits for."""
        if self.ending:
            self.ending.cancel()

    def data_received(self, data: bytes) -> None:
        """Act on every whole packet that has come."""
        self.buffer += data
        try:
            self.transport.write(b"".join(self.replies()))
            if self.transport.get_write_buffer_size() > PACKET_BYTES or len(self.buffer) > 2 * PACKET_BYTES:
                raise ProtocolError("the other side does not wait for replies")
        except (ProtocolError, ValueError, struct.error) as error:
            self.service.counts["garbage"] += 1
            log.warning("connection closed: not the milter protocol: %s", error)
            self.transport.abort()

    def replies(self) -> Iterator[bytes]:
        """Take the packets off the buffer until a message ends, which is answered later."""
        buffer, at = self.buffer, 0
        while len(buffer) - at >= 4 and not self.ending:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if not 1 <= size <= PACKET_BYTES:
                raise ProtocolError(f"a packet of {size} bytes")
            end = at + 4 + size
            if len(buffer) < end:
                break
            yield self.take(chr(buffer[at + 4]), bytes(buffer[at + 5 : end]))
            at = end
        del buffer[:at]

    def take(self, code: str, data: bytes) -> bytes:
        """Act on one command and return its reply, if it has one now."""
        if code == "O":
            return self.negotiate(*struct.unpack("!III", data[:12]))
        if self.quiet is None:
            raise ProtocolError(f"{code!r} before the negotiation")
        if code == "D":
            words = data[1:].split(b"\0")
            self.macros = dict(zip(words[::2], words[1::2], strict=False))
            return b""
        macros, self.macros = self.macros, {}
        message = self.message
        if code == "M":
            self.message = Message(data.split(b"\0")[0], macros.get(b"{auth_authen}", b""))
        elif code in "LBE":
            if not message:
                raise ProtocolError(f"{code!r} outside a message")
            if code == "L":
                name, value, _ = data.split(b"\0")
                message.add(name, value, self.service.config)
            elif data:
                message.body.update(data)
            if code == "E":
                queue_id = macros.get(b"i", b"?").decode("ascii", "replace")
                self.message = None
                self.ending = asyncio.get_running_loop().create_task(self.end(message, queue_id))
                self.service.endings.add(self.ending)
                self.ending.add_done_callback(self.service.endings.discard)
                return b""
        elif code in "AK":
            self.message = None
            return b""
        elif code == "Q":
            self.transport.close()
            return b""
        elif code not in NO_REPLY:
            raise ProtocolError(f"command {code!r}")
        return b"" if code in self.quiet else CONTINUE

    def negotiate(self, version: int, actions: int, steps: int) -> bytes:
        """Answer the option negotiation with what the MTA offers of what we want."""
        if version < 2 or not actions & ADD_HEADERS:
            raise ProtocolError(f"version {version}, actions {actions:#x}: no header field may be added")
        steps &= SKIP | sum(NO_REPLY.values())
        self.quiet = "".join(code for code, bit in NO_REPLY.items() if steps & bit)
        macros = actions & SET_MACROS
        options = struct.pack("!III", min(version, 6), ADD_HEADERS | macros, steps)
        return packet(b"O", options + (MACROS if macros else b""))

    async def end(self, message: Message, queue_id: str) -> None:
        """Answer the end of a message, then go on with what came meanwhile."""
        reply = await self.service.answer(message, queue_id)
        self.ending = None
        self.transport.write(reply)
        if self.buffer:
            self.data_received(b"")


def listen(address: str) -> socket.socket:
    """Return the socket that systemd passed on, or one of our own for `unix:/path` or `inet:host:port`.

    Raises `OSError` or `ValueError`.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=3)  # sd_listen_fds(3)
    kind, _, where = address.partition(":")
    host, _, port = where.rpartition(":")
    if kind == "inet" and port.isdecimal():
        return socket.create_server((host, int(port)), backlog=BACKLOG)
    if kind != "unix" or not where:
        raise ValueError(f"config.listen: found {address!r}; allowed: unix:/path, inet:host:port")
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(where)
        except ConnectionRefusedError:
            Path(where).unlink()  # left behind by one that was killed
        else:
            raise OSError(f"config.listen: somebody answers at {where} already")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    Path(where).chmod(0o660)
    return listener


def notify(state: bytes) -> None:
    """Tell systemd, where it started us (sd_notify(3))."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state, address.replace("@", "\0", 1))


def main() -> None:
    """Run the milter; exit status 78 (EX_CONFIG) means that the config is wrong."""
    parser = argparse.ArgumentParser(
        prog="mailinfra.dkim.milter", description="Signs mail with keys in an HSM."
    )
    parser.add_argument("--config", type=Path, required=True, help="JSON file; see mailinfra.dkim.config")
    path: Path = parser.parse_args().config
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        service = Service(path)
        listener = listen(service.config.listen)
    except (OSError, ValueError) as error:
        log.error("%s: %s", path, error)
        sys.exit(78)
    asyncio.run(service.run(listener))
    logging.shutdown()
    os._exit(0)  # a thread that hangs in an HSM call holds nobody up


if __name__ == "__main__":
    main()
