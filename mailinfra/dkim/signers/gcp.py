"""A key version in Google Cloud KMS, by its REST interface: Debian has no package of the client library."""

import json
import threading
import time
from base64 import b64decode, b64encode
from collections import deque
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from mailinfra.dkim.signers import SignError

CREDENTIAL_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
FINAL = (400, 403, 404)
"""Statuses that the next try would meet again."""
POLYNOMIAL = 0x82F63B78


def table_entry(value: int) -> int:
    """Return the CRC-32C of one octet."""
    for _ in range(8):
        value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
    return value


TABLE = [table_entry(value) for value in range(256)]


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (RFC 3720 B.4), with which Cloud KMS guards what it gets and gives."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc = crc >> 8 ^ TABLE[(crc ^ octet) & 255]
    return crc ^ 0xFFFFFFFF


def connect(url: str, timeout: float) -> HTTPConnection:
    """Return a connection to the host of a URL."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout)


class Key:
    """A key version of algorithm RSA_SIGN_PKCS1_*_SHA256.

    `key` is its resource name (`projects/…/cryptoKeyVersions/1`), `endpoint` and `metadata` the URLs of
    Cloud KMS and of the metadata service, `timeout` the seconds for each step. The access token is the node's
    service account's.
    """

    def __init__(
        self,
        *,
        key: str,
        endpoint: str = "https://cloudkms.googleapis.com",
        metadata: str = "http://169.254.169.254",
        timeout: float = 5.0,
    ) -> None:
        self.key, self.endpoint, self.metadata, self.timeout = key, endpoint, metadata, timeout
        self.idle: deque[HTTPConnection] = deque()
        self.lock = threading.Lock()
        self.token, self.expiry = "", 0.0

    def authorize(self) -> str:
        """Return an access token that is good for another minute."""
        with self.lock:
            if time.monotonic() > self.expiry:
                connection = connect(self.metadata, self.timeout)
                try:
                    connection.request("GET", CREDENTIAL_PATH, headers={"Metadata-Flavor": "Google"})
                    answer = json.load(connection.getresponse())
                finally:
                    connection.close()
                self.token, self.expiry = answer["access_token"], time.monotonic() + answer["expires_in"] - 60
            return self.token

    def sign(self, digest: bytes) -> bytes:
        """See `Signer.sign`."""
        body = {"digest": {"sha256": b64encode(digest).decode()}, "digestCrc32c": str(crc32c(digest))}
        try:
            connection = self.idle.pop()
        except IndexError:
            connection = connect(self.endpoint, self.timeout)
        try:
            headers = {"Authorization": f"Bearer {self.authorize()}", "Content-Type": "application/json"}
            connection.request("POST", f"/v1/{self.key}:asymmetricSign", json.dumps(body), headers)
            response = connection.getresponse()
            answer = json.load(response)
            if response.status == 200:
                signature = b64decode(answer["signature"])
                whole = answer["verifiedDigestCrc32c"] and int(answer["signatureCrc32c"]) == crc32c(signature)
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            connection.close()
            self.idle.clear()  # the others are likely as stale
            raise SignError(f"{self.key}: {error!r}") from error
        self.idle.append(connection)
        if response.status == 401:
            self.expiry = 0.0
        if response.status != 200:
            raise SignError(f"{self.key}: HTTP {response.status}: {answer}", response.status not in FINAL)
        if not whole or answer.get("name") != self.key:
            raise SignError(f"{self.key}: the answer was damaged on its way, or is another key's")
        return signature
