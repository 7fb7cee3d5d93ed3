"""Identity tokens: what an independent library makes of ours, and what ours makes of forgeries."""

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from mailinfra.sandbox.web_identity import CERTS_FILE, KEY_FILE, Issuer, TokenError, decoded, encoded, verify

CLAIMS = {"aud": "vault", "azp": "107", "sub": "107"}


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


def test_another_implementation_takes_the_token(issuer: Issuer) -> None:
    token = jwt.decode(issuer.sign(CLAIMS), KeySet.import_key_set(issuer.certs), algorithms=["RS256"])
    assert token.claims | CLAIMS == token.claims
    assert token.claims["iss"] == "https://accounts.google.com"
    assert token.claims["exp"] - token.claims["iat"] == 3600


def test_the_key_stays_and_only_its_public_half_is_published(tmp_path: Path) -> None:
    token = Issuer(tmp_path).sign(CLAIMS)
    assert verify(token, Issuer(tmp_path).certs)["sub"] == "107"
    published = json.loads((tmp_path / CERTS_FILE).read_text())
    assert verify(token, published)["aud"] == "vault"
    assert set(published["keys"][0]) == {"kty", "alg", "use", "kid", "n", "e"}
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def forged(issuer: Issuer, **head: Any) -> str:
    """A token without a signature, whose header says something else."""
    parts = (
        {"alg": "RS256", "kid": issuer.certs["keys"][0]["kid"], **head},
        {**CLAIMS, "iss": "x", "exp": 9e9},
    )
    return ".".join(encoded(json.dumps(part).encode()) for part in parts)


def test_a_forged_token_is_refused(issuer: Issuer, tmp_path: Path) -> None:
    good = issuer.sign(CLAIMS)
    head, _, signature = good.split(".")
    body = encoded(
        json.dumps({**CLAIMS, "sub": "108", "iss": "https://accounts.google.com", "exp": 9e9}).encode()
    )
    (tmp_path / "other").mkdir()
    other = Issuer(tmp_path / "other")
    # RFC 8725 2.1: "none", and the public key taken for a shared secret.
    confused = forged(issuer, alg="HS256")
    secret = json.dumps(issuer.certs["keys"][0]).encode()
    confused += f".{encoded(hmac.digest(secret, confused.encode(), hashlib.sha256))}"
    cases = {
        f"{head}.{body}.{signature}": "signature does not hold",
        good.rpartition(".")[0] + ".": "signature does not hold",
        other.sign(CLAIMS): "does not publish",
        forged(issuer, alg="none") + ".": "algorithm is 'none'",
        confused: "algorithm is 'HS256'",
        "a.b": "no JSON Web Token",
        "a.b.c": "no JSON Web Token",
        "": "no JSON Web Token",
    }
    for token, reason in cases.items():
        with pytest.raises(TokenError, match=reason) as raised:
            verify(token, issuer.certs)
        assert not raised.value.expired


def test_a_token_ends_and_is_of_its_issuer(issuer: Issuer) -> None:
    with pytest.raises(TokenError, match="expired") as raised:
        verify(issuer.sign({**CLAIMS, "exp": int(time.time()) - 1}), issuer.certs)
    assert raised.value.expired
    with pytest.raises(TokenError, match="issuer"):
        verify(issuer.sign({**CLAIMS, "iss": "https://accounts.example.test"}), issuer.certs)
    with pytest.raises(TokenError, match="does not publish"):
        verify(issuer.sign(CLAIMS), {})


def test_base64url_without_padding() -> None:
    assert encoded(b"\xfb\xff") == "-_8"
    assert decoded("-_8") == b"\xfb\xff"
    with pytest.raises(ValueError):
        decoded("not base64!")
