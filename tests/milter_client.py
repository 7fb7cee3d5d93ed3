"""The MTA's side of the milter protocol (version 6), as Postfix speaks it: it waits for each reply that is due."""

import asyncio
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

EVERY_STEP = 0x1FFFFF & ~0x100000
"""All that Postfix offers; without HDR_LEADSPC."""
NO_REPLY = {b"C": 0x1000, b"H": 0x2000, b"M": 0x4000, b"R": 0x8000, b"T": 0x10000, b"N": 0x40000}
NO_REPLY |= {b"L": 0x80, b"B": 0x80000}
LEFT_OUT = {b"C": 0x1, b"H": 0x2, b"M": 0x4, b"R": 0x8, b"B": 0x10, b"L": 0x20, b"N": 0x40, b"T": 0x200}
CHUNK = 65535


@dataclass
class Outcome:
    """What a milter said to one message."""

    verdict: str = ""
    """`c` continue, `a` accept, `t` tempfail, `r` reject, or the reply text of `y`."""
    added: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Header fields to be put on top, the topmost first."""

    def apply(self, message: bytes) -> bytes:
        """Return the message as it leaves the MTA."""
        top = b"".join(name + b": " + value.replace(b"\n", b"\r\n") + b"\r\n" for name, value in self.added)
        return top + message


def split(message: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the header fields, LF-folded as a milter gets them, and the body of a message with CRLF lines."""
    head, _, body = message.partition(b"\r\n\r\n")
    fields: list[tuple[bytes, bytes]] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            fields[-1] = (fields[-1][0], fields[-1][1] + b"\n" + line)
        else:
            name, _, value = line.partition(b":")
            fields.append((name, value.removeprefix(b" ")))
    return fields, body


def packet(code: bytes, data: bytes = b"") -> bytes:
    """Return one packet."""
    return struct.pack("!I", 1 + len(data)) + code + data


class Client:
    """One connection to a milter."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.steps = 0

    @classmethod
    async def open(cls, address: str, actions: int = 0x1FF, steps: int = EVERY_STEP) -> "Client":
        """Connect to `unix:/path` or `inet:host:port` and negotiate."""
        kind, _, where = address.partition(":")
        if kind == "unix":
            client = cls(*await asyncio.open_unix_connection(where))
        else:
            host, _, port = where.rpartition(":")
            client = cls(*await asyncio.open_connection(host, int(port)))
        client.writer.write(packet(b"O", struct.pack("!III", 6, actions, steps)))
        code, data = await client.reply()
        assert code == b"O"
        version, wanted, client.steps = struct.unpack("!III", data[:12])
        assert version <= 6
        assert not wanted & ~actions
        assert not client.steps & ~steps
        return client

    async def reply(self) -> tuple[bytes, bytes]:
        """Return code and data of the next packet."""
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        data = await self.reader.readexactly(size)
        return data[:1], data[1:]

    async def command(self, code: bytes, data: bytes = b"") -> bytes:
        """Send a command where the milter wants it, and return the code of its reply (`c` where none is due)."""
        if self.steps & LEFT_OUT.get(code, 0):
            return b"c"
        self.writer.write(packet(code, data))
        if self.steps & NO_REPLY.get(code, 0):
            return b"c"
        return (await self.reply())[0]

    async def connect(self) -> None:
        """Tell the milter of the SMTP client."""
        await self.command(b"C", b"client.example.test\0" + b"4" + struct.pack("!H", 4025) + b"192.0.2.9\0")
        await self.command(b"H", b"client.example.test\0")

    async def send(
        self,
        message: bytes,
        sender: bytes = b"<user@example.test>",
        recipients: Iterable[bytes] = (b"<somebody@outside.test>",),
        macros: Mapping[bytes, bytes] | None = None,
    ) -> Outcome:
        """Pass one message and return what the milter says to it."""
        fields, body = split(message)
        return await self.send_parts(fields, body, sender, recipients, macros)

    async def send_parts(
        self,
        fields: Iterable[tuple[bytes, bytes]],
        body: bytes,
        sender: bytes = b"<user@example.test>",
        recipients: Iterable[bytes] = (b"<somebody@outside.test>",),
        macros: Mapping[bytes, bytes] | None = None,
    ) -> Outcome:
        """The same with header fields that need not make a lawful message."""
        if macros:
            pairs = b"".join(name + b"\0" + value + b"\0" for name, value in macros.items())
            self.writer.write(packet(b"D", b"M" + pairs))
        codes = [await self.command(b"M", sender + b"\0")]
        for recipient in recipients:
            codes.append(await self.command(b"R", recipient + b"\0"))
        codes.append(await self.command(b"T"))
        for name, value in fields:
            codes.append(await self.command(b"L", name + b"\0" + value + b"\0"))
        codes.append(await self.command(b"N"))
        for start in range(0, len(body), CHUNK):
            code = await self.command(b"B", body[start : start + CHUNK])
            await self.writer.drain()
            if code == b"s":
                break  # it wants no more of the body
            codes.append(code)
        if others := [code for code in codes if code != b"c"]:
            return Outcome(others[0].decode())
        self.writer.write(packet(b"D", b"Ei\x004QUEUEID\0") + packet(b"E"))
        outcome = Outcome()
        while True:
            code, data = await self.reply()
            if code == b"i":
                name, value, _ = data[4:].split(b"\0")
                outcome.added.insert(int.from_bytes(data[:4], "big"), (name, value))
            elif code in (b"h", b"m", b"p"):
                pass
            else:
                outcome.verdict = (data.rstrip(b"\0") if code == b"y" else code).decode()
                return outcome

    async def close(self) -> None:
        """End the connection."""
        self.writer.write(packet(b"Q"))
        self.writer.close()
        await self.writer.wait_closed()
