"""One region's control bucket alone."""

import json
from typing import Any

from mailinfra.node.pack import software
from mailinfra_components import UserDirectory
from mailinfra_components.buckets import bucket_policy
from tests.declared import Program, declare

ARN = "arn:aws:test:::dir-bucket"


def directory(cloud: str) -> Program:
    return declare(
        lambda: UserDirectory(
            "dir",
            {
                "cloud": cloud,
                "region": "eu-central-1",
                "zone": "eu",
                "bucket": "control",
                "storage_key": "key-1",
                "anchors": "-----BEGIN CERTIFICATE-----",
            },
        )
    )


def test_an_s3_bucket_is_closed_versioned_and_encrypted() -> None:
    program = directory("aws")
    closed = program.named("dir-private").inputs
    switches = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    assert [closed[switch] for switch in switches] == [True] * 4
    assert program.named("dir-owner").inputs["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
    assert program.named("dir-versions").inputs["versioningConfiguration"] == {"status": "Enabled"}
    [rule] = program.named("dir-encryption").inputs["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {
        "sseAlgorithm": "aws:kms",
        "kmsMasterKeyId": "key-1",
    }
    assert json.loads(program.named("dir-tls").inputs["policy"]) == json.loads(bucket_policy(ARN))
    buckets = {
        r.inputs["bucket"]
        for r in program.resources
        if r.type.startswith("aws:s3/") and r.name != "dir-bucket"
    }
    assert buckets == {"dir-bucket-id"}, "every protection is of this bucket"


def test_the_policy_refuses_everyone_without_tls_1_3() -> None:
    statements: list[dict[str, Any]] = json.loads(bucket_policy(ARN))["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Deny"}
    assert {statement["Principal"] for statement in statements} == {"*"}
    assert all(statement["Action"] == "s3:*" for statement in statements)
    assert all(statement["Resource"] == [ARN, f"{ARN}/*"] for statement in statements)
    assert [statement["Condition"] for statement in statements] == [
        {"Bool": {"aws:SecureTransport": "false"}},
        {"NumericLessThan": {"s3:TlsVersion": "1.3"}},
    ]


def test_a_storage_bucket_is_closed_versioned_and_encrypted() -> None:
    bucket = directory("gcp").named("dir-bucket").inputs
    assert bucket["uniformBucketLevelAccess"] is True
    assert bucket["publicAccessPrevention"] == "enforced"
    assert bucket["versioning"] == {"enabled": True}
    assert bucket["encryption"] == {"defaultKmsKeyName": "key-1"}


def test_both_clouds_hold_what_a_node_boots_from_and_no_user() -> None:
    aws = directory("aws").of("aws:s3/bucketObjectv2:BucketObjectv2")
    gcp = directory("gcp").of("gcp:storage/bucketObject:BucketObject")
    expected = {"trust/anchors.pem": "-----BEGIN CERTIFICATE-----", software().key: software().text}
    assert {item.inputs["key"]: item.inputs["content"] for item in aws} == expected
    # The SDK keeps what is in an object as a secret.
    assert {item.inputs["name"]: item.inputs["content"]["value"] for item in gcp} == expected
