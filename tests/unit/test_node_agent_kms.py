"""The region's CA key in KMS."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from mailinfra.node.agent import google
from mailinfra.node.agent.enrol import request
from mailinfra.node.agent.issuer import Issuer
from mailinfra.node.agent.kms import ca, gcp
from mailinfra.node.agent.trust import certificates, check
from tests.node_helpers import HOST, Authority, MemoryBucket, agent_node

ARN = "arn:aws:kms:eu-central-1:000000000000:key/1"


class Kms:
    """AWS KMS's Sign with one key. (moto's hashes a digest once more; the system tests use one that does not.)"""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self.key = key

    def sign(self, **arguments: Any) -> dict[str, Any]:
        """See https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html."""
        digest = arguments.pop("Message")
        assert arguments == {"KeyId": ARN, "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}
        return {"Signature": self.key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))}


def test_the_issuer_signs_with_aws_kms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    authority = Authority()

    def client(name: str, *, region_name: str, endpoint_url: str | None, config: Any) -> Kms:
        asked.append((name, region_name, endpoint_url, config.read_timeout))
        return Kms(authority.key)

    monkeypatch.setattr(boto3, "client", client)
    node = replace(
        agent_node(tmp_path, entitlements={"edge": ()}), ca_key=ARN, endpoints={"kms": "https://kms.test"}
    )
    (node.tls / "anchors.pem").write_text(authority.text)
    key, bucket = ec.generate_private_key(ec.SECP256R1()), MemoryBucket()
    bucket.put("enrol/edge/edge-1.csr", request(key, (HOST,)))
    Issuer(node, bucket, ca(node)).step()
    leaf = certificates(bucket.objects["certs/edge/edge-1.pem"])[0]
    assert (
        check(leaf, key.public_key(), (HOST,), [authority.anchor], leaf.not_valid_before_utc)
        == authority.anchor
    )
    assert asked == [("kms", "eu-central-1", "https://kms.test", 20)]


def test_cloud_kms_gets_the_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    seen: list[tuple[str, str]] = []

    def call(method: str, url: str, data: bytes = b"", content_type: str = "") -> google.Answer:
        seen.append((method, url))
        digest = base64.b64decode(json.loads(data)["digest"]["sha256"])
        signature = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        return google.Answer({}, json.dumps({"signature": base64.b64encode(signature).decode()}).encode())

    monkeypatch.setattr(google, "call", call)
    name = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/ca/cryptoKeyVersions/1"
    node = replace(agent_node(tmp_path), cloud="gcp", ca_key=name, endpoints={})
    for sign in (ca(node), gcp(name, "https://kms.test")):
        key.public_key().verify(sign(b"data"), b"data", ec.ECDSA(hashes.SHA256()))
    assert seen == [
        ("POST", f"https://cloudkms.googleapis.com/v1/{name}:asymmetricSign"),
        ("POST", f"https://kms.test/v1/{name}:asymmetricSign"),
    ]
