"""Tries the links between the fleet's nodes with right and wrong credentials. Runs on a node, as that node."""

import datetime
import socket
import ssl
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

KINDS = ("right", "tls12", "no-certificate", "wrong-ca")


def impostor(certificate: Path, folder: Path) -> tuple[Path, Path]:
    """A certificate chain and key that look like the node's own, names and issuer's name alike, under another
    authority's key."""
    real = x509.load_pem_x509_certificate(certificate.read_bytes())
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    start = real.not_valid_before
    end = start + datetime.timedelta(days=7)

    def builder(subject: x509.Name, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(real.issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )

    root = builder(real.issuer, authority.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    leaf = builder(real.subject, key.public_key())
    for extension in real.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier):
            leaf = leaf.add_extension(extension.value, extension.critical)
    chain = [made.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM) for made in (leaf, root)]
    files = folder / "chain.pem", folder / "key.pem"
    files[0].write_bytes(b"".join(chain))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def context(kind: str, tls: Path, wrong: tuple[Path, Path]) -> ssl.SSLContext:
    """TLS as a node speaks it, but for what `kind` does wrong."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(tls / "anchors.pem")
    if kind == "tls12":
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    if kind == "wrong-ca":
        made.load_cert_chain(*wrong)
    elif kind != "no-certificate":
        made.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    return made


def smtp(link: ssl.SSLSocket, told: dict[str, Any]) -> str:
    """Offer a message; what refused it, empty when nothing did."""
    with link.makefile("rb") as replies:
        for command in (
            b"",
            b"EHLO probe.invalid\r\n",
            b"MAIL FROM:<>\r\n",
            b"RCPT TO:<%b>\r\n" % told["recipient"].encode(),
        ):
            if command:
                link.sendall(command)
            line = replies.readline()
            while line[3:4] == b"-":
                line = replies.readline()
            if not line.startswith(b"2"):
                return line.decode("ascii", "replace").strip() or "the connection was closed"
        link.sendall(b"QUIT\r\n")
    return ""


def imap(link: ssl.SSLSocket, told: dict[str, Any]) -> str:
    """Log in with a user's right password; what refused it, empty when nothing did."""
    with link.makefile("rb") as replies:
        greeting = replies.readline()
        if not greeting.startswith(b"* OK"):
            return greeting.decode("ascii", "replace").strip() or "the connection was closed"
        link.sendall(b'a LOGIN "%b" "%b"\r\n' % (told["user"].encode(), told["password"].encode()))
        while line := replies.readline():
            if line.startswith(b"a "):
                return "" if line.startswith(b"a OK") else line.decode("ascii", "replace").strip()
    return "the connection was closed"


def replica(link: ssl.SSLSocket, told: dict[str, Any]) -> str:
    """Ask as a user's home whether the mailbox's replica is here; what refused it, empty when nothing did."""
    link.sendall(b"CHECK %b\n" % told["user"].encode())
    with link.makefile("rb") as replies:
        line: str = replies.readline().decode("ascii", "replace").strip()
    return "" if line.startswith("OK ") else line or "the connection was closed"


def talk(link: ssl.SSLSocket, told: dict[str, Any]) -> str:
    """Say what a target's port understands; what refused it, empty when nothing did."""
    if "recipient" in told:
        return smtp(link, told)
    return imap(link, told) if "password" in told else replica(link, told)


def attempt(told: dict[str, Any], kind: str, made: ssl.SSLContext) -> dict[str, Any]:
    """One try. `outcome` is `accepted`, `refused`, or `unreachable` (nobody listens, which proves nothing)."""
    found = {"host": told["host"], "port": told["port"], "kind": kind, "tls": "", "cipher": "", "why": ""}
    try:
        plain = socket.create_connection((told["host"], told["port"]), 15)
    except OSError as error:
        return {**found, "outcome": "unreachable", "why": str(error)}
    try:
        with plain, made.wrap_socket(plain, server_hostname=told["host"]) as link:
            found["tls"], found["cipher"] = str(link.version()), str((link.cipher() or ("",))[0])
            found["why"] = talk(link, told)
    except TimeoutError as error:
        return {**found, "outcome": "unreachable", "why": str(error)}
    except OSError as error:
        found["why"] = str(error) or type(error).__name__
    return {**found, "outcome": "refused" if found["why"] else "accepted"}


def main(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Every kind of try at each of `targets`: `host`, `port`, and a `recipient`, or a `user`, for IMAP with
    `password`."""
    tls = Path(told["tls"])
    # /run is memory: the impostor's key touches no disk.
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        wrong = impostor(tls / "cert.pem", Path(folder))
        contexts = {kind: context(kind, tls, wrong) for kind in KINDS}
    with ThreadPoolExecutor(max_workers=4) as pool:
        tries = [(target, kind) for target in told["targets"] for kind in KINDS]
        return list(pool.map(lambda item: attempt(item[0], item[1], contexts[item[1]]), tries))
