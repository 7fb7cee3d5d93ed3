"""Tests of mailinfra.probe.keys: what a key can look like, and what only looks like one."""

import base64
import gzip
import json
import os
import textwrap

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mailinfra.probe import keys

KEY = rsa.generate_private_key(65537, 2048)
NUMBERS = KEY.private_numbers()
MODULUS = NUMBERS.public_numbers.n
PKCS1 = KEY.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
PKCS8 = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
OLD_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def url(number: int) -> str:
    return base64.urlsafe_b64encode(octets(number)).rstrip(b"=").decode()


FORMS = {
    "PEM": PEM,
    "PEM of PKCS#1": OLD_PEM,
    "PEM in JSON": json.dumps({"key": PEM.decode()}).encode(),
    "PEM in YAML": b"key: |\n" + textwrap.indent(PEM.decode(), "    ").encode(),
    "PKCS#1": PKCS1,
    "PKCS#8": PKCS8,
    **{f"base64 of PKCS#1, shift {n}": base64.b64encode(b"?" * n + PKCS1) for n in range(3)},
    **{f"base64 of PKCS#8, shift {n}": base64.b64encode(b"?" * n + PKCS8) for n in range(3)},
    "base64 in lines": base64.encodebytes(PKCS8),
    "base64 in lines in JSON": json.dumps(base64.encodebytes(PKCS8).decode()).encode(),
    "base64url": base64.urlsafe_b64encode(PKCS8),
    "hexadecimal": PKCS1.hex().encode(),
    "HEXADECIMAL": PKCS8.hex().upper().encode(),
    "JWK": json.dumps({"kty": "RSA", "n": url(MODULUS), "e": "AQAB", "d": url(NUMBERS.d)}).encode(),
    "big-endian numbers": octets(MODULUS) + b"whatever" + octets(NUMBERS.p),
    "little-endian numbers": octets(NUMBERS.q)[::-1] + b"whatever" + octets(MODULUS)[::-1],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_planted_key_is_found(form: str) -> None:
    found = keys.find(os.urandom(3001) + FORMS[form] + os.urandom(3001), [MODULUS])
    assert MODULUS in {key.modulus for key in found}


@pytest.mark.parametrize("form", [form for form in FORMS if "endian" not in form])
def test_a_planted_key_is_found_though_nobody_knew_it(form: str) -> None:
    assert MODULUS in {key.modulus for key in keys.find(b"before\n" + FORMS[form] + b"\nafter")}


@pytest.mark.parametrize(
    "text",
    [
        PUBLIC,
        base64.b64encode(PUBLIC),
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        octets(MODULUS),
        json.dumps({"kty": "RSA", "n": url(MODULUS), "e": "AQAB"}).encode(),
        b"-----BEGIN PRIVATE KEY-----",
        b"a -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY----- in a text",
        ec.derive_private_key(7, ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        keys.VERSION_AND_MODULUS * 50,
        b"privateExponent: see RFC 8017",
        base64.b64encode(keys.VERSION_AND_MODULUS + bytes(500)),
        os.urandom(100_000),
        b"",
    ],
)
def test_what_is_no_private_rsa_key_is_not_called_one(text: bytes) -> None:
    assert keys.find(text, [MODULUS]) == []
    assert keys.find_wrapped(text, [MODULUS]) == []


def test_numbers_that_do_not_fit_together_are_no_key() -> None:
    damaged = bytearray(PKCS1)
    damaged[400] ^= 1
    assert keys.private_modulus(PKCS1[4:]) == MODULUS
    assert keys.private_modulus(bytes(damaged[4:])) == 0
    assert keys.private_modulus(PKCS1[4:300]) == 0


@pytest.mark.parametrize(
    "wrapped",
    [
        base64.b64encode(gzip.compress(b"#!/bin/sh\n" + PEM)),
        json.dumps({"user_data": base64.b64encode(gzip.compress(PEM)).decode()}).encode(),
        gzip.compress(PKCS1),
        gzip.compress(PEM) + b'{"tags": {}}',
        b"header" + gzip.compress(PEM)[:-4],
        base64.b64encode(base64.b64encode(PEM)),
    ],
)
def test_a_key_is_found_inside_of_wrappings(wrapped: bytes) -> None:
    assert MODULUS in {key.modulus for key in keys.find_wrapped(wrapped)}


def test_a_key_that_cannot_be_read_is_found_all_the_same() -> None:
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    assert keys.find(locked) == [keys.FoundKey("PEM, encrypted", 0)]
    other = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert keys.find(other) == [keys.FoundKey("PEM of OpenSSH", 0)]


def test_a_large_key_is_found() -> None:
    large = rsa.generate_private_key(65537, 3072)
    text = large.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert [key.modulus for key in keys.find(text)] == [large.public_key().public_numbers().n]
