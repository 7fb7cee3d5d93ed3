"""The region's issuer: signs, with the region's CA key in KMS, what its nodes ask for and are entitled to.

A request proves that its sender holds a key; what the certificate says comes from the path under which the
request lies (where only that group's nodes can write) and from the fleet's config.
"""

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailinfra.node.agent.bucket import Bucket
from mailinfra.node.agent.kms import Sign
from mailinfra.node.agent.node import Node
from mailinfra.node.agent.trust import (
    TrustError,
    anchors,
    certificates,
    check,
    common_name,
    life_left,
    pem,
)

log = logging.getLogger("issuer")

LIFE = timedelta(days=7)
RENEW = 0.4
"""The part of a certificate's life that is left when the next is signed: before the node looks for it."""
PATH = re.compile(r"enrol/([a-z0-9-]+)/(([a-z0-9-]+)-[1-9][0-9]*)\.csr")


class RemoteKey(ec.EllipticCurvePrivateKey):
    """A P-256 private key that is elsewhere: `cryptography` builds, and `sign` has the bytes signed."""

    def __init__(self, public: ec.EllipticCurvePublicKey, sign: Sign) -> None:
        self.public, self.signer = public, sign

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self.public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """The DER ECDSA signature over the SHA-256 of `data`."""
        return self.signer(bytes(data))

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self.public.curve

    @property
    def key_size(self) -> int:
        """256 bits."""
        return self.public.key_size

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        """What only a key at hand could do."""
        raise TypeError("the private key is in an HSM")

    exchange = private_numbers = private_bytes = __copy__ = __deepcopy__ = refuse


def read_request(data: bytes, entitled: tuple[str, ...]) -> ec.EllipticCurvePublicKey:
    """The key of a good request. Raises `TrustError` for one that is broken or asks for more than its due."""
    try:
        request = x509.load_pem_x509_csr(data)
        key = request.public_key()
        asked = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise TrustError(f"unreadable: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TrustError("its key is not on P-256")
    if not request.is_signature_valid:
        raise TrustError("its signature is wrong")
    if len(request.extensions) != 1 or any(
        not isinstance(name, x509.DNSName) or name.value not in entitled for name in asked
    ):
        raise TrustError(f"it asks for {list(asked)}; entitled to {list(entitled)}")
    return key


def certificate(
    anchor: x509.Certificate,
    sign: Sign,
    key: ec.EllipticCurvePublicKey,
    entitled: tuple[str, ...],
    now: datetime,
) -> x509.Certificate:
    """A new certificate for a key and names; checked before it is given out (`TrustError`)."""
    authority = anchor.public_key()
    if not isinstance(authority, ec.EllipticCurvePublicKey):
        raise TrustError("the anchor's key is not on a curve")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, entitled[0].partition(".")[0])])
    identifier = anchor.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment"), False)
    usage |= dict.fromkeys(("key_agreement", "key_cert_sign", "crl_sign", "encipher_only"), False)
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.SubjectAlternativeName([x509.DNSName(name) for name in entitled]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(digital_signature=True, decipher_only=False, **usage), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    )
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(anchor.subject).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    # A node whose clock is behind must not find it not yet valid.
    builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + LIFE)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    leaf = builder.sign(RemoteKey(authority, sign), hashes.SHA256())
    check(leaf, key, entitled, [anchor], now)
    return leaf


class Issuer:
    """Answers the requests that lie in the control bucket."""

    def __init__(self, node: Node, bucket: Bucket, sign: Sign) -> None:
        self.node, self.bucket, self.sign = node, bucket, sign
        self.seen: dict[str, tuple[str, str, datetime]] = {}
        """For each request: its version, its certificate's version, and when to look at it again."""

    def step(self) -> None:
        """Sign what waits. One bad request does not keep the others waiting."""
        now = datetime.now(UTC)
        found = anchors((self.node.tls / "anchors.pem").read_bytes())
        name = f"{self.node.fleet} {self.node.region}"
        own = [anchor for anchor in found if common_name(anchor) == name]
        if len(own) != 1:
            raise TrustError(f"{len(own)} anchors are called {name}, not one")
        requests, issued = self.bucket.list("enrol/"), self.bucket.list("certs/")
        for path, version in requests.items():
            place = path.replace("enrol/", "certs/", 1).removesuffix(".csr") + ".pem"
            state = version, issued.get(place, "")
            if path in self.seen and self.seen[path][:2] == state and now < self.seen[path][2]:
                continue
            again = now + timedelta(minutes=10)
            try:
                self.answer(path, place, own[0], now)
            except TrustError as error:
                log.warning("%s refused: %s", path, error)
            except (KeyError, ValueError) as error:
                log.warning("%s: %s", path, error)
            self.seen[path] = *state, again

    def answer(self, path: str, place: str, anchor: x509.Certificate, now: datetime) -> None:
        """Sign one request unless its certificate is still fresh."""
        match = PATH.fullmatch(path)
        if not match or match[1] != match[3] or match[1] not in self.node.entitlements:
            raise TrustError("no node of this region has this path")
        name = f"{match[2]}.{self.node.region}.nodes.{self.node.domains[0]}"
        entitled = (name, *self.node.entitlements[match[1]])
        stored = self.bucket.get(path)
        if not stored:
            return
        key = read_request(stored.data, entitled)
        try:
            old = self.bucket.get(place)
            leaf = certificates(old.data if old else b"")[0]
            check(leaf, key, entitled, [anchor], now)
            if life_left(leaf, now) > RENEW:
                return
        except (KeyError, IndexError, ValueError, TrustError):
            pass
        leaf = certificate(anchor, self.sign, key, entitled, now)
        self.bucket.put(place, pem(leaf))
        log.info("signed %s, serial %x, for %s", path, leaf.serial_number, ", ".join(entitled))
