"""The node's own key and certificate. The key is made here and never leaves."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from mailinfra.node.agent.bucket import Bucket
from mailinfra.node.agent.node import Node, announce, write
from mailinfra.node.agent.trust import TrustError, anchors, certificates, check, life_left, pem, spki

RENEW = 1 / 3
"""The part of a certificate's life that is left when the node looks for the next one."""


def request(key: ec.EllipticCurvePrivateKey, wanted: tuple[str, ...]) -> bytes:
    """A certificate request (RFC 2986) as PEM: proof that its sender holds the key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted[0].partition(".")[0])])
    alternative = x509.SubjectAlternativeName([x509.DNSName(item) for item in wanted])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(alternative, False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


class Enrol:
    """Sees to it that the node has a good certificate."""

    def __init__(self, node: Node, bucket: Bucket) -> None:
        self.node, self.bucket = node, bucket
        self.asked = False
        self.version = ""

    def key(self) -> ec.EllipticCurvePrivateKey:
        """The node's private key, made at the first call."""
        path = self.node.tls / "key.pem"
        if not path.exists():
            fresh = ec.generate_private_key(ec.SECP256R1())
            write(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        key = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path}: not an EC key")
        return key

    def step(self) -> None:
        """Ask for a certificate, or install the next one. `TrustError` says what is being waited for."""
        node = self.node
        trusted = anchors((node.tls / "anchors.pem").read_bytes())
        key, now, path = self.key(), datetime.now(UTC), node.tls / "cert.pem"
        left = 0.0
        if path.exists():
            try:
                leaf = certificates(path.read_bytes())[0]
                check(leaf, key.public_key(), node.names, trusted, now)
                left = life_left(leaf, now)
            except (TrustError, ValueError, IndexError):
                left = 0.0
        if left > RENEW:
            return
        self.ask(key)
        try:
            stored = self.bucket.get(f"certs/{node.group}/{node.name}.pem", self.version)
        except KeyError:
            raise TrustError("waiting for the issuer's certificate") from None
        if not stored:
            return
        leaf = certificates(stored.data)[0]
        anchor = check(leaf, key.public_key(), node.names, trusted, now)
        self.version = stored.version
        if life_left(leaf, now) > left:
            # The anchor goes with it: TLSA records name the anchor (DANE-TA, RFC 7671 5.2), so it must be sent.
            write(path, pem(leaf) + pem(anchor))
            announce(node.tls)

    def ask(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Put a request into the bucket, unless one for the same key and names lies there."""
        node, place = self.node, f"enrol/{self.node.group}/{self.node.name}.csr"
        if self.asked:
            return
        try:
            stored = self.bucket.get(place)
            old = x509.load_pem_x509_csr(stored.data if stored else b"")
            alternative = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            listed = tuple(alternative.get_values_for_type(x509.DNSName))
            self.asked = spki(old.public_key()) == spki(key.public_key()) and listed == node.names
        except (KeyError, ValueError, x509.ExtensionNotFound):
            pass
        if not self.asked:
            self.bucket.put(place, request(key, node.names))
            self.asked = True
