"""Every S3 bucket is shut to the public."""

from dataclasses import replace

from mailinfra_policy.rules.exposure_bucket_block import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

ON = dict.fromkeys(
    ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True
)
BUCKET = resource("aws:s3/bucket:Bucket", "mail", {"bucket": "mail"})
OLD = resource("aws:s3/bucketV2:BucketV2", "old", {"bucket": "old"})
BLOCK = resource(
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "shut", {"bucket": "mail-id", **ON}
)
ACCOUNT = resource("aws:s3/accountPublicAccessBlock:AccountPublicAccessBlock", "all", ON)
GOOD = ([BUCKET, BLOCK], [OLD, ACCOUNT])


def test_a_bucket_without_one_is_blamed() -> None:
    assert places(RULE, [BUCKET, OLD, BLOCK]) == [("old", "bucket")]


def test_a_block_with_a_hole_is_blamed_itself() -> None:
    assert places(RULE, [BUCKET, changed(BLOCK, restrictPublicBuckets=None)]) == [
        ("shut", "restrictPublicBuckets")
    ]


def test_an_accounts_block_with_a_hole_shuts_nothing() -> None:
    assert places(RULE, [BUCKET, changed(ACCOUNT, ignorePublicAcls=False)]) == [("mail", "bucket")]


def test_a_reference_that_is_not_known_yet() -> None:
    made = changed(BLOCK, bucket=UNKNOWN)
    assert found(RULE, [BUCKET, replace(made, property_dependencies={"bucket": (BUCKET.urn,)})]) == []
    assert places(RULE, [BUCKET, made]) == [("mail", "bucket")]


def test_an_unknown_switch_is_undecided() -> None:
    (item,) = found(RULE, [BUCKET, changed(BLOCK, blockPublicAcls=UNKNOWN)])
    assert item.finding.unknown


def test_no_bucket_no_block() -> None:
    assert found(RULE, [ACCOUNT]) == []
