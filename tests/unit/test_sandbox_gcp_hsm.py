import base64
import hashlib
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from mailinfra.sandbox.gcp.hsm import Hsm, HsmError, find_module
from mailinfra.sandbox.gcp.hsm_worker import LABEL, verify

DIGESTS = {"SHA256": hashlib.sha256, "SHA384": hashlib.sha384, "SHA512": hashlib.sha512}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hsm")


@pytest.fixture(scope="module")
def hsm(folder: Path) -> Iterator[Hsm]:
    made = Hsm(folder)
    yield made
    made.close()


@pytest.mark.parametrize(
    "algorithm",
    [
        "RSA_SIGN_PKCS1_2048_SHA256",
        "RSA_SIGN_PSS_2048_SHA256",
        "EC_SIGN_P256_SHA256",
        "EC_SIGN_P384_SHA384",
    ],
)
def test_a_signature_of_the_token_verifies_and_another_digest_does_not(hsm: Hsm, algorithm: str) -> None:
    key = hashlib.sha256(algorithm.encode()).hexdigest()[:16]
    pem = hsm.generate(key, algorithm)
    digest = DIGESTS[algorithm.rsplit("_", 1)[1]](b"a message").digest()
    signature = base64.b64decode(hsm.sign(key, algorithm, base64.b64encode(digest).decode()))
    verify(pem, algorithm, digest, signature)
    with pytest.raises(InvalidSignature):
        verify(pem, algorithm, bytes(reversed(digest)), signature)


def test_generating_under_the_same_id_gives_the_same_key(hsm: Hsm) -> None:
    assert hsm.generate("0a0a", "EC_SIGN_P256_SHA256") == hsm.generate("0a0a", "EC_SIGN_P256_SHA256")


def test_a_digest_of_the_wrong_length_is_refused(hsm: Hsm) -> None:
    hsm.generate("0b0b", "EC_SIGN_P256_SHA256")
    with pytest.raises(HsmError, match="32 bytes, got 5"):
        hsm.sign("0b0b", "EC_SIGN_P256_SHA256", base64.b64encode(b"short").decode())


def test_ciphertext_is_bound_to_key_and_aad(hsm: Hsm) -> None:
    hsm.generate("0c01", "GOOGLE_SYMMETRIC_ENCRYPTION")
    hsm.generate("0c02", "GOOGLE_SYMMETRIC_ENCRYPTION")
    text, aad = base64.b64encode(b"secret").decode(), base64.b64encode(b"about").decode()
    sealed = hsm.encrypt("0c01", text, aad)
    assert hsm.decrypt("0c01", sealed, aad) == text
    for key, other in (("0c02", aad), ("0c01", "")):
        with pytest.raises(HsmError):
            hsm.decrypt(key, sealed, other)


def test_keys_made_at_once_are_seen_by_every_session(hsm: Hsm) -> None:
    failed: list[Exception] = []
    digest = base64.b64encode(bytes(32)).decode()

    def work(number: int) -> None:
        try:
            hsm.generate(f"0d{number:02x}", "EC_SIGN_P256_SHA256")
            for other in range(number + 1):
                hsm.generate(f"0d{other:02x}", "EC_SIGN_P256_SHA256")
                hsm.sign(f"0d{other:02x}", "EC_SIGN_P256_SHA256", digest)
        except HsmError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_no_key_leaves_the_token(hsm: Hsm, folder: Path) -> None:
    """Through a session of the test's own: what the token's owner could do, it cannot get a key out."""
    import json
    import subprocess
    import sys

    hsm.generate("0e01", "RSA_SIGN_PKCS1_2048_SHA256")
    hsm.generate("0e02", "GOOGLE_SYMMETRIC_ENCRYPTION")
    program = """
import json, sys, pkcs11
from pkcs11 import Attribute, ObjectClass
module, label, pin = sys.argv[1:]
found = []
with pkcs11.lib(module).get_token(token_label=label).open(user_pin=pin) as session:
    secrets = {ObjectClass.PRIVATE_KEY: Attribute.PRIVATE_EXPONENT, ObjectClass.SECRET_KEY: Attribute.VALUE}
    for kind, secret in secrets.items():
        for key in session.get_objects({Attribute.CLASS: kind}):
            try:
                key[secret]
                leaked = True
            except pkcs11.PKCS11Error:
                leaked = False
            found.append([kind.name, bool(key[Attribute.SENSITIVE]), bool(key[Attribute.EXTRACTABLE]), leaked])
print(json.dumps(found))
"""
    pin = json.loads((folder / "pins.json").read_text())["pin"]
    done = subprocess.run(
        [sys.executable, "-c", program, find_module(), LABEL, pin],
        env={**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm2.conf")},
        capture_output=True,
        text=True,
        check=True,
    )
    keys = json.loads(done.stdout)
    assert {kind for kind, *_ in keys} == {"PRIVATE_KEY", "SECRET_KEY"}
    assert all(rest == [True, False, False] for _, *rest in keys)


def test_pins_are_only_the_owners_to_read(hsm: Hsm, folder: Path) -> None:
    assert stat.S_IMODE((folder / "pins.json").stat().st_mode) == 0o600


def test_a_session_that_is_killed_is_opened_again(tmp_path: Path) -> None:
    hsm = Hsm(tmp_path, sessions=1)
    try:
        pem = hsm.generate("01", "EC_SIGN_P256_SHA256")
        worker = hsm._idle.get()
        assert worker is not None
        os.kill(worker._process.pid, signal.SIGKILL)
        hsm._idle.put(worker)
        digest = hashlib.sha256(b"x").digest()
        signature = hsm.sign("01", "EC_SIGN_P256_SHA256", base64.b64encode(digest).decode())
        verify(pem, "EC_SIGN_P256_SHA256", digest, base64.b64decode(signature))
    finally:
        hsm.close()


def test_the_token_outlives_its_processes(tmp_path: Path) -> None:
    first = Hsm(tmp_path)
    pem = first.generate("01", "EC_SIGN_P256_SHA256")
    first.close()
    second = Hsm(tmp_path)
    try:
        assert second.generate("01", "EC_SIGN_P256_SHA256") == pem
        second.destroy("01")
        with pytest.raises(HsmError, match="holds no"):
            second.sign("01", "EC_SIGN_P256_SHA256", base64.b64encode(bytes(32)).decode())
    finally:
        second.close()
    with pytest.raises(HsmError, match="closed"):
        second.random(8)


def test_a_missing_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHSM2_MODULE", "/nowhere/lib.so")
    with pytest.raises(HsmError, match=r"/nowhere/lib\.so.*libsofthsm2"):
        find_module()
