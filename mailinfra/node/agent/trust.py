"""Whom a node trusts: the anchors of all regions, and what makes a certificate good under them (RFC 5280)."""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailinfra.node.agent.bucket import Bucket
from mailinfra.node.agent.node import announce, write

KEY = "trust/anchors.pem"
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


class TrustError(Exception):
    """A certificate or a set of anchors that is not good, and why."""


def certificates(pem: bytes) -> list[x509.Certificate]:
    """The certificates in PEM text. Raises `ValueError`."""
    return [x509.load_pem_x509_certificate(block) for block in PEM.findall(pem)]


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def spki(key: Any) -> bytes:
    """A public key as DER (SubjectPublicKeyInfo)."""
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


def anchors(text: bytes) -> list[x509.Certificate]:
    """The trust anchors in PEM text. Raises `TrustError` unless each one is a CA with name constraints."""
    try:
        found = certificates(text)
        for anchor in found:
            anchor.extensions.get_extension_for_class(x509.NameConstraints)
            if not anchor.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise TrustError(f"{anchor.subject.rfc4514_string()} is no CA")
    except (ValueError, x509.ExtensionNotFound) as error:
        raise TrustError(f"trust anchors: {error}") from error
    if not found:
        raise TrustError("no trust anchors")
    return found


def common_name(certificate: x509.Certificate) -> str:
    """The common name of a certificate's subject."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def permitted(anchor: x509.Certificate, name: str) -> bool:
    """Whether an anchor's name constraints permit a DNS name (RFC 5280 4.2.1.10)."""
    constraints = anchor.extensions.get_extension_for_class(x509.NameConstraints).value
    trees = [tree.value for tree in constraints.permitted_subtrees or () if isinstance(tree, x509.DNSName)]
    return any(f".{name}".endswith(f".{tree}") for tree in trees)


def names(certificate: x509.Certificate) -> list[str]:
    """The DNS names that a certificate is good for."""
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return alternative.get_values_for_type(x509.DNSName)


def issuer(leaf: x509.Certificate, trusted: Iterable[x509.Certificate]) -> x509.Certificate:
    """The anchor whose key signed a certificate. Raises `TrustError`."""
    for anchor in trusted:
        key = anchor.public_key()
        if leaf.issuer == anchor.subject and isinstance(key, ec.EllipticCurvePublicKey):
            try:
                key.verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                continue
            return anchor
    raise TrustError(f"no trust anchor signed it (issuer {leaf.issuer.rfc4514_string()})")


def validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """When a certificate begins and ends, in UTC."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    # Debian 12's cryptography gives naive UTC.
    return certificate.not_valid_before.replace(tzinfo=UTC), certificate.not_valid_after.replace(tzinfo=UTC)


def life_left(leaf: x509.Certificate, now: datetime) -> float:
    """The part of a certificate's life that is left, from 1 to 0 (negative when over)."""
    start, end = validity(leaf)
    return (end - now) / (end - start)


def check(
    leaf: x509.Certificate,
    key: Any,
    wanted: Collection[str],
    trusted: Iterable[x509.Certificate],
    now: datetime,
) -> x509.Certificate:
    """The anchor under which a certificate is good for a public key and exactly these names, else `TrustError`."""
    anchor = issuer(leaf, trusted)
    if spki(leaf.public_key()) != spki(key):
        raise TrustError("it is for another key")
    try:
        found = names(leaf)
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        ca = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound) as error:
        raise TrustError(str(error)) from error
    if sorted(found) != sorted(wanted):
        raise TrustError(f"it is for {sorted(found)}, not {sorted(wanted)}")
    if outside := [name for name in found if not permitted(anchor, name)]:
        raise TrustError(f"its anchor may not speak for {outside}")
    if ca or not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= set(usage):
        raise TrustError("it is no certificate of a TLS server and client")
    start, end = validity(leaf)
    if not start <= now < end:
        raise TrustError(f"it is valid from {start} to {end}")
    return anchor


class Trust:
    """Keeps the node's copy of the anchors like the bucket's."""

    def __init__(self, bucket: Bucket, path: Path) -> None:
        self.bucket, self.path, self.version = bucket, path, ""

    def step(self) -> None:
        """Pull the anchors when they have changed. Wrong ones change nothing: `TrustError`."""
        stored = self.bucket.get(KEY, self.version)
        if not stored:
            return
        anchors(stored.data)
        if not self.path.exists() or self.path.read_bytes() != stored.data:
            write(self.path, stored.data)
            announce(self.path.parent)
        self.version = stored.version
