"""homeward between a Postfix that speaks to it and the two sides that take the mail."""

import asyncio
import os
import resource
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailinfra.node import homeward
from mailinfra.node.agent import cdb
from mailinfra.node.homeward import Settings, Upstream, UpstreamError, fleet_context, home
from tests.node_helpers import Authority

US, ASIA = "all-1.us-east-1.nodes.example.test", "all-1.asia.nodes.example.test"
AWAY = {"bob@example.test": US, "bea@example.test": US, "ken@example.test": ASIA}
HOSTS = (US, ASIA)


@dataclass
class Peer:
    """A side that takes mail: an SMTP server that obeys a script, and keeps what it got."""

    name: str
    answers: dict[bytes, bytes] = field(default_factory=dict)
    """What it says instead of yes, by the start of the command; `EOF` hangs up, `HANG` says nothing."""
    commands: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    sessions: int = 0
    partial: int = 0
    pause: float = 0.0

    def answer(self, line: bytes, usual: bytes) -> bytes:
        return next((text for start, text in self.answers.items() if line.upper().startswith(start)), usual)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        try:
            await self.session(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: bytes, usual: bytes) -> bool:
            text = self.answer(line, usual)
            if text == b"EOF":
                return False
            if text == b"HANG":
                await asyncio.sleep(60)
            writer.write(text)
            await writer.drain()
            return True

        if not await say(b"CONNECT", b"220 " + self.name.encode() + b"\r\n"):
            return
        while line := await reader.readline():
            self.commands.append(line)
            usual = (
                b"250-" + self.name.encode() + b"\r\n250 SIZE\r\n"
                if line.startswith(b"EHLO")
                else b"250 2.0.0 Ok\r\n"
            )
            usual = b"354 Go on\r\n" if line == b"DATA\r\n" else usual
            if not await say(line, usual):
                return
            if line == b"QUIT\r\n":
                return
            if line == b"DATA\r\n" and self.answer(line, usual).startswith(b"354"):
                if not await self.take(reader, writer):
                    return
                if not await say(b".", b"250 2.0.0 queued here\r\n"):
                    return

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        data = b"\r\n"
        while not data.endswith(b"\r\n.\r\n"):
            await asyncio.sleep(self.pause)
            piece = await reader.read(1 << 16)
            if not piece or self.answers.get(b"BODY"):
                self.partial += 1
                return False
            data += piece
        self.messages.append(data[2:-3])
        return True


@dataclass
class World:
    """homeward with its sides, and the connection of a Postfix."""

    settings: Settings
    local: Peer
    away: Peer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def reply(self) -> bytes:
        lines = b""
        while True:
            line = await self.reader.readline()
            lines += line
            if line[3:4] != b"-":
                return lines

    async def say(self, *lines: str) -> list[bytes]:
        """Send commands one by one; their replies."""
        replies = []
        for line in lines:
            self.writer.write(line.encode() + b"\r\n")
            replies.append(await self.reply())
        return replies

    async def codes(self, *lines: str) -> list[int]:
        return [int(reply[:3]) for reply in await self.say(*lines)]

    async def send(self, data: bytes, *recipients: str) -> bytes:
        """A whole transaction with these recipients; what was said to the end of its data."""
        rcpt = [f"RCPT TO:<{name}@example.test>" for name in recipients]
        codes = await self.codes("MAIL FROM:<x@outside.test> SIZE=100", *rcpt, "DATA")
        assert codes == [250, *([250] * len(rcpt)), 354]
        self.writer.write(data + b".\r\n")
        return await self.reply()


@asynccontextmanager
async def world(folder: Path, **options: Any) -> AsyncIterator[World]:
    authority = Authority(names=HOSTS)
    (folder / "anchors.pem").write_text(authority.text)
    cert, key = authority.issue(folder, "cert", *HOSTS)
    key.rename(folder / "key.pem")
    (folder / "away.cdb").write_bytes(cdb.make(AWAY.items()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert, folder / "key.pem")
    context.load_verify_locations(folder / "anchors.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    if change := options.get("tls"):
        change(context, folder)
    local, away = Peer("local"), Peer("away")
    one = await asyncio.start_server(local.serve, "127.0.0.1", 0)
    two = await asyncio.start_server(away.serve, "127.0.0.1", 0, ssl=context)
    ports = [server.sockets[0].getsockname()[1] for server in (one, two)]
    settings = Settings(
        "edge-1.test", folder / "away.cdb", folder, ("127.0.0.1", 0), ("127.0.0.1", ports[0]), ports[1]
    )
    server = await homeward.serve(settings)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    found = World(settings, local, away, reader, writer)
    assert (await found.reply()).startswith(b"220 edge-1.test ")
    await found.say("EHLO client")
    try:
        yield found
    finally:
        writer.close()
        for item in (server, one, two):
            item.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def run(folder: Path, play: Callable[[World], Awaitable[None]], **options: Any) -> None:
    """Play against homeward. All names of hosts lead to this machine; the certificates are checked for real."""
    open_connection = asyncio.open_connection

    async def here(host: str, port: int, **more: Any) -> Any:
        return await open_connection("127.0.0.1" if host in (US, ASIA) else host, port, **more)

    async def main() -> None:
        async with world(folder, **options) as found:
            await asyncio.wait_for(play(found), 15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "open_connection", here)
        asyncio.run(main())


def test_own_mail_goes_to_the_queue(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        assert await w.send(b"Subject: x\r\n\r\nhello\r\n", "anna", "carl") == b"250 2.0.0 queued here\r\n"
        assert w.local.messages == [b"Subject: x\r\n\r\nhello\r\n"]
        assert not w.away.sessions
        assert w.local.commands[:2] == [b"EHLO edge-1.test\r\n", b"MAIL FROM:<x@outside.test> SIZE=100\r\n"]

    run(tmp_path, play)


def test_foreign_mail_goes_home_and_nowhere_else(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        assert await w.send(b"hello\r\n", "bob", "bea") == b"250 2.0.0 queued here\r\n"
        assert w.away.messages == [b"hello\r\n"]
        assert not w.local.sessions

    run(tmp_path, play)


def test_another_home_is_for_another_transaction(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        replies = await w.say(
            "MAIL FROM:<>",
            *(f"RCPT TO:<{name}@example.test>" for name in ("bob", "anna", "ken", "bea")),
            "DATA",
        )
        assert [reply[:9] for reply in replies] == [
            b"250 2.1.0",
            b"250 2.0.0",
            b"452 4.5.3",
            b"452 4.5.3",
            b"250 2.0.0",
            b"354 Go on",
        ]
        w.writer.write(b"x\r\n.\r\n")
        assert (await w.reply()).startswith(b"250")
        # What was refused comes again.
        assert (await w.send(b"y\r\n", "anna")).startswith(b"250")
        assert (w.away.messages, w.local.messages) == ([b"x\r\n"], [b"y\r\n"])

    run(tmp_path, play)


def test_a_refused_first_recipient_does_not_choose(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        w.away.answers[b"RCPT"] = b"550 5.1.1 gone\r\n"
        assert await w.codes("MAIL FROM:<a@b.test>", "RCPT TO:<bob@example.test>", "DATA") == [250, 550, 503]
        assert await w.codes("RCPT TO:<anna@example.test>", "DATA") == [250, 354]
        w.writer.write(b"x\r\n.\r\n")
        assert (await w.reply()).startswith(b"250")
        assert w.local.messages == [b"x\r\n"]
        assert not w.away.messages

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("bob@example.test", US),
        ("BOB@Example.TEST", US),
        ("bob+tag@example.test", US),
        ("bob+a+b@example.test", US),
        ("anna@example.test", ""),
        ("bob@other.test", ""),
        ("bob", ""),
        ("", ""),
        ('"bob"@example.test', ""),
    ],
)
def test_home(tmp_path: Path, name: str, host: str) -> None:
    (tmp_path / "away.cdb").write_bytes(cdb.make(AWAY.items()))
    assert home(Settings("x", tmp_path / "away.cdb", tmp_path), name) == host


def test_every_reply_is_the_other_sides_own(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        w.away.answers |= {b"MAIL": b"450 4.1.8 later\r\n"}
        assert await w.say("MAIL FROM:<a@b.test>", "RCPT TO:<bob@example.test>") == [
            b"250 2.1.0 Ok\r\n",
            b"450 4.1.8 later\r\n",
        ]
        w.away.answers = {b"RCPT": b"451-4.3.0 two\r\n451 4.3.0 lines\r\n"}
        assert (await w.say("RCPT TO:<bob@example.test>"))[0] == b"451-4.3.0 two\r\n451 4.3.0 lines\r\n"
        w.away.answers = {b"DATA": b"554 5.5.1 no\r\n"}
        assert await w.codes("RSET", "MAIL FROM:<a@b.test>", "RCPT TO:<bob@example.test>", "DATA") == [
            250,
            250,
            250,
            554,
        ]
        w.away.answers = {b".": b"552 5.2.2 full\r\n"}
        assert await w.codes("RSET") == [250]
        assert await w.send(b"x\r\n", "bob") == b"552 5.2.2 full\r\n"

    run(tmp_path, play)


FAULTS = {
    "no greeting": {b"CONNECT": b"EOF"},
    "busy": {b"CONNECT": b"421 4.7.0 busy\r\n"},
    "no EHLO": {b"EHLO": b"502 5.5.1 what\r\n"},
    "dies at MAIL": {b"MAIL": b"EOF"},
    "dies at RCPT": {b"RCPT": b"EOF"},
    "nonsense": {b"RCPT": b"hello world\r\n"},
    "a code of nothing": {b"RCPT": b"999 x\r\n"},
    "no line end": {b"RCPT": b"250 Ok"},
    "endless reply": {b"RCPT": b"250-x\r\n" * 100_000},
    "endless line": {b"RCPT": b"250 " + b"x" * 1_000_000},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_home_that_fails_before_data_is_tried_again_later(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(homeward.SECONDS, "command", 1.0)

    async def play(w: World) -> None:
        w.away.answers |= FAULTS[fault]
        assert (await w.codes("MAIL FROM:<a@b.test>", "RCPT TO:<bob@example.test>"))[1] == 451
        assert await w.codes("DATA") == [503]
        # Others are served, and so is the same one when its home is back.
        assert (await w.send(b"x\r\n", "anna")).startswith(b"250")
        w.away.answers.clear()
        assert (await w.send(b"y\r\n", "bob")).startswith(b"250")
        assert w.away.messages == [b"y\r\n"]

    run(tmp_path, play)


def test_a_recipient_that_was_accepted_is_not_lost_with_its_side(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        assert await w.codes("MAIL FROM:<a@b.test>", "RCPT TO:<bob@example.test>") == [250, 250]
        w.away.answers[b"RCPT TO:<BEA"] = b"EOF"
        assert await w.codes("RCPT TO:<bea@example.test>") == [451]
        # Now nothing more in this transaction: bob was told yes.
        w.away.answers.clear()
        assert await w.codes("RCPT TO:<bea@example.test>", "RCPT TO:<anna@example.test>", "DATA") == [
            451,
            451,
            451,
        ]
        assert (await w.send(b"x\r\n", "bob")).startswith(b"250")
        assert w.away.messages == [b"x\r\n"]

    run(tmp_path, play)


@pytest.mark.parametrize(
    ("answers", "kept"), [({b"BODY": b"EOF"}, 0), ({b".": b"EOF"}, 1), ({b".": b"HANG"}, 1)]
)
def test_what_the_home_did_not_accept_is_not_accepted(
    tmp_path: Path, answers: dict[bytes, bytes], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(homeward.SECONDS, "end", 1.0)

    async def play(w: World) -> None:
        w.away.answers |= answers
        assert (await w.send(b"x" * 70 + b"\r\n", "bob")).startswith(b"451 4.4.1")
        assert len(w.away.messages) == kept
        w.away.answers.clear()
        assert (await w.send(b"again\r\n", "bob")).startswith(b"250")

    run(tmp_path, play)


def test_a_home_that_dies_within_a_large_message(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        w.away.answers[b"BODY"] = b"EOF"
        assert (await w.send(b"0123456789abcdef\r\n" * 500_000, "bob")).startswith(b"451 4.4.1")
        assert not w.away.messages

    run(tmp_path, play)


def test_a_postfix_that_dies_within_a_message_leaves_nothing(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        for name, peer in (("bob", w.away), ("anna", w.local)):
            reader, writer = await asyncio.open_connection(*w.writer.get_extra_info("peername"))
            two = World(w.settings, w.local, w.away, reader, writer)
            await two.reply()
            assert (await two.codes("MAIL FROM:<>", f"RCPT TO:<{name}@example.test>", "DATA"))[-1] == 354
            writer.write(b"half a mess")
            await writer.drain()
            writer.close()
            while not peer.partial:
                await asyncio.sleep(0.01)
            assert not peer.messages

    run(tmp_path, play)


@pytest.mark.parametrize(
    "data",
    [
        b"x\n.\nMAIL FROM:<evil@x.test>\r\n",
        b"x\n.\r\nMAIL FROM:<evil@x.test>\r\n",
        b"x\r\n.\nMAIL FROM:<evil@x.test>\r\n",
        b"\n\r\n",
        b"x\r\r\n\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 2, 1000])
def test_smuggling_with_a_bare_lf_is_refused_and_not_passed_on(
    tmp_path: Path, data: bytes, step: int
) -> None:
    async def play(w: World) -> None:
        for name, peer in (("bob", w.away), ("anna", w.local)):
            assert (await w.codes("MAIL FROM:<>", f"RCPT TO:<{name}@example.test>", "DATA"))[-1] == 354
            whole = b"Subject: x\r\n\r\n" + data + b".\r\n"
            for at in range(0, len(whole), step):
                w.writer.write(whole[at : at + step])
                await w.writer.drain()
                await asyncio.sleep(0)
            assert (await w.reply()).startswith(b"550 5.6.11")
            assert not peer.messages
            assert not any(b"evil" in command for command in peer.commands)

    run(tmp_path, play)


def test_nothing_follows_the_end_of_a_message(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        assert (await w.codes("MAIL FROM:<>", "RCPT TO:<bob@example.test>", "DATA"))[-1] == 354
        w.writer.write(b"x\r\n.\r\nMAIL FROM:<evil@x.test>\r\n.\r\n")
        assert (await w.reply()).startswith(b"550 5.5.0")
        assert not w.away.messages

    run(tmp_path, play)


BODY = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b".", b"..", b"\0", b"x", b"\xff" * 3, b"a" * 500, b"\r\n..", b"\r\r\n"]
    ),
    max_size=60,
).map(b"".join)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODY, cuts=st.lists(st.integers(1, 700), min_size=1, max_size=8))
def test_any_message_passes_byte_by_byte(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, cuts: list[int]
) -> None:
    data = b"\r\n" + body + b"\r\n"
    while b"\r\n.\r\n" in data:
        data = data.replace(b"\r\n.\r\n", b"\r\n")
    data = data[2:]

    async def play(w: World) -> None:
        for name, peer in (("bob", w.away), ("anna", w.local)):
            assert (await w.codes("MAIL FROM:<>", f"RCPT TO:<{name}@example.test>", "DATA"))[-1] == 354
            whole, at = data + b".\r\n", 0
            for cut in [*cuts, len(whole)]:
                w.writer.write(whole[at : at + cut])
                at += cut
                await asyncio.sleep(0)
            assert await w.reply() == b"250 2.0.0 queued here\r\n"
            assert peer.messages.pop() == data

    run(tmp_path_factory.mktemp("w"), play)


def test_thirty_megabytes_in_little_memory(tmp_path: Path) -> None:
    line = os.urandom(38).hex().encode() + b"\r\n"
    size = 30_000_000

    async def play(w: World) -> None:
        kept = 0

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            nonlocal kept
            tail = b""
            while not tail.endswith(b"\r\n.\r\n"):
                piece = await reader.read(1 << 16)
                kept += len(piece)
                tail = (tail + piece)[-5:]
                # Slower than it is sent: what piles up, piles up in homeward.
                await asyncio.sleep(0.001)
            return True

        w.away.take = take  # type: ignore[method-assign]
        assert (await w.codes("MAIL FROM:<>", "RCPT TO:<bob@example.test>", "DATA"))[-1] == 354
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(size // (1000 * len(line))):
            w.writer.write(line * 1000)
            await w.writer.drain()
        w.writer.write(b".\r\n")
        assert (await w.reply()).startswith(b"250")
        assert kept > 0.95 * size
        # In KiB; both ends are in this process too.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000

    run(tmp_path, play)


def test_a_thousand_recipients(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        w.settings.away.write_bytes(cdb.make((f"n{number}@example.test", US) for number in range(1000)))
        assert (await w.send(b"x\r\n", *(f"n{number}" for number in range(1000)))).startswith(b"250")
        assert len([line for line in w.away.commands if line.startswith(b"RCPT")]) == 1000
        assert w.away.sessions == 1

    run(tmp_path, play)


def test_a_slow_home_keeps_nobody_else_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(homeward.SECONDS, "command", 2.0)

    async def play(w: World) -> None:
        w.away.answers[b"RCPT"] = b"HANG"
        w.writer.write(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\n")
        await w.reply()
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*w.writer.get_extra_info("peername"))
            two = World(w.settings, w.local, w.away, reader, writer)
            await two.reply()
            assert (await asyncio.wait_for(two.send(b"x\r\n", "anna"), 1.5)).startswith(b"250")
            writer.close()
        assert (await w.reply()).startswith(b"451 4.4.1")

    run(tmp_path, play)


def no_client_certificate(_: ssl.SSLContext, folder: Path) -> None:
    """The node's own certificate is of a stranger's authority."""
    stranger = Authority(names=HOSTS)
    _, key = stranger.issue(folder, "cert", *HOSTS)
    key.rename(folder / "key.pem")


def old_tls(context: ssl.SSLContext, _: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def wrong_authority(context: ssl.SSLContext, folder: Path) -> None:
    inner = folder / "stranger"
    inner.mkdir()
    context.load_cert_chain(*Authority(names=HOSTS).issue(inner, "cert", *HOSTS))


def wrong_name(context: ssl.SSLContext, folder: Path) -> None:
    inner = folder / "other"
    inner.mkdir()
    authority = Authority(names=HOSTS)
    (folder / "anchors.pem").write_text(authority.text)
    context.load_cert_chain(*authority.issue(inner, "cert", ASIA))


@pytest.mark.parametrize("change", [no_client_certificate, old_tls, wrong_authority, wrong_name])
def test_only_the_fleets_own_tls_is_good_enough(
    tmp_path: Path, change: Callable[[ssl.SSLContext, Path], None]
) -> None:
    async def play(w: World) -> None:
        assert await w.codes("MAIL FROM:<>", "RCPT TO:<bob@example.test>") == [250, 451]
        assert not w.away.commands

    run(tmp_path, play, tls=change)


def test_tls_context_is_1_3_with_names(tmp_path: Path) -> None:
    authority = Authority(names=HOSTS)
    (tmp_path / "anchors.pem").write_text(authority.text)
    authority.issue(tmp_path, "cert", *HOSTS)[1].rename(tmp_path / "key.pem")
    context = fleet_context(tmp_path)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_no_directory_no_mail_and_no_bounce(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        w.settings.away.unlink()
        assert (await w.codes("MAIL FROM:<>", "RCPT TO:<anna@example.test>"))[1] == 451
        w.settings.away.write_bytes(b"")
        assert await w.codes("RCPT TO:<anna@example.test>") == [451]

    run(tmp_path, play)


def test_commands_out_of_order_and_nonsense(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        assert await w.codes(
            "DATA", "RCPT TO:<anna@example.test>", "NOOP", "VRFY anna", "BDAT 3 LAST", ""
        ) == [
            503,
            503,
            250,
            502,
            502,
            502,
        ]
        assert await w.codes("MAIL FROM:<>", "RCPT TO:anna@example.test", "RCPT TO:<ü@example.test>") == [
            250,
            501,
            553,
        ]
        assert await w.codes("HELO x", "RSET", "QUIT") == [250, 250, 221]
        assert not await w.reader.read(10)

    run(tmp_path, play)


@pytest.mark.parametrize(
    "line", [b"NOOP\n", b"NOOP " + b"x" * 5000 + b"\r\n", b"NOOP " + b"x" * 200_000 + b"\r\n"]
)
def test_what_is_no_command_line_ends_the_session(tmp_path: Path, line: bytes) -> None:
    async def play(w: World) -> None:
        w.writer.write(line)
        try:
            said = await w.reader.read()
        except ConnectionResetError:
            said = b""  # it ended the session before it had read all of it
        assert said[:3] in (b"500", b"")

    run(tmp_path, play)


def test_a_second_mail_forgets_the_first(tmp_path: Path) -> None:
    async def play(w: World) -> None:
        assert (
            await w.codes("MAIL FROM:<a@x.test>", "RCPT TO:<bob@example.test>", "MAIL FROM:<b@x.test>")
            == [250] * 3
        )
        assert await w.codes("DATA") == [503]
        assert (await w.send(b"x\r\n", "bea")).startswith(b"250")
        assert w.away.messages == [b"x\r\n"]

    run(tmp_path, play)


def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    settings = Settings("x", tmp_path, tmp_path, local=("127.0.0.1", 9))

    async def main() -> None:
        with pytest.raises(UpstreamError, match=r"Connect call failed|refused"):
            await Upstream.open(settings, "")

    asyncio.run(main())
