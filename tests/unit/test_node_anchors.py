"""Trust anchors: what TLS programs make of them."""

import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mailinfra.node.agent.trust import pem, permitted, spki
from mailinfra.node.anchors import anchor_pem
from tests.node_helpers import HOST, NODES, PERMITTED, Authority


def handshake(server: tuple[Path, Path], client: tuple[Path, Path], trusted: Path, host: str = HOST) -> str:
    """The TLS version of a mutual handshake in memory. Raises `ssl.SSLError`."""
    one = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    two = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    one.verify_mode = ssl.CERT_REQUIRED
    for context, pair in ((one, server), (two, client)):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # What Python 3.13 and later do by default.
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(trusted)
        context.load_cert_chain(*pair)
    left, right = socket.socketpair()
    problems: list[ssl.SSLError] = []

    def serve() -> None:
        try:
            with one.wrap_socket(left, server_side=True) as link:
                link.sendall(b"hello")
        except ssl.SSLError as error:
            problems.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with right, two.wrap_socket(right, server_hostname=host) as link:
            version, greeting = link.version(), link.recv(5)
    finally:
        right.close()
        thread.join()
        left.close()
    if problems:
        raise problems[0]
    assert greeting == b"hello"
    return str(version)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusted(authority: Authority, tmp_path: Path) -> Path:
    path = tmp_path / "anchors.pem"
    path.write_text(Authority("test other").text + authority.text)
    return path


def test_same_input_same_bytes(authority: Authority) -> None:
    key = spki(authority.key.public_key())
    assert anchor_pem("test eu-central-1", key, PERMITTED) == authority.text
    assert anchor_pem("test eu-central-2", key, PERMITTED) != authority.text


def test_says_what_rfc_5280_wants_of_an_anchor(authority: Authority) -> None:
    anchor = authority.anchor
    basic = anchor.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    usage = anchor.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.crl_sign
    names = anchor.extensions.get_extension_for_class(x509.NameConstraints)
    assert names.critical
    assert [tree.value for tree in names.value.permitted_subtrees or ()] == list(PERMITTED)
    assert len(names.value.excluded_subtrees or ()) == 2
    assert anchor.not_valid_after_utc.year == 9999


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        (HOST, True),
        (NODES, True),
        ("mx1.aws.mx.example.test", True),
        ("nodes.example.test", False),
        (f"x{NODES}", False),
    ],
)
def test_permitted(authority: Authority, name: str, allowed: bool) -> None:
    assert permitted(authority.anchor, name) == allowed


def test_python_accepts_a_leaf_under_it(authority: Authority, trusted: Path, tmp_path: Path) -> None:
    server = authority.issue(tmp_path, "server", HOST, "mx1.aws.mx.example.test")
    client = authority.issue(tmp_path, "client", f"store-1.{NODES}")
    assert handshake(server, client, trusted) == "TLSv1.3"
    assert handshake(server, client, trusted, "mx1.aws.mx.example.test") == "TLSv1.3"


def test_python_refuses_another_name(authority: Authority, trusted: Path, tmp_path: Path) -> None:
    pair = authority.issue(tmp_path, "server")
    with pytest.raises(ssl.SSLError, match=r"Hostname mismatch|certificate"):
        handshake(pair, pair, trusted, f"edge-2.{NODES}")


@pytest.mark.parametrize("name", ["edge-1.us-east-1.nodes.example.test", "bank.test", "example.test"])
def test_python_refuses_a_leaf_outside_the_name_constraints(
    authority: Authority, trusted: Path, tmp_path: Path, name: str
) -> None:
    good, bad = authority.issue(tmp_path, "good"), authority.issue(tmp_path, "bad", name)
    with pytest.raises(ssl.SSLError, match=r"permitted subtree violation|certificate"):
        handshake(bad, good, trusted, name)
    with pytest.raises(ssl.SSLError):
        handshake(good, bad, trusted)


def test_python_refuses_another_authority(trusted: Path, authority: Authority, tmp_path: Path) -> None:
    # The same name, another key.
    good, stranger = authority.issue(tmp_path, "good"), Authority().issue(tmp_path, "stranger")
    with pytest.raises(ssl.SSLError):
        handshake(stranger, good, trusted)
    with pytest.raises(ssl.SSLError):
        handshake(good, stranger, trusted)


def test_openssl_agrees(authority: Authority, trusted: Path, tmp_path: Path) -> None:
    def verify(cert: Path, purpose: str) -> str:
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            str(trusted),
            str(cert),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    good, _ = authority.issue(tmp_path, "good")
    assert verify(good, "sslserver").endswith(": OK\n")
    assert verify(good, "sslclient").endswith(": OK\n")
    assert "permitted subtree violation" in verify(
        authority.issue(tmp_path, "bad", "bank.test")[0], "sslserver"
    )
    assert ": OK" not in verify(Authority().issue(tmp_path, "stranger")[0], "sslserver")


def test_anchor_does_not_sign_authorities(authority: Authority, trusted: Path, tmp_path: Path) -> None:
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sub")]),
    )
    now = datetime.now(UTC)

    def build(
        issuer: x509.Name, subject: x509.Name, public: ec.EllipticCurvePublicKey, ca: bool
    ) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(public)
        builder = builder.serial_number(7).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
        return builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), False)

    middle = build(authority.anchor.subject, name, key.public_key(), True).sign(
        authority.key, hashes.SHA256()
    )
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = build(name, x509.Name([]), leaf_key.public_key(), False).sign(key, hashes.SHA256())
    (tmp_path / "leaf.pem").write_bytes(pem(leaf))
    (tmp_path / "middle.pem").write_bytes(pem(middle))
    command = ["openssl", "verify", "-CAfile", str(trusted), "-untrusted", str(tmp_path / "middle.pem")]
    done = subprocess.run([*command, str(tmp_path / "leaf.pem")], capture_output=True, text=True, check=False)
    assert "path length constraint exceeded" in done.stdout + done.stderr


def test_wrong_input_is_refused() -> None:
    key = spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(ValueError, match="not on P-256"):
        anchor_pem("x", spki(rsa.generate_private_key(65537, 2048).public_key()), PERMITTED)
    with pytest.raises(ValueError, match="not on P-256"):
        anchor_pem("x", spki(ec.generate_private_key(ec.SECP384R1()).public_key()), PERMITTED)
    for names in ((), ("Example.test",), (".example.test",), ("bücher.test",), ("",)):
        with pytest.raises(ValueError, match="host names in lower case"):
            anchor_pem("x", key, names)
