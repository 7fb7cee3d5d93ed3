"""The AWS KMS signer against moto's KMS."""

import hashlib
import socket
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from moto import mock_aws
from moto.kms.utils import RSAPrivateKey

from mailinfra.dkim.signers import SignError
from mailinfra.dkim.signers.aws import Key

REGION = "eu-central-1"
DIGEST = hashlib.sha256(b"message").digest()


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    def sign(key: RSAPrivateKey, message: bytes, _algorithm: str) -> bytes:
        return key.private_key.sign(message, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))

    # moto takes MessageType=DIGEST, but hashes the digest once more; that it is asked for is tested below.
    monkeypatch.setattr(RSAPrivateKey, "sign", sign)
    with mock_aws():
        yield boto3.client("kms", region_name=REGION)


@pytest.fixture
def arn(kms: Any) -> str:
    result: str = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")["KeyMetadata"]["Arn"]
    return result


def test_signature_is_that_of_the_key(kms: Any, arn: str) -> None:
    signature = Key(key=arn, region=REGION).sign(DIGEST)
    public = serialization.load_der_public_key(kms.get_public_key(KeyId=arn)["PublicKey"])
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())


def test_only_the_digest_is_sent(arn: str) -> None:
    key, sent = Key(key=arn, region=REGION), []
    key.connect().meta.events.register(
        "before-parameter-build.kms.Sign", lambda params, **_: sent.append(params)
    )
    key.sign(DIGEST)
    assert sent == [
        {
            "KeyId": arn,
            "Message": DIGEST,
            "MessageType": "DIGEST",
            "SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256",
        }
    ]


def test_a_missing_key_is_final(arn: str) -> None:
    with pytest.raises(SignError, match="NotFoundException") as caught:
        Key(key=arn[:-4] + "0000", region=REGION).sign(DIGEST)
    assert not caught.value.again


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("ThrottlingException", True),
        ("KMSInternalException", True),
        ("ExpiredTokenException", True),
        ("AccessDeniedException", False),
        ("DisabledException", False),
        ("KMSInvalidStateException", False),
    ],
)
def test_which_errors_are_tried_again(arn: str, code: str, again: bool) -> None:
    key = Key(key=arn, region=REGION)

    def fail(**_: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "m"}}, "Sign")

    key.connect().meta.events.register("before-parameter-build.kms.Sign", fail)
    with pytest.raises(SignError, match=code) as caught:
        key.sign(DIGEST)
    assert caught.value.again is again


def test_an_endpoint_that_refuses_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        key = Key(key="k", region=REGION, endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}", timeout=2)
        with pytest.raises(SignError, match="Could not connect") as caught:
            key.sign(DIGEST)
    assert caught.value.again
