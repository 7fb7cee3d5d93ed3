"""A node and its region's issuer, over a bucket in memory."""

import logging
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mailinfra.node.agent import enrol as enrol_module
from mailinfra.node.agent import issuer as issuer_module
from mailinfra.node.agent.enrol import Enrol, request
from mailinfra.node.agent.issuer import LIFE, Issuer, RemoteKey, certificate
from mailinfra.node.agent.node import Node
from mailinfra.node.agent.trust import TrustError, certificates, names, spki
from tests.node_helpers import HOST, NODES, Authority, MemoryBucket, agent_node

CSR, CERT = "enrol/edge/edge-1.csr", "certs/edge/edge-1.pem"
IMAP = "imap.eu.example.test"


class Clock(datetime):
    """A clock that can be put forward."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: object = None) -> "Clock":  # type: ignore[override]
        return cls.fromtimestamp((datetime.now(UTC) + cls.ahead).timestamp(), UTC)


class Region:
    """A node, the issuer, and the bucket between them."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.bucket = Authority(), MemoryBucket()
        self.node = agent_node(folder, names=(HOST, IMAP), entitlements={"edge": (IMAP,), "store": ()})
        (folder / "tls" / "anchors.pem").write_text(Authority("test us-east-1").text + self.authority.text)
        self.signed = 0
        self.enrol = Enrol(self.node, self.bucket)
        self.issuer = Issuer(self.node, self.bucket, self.sign)

    def sign(self, data: bytes) -> bytes:
        self.signed += 1
        return self.authority.sign(data)

    def leaf(self) -> x509.Certificate:
        return certificates((self.node.tls / "cert.pem").read_bytes())[0]


@pytest.fixture
def region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Region:
    monkeypatch.setattr(enrol_module, "datetime", Clock)
    monkeypatch.setattr(issuer_module, "datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", timedelta())
    return Region(tmp_path)


def enrolled(region: Region) -> Region:
    with pytest.raises(TrustError, match="waiting for the issuer"):
        region.enrol.step()
    region.issuer.step()
    region.enrol.step()
    return region


def test_from_nothing_to_a_certificate(region: Region) -> None:
    with pytest.raises(TrustError, match="waiting for the issuer"):
        region.enrol.step()
    assert not (region.node.tls / "changed").exists()
    region.issuer.step()
    region.enrol.step()
    assert (region.node.tls / "changed").exists()
    assert names(region.leaf()) == [HOST, IMAP]
    key = region.node.tls / "key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    leaf, anchor = certificates((region.node.tls / "cert.pem").read_bytes())
    assert anchor == region.authority.anchor
    assert leaf.not_valid_after_utc - Clock.now() < LIFE
    everything = b"".join(region.bucket.objects.values())
    assert b"PRIVATE" not in everything


def test_doing_it_again_changes_nothing(region: Region) -> None:
    enrolled(region)
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in region.node.tls.iterdir()}
    objects, puts = dict(region.bucket.objects), region.bucket.puts
    for _ in range(3):
        region.enrol.step()
        region.issuer.step()
        Enrol(region.node, region.bucket).step()
        Issuer(region.node, region.bucket, region.sign).step()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in region.node.tls.iterdir()} == files
    assert (region.bucket.objects, region.bucket.puts, region.signed) == (objects, puts, 1)


def test_renewal_is_ready_before_the_node_looks(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    first = enrolled(region).leaf()
    for share, expected in ((0.55, 1), (0.62, 2), (0.70, 2)):
        monkeypatch.setattr(Clock, "ahead", LIFE * share)
        region.issuer.step()
        region.enrol.step()
        assert region.signed == expected
        # The node changes over only when a third is left.
        assert (region.leaf() == first) == (share < 2 / 3)
    assert spki(region.leaf().public_key()) == spki(first.public_key())


def test_a_node_that_comes_back_with_a_new_key_gets_a_new_certificate(region: Region) -> None:
    enrolled(region)
    for name in ("key.pem", "cert.pem"):
        (region.node.tls / name).unlink()
    fresh = Enrol(region.node, region.bucket)
    with pytest.raises(TrustError, match="another key"):
        fresh.step()
    region.issuer.step()
    fresh.step()
    assert region.signed == 2
    assert spki(region.leaf().public_key()) == spki(fresh.key().public_key())


def test_new_names_make_a_new_certificate(region: Region, tmp_path: Path) -> None:
    enrolled(region)
    more = (HOST, IMAP, "mx1.aws.mx.example.test")
    node = replace(region.node, names=more, entitlements={"edge": more[1:]})
    fresh = Enrol(node, region.bucket)
    with pytest.raises(TrustError):
        fresh.step()
    Issuer(node, region.bucket, region.sign).step()
    fresh.step()
    assert names(region.leaf()) == list(more)


def test_what_lies_on_the_disk_after_a_crash_is_whole(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise OSError("power")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="power"):
            region.enrol.step()
    assert not (region.node.tls / "key.pem").exists()
    enrolled(region)
    left = {path.name for path in region.node.tls.iterdir()}
    assert left == {"anchors.pem", "cert.pem", "changed", "key.pem"}


@pytest.mark.parametrize("fault", ["stranger", "name", "rubbish"])
def test_a_wrong_certificate_is_never_installed(region: Region, fault: str) -> None:
    with pytest.raises(TrustError):
        region.enrol.step()
    key, now = region.enrol.key().public_key(), Clock.now()
    if fault == "rubbish":
        region.bucket.put(CERT, b"-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    else:
        signer = Authority() if fault == "stranger" else region.authority
        entitled = (HOST, IMAP) if fault == "stranger" else (f"other-1.{NODES}",)
        leaf = certificate(signer.anchor, signer.sign, key, entitled, now)
        region.bucket.put(CERT, leaf.public_bytes(Encoding.PEM))
    with pytest.raises((TrustError, ValueError)):
        region.enrol.step()
    assert not (region.node.tls / "cert.pem").exists()


def csr(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *wanted: str, extra: x509.ExtensionType | None = None
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name) for name in wanted]), False
    )
    builder = builder.add_extension(extra, True) if extra else builder
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


EC_KEY = ec.generate_private_key(ec.SECP256R1())
REFUSED = {
    "another's name": (CSR, csr(EC_KEY, HOST, f"store-1.{NODES}")),
    "a bank": (CSR, csr(EC_KEY, "bank.test")),
    "to be a CA": (CSR, csr(EC_KEY, HOST, extra=x509.BasicConstraints(True, None))),
    "RSA": (CSR, csr(rsa.generate_private_key(65537, 2048), HOST)),
    "P-384": (CSR, csr(ec.generate_private_key(ec.SECP384R1()), HOST)),
    "rubbish": (CSR, b"rubbish"),
    "empty": (CSR, b""),
    "another group's node": ("enrol/edge/store-1.csr", csr(EC_KEY, f"store-1.{NODES}")),
    "no group": ("enrol/root/root-1.csr", csr(EC_KEY, f"root-1.{NODES}")),
    "node zero": ("enrol/edge/edge-0.csr", csr(EC_KEY, f"edge-0.{NODES}")),
    "a path": ("enrol/edge/../store/store-1.csr", csr(EC_KEY, f"store-1.{NODES}")),
    "deeper": ("enrol/edge/edge-1/edge-1.csr", csr(EC_KEY, HOST)),
    "another ending": ("enrol/edge/edge-1.pem", csr(EC_KEY, HOST)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_issuer_refuses(region: Region, case: str, caplog: pytest.LogCaptureFixture) -> None:
    path, data = REFUSED[case]
    region.bucket.put(path, data)
    other = ec.generate_private_key(ec.SECP256R1())
    region.bucket.put("enrol/store/store-1.csr", request(other, (f"store-1.{NODES}",)))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            region.issuer.step()
    # Told once, and the good one beside it is served.
    assert len([record for record in caplog.records if path in record.getMessage()]) == 1
    assert [key for key in region.bucket.objects if key.startswith("certs/")] == ["certs/store/store-1.pem"]


def test_a_request_that_somebody_else_signed_is_refused(region: Region) -> None:
    good = x509.load_pem_x509_csr(request(EC_KEY, (HOST,)))
    data = bytearray(good.public_bytes(Encoding.DER))
    data[-1] ^= 1
    from base64 import encodebytes

    region.bucket.put(
        CSR,
        b"-----BEGIN CERTIFICATE REQUEST-----\n" + encodebytes(data) + b"-----END CERTIFICATE REQUEST-----\n",
    )
    region.issuer.step()
    assert not region.signed


def test_names_come_from_the_path_not_from_the_request(region: Region) -> None:
    region.bucket.put(CSR, request(EC_KEY, (HOST,)))
    region.issuer.step()
    leaf = certificates(region.bucket.objects[CERT])[0]
    assert names(leaf) == [HOST, IMAP]


def test_a_signature_that_is_not_the_anchors_is_never_given_out(region: Region) -> None:
    region.bucket.put(CSR, request(EC_KEY, (HOST,)))
    Issuer(region.node, region.bucket, Authority().sign).step()
    assert CERT not in region.bucket.objects


def test_an_error_of_kms_is_tried_again(region: Region) -> None:
    answers = [OSError("KMS is away")]

    def sign(data: bytes) -> bytes:
        if answers:
            raise answers.pop()
        return region.authority.sign(data)

    issuer = Issuer(region.node, region.bucket, sign)
    region.bucket.put(CSR, request(EC_KEY, (HOST,)))
    with pytest.raises(OSError, match="away"):
        issuer.step()
    issuer.step()
    assert CERT in region.bucket.objects


def test_no_anchor_of_its_own_is_told(region: Region) -> None:
    (region.node.tls / "anchors.pem").write_text(Authority("test us-east-1").text)
    with pytest.raises(TrustError, match="0 anchors are called test eu-central-1, not one"):
        region.issuer.step()


def test_a_remote_key_does_only_what_it_can() -> None:
    key = RemoteKey(EC_KEY.public_key(), lambda data: data)
    assert key.curve.name == "secp256r1"
    assert key.key_size == 256
    for call in (key.private_numbers, key.private_bytes, key.exchange):
        with pytest.raises(TypeError, match="HSM"):
            call()  # type: ignore[operator]


def test_the_owner_alone_reads_the_key_whatever_the_umask(region: Region) -> None:
    old = os.umask(0)
    try:
        region.enrol.key()
    finally:
        os.umask(old)
    assert (region.node.tls / "key.pem").stat().st_mode & 0o777 == 0o600


def test_nodes_type(region: Region) -> None:
    node: Node = region.node
    assert node.name == "edge-1"
