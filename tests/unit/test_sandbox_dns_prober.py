"""The prober against real sockets: thresholds, kinds of checks, its files and its HTTP interface."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.dns import prober
from mailinfra.sandbox.dns.prober import Check, Prober

TCP: dict[str, Any] = {
    "kind": "tcp", "address": "127.0.0.1", "host": None, "port": 1, "path": "/", "match": None, "interval": 0.02,
    "timeout": 1.0, "rise": 2, "fall": 3, "inverted": False, "children": [], "threshold": 0,
}  # fmt: skip


@asynccontextmanager
async def listener(answer: bytes = b"") -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The scenario, and then all that it began, to the end."""

    async def whole() -> None:
        await scenario()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            _, unended = await asyncio.wait(others, timeout=20)
            assert not unended

    asyncio.run(whole())


def test_a_check_is_healthy_until_enough_probes_failed(tmp_path: Path) -> None:
    check = Check("c", TCP, tmp_path)
    assert check.healthy
    assert not check.file.exists()
    check.note(False, "refused")
    check.note(False, "refused")
    assert check.healthy
    check.note(True, "connected")  # the row is broken
    for _ in range(2):
        check.note(False, "refused")
    assert check.healthy
    check.note(False, "refused")
    assert not check.healthy
    assert check.file.exists()
    check.note(True, "connected")
    assert not check.healthy
    check.note(True, "connected")
    assert check.healthy
    assert not check.file.exists()


def test_an_inverted_check_is_unhealthy_while_the_endpoint_is_well(tmp_path: Path) -> None:
    check = Check("c", {**TCP, "inverted": True}, tmp_path)
    assert check.file.exists()
    for _ in range(3):
        check.note(False, "refused")
    assert check.healthy
    assert not check.file.exists()


def test_probes_follow_an_endpoint_that_goes_and_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        checker = Prober("k", tmp_path, tmp_path, ["true"])
        async with listener() as port:
            checker.set({"c": {**TCP, "port": port}})
            await until(lambda: checker.checks["c"].probed)
            assert checker.checks["c"].detail == "connected"
        await until((tmp_path / "down" / "c").exists)
        assert "Connect call failed" in checker.checks["c"].detail
        server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", port)
        async with server:
            await until(lambda: not (tmp_path / "down" / "c").exists())
        checker.set({})

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "match", "passes"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nall is well", None, True),
        (b"HTTP/1.1 302 Found\r\n\r\n", None, True),
        (b"HTTP/1.1 503 Busy\r\n\r\n", None, False),
        (b"nonsense\r\n\r\n", None, False),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nall is well", "well", True),
        (b"HTTP/1.1 200 OK\r\nA: well\r\n\r\nno", "well", False),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 6000 + b"well", "well", False),
    ],
)
def test_http(answer: bytes, match: str | None, passes: bool) -> None:
    async def scenario() -> None:
        async with listener(answer) as port:
            spec = {**TCP, "kind": "http", "port": port, "match": match}
            if passes:
                assert (await prober.probe(spec)).startswith("HTTP status")
            else:
                with pytest.raises(ConnectionError):
                    await prober.probe(spec)

    run(scenario)


def test_an_endpoint_that_does_not_answer_in_time_fails(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read()  # till the prober hangs up
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        checker = Prober("k", tmp_path, tmp_path, ["true"])
        port = server.sockets[0].getsockname()[1]
        checker.set({"c": {**TCP, "kind": "http", "port": port, "timeout": 0.05}})
        await until(lambda: not checker.checks["c"].healthy)
        assert checker.checks["c"].detail == "no answer within 0.05 s"
        checker.set({})
        server.close()

    run(scenario)


def test_a_calculated_check_counts_its_children(tmp_path: Path) -> None:
    async def scenario() -> None:
        checker = Prober("k", tmp_path, tmp_path, ["true"])
        both = {**TCP, "kind": "calculated", "children": ["a", "b"], "threshold": 2, "rise": 1, "fall": 1}
        async with listener() as port:
            checker.set({"a": {**TCP, "port": port}, "b": {**TCP, "port": port}, "both": both})
            await until(lambda: checker.checks["both"].probed)
            assert checker.checks["both"].healthy
            checker.set({"a": {**TCP, "port": port}, "b": {**TCP, "port": 1}, "both": both})
            await until(lambda: not checker.checks["both"].healthy)
        checker.set({})
        assert list((tmp_path / "down").iterdir()) == []

    run(scenario)


def test_the_interface_wants_the_key_and_keeps_what_it_was_given(tmp_path: Path) -> None:
    async def scenario() -> None:
        mark = tmp_path / "reloaded"
        code = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
        checker = Prober("k", tmp_path, tmp_path, [sys.executable, "-c", code])
        server = await asyncio.start_server(checker.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def ask(method: str, path: str, body: bytes = b"", key: str = "k") -> tuple[int, bytes]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"{method} {path} HTTP/1.1\r\nX-API-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.read()
            writer.close()
            return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]

        assert (await ask("GET", "/health", key="wrong"))[0] == 401
        assert (await ask("PUT", "/checks", b"{not json"))[0] == 400
        assert (await ask("GET", "/nothing"))[0] == 404
        assert (await ask("PUT", "/geoip", b"database"))[0] == 200
        assert (tmp_path / "geo.mmdb").read_bytes() == b"database"
        assert mark.exists()
        async with listener() as other:
            body = json.dumps({"c": {**TCP, "port": other}}).encode()
            assert (await ask("PUT", "/checks", body))[0] == 200
            assert (tmp_path / "checks.json").read_bytes() == body
            await until(lambda: checker.checks["c"].probed)
            found = json.loads((await ask("GET", "/health"))[1])
        assert found["c"]["healthy"]
        checker.set({})
        server.close()

    run(scenario)
