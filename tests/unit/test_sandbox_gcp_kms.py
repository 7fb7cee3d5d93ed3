import base64
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from mailinfra.sandbox.gcp import kms
from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.hsm_worker import verify
from mailinfra.sandbox.gcp.http import ApiError
from mailinfra.sandbox.gcp.store import now
from tests.gcp_helpers import LOCATION, account, b64, crypto_key, grant, operator

RSA = {
    "purpose": "ASYMMETRIC_SIGN",
    "versionTemplate": {"algorithm": "RSA_SIGN_PKCS1_2048_SHA256", "protectionLevel": "HSM"},
}
EC = {
    "purpose": "ASYMMETRIC_SIGN",
    "versionTemplate": {"algorithm": "EC_SIGN_P256_SHA256", "protectionLevel": "HSM"},
}


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleApis]:
    made = GoogleApis(tmp_path_factory.mktemp("gcp"))
    yield made
    made.close()


@pytest.mark.parametrize(("name", "fields"), [("sign-rsa", RSA), ("sign-ec", EC)])
def test_a_signature_verifies_with_the_published_key(
    apis: GoogleApis, name: str, fields: dict[str, Any]
) -> None:
    client, version = operator(apis), f"/v1/{crypto_key(apis, name, **fields)}/cryptoKeyVersions/1"
    public = client("GET", f"{version}/publicKey")
    assert public["pemCrc32c"] == str(google_crc32c.value(public["pem"].encode()))
    digest = hashlib.sha256(b"header").digest()
    body = {"digest": {"sha256": b64(digest)}, "digestCrc32c": str(google_crc32c.value(digest))}
    answer = client("POST", f"{version}:asymmetricSign", body)
    signature = base64.b64decode(answer["signature"])
    assert answer["signatureCrc32c"] == str(google_crc32c.value(signature))
    assert answer["verifiedDigestCrc32c"] is True
    assert answer["protectionLevel"] == "HSM"
    verify(public["pem"], public["algorithm"], digest, signature)
    of_data = client("POST", f"{version}:asymmetricSign", {"data": b64(b"header")})
    verify(public["pem"], public["algorithm"], digest, base64.b64decode(of_data["signature"]))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Exactly one of digest and data"),
        ({"digest": {"sha512": b64(bytes(64))}}, "needs a sha256 digest"),
        ({"digest": {"sha256": b64(b"short")}}, "has 32 bytes, got 5"),
        ({"digest": {"sha256": "%%%"}}, "Base64 decoding failed"),
        ({"digest": {"sha256": b64(bytes(32))}, "digestCrc32c": "1"}, "checksum"),
    ],
)
def test_a_bad_request_to_sign_is_refused(apis: GoogleApis, body: dict[str, Any], message: str) -> None:
    if operator(apis).code("GET", f"{LOCATION}/keyRings/ring/cryptoKeys/refuse") == 404:
        crypto_key(apis, "refuse", **EC)
    with pytest.raises(ApiError, match=message) as raised:
        operator(apis)(
            "POST", f"{LOCATION}/keyRings/ring/cryptoKeys/refuse/cryptoKeyVersions/1:asymmetricSign", body
        )
    assert raised.value.code == 400


def test_neither_rings_nor_keys_are_made_twice(apis: GoogleApis) -> None:
    crypto_key(apis, "once")
    client = operator(apis)
    assert client.code("POST", f"{LOCATION}/keyRings?keyRingId=ring", {}) == 409
    body = {"purpose": "ENCRYPT_DECRYPT"}
    assert client.code("POST", f"{LOCATION}/keyRings/ring/cryptoKeys?cryptoKeyId=once", body) == 409
    assert client.code("POST", f"{LOCATION}/keyRings/none/cryptoKeys?cryptoKeyId=k", body) == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"purpose": "MAC"},
        {"purpose": "ASYMMETRIC_SIGN"},
        {"versionTemplate": {"algorithm": "EC_SIGN_P256_SHA256"}},
        {"versionTemplate": {"protectionLevel": "EXTERNAL"}},
        {"rotationPeriod": "60s"},
        {"rotationPeriod": "three days"},
        {**EC, "rotationPeriod": "7776000s"},
    ],
)
def test_a_key_that_cannot_be_is_refused(apis: GoogleApis, fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as raised:
        crypto_key(apis, "impossible", **fields)
    assert raised.value.code == 400


def test_only_who_is_granted_may_sign_and_see(apis: GoogleApis) -> None:
    key = crypto_key(apis, "granted", **EC)
    member, node = account(apis, "signing-node")
    sign = f"/v1/{key}/cryptoKeyVersions/1:asymmetricSign"
    body = {"digest": {"sha256": b64(bytes(32))}}
    assert node.code("POST", sign, body) == 403
    grant(apis, key, "roles/cloudkms.signer", member)
    assert node.code("POST", sign, body) == 200
    assert node.code("GET", f"/v1/{key}/cryptoKeyVersions/1/publicKey") == 403
    grant(apis, key, "roles/cloudkms.publicKeyViewer", member)
    assert node.code("GET", f"/v1/{key}/cryptoKeyVersions/1/publicKey") == 200
    assert node.code("POST", f"/v1/{key}/cryptoKeyVersions/1:destroy", {}) == 403


def test_a_grant_on_the_ring_holds_for_its_keys_if_its_condition_does(apis: GoogleApis) -> None:
    key = crypto_key(apis, "conditional")
    member, node = account(apis, "conditional-node")
    ring = key.partition("/cryptoKeys/")[0]
    grant(apis, ring, "roles/cloudkms.cryptoKeyEncrypter", member, f'resource.name.endsWith("{key[-11:]}")')
    assert node.code("POST", f"/v1/{key}:encrypt", {"plaintext": b64(b"x")}) == 200
    other = crypto_key(apis, "elsewhere")
    assert node.code("POST", f"/v1/{other}:encrypt", {"plaintext": b64(b"x")}) == 403


def test_a_rotation_keeps_what_was_encrypted_before(
    apis: GoogleApis, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = crypto_key(apis, "rotating", rotationPeriod="86400s")
    client = operator(apis)
    before = client("POST", f"/v1/{key}:encrypt", {"plaintext": b64(b"old")})
    assert before["name"].endswith("/cryptoKeyVersions/1")
    monkeypatch.setattr(kms, "now", lambda: now() + timedelta(days=2, hours=1))
    after = client("POST", f"/v1/{key}:encrypt", {"plaintext": b64(b"new")})
    assert after["name"].endswith("/cryptoKeyVersions/2")
    for answer, text in ((before, b"old"), (after, b"new")):
        opened = client("POST", f"/v1/{key}:decrypt", {"ciphertext": answer["ciphertext"]})
        assert base64.b64decode(opened["plaintext"]) == text
    assert client("GET", f"/v1/{key}")["primary"]["name"].endswith("/2")


def test_a_destroyed_version_can_be_restored_until_its_time_is_over(
    apis: GoogleApis, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = crypto_key(apis, "mortal", **EC, destroyScheduledDuration="86400s")
    client, version = operator(apis), f"/v1/{key}/cryptoKeyVersions/1"
    sign = {"digest": {"sha256": b64(bytes(32))}}
    assert client("POST", f"{version}:destroy", {})["state"] == "DESTROY_SCHEDULED"
    assert client.code("POST", f"{version}:asymmetricSign", sign) == 400
    assert client("POST", f"{version}:restore", {})["state"] == "DISABLED"
    assert client("PATCH", f"{version}?updateMask=state", {"state": "ENABLED"})["state"] == "ENABLED"
    assert client.code("POST", f"{version}:asymmetricSign", sign) == 200
    client("POST", f"{version}:destroy", {})
    key_id = apis.store.get("cryptoKeyVersion", version.removeprefix("/v1/"))["hsm"]["id"]  # type: ignore[index]
    monkeypatch.setattr(kms, "now", lambda: now() + timedelta(days=2))
    apis.kms.sweep()
    assert client("GET", version)["state"] == "DESTROYED"
    assert apis.hsm._ask("public", key=key_id) == "", "the key is gone from the token"
    assert client.code("POST", f"{version}:restore", {}) == 400


def test_a_ciphertext_that_was_altered_is_refused(apis: GoogleApis) -> None:
    key = crypto_key(apis, "altered")
    client = operator(apis)
    sealed = base64.b64decode(client("POST", f"/v1/{key}:encrypt", {"plaintext": b64(b"x")})["ciphertext"])
    for bad in (
        sealed[:-1] + bytes([sealed[-1] ^ 1]),
        b"\x01\0\0\0\x09" + sealed[5:],
        b"",
        b"\x02" + sealed[1:],
    ):
        assert client.code("POST", f"/v1/{key}:decrypt", {"ciphertext": b64(bad)}) == 400


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    first = GoogleApis(tmp_path)
    key = crypto_key(first, "kept", **EC)
    sealer = crypto_key(first, "sealer")
    sealed = operator(first)("POST", f"/v1/{sealer}:encrypt", {"plaintext": b64(b"kept")})["ciphertext"]
    public = operator(first)("GET", f"/v1/{key}/cryptoKeyVersions/1/publicKey")
    token = first.identity.operator_token
    first.close()
    second = GoogleApis(tmp_path)
    try:
        assert second.identity.operator_token == token
        assert operator(second)("GET", f"/v1/{key}/cryptoKeyVersions/1/publicKey") == public
        opened = operator(second)("POST", f"/v1/{sealer}:decrypt", {"ciphertext": sealed})
        assert base64.b64decode(opened["plaintext"]) == b"kept"
    finally:
        second.close()
