"""The sandbox's own authority."""

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from mailinfra.sandbox.pki import Authority

NAMES = ("kms.eu-central-1.aws.test", "*.s3.aws.test", "192.0.2.21")


def handshake(authority: Authority, host: str, client: ssl.SSLContext) -> str | None:
    """The TLS version of a session with a server of the authority's; raises as the client does."""
    left, right = socket.socketpair()
    server = authority.server_context(NAMES)

    def serve() -> None:
        try:
            with server.wrap_socket(left, server_side=True) as session:
                session.recv(1)
        except OSError:
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(right, server_hostname=host) as session:
            session.send(b"x")
            return session.version()
    finally:
        right.close()
        thread.join()


@pytest.mark.parametrize("host", ["kms.eu-central-1.aws.test", "bucket.s3.aws.test", "192.0.2.21"])
def test_its_servers_are_trusted_under_their_names(tmp_path: Path, host: str) -> None:
    authority = Authority.ensure(tmp_path)
    assert handshake(authority, host, authority.client_context()) == "TLSv1.3"


def test_other_names_and_other_authorities_are_not(tmp_path: Path) -> None:
    authority, other = Authority.ensure(tmp_path / "a"), Authority.ensure(tmp_path / "b")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(authority, "other.test", authority.client_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority, NAMES[0], other.client_context())


def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    assert Authority.ensure(tmp_path).server_context(NAMES).minimum_version == ssl.TLSVersion.TLSv1_2


def test_it_is_made_once_and_keys_are_their_owners_only(tmp_path: Path) -> None:
    first = Authority.ensure(tmp_path).certificate_pem
    assert Authority.ensure(tmp_path).certificate_pem == first
    certificate, key = Authority(tmp_path).issue(NAMES)
    assert certificate.read_text().endswith(first)
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "ca.key", key)} == {"0o600"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_certificates_say_what_they_are_for(tmp_path: Path) -> None:
    authority = Authority.ensure(tmp_path)
    ca = x509.load_pem_x509_certificate(authority.certificate_pem.encode())
    server = x509.load_pem_x509_certificate(authority.issue(NAMES)[0].read_bytes())
    server.verify_directly_issued_by(ca)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(
        True, 0
    )
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert server.not_valid_after_utc - server.not_valid_before_utc < datetime.timedelta(days=398)
    now = datetime.datetime.now(datetime.UTC)
    assert server.not_valid_before_utc < now < server.not_valid_after_utc
