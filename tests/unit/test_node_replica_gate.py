"""The gate: who may sync whom, and what goes through it."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.node.replica import gate as module
from mailinfra.node.replica.gate import Gate, Replicas, Settings, doorkeeper, listen, may_sync, names, opened
from mailinfra.node.replica.wire import RefusedError, Request, answered, refusal, request
from tests.node_helpers import Authority

HOME, COPY, AWAY = (f"store-1.{region}.nodes.example.test" for region in ("west", "north", "us"))
ANNA, BOB, CARL = (f"{name}@example.test" for name in ("anna", "bob", "carl"))
EPOCH = "0123456789abcdef" * 2
PING = 1 << 20


@dataclass
class Site:
    """The gates of HOME and COPY, and a replicator behind the latter that answers OK and sends back all it gets."""

    folder: Path
    home: Gate
    copy: Gate
    authority: Authority
    requests: list[bytes] = field(default_factory=list)
    hang: bool = False

    async def replicator(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readline())
            writer.write(b"OK " + EPOCH.encode() + b"\n")
            while not self.hang and (piece := await reader.read(1 << 16)):
                writer.write(piece)
                await writer.drain()
            if self.hang:
                await reader.read()
        finally:
            writer.close()

    async def inside(self, line: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of the home's replicator, with a line said."""
        reader, writer = await asyncio.open_unix_connection(str(self.home.settings.gate))
        writer.write(line)
        return reader, writer

    async def said(self, line: bytes) -> bytes:
        """All that the home's gate answers to a line."""
        reader, writer = await self.inside(line)
        if line.startswith(b"CHECK"):
            answer = await reader.readline()
            writer.close()
            return answer
        answer = await reader.read()
        writer.close()
        return answer

    async def outside(self, line: bytes, host: str, **changes: Any) -> bytes:
        """The COPY's answer to a node of this name."""
        folder = self.folder / "peer"
        folder.mkdir(exist_ok=True)
        authority = changes.get("authority", self.authority)
        cert, key = authority.issue(folder, "peer", host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.folder / "copy/anchors.pem")
        if changes.get("certificate", True):
            context.load_cert_chain(cert, key)
        if newest := changes.get("newest"):
            context.maximum_version = newest
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.home.settings.port, ssl=context, server_hostname=COPY
        )
        try:
            writer.write(line)
            return await reader.readline()
        finally:
            writer.close()


def equip(folder: Path, authority: Authority, host: str, **replicas: dict[str, str]) -> Settings:
    """A node's certificate and directory."""
    folder.mkdir(exist_ok=True)
    (folder / "anchors.pem").write_text(authority.text)
    _, key = authority.issue(folder, "cert", host)
    key.rename(folder / "key.pem")
    (folder / "replicas.json").write_text(json.dumps({"followed": {}, "follows": {}, **replicas}))
    return Settings(
        folder, folder / "replicas.json", os.getuid(), folder / "gate", folder / "dsync", port=0, idle=5.0
    )


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    authority = Authority(names=(HOME, COPY))
    home = Gate(equip(folder / "home", authority, HOME, followed={ANNA: COPY, CARL: AWAY}))
    copy = Gate(equip(folder / "copy", authority, COPY, follows={ANNA: HOME, BOB: AWAY}))
    found = Site(folder, home, copy, authority)
    door = opened(0)
    home.settings = replace(home.settings, port=door.getsockname()[1])
    servers = [
        await listen(home),
        await asyncio.start_unix_server(found.replicator, str(copy.settings.dsync)),
    ]
    keeping = asyncio.ensure_future(doorkeeper(copy, door))
    await asyncio.sleep(0.05)
    try:
        yield found
    finally:
        door.close()
        for server in servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()} | {keeping}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was closed is closed in the loop's next rounds


def run(folder: Path, play: Callable[[Site], Awaitable[None]]) -> None:
    """Play with both gates. All names of hosts but AWAY lead to this machine; the certificates are checked for real."""
    open_connection = asyncio.open_connection

    async def here(host: str, port: int, **more: Any) -> Any:
        if host == AWAY:
            raise ConnectionRefusedError(111, "Connection refused")
        return await open_connection("127.0.0.1", port, **more)

    async def main() -> None:
        async with site(folder) as found:
            await asyncio.wait_for(play(found), 20)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "open_connection", here)
        asyncio.run(main())


def test_a_sync_goes_through_both_gates_byte_for_byte(tmp_path: Path) -> None:
    async def play(s: Site) -> None:
        wanted = Request("SYNC", ANNA, EPOCH).line()
        reader, writer = await s.inside(wanted)
        assert answered(await reader.readline()) == EPOCH
        data = os.urandom(PING)

        async def send() -> None:
            writer.write(data)
            await writer.drain()

        sending = asyncio.ensure_future(send())
        assert await reader.readexactly(PING) == data
        await sending
        assert s.requests == [wanted]
        assert (s.home.sessions, s.copy.sessions) == ({"": 1}, {HOME: 1})
        writer.close()
        while s.home.sessions or s.copy.sessions:
            await asyncio.sleep(0.01)

    run(tmp_path, play)


def test_the_end_of_the_far_side_is_the_end_of_this_one(tmp_path: Path) -> None:
    async def play(s: Site) -> None:
        s.copy.settings.dsync.unlink()

        async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"OK " + EPOCH.encode() + b"\nlast words")
            writer.close()

        server = await asyncio.start_unix_server(short, str(s.copy.settings.dsync))
        assert await s.said(Request("SYNC", ANNA, EPOCH).line()) == f"OK {EPOCH}\nlast words".encode()
        server.close()

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("host", "user"), [(AWAY, ANNA), (COPY, ANNA), (HOME, BOB), (HOME, CARL), (HOME, "nobody@example.test")]
)
def test_only_the_home_may_sync_and_only_to_its_replica(tmp_path: Path, host: str, user: str) -> None:
    async def play(s: Site) -> None:
        for line in (Request("CHECK", user).line(), Request("SYNC", user, EPOCH).line()):
            assert await s.outside(line, host) == b"NO not your user\n"
        assert s.requests == []

    # The anchor may speak for HOME and COPY only: a certificate of theirs for another name is no certificate.
    if host == AWAY:
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            run(tmp_path, play)
    else:
        run(tmp_path, play)


def test_the_home_is_let_in(tmp_path: Path) -> None:
    async def play(s: Site) -> None:
        assert await s.outside(Request("CHECK", ANNA).line(), HOME) == f"OK {EPOCH}\n".encode()

    run(tmp_path, play)


@pytest.mark.parametrize(
    "changes",
    [{"certificate": False}, {"authority": Authority(names=(HOME,))}, {"newest": ssl.TLSVersion.TLSv1_2}],
    ids=["no certificate", "a stranger's", "TLS 1.2"],
)
def test_without_the_fleets_certificate_over_tls_1_3_there_is_no_answer(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async def play(s: Site) -> None:
        try:
            answer = await s.outside(Request("CHECK", ANNA).line(), HOME, **changes)
        except OSError:
            answer = b""
        assert answer == b""
        assert s.requests == []

    run(tmp_path, play)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"SYNC\n",
        b"SYNC anna@example.test\n",
        b"CHECK anna@example.test " + EPOCH.encode() + b"\n",
        b"SYNC anna@example.test 0\n",
        b"check anna@example.test\n",
        b"CHECK  anna@example.test\n",
        b"CHECK anna@example.test\r\n",
        b"CHECK ../anna@example.test\n",
        b"CHECK anna@../etc\n",
        b"CHECK anna\n",
        b"CHECK \xff@example.test\n",
        b"LIST none\n",
        b"x" * 5000 + b"\n",
        b"x" * 200_000,
    ],
)
def test_what_is_no_request_goes_nowhere(tmp_path: Path, line: bytes) -> None:
    async def play(s: Site) -> None:
        assert (await s.outside(line, HOME)).startswith(b"NO ")
        assert s.requests == []

    run(tmp_path, play)


def test_a_line_that_never_ends_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailinfra.node.replica.wire.LINE_SECONDS", 0.2)

    async def play(s: Site) -> None:
        assert (await s.outside(b"CHECK ", HOME)).startswith(b"NO ")

    run(tmp_path, play)


def test_a_peer_has_so_many_sessions_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_ONE", 3)

    async def play(s: Site) -> None:
        links = [await s.inside(Request("SYNC", ANNA, EPOCH).line()) for _ in range(3)]
        for reader, _ in links:
            assert (await reader.readline()).startswith(b"OK ")
        assert await s.said(b"LIST none\n") == b"NO busy\n"
        links[0][1].close()
        while len(s.requests) and s.home.sessions[""] == 3:
            await asyncio.sleep(0.01)
        assert (await s.said(b"LIST none\n")).startswith(b"USERS ")
        for _, writer in links[1:]:
            writer.close()

    run(tmp_path, play)


def test_a_session_in_which_nothing_is_said_ends(tmp_path: Path) -> None:
    async def play(s: Site) -> None:
        s.hang = True
        s.home.settings = replace(s.home.settings, idle=0.3)
        reader, writer = await s.inside(Request("SYNC", ANNA, EPOCH).line())
        assert await reader.read() == f"OK {EPOCH}\n".encode()
        writer.close()

    run(tmp_path, play)


def test_the_replicator_gets_its_users_and_goes_to_their_replicas_only(tmp_path: Path) -> None:
    async def play(s: Site) -> None:
        first, rest = (await s.said(b"LIST none\n")).split(b"\n", 1)
        assert rest.decode().splitlines() == [f"{ANNA} {COPY}", f"{CARL} {AWAY}"]
        version = first.decode().split()[1]
        assert await s.said(f"LIST {version}\n".encode()) == b"SAME\n"
        assert await s.said(Request("CHECK", BOB).line()) == b"NO no replica\n"
        assert (await s.said(Request("CHECK", CARL).line())).startswith(b"NO unreachable: ")
        path = s.home.settings.replicas
        path.with_suffix(".new").write_text(json.dumps({"followed": {BOB: COPY}, "follows": {}}))
        path.with_suffix(".new").replace(path)
        assert (await s.said(f"LIST {version}\n".encode())).endswith(f"\n{BOB} {COPY}\n".encode())
        assert (
            await s.said(Request("CHECK", BOB).line()) == b"NO not your user\n"
        )  # the replica's own directory

    run(tmp_path, play)


def test_no_directory_is_no_yes(tmp_path: Path) -> None:
    async def play(s: Site) -> None:
        for text in (None, "", "[]", "{}"):
            for gate in (s.home, s.copy):
                gate.settings.replicas.unlink(missing_ok=True)
                if text is not None:
                    gate.settings.replicas.write_text(text)
            assert await s.said(b"LIST none\n") == b"NO no directory\n"
            assert await s.outside(Request("CHECK", ANNA).line(), HOME) == b"NO no directory\n"

    run(tmp_path, play)


def test_another_user_of_the_machine_gets_nothing(tmp_path: Path) -> None:
    async def play(s: Site) -> None:
        s.home.settings = replace(s.home.settings, client=os.getuid() + 1)
        for line in (b"LIST none\n", Request("CHECK", ANNA).line()):
            assert await s.said(line) == b"NO not for you\n"

    run(tmp_path, play)


def test_a_replicator_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    async def play(s: Site) -> None:
        s.copy.settings.dsync.unlink()
        assert (await s.said(Request("CHECK", ANNA).line())).startswith(b"NO unreachable: ")

    run(tmp_path, play)


def test_a_new_certificate_is_taken_up_and_sessions_outlive_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)

    async def play(s: Site) -> None:
        reader, writer = await s.inside(Request("SYNC", ANNA, EPOCH).line())
        await reader.readline()
        # Under a new authority the old certificates are worth nothing.
        other = Authority(names=(HOME, COPY))
        equip(s.folder / "copy", other, COPY, follows={ANNA: HOME})
        while (await s.said(Request("CHECK", ANNA).line())).startswith(b"OK"):
            await asyncio.sleep(0.05)
        equip(s.folder / "home", other, HOME, followed={ANNA: COPY})
        assert (await s.said(Request("CHECK", ANNA).line())).startswith(b"OK")
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        writer.close()

    run(tmp_path, play)


def test_names_come_from_the_certificates_alternative_names_alone() -> None:
    subject = ((("commonName", HOME),),)
    alternative = (("DNS", COPY), ("IP Address", HOME), ("URI", HOME))
    assert names({"subject": subject, "subjectAltName": alternative}) == {COPY}
    assert names(None) == names({}) == set()


def test_may_sync_compares_whole_names() -> None:
    known = Replicas("1", {BOB: COPY}, {ANNA: HOME})
    may_sync(known, {HOME, "mx.example.test"}, ANNA)
    for peer in (
        set(),
        {"west.nodes.example.test"},
        {f"x{HOME}"},
        {f"*.{HOME.partition('.')[2]}"},
        {HOME.upper()},
    ):
        with pytest.raises(RefusedError, match="not your user"):
            may_sync(known, peer, ANNA)
    with pytest.raises(RefusedError, match="not your user"):
        may_sync(known, {COPY}, BOB)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(line: bytes) -> None:
    try:
        wanted = request(line)
    except RefusedError:
        return
    assert wanted.line() == line


@given(st.text(max_size=400))
def test_any_reason_is_one_line_that_is_understood(reason: str) -> None:
    line = refusal(reason)
    assert line.count(b"\n") == 1
    with pytest.raises(RefusedError):
        answered(line)


@pytest.mark.parametrize(
    "line", [b"", b"OK\n", b"OK 12\n", b"OK " + EPOCH.encode(), b"YES\n", b"NO\n", b"NO \xff\n"]
)
def test_what_is_no_answer_is_a_refusal(line: bytes) -> None:
    with pytest.raises(RefusedError):
        answered(line)
