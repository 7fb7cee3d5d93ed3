"""A key in AWS KMS (kms:Sign), by boto3."""

import threading
from typing import Any

from mailinfra.dkim.signers import SignError

FINAL = (
    "AccessDeniedException",
    "DisabledException",
    "InvalidKeyUsageException",
    "KMSInvalidStateException",
    "NotFoundException",
    "ValidationException",
)
"""Errors that the next try would meet again."""


class Key:
    """An RSA_2048 to RSA_4096 key with usage SIGN_VERIFY.

    `key` is its ARN or alias, `endpoint` a URL (PrivateLink, FIPS) instead of the region's public one,
    `timeout` the seconds for connecting and for an answer. Credentials are those of the node.
    """

    def __init__(self, *, key: str, region: str, endpoint: str = "", timeout: float = 5.0) -> None:
        self.key, self.region, self.endpoint, self.timeout = key, region, endpoint, timeout
        self.lock = threading.Lock()
        self.client: Any = None

    def connect(self) -> Any:
        """Return the client, which all threads share; boto3 is imported where it is needed: it is large."""
        with self.lock:
            if not self.client:
                import boto3
                from botocore.config import Config

                config = Config(
                    connect_timeout=self.timeout,
                    read_timeout=self.timeout,
                    retries={"total_max_attempts": 1},  # the pool tries again, and keeps the deadline
                    max_pool_connections=128,
                )
                self.client = boto3.session.Session(region_name=self.region).client(
                    "kms", endpoint_url=self.endpoint or None, config=config
                )
        return self.client

    def sign(self, digest: bytes) -> bytes:
        """See `Signer.sign`."""
        client = self.connect()
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = client.sign(
                KeyId=self.key,
                Message=digest,
                MessageType="DIGEST",
                SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256",
            )
        except ClientError as error:
            again = error.response["Error"]["Code"] not in FINAL
            raise SignError(f"{self.key}: {error}", again) from error
        except BotoCoreError as error:
            raise SignError(f"{self.key}: {error}") from error
        signature: bytes = answer["Signature"]
        return signature
