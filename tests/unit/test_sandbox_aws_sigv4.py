"""Signature Version 4: what botocore signs is taken, and nothing else."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from mailinfra.sandbox.aws.sigv4 import BadSignature, check

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def signed(method: str, url: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
    """What `check` takes of a request that botocore signed."""
    parts = urlsplit(url)
    request = AWSRequest(method, url, data=body, headers={"host": parts.netloc, **headers})
    SigV4Auth(Credentials("AKIA", SECRET, "token"), "sts", "eu-central-1").add_auth(request)
    return {
        "method": method,
        "path": parts.path,
        "query": parts.query,
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "body": body,
        "secret": SECRET,
    }


CALL = "https://sts.eu-central-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15"


@pytest.mark.parametrize(
    ("method", "url", "body", "headers"),
    [
        ("POST", CALL, b"", {"x-goog-cloud-target-resource": "//iam.googleapis.com/p"}),
        ("POST", "https://sts.amazonaws.com/", b"Action=GetCallerIdentity", {"content-type": "text/x;  a=b"}),
        ("GET", "https://sts.amazonaws.com/?b=%2F%20x&a=~1&a=0&c=", b"", {}),
    ],
)
def test_what_botocore_signs_holds(method: str, url: str, body: bytes, headers: dict[str, str]) -> None:
    made = signed(method, url, body, **headers)
    check(**made)
    for change in (
        {"method": "PUT"},
        {"path": "/other"},
        {"query": "Action=x"},
        {"body": b"x"},
        {"secret": "x"},
    ):
        with pytest.raises(BadSignature, match="does not match"):
            check(**{**made, **change})


def test_every_signed_header_counts() -> None:
    made = signed("POST", CALL, **{"x-goog-cloud-target-resource": "//iam.googleapis.com/p"})
    for name in ("host", "x-amz-security-token", "x-goog-cloud-target-resource"):
        with pytest.raises(BadSignature, match="does not match"):
            check(**{**made, "headers": {**made["headers"], name: "other"}})
        left = {key: value for key, value in made["headers"].items() if key != name}
        with pytest.raises(BadSignature, match="SignedHeaders"):
            check(**{**made, "headers": left})


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_replayed_request_is_refused_after_a_while(minutes: int) -> None:
    made, now = signed("POST", CALL), datetime.now(UTC)
    check(**made, now=now + timedelta(minutes=minutes * 0.9))
    with pytest.raises(BadSignature, match="expired"):
        check(**made, now=now + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("name", "value"),
    [("authorization", ""), ("authorization", "Bearer x"), ("x-amz-date", "yesterday"), ("x-amz-date", "")],
)
def test_what_is_no_signature_is_none(name: str, value: str) -> None:
    made = signed("POST", CALL)
    with pytest.raises(BadSignature):
        check(**{**made, "headers": {**made["headers"], name: value}})
