"""Postfix's before-queue filter on an mx node: takes a message straight to its home, or to the local queue.

Postfix (`smtpd_proxy_filter`) speaks SMTP to it for each message, behind its own checks. The home of the first
recipient decides: in a foreign zone that no byte may be written outside of, the transaction is streamed to that
mailbox node over mutual TLS 1.3 while the client waits; else to the local Postfix, which queues it. Recipients
with another home get `452 4.5.3`, and every sender gives those a transaction of their own (RFC 5321 4.5.3.1.10).
Every reply after MAIL is the other side's own: what is not accepted there is never accepted here.
"""

import asyncio
import json
import logging
import mmap
import re
import signal
import ssl
import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mailinfra.node.agent import cdb

log = logging.getLogger("homeward")
T = TypeVar("T")

LINE_BYTES = 4096
"""The longest command or reply line."""
PIECE_BYTES = 1 << 16
"""The most of a message that is held at a time in each direction."""
SECONDS = {"connect": 30.0, "command": 300.0, "block": 180.0, "data": 120.0, "end": 600.0}
"""How long to wait for the other side (RFC 5321 4.5.3.2)."""
RECIPIENT = re.compile(rb"RCPT TO:\s*<([^>]*)>", re.IGNORECASE)
END = b"\r\n.\r\n"
BARE_LF = re.compile(rb"(?<!\r)\n")
AGAIN = b"451 4.4.1 The recipient's home does not answer, try again later\r\n"


@dataclass(frozen=True)
class Settings:
    """What homeward is told. `away` is the database of addresses whose mail must not be written here."""

    hostname: str
    away: Path
    tls: Path
    listen: tuple[str, int] = ("127.0.0.1", 10024)
    local: tuple[str, int] = ("127.0.0.1", 10025)
    port: int = 2525


class UpstreamError(Exception):
    """The other side is not there, or does not keep to SMTP."""


def home(settings: Settings, recipient: str) -> str:
    """The host that a recipient's mail must go to without being written here, or empty: the local queue.

    Raises `OSError` or `ValueError` when there is no directory.
    """
    local, _, domain = recipient.lower().rpartition("@")
    with settings.away.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for name in (local, local.partition("+")[0]):
            if host := cdb.get(data, f"{name}@{domain}"):  # type: ignore[arg-type]
                return host
    return ""


def fleet_context(tls: Path) -> ssl.SSLContext:
    """TLS as between the fleet's own nodes: 1.3, both sides with certificates, names checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(tls / "anchors.pem")
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    return context


async def within(seconds: float, work: Awaitable[T]) -> T:
    """What `work` gives. Whatever is wrong with the other side becomes `UpstreamError`."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise UpstreamError(f"no answer in {seconds:g} s") from None
    except (OSError, EOFError, ValueError, ssl.SSLError) as error:
        raise UpstreamError(str(error) or type(error).__name__) from error


class Upstream:
    """One SMTP session with the side that takes the message."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.host, self.reader, self.writer = host, reader, writer
        self.accepted = 0
        """How many recipients it has accepted."""

    @classmethod
    async def open(cls, settings: Settings, host: str) -> "Upstream":
        """Connect to a mailbox node, or to the local Postfix where `host` is empty, and greet it."""
        if host:
            link = asyncio.open_connection(
                host, settings.port, ssl=fleet_context(settings.tls), server_hostname=host, limit=PIECE_BYTES
            )
        else:
            link = asyncio.open_connection(*settings.local, limit=PIECE_BYTES)
        upstream = cls(host, *await within(SECONDS["connect"], link))
        try:
            await upstream.expect(b"220", await upstream.reply(SECONDS["command"]))
            await upstream.expect(b"250", await upstream.command(b"EHLO %b\r\n" % settings.hostname.encode()))
        except BaseException:
            upstream.abort()
            raise
        return upstream

    async def expect(self, code: bytes, reply: bytes) -> None:
        """Raise `UpstreamError` when a reply does not begin with `code`."""
        if not reply.startswith(code):
            raise UpstreamError(reply.decode(errors="replace").strip())

    async def reply(self, seconds: float) -> bytes:
        """One whole reply, of one or more lines."""
        lines = b""
        while True:
            line = await within(seconds, self.reader.readline())
            if not re.match(rb"[2-5]\d\d[ -].*\r\n|[2-5]\d\d\r\n", line, re.DOTALL):
                raise UpstreamError(f"the connection ended, or no reply: {line[:80]!r}")
            lines += line
            if line[3:4] != b"-":
                return lines
            if len(lines) > PIECE_BYTES:
                raise UpstreamError("an endless reply")

    async def command(self, line: bytes, wait: str = "command") -> bytes:
        """The reply to one command; `wait` says which of `SECONDS`."""
        seconds = SECONDS[wait]
        self.writer.write(line)
        await within(seconds, self.writer.drain())
        return await self.reply(seconds)

    def abort(self) -> None:
        """End the session at once. What has not got its final dot is not accepted."""
        self.writer.transport.abort()


class Session:
    """One connection of Postfix."""

    def __init__(
        self, settings: Settings, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.settings, self.reader, self.writer = settings, reader, writer
        self.sender = b""
        """The MAIL command of the transaction."""
        self.upstream: Upstream | None = None
        self.lost = False
        """The side that had accepted recipients is gone: the whole transaction has to be tried again."""

    async def run(self) -> None:
        """Serve until QUIT."""
        name = self.settings.hostname.encode()
        await self.say(b"220 %b ESMTP homeward\r\n" % name)
        while line := await self.heard(self.reader.readline(), "command"):
            if not line.endswith(b"\r\n") or len(line) > LINE_BYTES:
                await self.say(b"500 5.5.2 Not a command line\r\n")
                return
            verb = line[:4].upper()
            if verb == b"QUIT":
                await self.say(b"221 2.0.0 Bye\r\n")
                return
            await self.say(await self.act(verb, line, name))

    async def act(self, verb: bytes, line: bytes, name: bytes) -> bytes:
        """The reply to one command."""
        if verb == b"EHLO":
            return b"250-%b\r\n250-8BITMIME\r\n250-SIZE\r\n250 ENHANCEDSTATUSCODES\r\n" % name
        if verb in (b"HELO", b"RSET", b"NOOP"):
            if verb == b"RSET":
                self.reset()
            return b"250 2.0.0 Ok\r\n"
        if self.lost and verb in (b"RCPT", b"DATA"):
            return AGAIN
        if verb == b"MAIL":
            self.reset()
            self.sender = line
            return b"250 2.1.0 Ok\r\n"
        if verb == b"RCPT" and self.sender:
            return await self.recipient(line)
        if verb == b"DATA" and self.upstream and self.upstream.accepted:
            return await self.data(self.upstream)
        return b"503 5.5.1 Not now\r\n" if verb in (b"RCPT", b"DATA") else b"502 5.5.1 Not implemented\r\n"

    async def heard(self, work: Awaitable[bytes], wait: str) -> bytes:
        """What Postfix says; `wait` says which of `SECONDS`, after which it raises `TimeoutError`."""
        # Before Python 3.12 `asyncio.wait_for` may lose a cancellation.
        async with asyncio.timeout(SECONDS[wait]):
            return await work

    async def say(self, reply: bytes) -> None:
        """Answer Postfix."""
        self.writer.write(reply)
        await self.writer.drain()

    def reset(self) -> None:
        """Forget the transaction, and end the session that it had."""
        if self.upstream:
            self.upstream.abort()
        self.sender, self.upstream, self.lost = b"", None, False

    def failed(self, host: str, error: Exception) -> bytes:
        """Forget the other side; the client shall try again, or another mx."""
        log.warning("%s: %s", host or "the local queue", error)
        if self.upstream:
            self.upstream.abort()
            self.lost = self.upstream.accepted > 0
            self.upstream = None
        return AGAIN

    async def recipient(self, line: bytes) -> bytes:
        """Pass one recipient on, to the home that the first one chose."""
        match = RECIPIENT.match(line)
        if not match:
            return b"501 5.1.3 Not an address\r\n"
        try:
            host = home(self.settings, match[1].decode("ascii"))
        except UnicodeDecodeError:
            return b"553 5.6.7 Not an ASCII address\r\n"
        except (OSError, ValueError) as error:
            log.error("%s: %s", self.settings.away, error)
            return b"451 4.3.0 No directory, try again later\r\n"
        if self.upstream and self.upstream.host != host:
            if self.upstream.accepted:
                return b"452 4.5.3 Another home, send it in a transaction of its own\r\n"
            self.upstream.abort()
            self.upstream = None
        try:
            if not self.upstream:
                self.upstream = await Upstream.open(self.settings, host)
                reply = await self.upstream.command(self.sender)
                if not reply.startswith(b"2"):
                    self.upstream.abort()
                    self.upstream = None
                    return reply
            reply = await self.upstream.command(line)
        except UpstreamError as error:
            return self.failed(host, error)
        self.upstream.accepted += reply.startswith(b"2")
        return reply

    async def data(self, upstream: Upstream) -> bytes:
        """Stream the message through. Its end is passed on only when all of it was right."""
        try:
            reply = await upstream.command(b"DATA\r\n", "data")
        except UpstreamError as error:
            return self.failed(upstream.host, error)
        if not reply.startswith(b"354"):
            return reply
        await self.say(reply)
        problem: bytes = b""
        tail = b"\r\n"  # as if the DATA line were the line before
        while not tail.endswith(END):
            piece = await self.heard(self.reader.read(PIECE_BYTES), "block")
            if not piece:
                raise EOFError("Postfix went away within a message")
            text = tail + piece
            end = text.find(END)
            if end >= 0 and end + len(END) < len(text):
                problem, text = (
                    b"550 5.5.0 Something follows the end of the message\r\n",
                    text[: end + len(END)],
                )
            if not problem and BARE_LF.search(text, 1):
                problem = b"550 5.6.11 A bare LF in the message (RFC 5321 2.3.8)\r\n"
            sent, tail = text[len(tail) :], text[-len(END) :]
            if problem:
                upstream.abort()
                continue
            try:
                upstream.writer.write(sent)
                await within(SECONDS["block"], upstream.writer.drain())
            except UpstreamError as error:
                problem = self.failed(upstream.host, error)
        if problem:
            self.reset()
            return problem
        try:
            reply = await upstream.reply(SECONDS["end"])
            upstream.writer.write(b"QUIT\r\n")
        except UpstreamError as error:
            return self.failed(upstream.host, error)
        upstream.writer.close()
        self.upstream = None
        self.reset()
        return reply


async def serve(settings: Settings) -> asyncio.Server:
    """Listen; every connection is a `Session`."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(settings, reader, writer)
        try:
            await session.run()
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            log.warning("session ended: %s", error or type(error).__name__)
        finally:
            session.reset()
            writer.close()

    return await asyncio.start_server(client, *settings.listen, limit=PIECE_BYTES, backlog=512)


async def main(config: Path) -> None:
    """Serve until SIGTERM, then let the messages under way end."""
    node = json.loads(config.read_text())
    state = Path(node["state"])
    server = await serve(Settings(node["hostname"], state / "directory/current/away.cdb", state / "tls"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    await server.wait_closed()
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(tasks)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    asyncio.run(main(Path(sys.argv[1])))
