"""Buckets refuse plain text and old TLS."""

import json
from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_bucket import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

ARN = "arn:aws:s3:::mail"
OLD = {"NumericLessThan": {"s3:TlsVersion": "1.2"}}


def deny(*resources: str, **changes: Any) -> dict[str, Any]:
    """A statement that refuses plain text."""
    plain = {"Bool": {"aws:SecureTransport": "false"}}
    return {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [*resources],
        "Condition": plain,
        **changes,
    }


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [*statements]})


def policy(bucket: Resource, text: Any) -> Resource:
    return resource("aws:s3/bucketPolicy:BucketPolicy", "policy", {"bucket": bucket.id, "policy": text})


BOTH = (ARN, f"{ARN}/*")
TEXT = document(deny(*BOTH), deny(*BOTH, Condition=OLD))
MAIL = resource("aws:s3/bucket:Bucket", "mail", {}, outputs={"arn": ARN})
NAMED = resource("aws:s3/bucketV2:BucketV2", "named", {"bucket": "mail"})
GOOD = (
    [MAIL, policy(MAIL, TEXT)],
    [NAMED, policy(NAMED, TEXT)],
    [changed(MAIL, policy=TEXT)],
    [
        resource("aws:s3/bucket:Bucket", "later"),
        policy(resource("x:y/z:Z", "later"), document(deny("*"), deny("*", Condition=OLD))),
    ],
)


def test_a_bucket_without_a_policy_is_found() -> None:
    assert places(RULE, [MAIL]) == [("mail", "")]
    assert places(RULE, [MAIL, policy(NAMED, TEXT)]) == [("mail", "")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (document(deny(*BOTH)), "TLS below 1.2"),
        (document(deny(*BOTH, Condition=OLD)), "plain text"),
        (
            document(deny(*BOTH), deny(*BOTH, Condition={"NumericLessThan": {"s3:TlsVersion": "1.1"}})),
            "TLS below 1.2",
        ),
        (
            document(deny(*BOTH), deny(*BOTH, Condition={"NumericLessThan": {"s3:TLSversions": "1.2"}})),
            "TLS below",
        ),
        (
            document(deny(*BOTH), deny(*BOTH, Condition={"NumericLessThan": {"s3:TlsVersion": "x"}})),
            "TLS below",
        ),
        (document(deny(ARN), deny(*BOTH, Condition=OLD)), "plain text"),
        (document(deny(*BOTH, Action="s3:GetObject"), deny(*BOTH, Condition=OLD)), "plain text"),
        ("{}", "Statement"),
    ],
)
def test_a_policy_that_leaves_a_hole_is_named(text: str, said: str) -> None:
    (item,) = found(RULE, [MAIL, policy(MAIL, text)])
    assert item.finding.resource and item.finding.resource.name == "policy"
    assert item.finding.path == "policy" and said in item.finding.found


def test_the_floor_is_configurable() -> None:
    stack = [MAIL, policy(MAIL, TEXT)]
    assert "TLS below 1.3" in found(RULE, stack, settings(tls={"services": "1.3"}))[0].finding.found
    newer = document(deny(*BOTH), deny(*BOTH, Condition={"NumericLessThan": {"s3:TlsVersion": ["1.3"]}}))
    assert found(RULE, [MAIL, policy(MAIL, newer)], settings(tls={"services": "1.3"})) == []


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [MAIL, policy(MAIL, UNKNOWN)])
    assert item.finding.unknown
    nameless = resource("aws:s3/bucket:Bucket", "mail", {})
    (item,) = found(RULE, [nameless, policy(nameless, TEXT)])
    assert item.finding.unknown
    (item,) = found(RULE, [nameless, policy(nameless, document(deny(*BOTH, Effect="Allow")))])
    assert not item.finding.unknown
