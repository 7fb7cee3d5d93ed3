"""What a node takes for a good certificate, and its copy of the anchors."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mailinfra.node.agent.issuer import LIFE, certificate
from mailinfra.node.agent.trust import Trust, TrustError, anchors, check, life_left, pem
from tests.node_helpers import HOST, NODES, Authority, MemoryBucket

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_good_certificate_names_its_anchor() -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = certificate(authority.anchor, authority.sign, key, (HOST, "imap.eu.example.test"), NOW)
    names = ("imap.eu.example.test", HOST)
    assert (
        check(leaf, key, names, [Authority("test other").anchor, authority.anchor], NOW) == authority.anchor
    )
    assert life_left(leaf, NOW) == pytest.approx(1, abs=0.001)
    assert life_left(leaf, NOW + LIFE) == 0


def test_each_fault_is_told() -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = certificate(authority.anchor, authority.sign, key, (HOST,), NOW)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(TrustError, match="no trust anchor signed it"):
        check(leaf, key, (HOST,), [Authority().anchor], NOW)
    with pytest.raises(TrustError, match="another key"):
        check(leaf, other, (HOST,), [authority.anchor], NOW)
    with pytest.raises(TrustError, match="it is for"):
        check(leaf, key, (HOST, "imap.eu.example.test"), [authority.anchor], NOW)
    for late in (timedelta(days=8), timedelta(minutes=-6)):
        with pytest.raises(TrustError, match="it is valid from"):
            check(leaf, key, (HOST,), [authority.anchor], NOW + late)
    narrow = Authority(names=("elsewhere.test",), key=authority.key)
    with pytest.raises(TrustError, match="may not speak for"):
        certificate(narrow.anchor, narrow.sign, key, (HOST,), NOW)


def test_an_anchor_is_no_leaf() -> None:
    authority = Authority()
    with pytest.raises(TrustError):
        check(authority.anchor, authority.anchor.public_key(), (NODES,), [authority.anchor], NOW)


def test_anchors_have_constraints() -> None:
    authority = Authority()
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = certificate(authority.anchor, authority.sign, key, (HOST,), NOW)
    for text, problem in (
        (b"", "no trust anchors"),
        (b"rubbish", "no trust anchors"),
        (pem(leaf), "trust anchors: "),
    ):
        with pytest.raises(TrustError, match=problem):
            anchors(text)


def test_the_copy_follows_the_bucket_and_outlives_rubbish(tmp_path: Path) -> None:
    bucket, path = MemoryBucket(), tmp_path / "anchors.pem"
    trust = Trust(bucket, path)
    with pytest.raises(KeyError):
        trust.step()
    first, second = Authority().text.encode(), Authority("test two").text.encode()
    bucket.put("trust/anchors.pem", first)
    trust.step()
    (tmp_path / "changed").unlink()
    stamp = path.stat()
    trust.step()
    Trust(bucket, path).step()
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == (
        first,
        stamp.st_mtime_ns,
        stamp.st_ino,
    )
    bucket.put("trust/anchors.pem", b"rubbish")
    with pytest.raises(TrustError):
        trust.step()
    assert path.read_bytes() == first
    assert not (tmp_path / "changed").exists()
    bucket.put("trust/anchors.pem", first + second)
    trust.step()
    assert path.read_bytes() == first + second
    assert {item.name for item in tmp_path.iterdir()} == {"anchors.pem", "changed"}
