"""The Cloud KMS signer against a small Cloud KMS and metadata service over real RSA."""

import hashlib
import json
import socket
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from mailinfra.dkim.signers import SignError
from mailinfra.dkim.signers.gcp import Key, crc32c
from tests.dkim_helpers import MemorySigner, private_key

NAME = "projects/p/locations/europe-west3/keyRings/dkim/cryptoKeys/s1/cryptoKeyVersions/1"
DIGEST = hashlib.sha256(b"message").digest()


class Cloud(ThreadingHTTPServer):
    """Cloud KMS and the metadata service at one address."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tokens, self.signed, self.life = 0, 0, 3600
        self.fault: dict[str, Any] = {}
        """Members of the answer to replace, or `status`; each answer takes it once unless `always`."""
        self.connections: set[tuple[str, int]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Cloud

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.headers["Metadata-Flavor"] != "Google" or not self.path.endswith("default/token"):
            return self.answer(403, {})
        self.server.tokens += 1
        token = {
            "access_token": f"token{self.server.tokens}",
            "expires_in": self.server.life,
            "token_type": "Bearer",
        }
        return self.answer(200, token)

    def do_POST(self) -> None:
        self.server.connections.add(self.client_address)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = dict(self.server.fault)
        if not fault.get("always"):
            self.server.fault = {}
        if self.headers["Authorization"] != f"Bearer token{self.server.tokens}" or fault.get("status") == 401:
            return self.answer(401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}})
        if "status" in fault:
            return self.answer(fault["status"], {"error": {"code": fault["status"], "message": "fault"}})
        assert self.path == f"/v1/{NAME}:asymmetricSign"
        digest = b64decode(body["digest"]["sha256"])
        assert len(digest) == 32
        assert set(body) == {"digest", "digestCrc32c"}
        signature = MemorySigner().sign(digest)
        self.server.signed += 1
        whole = {
            "signature": b64encode(signature).decode(),
            "signatureCrc32c": str(crc32c(signature)),
            "verifiedDigestCrc32c": int(body["digestCrc32c"]) == crc32c(digest),
            "name": NAME,
            "protectionLevel": "HSM",
        }
        return self.answer(200, {**whole, **fault})


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def key(cloud: Cloud) -> Iterator[Key]:
    signer = Key(key=NAME, endpoint=cloud.url, metadata=cloud.url, timeout=5)
    yield signer
    while signer.idle:
        signer.idle.pop().close()


def test_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of RFC 3720's polynomial
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 B.4


def test_signature_is_that_of_the_key(key: Key) -> None:
    private_key().public_key().verify(key.sign(DIGEST), b"message", padding.PKCS1v15(), hashes.SHA256())


def test_token_and_connection_are_kept(key: Key, cloud: Cloud) -> None:
    for _ in range(3):
        key.sign(DIGEST)
    assert (cloud.tokens, cloud.signed, len(cloud.connections)) == (1, 3, 1)


def test_a_token_that_ends_is_replaced(key: Key, cloud: Cloud) -> None:
    cloud.life = 59
    key.sign(DIGEST)
    key.sign(DIGEST)
    assert cloud.tokens == 2


def test_a_token_that_is_refused_is_replaced(key: Key, cloud: Cloud) -> None:
    key.sign(DIGEST)
    cloud.fault = {"status": 401}
    with pytest.raises(SignError, match="HTTP 401") as caught:
        key.sign(DIGEST)
    assert caught.value.again
    key.sign(DIGEST)
    assert cloud.tokens == 2


@pytest.mark.parametrize(
    ("fault", "again"),
    [
        ({"status": 429}, True),
        ({"status": 500}, True),
        ({"status": 503}, True),
        ({"status": 400}, False),
        ({"status": 403}, False),
        ({"status": 404}, False),
        ({"signatureCrc32c": "1"}, True),
        ({"verifiedDigestCrc32c": False}, True),
        ({"name": NAME[:-1] + "2"}, True),
        ({"signature": "AAAA"}, True),
        ({"signature": None}, True),
        ({"signatureCrc32c": "x"}, True),
    ],
)
def test_faults(key: Key, cloud: Cloud, fault: dict[str, Any], again: bool) -> None:
    cloud.fault = fault
    with pytest.raises(SignError, match="projects/p/") as caught:
        key.sign(DIGEST)
    assert caught.value.again is again
    assert len(key.sign(DIGEST)) == 256


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SignError, match="ConnectionRefused") as caught:
            Key(key=NAME, endpoint=url, metadata=url).sign(DIGEST)
    assert caught.value.again


def test_many_threads(key: Key, cloud: Cloud) -> None:
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(key.sign(DIGEST))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 16
    assert len(set(results)) == 1
    assert cloud.tokens == 1
