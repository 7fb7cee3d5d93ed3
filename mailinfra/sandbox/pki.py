"""The sandbox's own certificate authority: who the clouds' API endpoints are, for machines and for the
host's tools.

Real clouds have certificates from public authorities; this one stands in for those and for nothing else. Its
key and the servers' keys lie in the state root only, readable by their owner.
"""

import datetime
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=3650)
_SERVER_LIFETIME = datetime.timedelta(days=397)
_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """A certificate authority kept in `folder` (`ca.pem`, `ca.key`, and a pair for each set of names asked
    for).
    """

    folder: Path

    @classmethod
    def ensure(cls, folder: Path) -> "Authority":
        """The authority in `folder`, made if there is none."""
        authority = cls(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not authority.certificate_path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mailinfra sandbox authority")])
            certificate = (
                _builder(name, name, key.public_key(), _LIFETIME)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_key_usage(signs_certificates=True), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                .sign(key, hashes.SHA256())
            )
            _write_key(folder / "ca.key", key)
            # The certificate last: it says that the authority is whole.
            _write(authority.certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return authority

    @property
    def certificate_path(self) -> Path:
        """The authority's certificate, PEM: what clients trust."""
        return self.folder / "ca.pem"

    @property
    def certificate_pem(self) -> str:
        """The authority's certificate, PEM."""
        return self.certificate_path.read_text()

    def issue(self, names: Sequence[str]) -> tuple[Path, Path]:
        """A server's certificate (with the authority's behind it) and key, as PEM files.

        `names` are DNS names (`*.` in front is allowed) and addresses. Made anew on each call.
        """
        authority_key = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)  # noqa: S101 - we made it
        authority = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        certificate = (
            _builder(subject, authority.subject, key.public_key(), _SERVER_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        chain = certificate.public_bytes(serialization.Encoding.PEM) + self.certificate_path.read_bytes()
        label = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
        certificate_path, key_path = self.folder / f"{label}.pem", self.folder / f"{label}.key"
        _write_key(key_path, key)
        _write(certificate_path, chain, 0o644)
        return certificate_path, key_path

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """What a TLS server of these names needs: TLS 1.2 or better, as the clouds' endpoints."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self.issue(names))
        return context

    def client_context(self) -> ssl.SSLContext:
        """What a client needs that trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self.certificate_path))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, pem, 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    # The mode is right from the first moment on, not only after a chmod.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)
