"""What goes between the programs of the replica: one line of request, one line of answer (see the package)."""

import asyncio
import re
import socket
import struct
from dataclasses import dataclass

from mailinfra.node.agent.directory import ADDRESS

PORT = 2527
LINE_BYTES = 512
"""The longest line."""
LINE_SECONDS = 10.0
"""How long a line may take to come."""
EPOCH = re.compile(r"[0-9a-f]{32}")
ANSWER = re.compile(rb"(OK [0-9a-f]{32}|NO [a-z0-9 :.-]{1,200})\n")
STRANGER = "not your user"
"""The reason where a peer is not the home of a user whose replica is there, in the same words whichever it is: a
stranger learns nothing of who is where."""
_CREDENTIALS = struct.Struct("3i")


class RefusedError(Exception):
    """A request that is not granted; its text is the reason in the answer."""


@dataclass(frozen=True)
class Request:
    """`SYNC` or `CHECK`, the user, and for a SYNC the epoch of the replica that it is meant for."""

    verb: str
    user: str
    epoch: str = ""

    def line(self) -> bytes:
        """The request as it is sent."""
        return " ".join(item for item in (self.verb, self.user, self.epoch) if item).encode() + b"\n"


def request(line: bytes) -> Request:
    """The request in a line. Raises `RefusedError` for anything else."""
    try:
        words = line.decode("ascii").removesuffix("\n").split(" ")
    except UnicodeDecodeError:
        raise RefusedError("not a request") from None
    good = line.endswith(b"\n") and (
        (len(words) == 2 and words[0] == "CHECK") or (len(words) == 3 and words[0] == "SYNC")
    )
    if not good or not ADDRESS.fullmatch(words[1]) or not all(map(EPOCH.fullmatch, words[2:])):
        raise RefusedError("not a request")
    return Request(*words)


def refusal(reason: str) -> bytes:
    """The answer that says no; only plain characters of the reason are passed on."""
    return b"NO " + re.sub(r"[^a-z0-9 :.-]", "", reason.lower())[:200].encode() + b"\n"


def answered(line: bytes) -> str:
    """The epoch in an answer. Raises `RefusedError` with the other side's reason, or for what is no answer."""
    if not ANSWER.fullmatch(line):
        raise RefusedError("the connection ended without an answer" if not line else "no answer of ours")
    if line.startswith(b"NO "):
        raise RefusedError(line[3:-1].decode())
    return line[3:-1].decode()


async def line_of(reader: asyncio.StreamReader) -> bytes:
    """The next line. Raises `RefusedError` when it is too long, too slow or not whole."""
    try:
        async with asyncio.timeout(LINE_SECONDS):
            line = await reader.readline()
    except (TimeoutError, ValueError):
        raise RefusedError("no line in time, or one too long") from None
    if len(line) > LINE_BYTES:
        raise RefusedError("no line in time, or one too long")
    return line


def caller(link: socket.socket) -> int:
    """The user id of the process at the other end of a UNIX socket, as the kernel knows it (unix(7), SO_PEERCRED)."""
    data = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(data)[1])
