"""Trust anchors: a region's CA key in the form in which TLS libraries take one, an X.509 certificate.

For a trust anchor only its name, its key and its constraints count (RFC 5280 6.1.1 (d), RFC 5937); nobody
verifies the signature that it bears on itself. So it is a pure function of what it says: the key need not sign
it, and it can be made wherever the public key is known, the same bytes each time.
"""

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID

from mailinfra.node.agent.issuer import RemoteKey

LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
HOST_NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*")
NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""No well-defined end (RFC 5280 4.1.2.5): the key ends when it leaves the fleet's anchors."""


def anchor_pem(name: str, public_key_der: bytes, permitted_names: Iterable[str]) -> str:
    """The trust anchor of a CA key, as PEM.

    `name` becomes its common name (at most 64 characters), `public_key_der` is a SubjectPublicKeyInfo on P-256.
    It may speak for `permitted_names` and what is below them, and for no IP address; the constraint is critical.
    Raises `ValueError` for another kind of key, no names, or names that are not in lower-case ASCII.
    """
    key = load_der_public_key(public_key_der)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(f"the CA key of {name} is not on P-256")
    names = list(dict.fromkeys(permitted_names))
    # An empty name would permit every name there is.
    if not names or not all(HOST_NAME.fullmatch(text) for text in names):
        raise ValueError(
            f"the names that {name} may speak for are {names}; allowed: host names in lower case"
        )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        False,
    )
    usage |= {"key_cert_sign": True, "crl_sign": False, "encipher_only": False, "decipher_only": False}
    addresses = [x509.IPAddress(IPv4Network("0.0.0.0/0")), x509.IPAddress(IPv6Network("::/0"))]
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key)
    number = int.from_bytes(hashlib.sha256(name.encode() + public_key_der).digest()[:16], "big") | 1
    builder = builder.serial_number(number).not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (x509.KeyUsage(**usage), True),
        (x509.NameConstraints([x509.DNSName(text) for text in names], addresses), True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    placeholder = encode_dss_signature(1, 1)
    anchor = builder.sign(RemoteKey(key, lambda _: placeholder), hashes.SHA256())
    return anchor.public_bytes(Encoding.PEM).decode()
