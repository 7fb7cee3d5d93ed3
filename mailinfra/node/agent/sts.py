"""Serves the MTA-STS policy (RFC 8461 3.3) over HTTPS, and nothing else."""

import asyncio
import os
import ssl
import sys
from pathlib import Path

PATH = b"/.well-known/mta-sts.txt"
SECONDS = 10
"""The longest that one client may take."""
CLIENTS = 200


def answer(request: bytes, policy: bytes) -> bytes:
    """The whole HTTP/1.1 answer to a request's head."""
    method, _, rest = request.partition(b" ")
    path = rest.split(b" ")[0].split(b"?")[0]
    status, body = (b"200 OK", policy) if path == PATH else (b"404 Not Found", b"")
    if method not in (b"GET", b"HEAD"):
        status, body = b"405 Method Not Allowed", b""
    head = b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, len(body)) + (body if method == b"GET" else b"")


async def serve(listen: tuple[str | None, int], policy: bytes, cert: str, key: str) -> None:
    """Serve until cancelled."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    free = asyncio.Semaphore(CLIENTS)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with free, asyncio.timeout(SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(answer(request, policy))
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(
        client, *listen, ssl=context, limit=8192, ssl_handshake_timeout=SECONDS, backlog=CLIENTS
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    secrets = Path(os.environ["CREDENTIALS_DIRECTORY"])
    text = Path(sys.argv[1]).read_bytes()
    asyncio.run(serve((None, 443), text, str(secrets / "cert"), str(secrets / "key")))
