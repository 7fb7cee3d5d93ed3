"""The gate between the fleet and this node's mailboxes: who may sync whom, over mutual TLS 1.3.

From outside it lets in the home of a user whose replica this node is: the name in the peer's certificate is compared
with this node's own directory. From inside it takes what the replicator asks for, and goes to nobody but the user's
replica. It passes bytes on and reads none of them.
"""

import asyncio
import json
import logging
import pwd
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailinfra.node.homeward import fleet_context
from mailinfra.node.replica.wire import (
    LINE_BYTES,
    PORT,
    STRANGER,
    RefusedError,
    Request,
    caller,
    line_of,
    refusal,
    request,
)

log = logging.getLogger("replica")

PIECE_BYTES = 1 << 16
CONNECT_SECONDS = 15.0
IDLE_SECONDS = 300.0
"""How long neither side may say anything. dsync itself gives up earlier."""
MOST, MOST_OF_ONE = 128, 32
"""Sessions at a time: altogether, and of one peer."""
LOOK_SECONDS = 5.0
"""Between two looks for a new certificate."""
TLS_FILES = ("anchors.pem", "cert.pem", "key.pem")


@dataclass(frozen=True)
class Settings:
    """What the gate is told. `replicas` is the file that the agent writes, `client` the user id of the replicator."""

    tls: Path
    replicas: Path
    client: int
    gate: Path = Path("/run/mailinfra-replica/gate")
    dsync: Path = Path("/run/mailinfra-replicator/dsync")
    port: int = PORT
    idle: float = IDLE_SECONDS


@dataclass(frozen=True)
class Replicas:
    """The directory's part: `followed` maps users at home here to their replica's host, `follows` users whose replica
    is here to their home's host. `version` changes whenever they may have."""

    version: str
    followed: dict[str, str]
    follows: dict[str, str]


def listening_context(tls: Path) -> ssl.SSLContext:
    """TLS for the fleet's nodes that connect here: 1.3, with certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    # Every session shows its certificate: none is resumed after the anchors have changed.
    context.num_tickets = 0
    context.load_verify_locations(tls / "anchors.pem")
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    return context


def names(certificate: dict[str, Any] | None) -> set[str]:
    """The DNS names in a peer's certificate, as `SSLSocket.getpeercert` gives it."""
    return {value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "DNS"}


def may_sync(replicas: Replicas, peer: set[str], user: str) -> None:
    """Raise `RefusedError` unless this node is the user's replica and the peer the user's home."""
    home = replicas.follows.get(user)
    if home is None or home not in peer:
        raise RefusedError(STRANGER)


@dataclass
class Gate:
    """The gate's sessions, and what it has read of the directory."""

    settings: Settings
    sessions: dict[str, int] = field(default_factory=dict)
    """How many sessions each peer has; the replicator's are under the empty name."""
    known: Replicas = field(default_factory=lambda: Replicas("", {}, {}))
    contexts: dict[str, ssl.SSLContext] = field(default_factory=dict)

    def replicas(self) -> Replicas:
        """The directory as it is now. Raises `RefusedError` when there is none."""
        path = self.settings.replicas
        try:
            status = path.stat()
            version = f"{status.st_ino}-{status.st_mtime_ns}"
            if version != self.known.version:
                data = json.loads(path.read_bytes())
                self.known = Replicas(version, data["followed"], data["follows"])
        except FileNotFoundError:  # a node that is just being set up
            raise RefusedError("no directory") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: %s", path, error)
            raise RefusedError("no directory") from None
        return self.known

    def stamp(self) -> str:
        """Changes with the certificate, the key or the anchors. Raises `OSError` while there are none."""
        return " ".join(str((self.settings.tls / name).stat().st_mtime_ns) for name in TLS_FILES)

    def context(self) -> ssl.SSLContext:
        """The context for calls to others, made again when its files have changed."""
        stamp = self.stamp()
        if stamp not in self.contexts:
            self.contexts = {stamp: fleet_context(self.settings.tls)}
        return self.contexts[stamp]

    async def from_outside(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A session of another node: to the local replicator, if it may."""
        peer = names(writer.get_extra_info("peercert"))

        async def serve(line: bytes) -> None:
            wanted = request(line)
            may_sync(self.replicas(), peer, wanted.user)
            dialled = asyncio.open_unix_connection(str(self.settings.dsync), limit=PIECE_BYTES)
            await self.passed(wanted, reader, writer, dialled)

        await self.session(min(peer, default="?"), reader, writer, serve)

    async def from_inside(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A session of the local replicator: the list of its users, or one user's replica."""

        async def serve(line: bytes) -> None:
            if caller(writer.get_extra_info("socket")) != self.settings.client:
                raise RefusedError("not for you")
            replicas = self.replicas()
            if line.startswith(b"LIST"):
                writer.write(listed(replicas, line))
                await writer.drain()
                return
            wanted = request(line)
            host = replicas.followed.get(wanted.user)
            if host is None:
                raise RefusedError("no replica")
            dialled = asyncio.open_connection(
                host, self.settings.port, ssl=self.context(), server_hostname=host, limit=PIECE_BYTES
            )
            await self.passed(wanted, reader, writer, dialled)

        await self.session("", reader, writer, serve)

    async def session(
        self,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        serve: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Count a session of a peer (empty: the replicator), and say no to whatever is wrong with it."""
        self.sessions[peer] = self.sessions.get(peer, 0) + 1
        try:
            # Read in any case: where something is left unread, the kernel throws the answer away with it.
            line = await line_of(reader)
            if self.sessions[peer] > MOST_OF_ONE or sum(self.sessions.values()) > MOST:
                raise RefusedError("busy")
            await serve(line)
        except RefusedError as error:
            if peer:
                log.warning("%s refused: %s", peer, error)
            writer.write(refusal(str(error)))
        except (OSError, EOFError) as error:
            log.warning("%s: %s", peer or "inside", error or type(error).__name__)
        finally:
            self.sessions[peer] -= 1
            if not self.sessions[peer]:
                del self.sessions[peer]
            writer.close()

    async def passed(
        self,
        wanted: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        dialled: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    ) -> None:
        """Pass a request, and all that follows it in both directions, on to a side that is being dialled."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                far_reader, far_writer = await dialled
        except (OSError, TimeoutError) as error:
            raise RefusedError(f"unreachable: {error or type(error).__name__}") from None
        try:
            far_writer.write(wanted.line())
            await relay(((reader, far_writer), (far_reader, writer)), self.settings.idle)
        finally:
            far_writer.close()


def listed(replicas: Replicas, line: bytes) -> bytes:
    """The answer to `LIST <version>`: `SAME`, or `USERS <version>` and a line for each user with the replica's host."""
    if line.decode("ascii", "replace").removesuffix("\n") == f"LIST {replicas.version}":
        return b"SAME\n"
    users = "".join(f"{user} {host}\n" for user, host in replicas.followed.items())
    return f"USERS {replicas.version}\n{users}".encode()


async def relay(ways: Iterable[tuple[asyncio.StreamReader, asyncio.StreamWriter]], idle: float) -> None:
    """Pass bytes on in both directions until one ends, or until nothing has come from either for `idle` seconds.

    dsync ends when both sides have said all: what still comes the other way then is of no use to anybody.
    """
    loop = asyncio.get_running_loop()
    last = loop.time()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal last
        while piece := await reader.read(PIECE_BYTES):
            last = loop.time()
            writer.write(piece)
            await writer.drain()
            last = loop.time()

    tasks = {asyncio.ensure_future(one(*way)) for way in ways}
    try:
        while not any(task.done() for task in tasks):
            left = last + idle - loop.time()
            if left <= 0:
                raise TimeoutError(f"nothing said for {idle:g} s")
            await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def listen(gate: Gate) -> asyncio.Server:
    """Serve the replicator on a UNIX socket that anybody may open: who it is, the kernel tells."""
    path = gate.settings.gate
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(gate.from_inside, str(path), limit=LINE_BYTES, backlog=256)
    path.chmod(0o666)
    return server


async def doorkeeper(gate: Gate, door: socket.socket) -> None:
    """Serve other nodes on a listening socket, with the certificate of the moment; sessions outlive it."""
    serving: asyncio.Server | None = None
    stamp = told = ""
    try:
        while True:
            try:
                fresh = gate.stamp()
                if fresh != stamp:
                    context = listening_context(gate.settings.tls)
                    server = await asyncio.start_server(
                        gate.from_outside,
                        sock=door.dup(),
                        ssl=context,
                        ssl_handshake_timeout=CONNECT_SECONDS,
                        limit=PIECE_BYTES,
                    )
                    if serving:
                        serving.close()
                    serving, stamp = server, fresh
                    log.info("listening")
            except OSError as error:  # no certificate yet, or half a change of one
                if told != str(error):
                    told = str(error)
                    log.info("waiting for a certificate: %s", told)
            await asyncio.sleep(LOOK_SECONDS if stamp else 1.0)
    finally:
        if serving:
            serving.close()


def opened(port: int) -> socket.socket:
    """A listening socket for both families where there are both."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
    return socket.create_server(("", port), backlog=256)


async def main(config: Path) -> None:
    """Serve until SIGTERM."""
    node = json.loads(config.read_text())
    state = Path(node["state"])
    client = pwd.getpwnam("vmail").pw_uid
    gate = Gate(Settings(state / "tls", state / "directory/current/replicas.json", client))
    inside = await listen(gate)
    with opened(gate.settings.port) as door:
        keeping = asyncio.ensure_future(doorkeeper(gate, door))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, keeping.cancel)
        await asyncio.gather(keeping, return_exceptions=True)
    inside.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    asyncio.run(main(Path(sys.argv[1])))
