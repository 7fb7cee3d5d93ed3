"""No private key goes through the program or its state."""

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mailinfra_policy.rules.keys_no_material import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

PLAIN = serialization.NoEncryption()
KEYS = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "rsa-3072": rsa.generate_private_key(65537, 3072),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
SCRIPT = "#!/bin/bash\nset -euo pipefail\n# The key stays in the HSM; this is no -----BEGIN PRIVATE KEY----- line.\n"
NODE = resource("aws:ec2/instance:Instance", "node", {"userData": SCRIPT, "tags": {"role": "mx"}})
PUBLIC = base64.b64encode(
    KEYS["rsa"]
    .public_key()
    .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()
RECORD = resource(
    "cloudflare:index/dnsRecord:DnsRecord", "dkim", {"type": "TXT", "content": f"v=DKIM1; k=rsa; p={PUBLIC}"}
)
PACKED = resource(
    "aws:ec2/instance:Instance",
    "packed",
    {"userDataBase64": base64.b64encode(gzip.compress((SCRIPT * 9).encode())).decode()},
)
GOOD = ([NODE], [RECORD], [PACKED])


def pem(name: str) -> str:
    return private(name, serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8).decode()


def private(name: str, encoding: serialization.Encoding, shape: serialization.PrivateFormat) -> bytes:
    return KEYS[name].private_bytes(encoding, shape, PLAIN)


def zipped(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode())).decode()


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    "hidden",
    [
        lambda text: text,
        lambda text: f"{SCRIPT}cat > /etc/key <<END\n{text}END\n",
        lambda text: text.replace("\n", "\\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: json.dumps({"type": "service_account", "private_key": text}),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: f"{SCRIPT}echo {base64.b64encode(text.encode()).decode()} | base64 -d > key\n",
        lambda text: zipped(SCRIPT + text),
        lambda text: base64.b64encode(zipped(text).encode()).decode(),
    ],
)
def test_a_pem_key_is_found_however_it_is_wrapped(name: str, hidden: Callable[[str], str]) -> None:
    assert places(RULE, [changed(NODE, userData=hidden(pem(name)))]) == [("node", "userData")]


@pytest.mark.parametrize("name", KEYS)
def test_a_key_without_its_armour_is_found(name: str) -> None:
    der = private(name, serialization.Encoding.DER, serialization.PrivateFormat.PKCS8)
    text = base64.b64encode(der).decode()
    assert places(RULE, [changed(NODE, userData=text)]) == [("node", "userData")]


@pytest.mark.parametrize("name", ["rsa", "rsa-3072", "p256", "p384"])
def test_the_older_forms_are_found(name: str) -> None:
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        key = private(name, encoding, serialization.PrivateFormat.TraditionalOpenSSL)
        text = key.decode() if key.startswith(b"-") else base64.b64encode(key).decode()
        assert places(RULE, [changed(NODE, userData=text)]) == [("node", "userData")]


def test_an_openssh_and_an_encrypted_key_are_found() -> None:
    shape = serialization.PrivateFormat.OpenSSH
    ssh = KEYS["ed25519"].private_bytes(serialization.Encoding.PEM, shape, PLAIN).decode()
    locked = KEYS["p256"].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for text in (ssh, locked.decode()):
        assert places(RULE, [changed(NODE, userData=text)]) == [("node", "userData")]


@pytest.mark.parametrize(
    "text",
    [
        "AWS_ACCESS_KEY_ID=AKIA" + "ABCDEFGHIJKLMNOP",
        "aws_secret_access_key = " + "a1B2" * 10,
        '{"secretAccessKey": "' + "a1B2" * 10 + '"}',
        "key=AIza" + "aB3" * 11 + "xy",
        '{"kty": "EC", "crv": "P-256", "d": "' + "aB3_" * 10 + '"}',
        "AGE-SECRET-KEY-1" + "Q" * 58,
    ],
)
def test_credentials_are_found(text: str) -> None:
    assert places(RULE, [changed(NODE, userData=f"export {text}\n")]) == [("node", "userData")]


@pytest.mark.parametrize(
    ("token", "props", "path"),
    [
        ("aws:acm/certificate:Certificate", {"privateKey": "…"}, "privateKey"),
        (
            "aws:sesv2/emailIdentity:EmailIdentity",
            {"dkimSigningAttributes": {"domainSigningPrivateKey": "x"}},
            "dkimSigningAttributes.domainSigningPrivateKey",
        ),
        ("gcp:compute/disk:Disk", {"diskEncryptionKey": {"rawKey": "x"}}, "diskEncryptionKey.rawKey"),
        ("aws:kms/externalKey:ExternalKey", {"keyMaterialBase64": UNKNOWN}, "keyMaterialBase64"),
        (
            "random:index/thing:Thing",
            {"nested": [{"deep": {"privateKeyPem": "x"}}]},
            "nested[0].deep.privateKeyPem",
        ),
    ],
)
def test_inputs_that_take_keys_stay_empty(token: str, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [resource(token, "it", props)]) == [("it", path)]


@pytest.mark.parametrize(
    "token",
    ["tls:index/privateKey:PrivateKey", "aws:iam/accessKey:AccessKey", "gcp:serviceaccount/key:Key"],
)
def test_what_makes_a_secret_key_is_found_in_any_sdk(token: str) -> None:
    assert places(RULE, [resource(token, "it", {})]) == [("it", "")]


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n",
        f"v=DKIM1; p={PUBLIC}",
        PUBLIC,
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "f" * 40,
        "QUtJQQ==" * 20,
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert found(RULE, [changed(NODE, userData=text)]) == []


def test_unknown_is_judged_when_it_is_known() -> None:
    assert found(RULE, [changed(NODE, userData=UNKNOWN)]) == []
