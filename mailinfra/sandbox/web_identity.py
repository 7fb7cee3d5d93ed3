"""Identity tokens as Google signs them: JSON Web Tokens (RFC 7519) with RS256, and the keys that they are checked by.

https://cloud.google.com/compute/docs/instances/verifying-instance-identity
"""

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailinfra.sandbox.processes import write_atomic

ISSUER = "https://accounts.google.com"
SECONDS = 3600
"""How long a token holds, as Google's do."""
KEY_FILE = "identity.pem"
CERTS_FILE = "certs.json"
"""The public keys (JWK set, RFC 7517), for whoever checks tokens and is not in this process."""
Claims = dict[str, Any]


class TokenError(Exception):
    """A token that proves nothing. `expired` where it did once."""

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


def encoded(data: bytes) -> str:
    """Base64url without padding (RFC 7515 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """The reverse of `encoded`. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


class Issuer:
    """Signs tokens with a key of its own, which is made at the first start and stays in `folder`."""

    def __init__(self, folder: Path) -> None:
        file = folder / KEY_FILE
        if not file.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            pem = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write_atomic(file, pem.decode())
        loaded = serialization.load_pem_private_key(file.read_bytes(), None)
        if not isinstance(loaded, rsa.RSAPrivateKey):
            raise ValueError(f"{file} holds no RSA key")
        self._key = loaded
        numbers = loaded.public_key().public_numbers()
        modulus = encoded(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8))
        self._id = hashlib.sha256(modulus.encode()).hexdigest()[:40]
        exponent = encoded(numbers.e.to_bytes(3))
        self.certs: dict[str, Any] = {
            "keys": [
                {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": self._id, "n": modulus, "e": exponent}
            ]
        }
        write_atomic(folder / CERTS_FILE, json.dumps(self.certs))

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims, and from when to when it holds."""
        moment = int(time.time())
        whole = {"iss": ISSUER, "iat": moment, "exp": moment + SECONDS, **claims}
        head = {"alg": "RS256", "kid": self._id, "typ": "JWT"}
        text = ".".join(encoded(json.dumps(part).encode()) for part in (head, whole))
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{encoded(signature)}"


def verify(token: str, certs: Mapping[str, Any]) -> Claims:
    """The claims of a token that one of these keys signed and that still holds. Raises TokenError."""
    try:
        head, body, signature = token.split(".")
        header, claims = json.loads(decoded(head)), json.loads(decoded(body))
        signed = decoded(signature)
        kind, name = header["alg"], header["kid"]
        issuer, ends = claims["iss"], float(claims["exp"])
    except (ValueError, TypeError, KeyError) as error:
        raise TokenError("the token is no JSON Web Token with alg, kid, iss and exp") from error
    # The one algorithm: a token must not choose how it is checked (RFC 8725 3.1).
    if kind != "RS256":
        raise TokenError(f"the token's algorithm is {kind!r}; allowed: RS256")
    key = next((key for key in certs.get("keys", ()) if key["kid"] == name), None)
    if key is None:
        raise TokenError("the token is signed by a key that its issuer does not publish")
    numbers = rsa.RSAPublicNumbers(int.from_bytes(decoded(key["e"])), int.from_bytes(decoded(key["n"])))
    try:
        numbers.public_key().verify(signed, f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise TokenError("the token's signature does not hold") from error
    if issuer != ISSUER:
        raise TokenError(f"the token's issuer is {issuer!r}; allowed: {ISSUER}")
    if ends <= time.time():
        raise TokenError("the token has expired", expired=True)
    found: Claims = claims
    return found
