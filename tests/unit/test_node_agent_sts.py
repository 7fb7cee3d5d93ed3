"""The server of the MTA-STS policy."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mailinfra.node.agent import sts
from tests.node_helpers import Authority

POLICY = b"version: STSv1\r\nmode: enforce\r\n"
HOST = "mta-sts.example.test"


@pytest.mark.parametrize(
    ("request_head", "status", "body"),
    [
        (b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n", b"200 OK", POLICY),
        (b"GET /.well-known/mta-sts.txt?x=1 HTTP/1.0\r\n", b"200 OK", POLICY),
        (b"HEAD /.well-known/mta-sts.txt HTTP/1.1\r\n", b"200 OK", b""),
        (b"GET /.well-known/mta-sts.txt/ HTTP/1.1\r\n", b"404 Not Found", b""),
        (b"GET / HTTP/1.1\r\n", b"404 Not Found", b""),
        (b"POST /.well-known/mta-sts.txt HTTP/1.1\r\n", b"405 Method Not Allowed", b""),
        (b"\r\n", b"405 Method Not Allowed", b""),
        (b"\x16\x03\x01\r\n", b"405 Method Not Allowed", b""),
    ],
)
def test_answers(request_head: bytes, status: bytes, body: bytes) -> None:
    answer = sts.answer(request_head + b"\r\n", POLICY)
    head, _, found = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 " + status
    assert found == body
    assert b"\r\nConnection: close" in head


def served(folder: Path, client: Callable[[int, ssl.SSLContext], Coroutine[Any, Any, None]]) -> None:
    """Run a client against the server, over real TLS."""
    authority = Authority(names=(HOST,))
    cert, key = authority.issue(folder, "sts", HOST)
    (folder / "anchors.pem").write_text(authority.text)
    trusting = ssl.create_default_context(cafile=folder / "anchors.pem")

    async def both() -> None:
        ports: asyncio.Queue[int] = asyncio.Queue()
        start = asyncio.start_server

        async def watched(*arguments: Any, **options: Any) -> asyncio.Server:
            server = await start(*arguments, **options)
            ports.put_nowait(server.sockets[0].getsockname()[1])
            return server

        asyncio.start_server = watched
        try:
            server = asyncio.create_task(sts.serve(("127.0.0.1", 0), POLICY, str(cert), str(key)))
            await client(await ports.get(), trusting)
        finally:
            asyncio.start_server = start
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)

    asyncio.run(both())


async def get(port: int, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)
    writer.write(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.example.test\r\n\r\n")
    data = await reader.read()
    writer.close()
    return data


def test_over_tls(tmp_path: Path) -> None:
    async def client(port: int, context: ssl.SSLContext) -> None:
        assert (await get(port, context)).endswith(POLICY)

    served(tmp_path, client)


def test_slow_and_endless_clients_keep_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sts, "SECONDS", 0.5)

    async def client(port: int, context: ssl.SSLContext) -> None:
        silent = [
            await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)
            for _ in range(3)
        ]
        plain_reader, plain = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)
        writer.write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000)
        assert (await get(port, context)).endswith(POLICY)
        assert not await reader.read(10)
        for waiting, _ in silent:
            assert not await waiting.read(10)
        assert not await plain_reader.read(10)
        for one in (writer, plain, *(end for _, end in silent)):
            one.close()

    served(tmp_path, client)


def test_tls_1_2_is_served_as_rfc_8461_wants(tmp_path: Path) -> None:
    async def client(port: int, context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await get(port, context)).endswith(POLICY)

    served(tmp_path, client)
