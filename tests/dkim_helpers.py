"""What the DKIM tests share: a key, a signer that holds it in memory, an independent verifier, a milter."""

import asyncio
import base64
import functools
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dkim
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

from mailinfra.dkim.milter import Connection, Service
from mailinfra.dkim.pool import Pool
from tests.milter_client import Client

MESSAGE = (
    b'From: "A. User" <user@example.test>\r\n'
    b"To: somebody@outside.test,\r\n\tanother@outside.test\r\n"
    b"Subject:  white   space \r\n and a fold\r\n"
    b"Date: Mon, 1 Jun 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.test>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain\r\n"
    b"\r\n"
    b"First  line \r\n\r\n.\r\nlast line\r\n\r\n"
)


_ONE_AT_A_TIME = threading.Lock()


def private_key() -> rsa.RSAPrivateKey:
    """Return the tests' one RSA-2048 key."""
    with _ONE_AT_A_TIME:  # a cache alone would make one for each thread that asks at first
        return _made()


@functools.cache
def _made() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_der(key: rsa.RSAPrivateKey) -> bytes:
    """Return a key's SubjectPublicKeyInfo."""
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, info)


def record(key: rsa.RSAPrivateKey | None = None) -> bytes:
    """Return the DKIM record of a key."""
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(public_der(key or private_key()))


class MemorySigner:
    """A signer as an HSM is one, whose key is in memory; `before` runs ahead of each signature."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.before = before
        self.digests: list[bytes] = []

    def sign(self, digest: bytes) -> bytes:
        self.digests.append(digest)
        self.before()
        return private_key().sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))


def verify(message: bytes, key: rsa.RSAPrivateKey | None = None) -> bool:
    """Let dkimpy judge the topmost signature of a message."""
    try:
        result: bool = dkim.DKIM(message).verify(dnsfunc=lambda _name, timeout=5: record(key))
    except dkim.ValidationError:
        return False
    return result


@asynccontextmanager
async def milter(
    folder: Path, signer: MemorySigner | None = None, concurrency: int = 32, **settings: Any
) -> AsyncIterator[tuple[Service, str]]:
    """Run a milter in this process; give its service and its address."""
    path = folder / "milter.json"
    spec = {"kind": "pkcs11", "module": "none", "token": "none", "label": "none", "pin_file": "none"}
    key = {"selector": "s1", "domains": ["example.test", "xn--bcher-kva.test"], "signer": spec}
    path.write_text(json.dumps({"listen": "inet:127.0.0.1:0", "keys": [key], **settings}))
    service = Service(path)
    pool = Pool(signer or MemorySigner(), concurrency, service.config.deadline)
    for identity in service.config.identities.values():
        object.__setattr__(identity, "pool", pool)
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"inet:127.0.0.1:{listener.getsockname()[1]}"
    server = await asyncio.get_running_loop().create_server(lambda: Connection(service), sock=listener)
    try:
        yield service, address
    finally:
        server.close()
        await server.wait_closed()
        pool.threads.shutdown()


async def one(address: str, message: bytes = MESSAGE, **how: Any) -> bytes | str:
    """Pass one message: return it as it leaves, signed, or the reply that it was refused with."""
    client = await Client.open(address)
    await client.connect()
    outcome = await client.send(message, **how)
    await client.close()
    return outcome.apply(message) if outcome.verdict == "c" else outcome.verdict
