"""The milter as an MTA sees it: over a socket, with a client of our own that speaks libmilter's protocol."""

import asyncio
import json
import logging
import os
import random
import signal
import struct
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailinfra.dkim.milter import PACKET_BYTES, Service, listen
from mailinfra.dkim.signers import SignError
from tests.dkim_helpers import MESSAGE, MemorySigner, milter, one, verify
from tests.milter_client import EVERY_STEP, Client, packet, split


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def signed(message: bytes | str) -> bool:
    assert isinstance(message, bytes), message
    return verify(message)


def test_a_message_is_signed(tmp_path: Path) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (service, address):
            assert signed(await one(address))
            assert service.counts == {"signed": 1}

    run(work())


@pytest.mark.parametrize("steps", [EVERY_STEP, 0, 0x80, 0x3F, 0x7F000])
def test_whatever_the_mta_offers(tmp_path: Path, steps: int) -> None:
    """An MTA that can leave nothing out sends everything and waits for every reply."""

    async def work() -> None:
        async with milter(tmp_path) as (_, address):
            client = await Client.open(address, steps=steps, actions=0x1)
            await client.connect()
            for _ in range(2):
                outcome = await client.send(MESSAGE)
                assert signed(outcome.apply(MESSAGE))
            await client.close()

    run(work())


def test_only_what_is_needed_is_asked_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (_, address):
            client = await Client.open(address)
            assert client.steps == 0x1 | 0x2 | 0x8 | 0x40 | 0x100 | 0x200 | 0xFF080
            await client.close()

    run(work())


def test_a_message_in_single_octets(tmp_path: Path) -> None:
    fields, body = split(MESSAGE)
    data = packet(b"O", struct.pack("!III", 6, 0x1FF, EVERY_STEP)) + packet(b"M", b"<user@example.test>\0")
    data += b"".join(packet(b"L", name + b"\0" + value + b"\0") for name, value in fields)
    data += b"".join(packet(b"B", body[at : at + 1]) for at in range(len(body))) + packet(b"E")

    async def work() -> None:
        async with milter(tmp_path) as (_, address):
            host, _, port = address.removeprefix("inet:").rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            for octet in data:
                writer.write(bytes([octet]))
                await asyncio.sleep(0)
            client = Client(reader, writer)
            assert (await client.reply())[0] == b"O"
            code, added = await client.reply()
            assert code == b"i"
            value = added[4:].split(b"\0")[1].replace(b"\n", b"\r\n")
            assert signed(b"DKIM-Signature: " + value + b"\r\n" + MESSAGE)
            assert (await client.reply())[0] == b"c"
            await client.close()

    run(work())


def test_many_messages_at_once_over_many_connections(tmp_path: Path) -> None:
    async def work() -> None:
        async def talk(address: str, number: int) -> None:
            client = await Client.open(address)
            for turn in range(5):
                message = MESSAGE.replace(b"<1@", b"<%d.%d@" % (number, turn))
                assert signed((await client.send(message)).apply(message))
            await client.close()

        async with milter(tmp_path) as (service, address):
            await asyncio.gather(*(talk(address, number) for number in range(32)))
            assert service.counts == {"signed": 160}

    run(work())


HEAD = [(b"From", b"user@example.test"), (b"Subject", b"s")]


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([*HEAD, (b"X-Long", b"a" + b" " * 40_000 + b"b")], b"text\r\n"),
        ([*HEAD, (b"Subject", b" " * 500_000)], b"text\r\n"),
        ([*HEAD, (b"Cc", b"a@b.test,\n " * 20_000)], b"text\r\n"),
        ([*HEAD, (b"To", b"x" * 900_000)], b"text\r\n"),
        ([*HEAD, *[(b"To", b"x")] * 900], b"text\r\n"),
        ([(b"From", b"A\n folded\n\tname\n <user@example.test>")], b"text\r\n"),
        ([(b"fRoM", b"user@example.test")], b""),
        ([(b"From", b"user@example.test"), (b"Subject", b"\xff\xfe 8-bit \xc3\xa9")], b"\x80\xff\r\n"),
        (HEAD, b"\0" * 70_000 + b"\r\n"),
        (HEAD, b"long line" * 20_000 + b"\r\n"),
        (HEAD, b" " * 300_000 + b"\r\n" * 100_000),
        (HEAD, b".\r\n..\r\n\r\n.\r\n"),
    ],
    ids=str,
)
def test_hostile_but_lawful_messages_are_signed(tmp_path: Path, fields: Any, body: bytes) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (_, address):
            client = await Client.open(address)
            start = time.process_time()
            outcome = await client.send_parts(fields, body)
            assert time.process_time() - start < 2
            assert outcome.verdict == "c"
            head = b"".join(n + b": " + v.replace(b"\n", b"\r\n") + b"\r\n" for n, v in fields)
            if len(head) + len(body) < 100_000 and b"  " * 50 not in head:  # dkimpy's time is quadratic
                assert signed(outcome.apply(head + b"\r\n" + body))
            await client.close()

    run(work())


@pytest.mark.parametrize(
    ("fields", "body", "reply"),
    [
        ([(b"Subject", b"s")], b"", "550 5.7.1 0 From: header fields"),
        ([*HEAD, (b"From", b"user@example.test")], b"", "550 5.7.1 2 From: header fields"),
        ([*HEAD, (b"FROM ", b"user@example.test")], b"", "550 5.7.1 2 From: header fields"),
        ([(b"From", b"a@example.test, b@example.test")], b"", "550 5.7.1 From: is not exactly one"),
        ([(b"From", b"group: a@example.test;")], b"", "550 5.7.1 From: is not exactly one"),
        ([(b"From", b"ceo@example.test <user@evil.test>")], b"", "550 5.7.1 From: is not exactly one"),
        ([(b"From", b'"ceo@example.test" <user@evil.test>')], b"", "550 5.7.1 The address in From:"),
        ([(b"From", "a@exämple.test".encode())], b"", "550 5.7.1 The address in From:"),
        ([*HEAD, (b"X", b"a\rBcc: b")], b"", "554 5.6.0 A header field"),
        ([*HEAD, (b"X", b"a\nBcc: b")], b"", "554 5.6.0 A header field"),
        ([*HEAD, (b"X", b"a\n\nbody")], b"", "554 5.6.0 A header field"),
        ([*HEAD, (b"X", b"a\x0bb")], b"", "554 5.6.0 A header field"),
        ([*HEAD, (b"X:Y", b"a")], b"", "554 5.6.0 A header field"),
        ([*HEAD, (b"", b"a")], b"", "554 5.6.0 A header field"),
        ([*HEAD, (b"X Y", b"a")], b"", "554 5.6.0 A header field"),
        ([*HEAD, (b"\xc3\xa9", b"a")], b"", "554 5.6.0 A header field"),
        ([*HEAD, (b"X", b"a" * (1 << 20))], b"", "552 5.3.4 Header too large"),
        ([*HEAD, *[(b"X", b"a")] * 1000], b"", "552 5.3.4 Header too large"),
        (HEAD, b"a\nb\r\n", "554 5.6.0 The body holds a bare CR or LF"),
        (HEAD, b"a\rb\r\n", "554 5.6.0 The body holds a bare CR or LF"),
        (HEAD, b"a\r\n.\n\r\nMAIL FROM:<x>\r\n", "554 5.6.0 The body holds a bare CR or LF"),
        (HEAD, b"a" * 65534 + b"\r" + b"\r\n", "554 5.6.0 The body holds a bare CR or LF"),
        (HEAD, b"a\r", "554 5.6.0 The body holds a bare CR or LF"),
    ],
    ids=str,
)
def test_what_is_refused(tmp_path: Path, fields: Any, body: bytes, reply: str) -> None:
    async def work() -> None:
        signer = MemorySigner()
        async with milter(tmp_path, signer) as (service, address):
            client = await Client.open(address)
            outcome = await client.send_parts(fields, body)
            assert outcome.verdict.startswith(reply)
            assert not outcome.added
            assert not signer.digests
            assert service.counts == {"rejected": 1}
            # The connection lives on, and the next message is judged for itself.
            assert signed((await client.send(MESSAGE)).apply(MESSAGE))
            await client.close()

    run(work())


def test_a_nul_in_a_header_is_not_the_protocol(tmp_path: Path) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (service, address):
            client = await Client.open(address)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.send_parts([*HEAD, (b"X", b"a\0b")], b"text\r\n")
            client.writer.close()
            assert service.counts == {"garbage": 1}

    run(work())


def test_a_body_split_inside_a_crlf(tmp_path: Path) -> None:
    body = b"a" * 65534 + b"\r\n" + b"b" * 65532 + b" \r\n"
    message = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body

    async def work() -> None:
        async with milter(tmp_path) as (_, address):
            assert signed(await one(address, message))

    run(work())


def test_thirty_megabytes(tmp_path: Path) -> None:
    line = random.Random(1).randbytes(57).hex().encode() + b"\r\n"
    message = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + line * (30_000_000 // len(line))

    async def work() -> None:
        async with milter(tmp_path) as (_, address):
            big = asyncio.create_task(one(address, message))
            small = [await one(address) for _ in range(5)]
            assert not big.done(), "the small ones did not wait for the big one"
            assert all(map(signed, small))
            assert signed(await big)

    run(work())


def test_login_and_sender(tmp_path: Path) -> None:
    async def work() -> None:
        async with milter(tmp_path, require_auth=True, match_sender=True) as (_, address):
            assert await one(address) == "530 5.7.0 Authentication required"
            login = {b"i": b"1", b"{auth_authen}": b"user@example.test", b"{auth_type}": b"PLAIN"}
            assert signed(await one(address, macros=login))
            other = await one(address, MESSAGE.replace(b"<user@", b"<ceo@"), macros=login)
            assert other == "550 5.7.1 The address in From: is not the sender's own"
            client = await Client.open(address)
            assert (await client.send(MESSAGE, macros=login)).verdict == "c"
            # The login of one message is not that of the next.
            assert (await client.send(MESSAGE)).verdict.startswith("530")
            await client.close()

    run(work())


def test_envelope_senders(tmp_path: Path) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (_, address):
            assert signed(await one(address, sender=b"<>"))
            assert str(await one(address, sender=b"<a@evil.test>")).startswith(
                "550 5.7.1 The envelope sender"
            )

    run(work())


def test_an_aborted_message_leaves_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (service, address):
            client = await Client.open(address)
            client.writer.write(
                packet(b"M", b"<x@evil.test>\0") + packet(b"L", b"From\0x@evil.test\0") + packet(b"A")
            )
            assert signed((await client.send(MESSAGE)).apply(MESSAGE))
            client.writer.write(packet(b"K"))
            assert signed((await client.send(MESSAGE)).apply(MESSAGE))
            await client.close()
            assert service.counts == {"signed": 2}

    run(work())


def test_an_hsm_that_fails_once(tmp_path: Path) -> None:
    errors = [SignError("throttled")]
    signer = MemorySigner(lambda: raise_next(errors))

    async def work() -> None:
        async with milter(tmp_path, signer) as (service, address):
            assert signed(await one(address))
            assert service.counts == {"signed": 1}
            assert len(signer.digests) == 2

    run(work())


def raise_next(errors: list[SignError]) -> None:
    """Raise the next of some errors, if one is left."""
    if errors:
        raise errors.pop(0)


@pytest.mark.parametrize("again", [True, False])
def test_a_dead_hsm_means_tempfail(tmp_path: Path, again: bool, caplog: pytest.LogCaptureFixture) -> None:
    signer = MemorySigner(lambda: raise_next([SignError("HSM is dead", again)]))

    async def work() -> None:
        async with milter(tmp_path, signer, deadline=0.3) as (service, address):
            client = await Client.open(address)
            outcome = await client.send(MESSAGE)
            assert outcome.verdict == "451 4.7.5 The message cannot be signed now, try again later"
            assert not outcome.added
            assert service.counts == {"tempfailed": 1}
            signer.before = lambda: None
            assert signed((await client.send(MESSAGE)).apply(MESSAGE))
            await client.close()

    run(work())
    assert "4QUEUEID: tempfailed: " in caplog.text
    assert "HSM is dead" in caplog.text


def test_a_bug_in_a_signer_means_tempfail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with milter(tmp_path, MemorySigner(lambda: void(1 / 0))) as (_, address):
            assert str(await one(address)).startswith("451 4.7.5")

    run(work())
    assert "ZeroDivisionError" in caplog.text


def void(_: object) -> None:
    """Drop a value."""


def test_a_slow_signature_holds_nobody_up(tmp_path: Path) -> None:
    first, leave = threading.Lock(), threading.Event()

    def before() -> None:
        if first.acquire(blocking=False):
            leave.wait(30)

    async def work() -> None:
        async with milter(tmp_path, MemorySigner(before)) as (_, address):
            slow = asyncio.create_task(one(address))
            while not first.locked():
                await asyncio.sleep(0.001)
            others = await asyncio.gather(*(one(address) for _ in range(20)))
            assert not slow.done()
            leave.set()
            assert all(map(signed, [*others, await slow]))

    run(work())


def test_an_mta_that_leaves_while_the_hsm_works(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def before() -> None:
        entered.set()
        leave.wait(10)

    async def work() -> None:
        signer = MemorySigner(before)
        async with milter(tmp_path, signer, concurrency=1) as (service, address):
            client = await Client.open(address)
            task = asyncio.create_task(client.send(MESSAGE))
            while not entered.is_set():
                await asyncio.sleep(0.001)
            task.cancel()
            client.writer.close()
            leave.set()
            assert signed(await one(address))
            assert not service.endings

    run(work())


OPEN = packet(b"O", struct.pack("!III", 6, 0x1FF, EVERY_STEP))
GARBAGE = {
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": b"\0" * 100,
    "no negotiation": packet(b"M", b"<a@example.test>\0"),
    "a short negotiation": packet(b"O", b"\0\0"),
    "version 1": packet(b"O", struct.pack("!III", 1, 0x1FF, 0)),
    "an MTA that adds no header": packet(b"O", struct.pack("!III", 6, 0, 0)),
    "an unknown command": OPEN + packet(b"z"),
    "a header outside a message": OPEN + packet(b"L", b"a\0b\0"),
    "a body outside a message": OPEN + packet(b"B", b"a"),
    "an end outside a message": OPEN + packet(b"E"),
    "a header without a value": OPEN + packet(b"M", b"<>\0") + packet(b"L", b"a"),
    "a packet beyond the limit": OPEN + struct.pack("!I", PACKET_BYTES + 1),
    "a packet of 4 GB": OPEN + b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_ends_that_connection_only(tmp_path: Path, name: str) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (service, address):
            other = await Client.open(address)
            host, _, port = address.removeprefix("inet:").rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(GARBAGE[name])
            try:
                while await reader.read(1000):
                    pass
            except ConnectionResetError:
                pass
            writer.close()
            assert service.counts == {"garbage": 1}
            assert signed((await other.send(MESSAGE)).apply(MESSAGE))
            await other.close()

    run(work())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(b"OCHMRDTLNBEAKU")),
            st.sampled_from([b"", b"\0", b"a\0", b"a\0b\0", b"Ma\0b\0"]),
        ),
        max_size=12,
    ),
    st.binary(max_size=8),
)
def test_any_packets_leave_the_milter_well(
    tmp_path: Path, commands: list[tuple[int, bytes]], end: bytes
) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (_, address):
            host, _, port = address.removeprefix("inet:").rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(OPEN + b"".join(packet(bytes([code]), data) for code, data in commands) + end)
            assert signed(await one(address))
            writer.close()

    run(work())


def test_a_flood_of_commands_without_reading_is_bounded(tmp_path: Path) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (service, address):
            client = await Client.open(address, steps=0)
            flood = packet(b"H", b"x\0") * 100_000
            with pytest.raises(ConnectionError):
                while True:
                    client.writer.write(flood)
                    await client.writer.drain()
            client.writer.close()
            assert service.counts == {"garbage": 1}

    run(work())


def test_reload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with milter(tmp_path) as (service, address):
            path = tmp_path / "milter.json"
            good = json.loads(path.read_text())
            path.write_text("{")
            service.reload()
            assert signed(await one(address)), "a wrong config changes nothing"
            good["require_auth"] = True
            path.write_text(json.dumps(good))
            service.reload()
            assert await one(address) == "530 5.7.0 Authentication required"

    run(work())
    assert "the old config stays" in caplog.text


def test_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with milter(tmp_path, MemorySigner(lambda: time.sleep(0.01))) as (service, address):
            service.report()
            await one(address)
            await one(address, sender=b"<a@evil.test>")
            service.report()

    with caplog.at_level(logging.INFO):
        run(work())
    first, last = [record.getMessage() for record in caplog.records if "stats" in record.getMessage()]
    assert "signed=0 tempfailed=0 rejected=0 garbage=0 hsm_p50_ms=0.0" in first
    assert "signed=1 tempfailed=0 rejected=1 garbage=0" in last
    p50 = float(last.partition("hsm_p50_ms=")[2].split()[0])
    assert 10 <= p50 < 500


def test_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "milter.sock"
    with listen(f"unix:{path}") as first:
        first.listen()
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(OSError, match=r"config\.listen: somebody answers at"):
            listen(f"unix:{path}")
    with listen(f"unix:{path}"):  # what a killed one left behind
        pass
    for wrong in ("", "unix:", "inet:127.0.0.1", "inet:127.0.0.1:x", "tcp:127.0.0.1:1", "/run/x"):
        with pytest.raises(
            ValueError, match=r"config\.listen: found .*; allowed: unix:/path, inet:host:port"
        ):
            listen(wrong)


def test_the_service_ends_what_is_under_way(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def before() -> None:
        entered.set()
        leave.wait(10)

    async def work() -> None:
        async with milter(tmp_path, MemorySigner(before)) as (prepared, _):
            service = Service(tmp_path / "milter.json")
            service.config = prepared.config
            listener = listen("inet:127.0.0.1:0")
            served = asyncio.create_task(service.run(listener))
            message = asyncio.create_task(one(f"inet:127.0.0.1:{listener.getsockname()[1]}"))
            while not entered.is_set():
                await asyncio.sleep(0.001)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            assert not served.done()
            leave.set()
            assert signed(await message)
            await served

    run(work())
