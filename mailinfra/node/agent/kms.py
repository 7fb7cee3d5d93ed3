"""The region's CA key: an EC P-256 key in AWS KMS or Cloud KMS that signs digests and is never seen."""

import base64
import hashlib
import json
from collections.abc import Callable

from mailinfra.node.agent.node import Node

Sign = Callable[[bytes], bytes]
"""Returns the DER ECDSA signature (RFC 3279 2.2.3) of the SHA-256 digest of what it is given."""


def aws(key: str, region: str, endpoint: str = "") -> Sign:
    """Sign with a key of AWS KMS, given by its ARN."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 3})
    client = boto3.client("kms", region_name=region, endpoint_url=endpoint or None, config=config)

    def sign(data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()
        answer = client.sign(
            KeyId=key, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
        )
        signature: bytes = answer["Signature"]
        return signature

    return sign


def gcp(key: str, endpoint: str = "") -> Sign:
    """Sign with a key version of Cloud KMS, given by its resource name."""
    from mailinfra.node.agent import google

    url = f"{endpoint or 'https://cloudkms.googleapis.com'}/v1/{key}:asymmetricSign"

    def sign(data: bytes) -> bytes:
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        answer = google.call("POST", url, json.dumps({"digest": {"sha256": digest}}).encode())
        return base64.b64decode(answer.json()["signature"])

    return sign


def ca(node: Node) -> Sign:
    """The CA key of the node's region."""
    endpoint = node.endpoints.get("kms", "")
    return aws(node.ca_key, node.region, endpoint) if node.cloud == "aws" else gcp(node.ca_key, endpoint)
