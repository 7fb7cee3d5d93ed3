"""Certificates have strong keys."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_certificate import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.test")])


@cache
def key(kind: str) -> Any:
    return {
        "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
        "rsa1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 (the weak one)
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p224": lambda: ec.generate_private_key(ec.SECP224R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ed448": ed448.Ed448PrivateKey.generate,
    }[kind]()


def certificate(kind: str) -> str:
    own = key(kind)
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(own.public_key())
    builder = builder.serial_number(1).not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
    signed = builder.sign(own, None if kind.startswith("ed") else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def request(kind: str) -> str:
    signed = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key(kind), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


TEXT = certificate("p256")
ASKED = resource(
    "aws:acm/certificate:Certificate", "asked", {"domainName": "x.test", "keyAlgorithm": "EC_prime256v1"}
)
BROUGHT = resource("aws:acm/certificate:Certificate", "brought", {"certificateBody": TEXT})
AUTHORITY = resource(
    "aws:acmpca/certificateAuthority:CertificateAuthority",
    "authority",
    {"certificateAuthorityConfiguration": {"keyAlgorithm": "EC_prime256v1"}},
)
ISSUED = resource(
    "gcp:certificatemanager/certificateIssuanceConfig:CertificateIssuanceConfig",
    "issued",
    {"keyAlgorithm": "ECDSA_P256"},
)
ROOT = resource(
    "gcp:certificateauthority/authority:Authority", "root", {"keySpec": {"algorithm": "EC_P256_SHA256"}}
)
POOL = resource(
    "gcp:certificateauthority/caPool:CaPool",
    "pool",
    {"issuancePolicy": {"allowedKeyTypes": [{"rsa": {"minModulusSize": "2048"}}, {"ellipticCurve": {}}]}},
)
ALIAS = resource(
    "gcp:apigee/keystoresAliasesSelfSignedCert:KeystoresAliasesSelfSignedCert", "alias", {"keySize": "2048"}
)
ORIGIN = resource(
    "cloudflare:index/originCaCertificate:OriginCaCertificate",
    "origin",
    {"requestType": "origin-ecc", "csr": request("p256")},
)
CSR = resource("cloudflare:index/customCsr:CustomCsr", "csr", {"keyType": "p256v1"})
CUSTOM = resource("cloudflare:index/customSsl:CustomSsl", "custom", {"certificate": TEXT})
IAM = resource("aws:iam/serverCertificate:ServerCertificate", "iam", {"certificateBody": TEXT})
SSL = resource("gcp:compute/sSLCertificate:SSLCertificate", "ssl", {"certificate": TEXT})
REGIONAL = resource(
    "gcp:compute/regionSslCertificate:RegionSslCertificate", "regional", {"certificate": TEXT}
)
MANAGER = resource(
    "gcp:certificatemanager/certificate:Certificate", "manager", {"selfManaged": {"pemCertificate": TEXT}}
)
RSA = resource("tls:index/privateKey:PrivateKey", "rsa", {"algorithm": "RSA", "rsaBits": 2048})
ECDSA = resource("tls:index/privateKey:PrivateKey", "ecdsa", {"algorithm": "ECDSA", "ecdsaCurve": "P256"})
GOOD = (
    [RSA, ECDSA],
    [ASKED, BROUGHT, AUTHORITY],
    [ISSUED, ROOT, POOL, ALIAS],
    [ORIGIN, CSR, CUSTOM],
    [IAM, SSL, REGIONAL, MANAGER],
)


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "ed25519"])
def test_strong_keys(kind: str) -> None:
    assert found(RULE, [changed(IAM, certificateBody=certificate(kind))]) == []


@pytest.mark.parametrize("kind", ["rsa1024", "p224", "ed448"])
def test_others_are_named(kind: str) -> None:
    assert places(RULE, [changed(IAM, certificateBody=certificate(kind))]) == [("iam", "certificateBody")]


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (ASKED, {"keyAlgorithm": "RSA_1024"}, "keyAlgorithm"),
        (ASKED, {"keyAlgorithm": "EC_prime256v1x"}, "keyAlgorithm"),
        (
            AUTHORITY,
            {"certificateAuthorityConfiguration": {}},
            "certificateAuthorityConfiguration.keyAlgorithm",
        ),
        (ISSUED, {"keyAlgorithm": "KEY_ALGORITHM_UNSPECIFIED"}, "keyAlgorithm"),
        (ROOT, {"keySpec": {"algorithm": "x"}}, "keySpec.algorithm"),
        (
            POOL,
            {"issuancePolicy": {"allowedKeyTypes": [{"rsa": {"minModulusSize": "1024"}}]}},
            "issuancePolicy.allowedKeyTypes[0].rsa.minModulusSize",
        ),
        (
            POOL,
            {"issuancePolicy": {"allowedKeyTypes": [{"rsa": {}}]}},
            "issuancePolicy.allowedKeyTypes[0].rsa.minModulusSize",
        ),
        (ALIAS, {"keySize": "1024"}, "keySize"),
        (ORIGIN, {"csr": request("rsa1024")}, "csr"),
        (CUSTOM, {"certificate": "x"}, "certificate"),
        (RSA, {"rsaBits": 1024}, "rsaBits"),
        (RSA, {"rsaBits": True}, "rsaBits"),
        (ECDSA, {"ecdsaCurve": None}, "ecdsaCurve"),
        (ECDSA, {"algorithm": "ecdsa"}, "algorithm"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_a_key_in_kms_and_the_clouds_own_default_are_fine() -> None:
    assert found(RULE, [changed(ROOT, keySpec={"cloudKmsKeyVersion": "projects/p/x"})]) == []
    assert found(RULE, [changed(ASKED, keyAlgorithm=None)]) == []


def test_unknown_is_found() -> None:
    for item in (changed(IAM, certificateBody=UNKNOWN), changed(ASKED, keyAlgorithm=UNKNOWN)):
        (only,) = found(RULE, [item])
        assert only.finding.unknown
