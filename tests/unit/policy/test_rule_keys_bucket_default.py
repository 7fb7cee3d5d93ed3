"""Every S3 bucket encrypts with a key of the fleet's own."""

from dataclasses import replace
from typing import Any

import pytest

from mailinfra_policy.rules.keys_bucket_default import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
DEFAULT = {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": ARN}
BESIDE = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
BUCKET = resource("aws:s3/bucket:Bucket", "mail", {"bucket": "mail"})
CONFIGURATION = resource(
    BESIDE, "encryption", {"bucket": "mail-id", "rules": [{"applyServerSideEncryptionByDefault": DEFAULT}]}
)
OLD = resource(
    f"{BESIDE}V2".replace("Configuration:", "ConfigurationV2:"),
    "encryption",
    {"bucket": "old", "rules": [{"applyServerSideEncryptionByDefault": DEFAULT}]},
)
INLINE = resource(
    "aws:s3/bucket:Bucket",
    "inline",
    {"serverSideEncryptionConfiguration": {"rule": {"applyServerSideEncryptionByDefault": DEFAULT}}},
)
INLINE_V2 = resource(
    "aws:s3/bucketV2:BucketV2",
    "inline",
    {"serverSideEncryptionConfigurations": [{"rules": [{"applyServerSideEncryptionByDefaults": [DEFAULT]}]}]},
)
MADE = changed(CONFIGURATION, bucket=UNKNOWN)
GOOD = (
    [BUCKET, CONFIGURATION],
    [INLINE],
    [INLINE_V2],
    [resource("aws:s3/bucketV2:BucketV2", "old", {"bucket": "old"}), OLD],
)


def test_a_bucket_without_is_blamed() -> None:
    assert places(RULE, [BUCKET]) == [("mail", "serverSideEncryptionConfiguration")]


def test_one_for_another_bucket_does_not_help() -> None:
    assert places(RULE, [BUCKET, changed(CONFIGURATION, bucket="other")]) == [
        ("mail", "serverSideEncryptionConfiguration")
    ]


@pytest.mark.parametrize("algorithm", ["AES256", "aws:KMS", "", None])
def test_the_algorithm(algorithm: Any) -> None:
    rules = [{"applyServerSideEncryptionByDefault": {**DEFAULT, "sseAlgorithm": algorithm}}]
    assert places(RULE, [BUCKET, changed(CONFIGURATION, rules=rules)]) == [
        ("encryption", "rules[0].applyServerSideEncryptionByDefault.sseAlgorithm")
    ]


def test_no_key_means_the_clouds_key() -> None:
    rules = [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms"}}]
    assert places(RULE, [BUCKET, changed(CONFIGURATION, rules=rules)]) == [
        ("encryption", "rules[0].applyServerSideEncryptionByDefault.kmsMasterKeyId")
    ]


def test_a_reference_that_is_not_known_yet_still_counts() -> None:
    made = replace(MADE, property_dependencies={"bucket": (BUCKET.urn,)})
    assert found(RULE, [BUCKET, made]) == []
    assert places(RULE, [BUCKET, MADE]) == [("mail", "serverSideEncryptionConfiguration")]


def test_unknown_rules_are_undecided() -> None:
    items = found(RULE, [BUCKET, changed(CONFIGURATION, rules=UNKNOWN)])
    assert items and all(item.finding.unknown for item in items)
