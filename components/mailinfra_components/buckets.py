"""Private buckets: encrypted with a key of the region, versioned, TLS 1.3 only, and on demand not to be changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra_components.documents import Statement, document
from mailinfra_components.keys import DAY
from mailinfra_components.options import children

Statements = Callable[[str], list[Statement]]
"""From a bucket's ARN to further statements of its policy."""


@dataclass(frozen=True)
class PrivateBucket:
    """A bucket: its name, its ARN (AWS) or name (GCP), and what must be in place before anything is put into it."""

    name: pulumi.Output[str]
    arn: pulumi.Output[str]
    guards: list[pulumi.Resource]


def s3_bucket(
    name: str,
    parent: pulumi.Resource,
    *,
    region: str,
    bucket: pulumi.Input[str] | None,
    key: pulumi.Input[str],
    marks: dict[str, str],
    force_destroy: bool = False,
    locked_days: int = 0,
    expires_days: int = 0,
    protect: bool = False,
    retain: bool = False,
    statements: Statements = lambda arn: [],
) -> PrivateBucket:
    """An S3 bucket. With `locked_days` nobody, root included, deletes an object younger than that (Object Lock in
    compliance mode). With `expires_days` what is older goes away by itself, and what was written over or deleted before
    stays for another `locked_days`. Without a name it gets one that no bucket had before. `retain`: it stays, with all
    that guards it, when it leaves the stack."""
    made = aws.s3.Bucket(
        f"{name}-bucket",
        region=region,
        bucket=bucket,
        force_destroy=force_destroy,
        object_lock_enabled=True if locked_days else None,
        tags=marks,
        opts=children(parent, protect=protect, retain=retain),
    )
    closed = aws.s3.BucketPublicAccessBlock(
        f"{name}-private",
        region=region,
        bucket=made.id,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=children(parent, retain=retain),
    )
    owner = aws.s3.BucketOwnershipControls(
        f"{name}-owner",
        region=region,
        bucket=made.id,
        rule={"object_ownership": "BucketOwnerEnforced"},
        opts=children(parent, retain=retain),
    )
    encrypted = aws.s3.BucketServerSideEncryptionConfiguration(
        f"{name}-encryption",
        region=region,
        bucket=made.id,
        rules=[
            {
                "apply_server_side_encryption_by_default": {
                    "sse_algorithm": "aws:kms",
                    "kms_master_key_id": key,
                },
                "bucket_key_enabled": True,
            }
        ],
        opts=children(parent, retain=retain),
    )
    versioned = aws.s3.BucketVersioning(
        f"{name}-versions",
        region=region,
        bucket=made.id,
        versioning_configuration={"status": "Enabled"},
        opts=children(parent, retain=retain),
    )
    tls_only = aws.s3.BucketPolicy(
        f"{name}-tls",
        region=region,
        bucket=made.id,
        policy=made.arn.apply(lambda arn: bucket_policy(arn, statements(arn))),
        opts=children(parent, depends_on=[closed], retain=retain),
    )
    guards: list[pulumi.Resource] = [closed, owner, encrypted, versioned, tls_only]
    if locked_days:
        guards.append(
            aws.s3.BucketObjectLockConfiguration(
                f"{name}-lock",
                region=region,
                bucket=made.id,
                rule={"default_retention": {"mode": "COMPLIANCE", "days": locked_days}},
                opts=children(parent, depends_on=[versioned], retain=retain),
            )
        )
    if expires_days:
        guards.append(
            aws.s3.BucketLifecycleConfiguration(
                f"{name}-ends",
                region=region,
                bucket=made.id,
                rules=[
                    {
                        "id": "objects",
                        "status": "Enabled",
                        "filter": {"prefix": ""},
                        "expiration": {"days": expires_days},
                        "noncurrent_version_expiration": {"noncurrent_days": max(locked_days, 1)},
                        "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
                    },
                    {
                        # A marker with no version left under it; S3 takes this in a rule of its own only.
                        "id": "markers",
                        "status": "Enabled",
                        "filter": {"prefix": ""},
                        "expiration": {"expired_object_delete_marker": True},
                    },
                ],
                opts=children(parent, depends_on=[versioned], retain=retain),
            )
        )
    return PrivateBucket(made.id, made.arn, guards)


def gcs_bucket(
    name: str,
    parent: pulumi.Resource,
    *,
    region: str,
    bucket: pulumi.Input[str] | None,
    key: pulumi.Input[str],
    marks: dict[str, str],
    force_destroy: bool = False,
    locked_days: int = 0,
    expires_days: int = 0,
    protect: bool = False,
    retain: bool = False,
) -> PrivateBucket:
    """A Cloud Storage bucket. With `locked_days` nobody deletes an object younger than that (a locked retention
    policy, which also excludes versioning; objects are then written once). `expires_days`, `retain` and no name as in
    `s3_bucket`."""
    made = gcp.storage.Bucket(
        f"{name}-bucket",
        name=bucket,
        location=region,
        uniform_bucket_level_access=True,
        public_access_prevention="enforced",
        versioning=None if locked_days else {"enabled": True},
        retention_policy={"retention_period": str(locked_days * DAY), "is_locked": True}
        if locked_days
        else None,
        lifecycle_rules=[{"action": {"type": "Delete"}, "condition": {"age": expires_days}}]
        if expires_days
        else None,
        encryption={"default_kms_key_name": key},
        force_destroy=force_destroy,
        labels=marks,
        opts=children(parent, protect=protect, retain=retain),
    )
    return PrivateBucket(made.name, made.name, [])


def bucket_policy(arn: str, statements: Sequence[Statement] = ()) -> str:
    """A bucket policy that refuses every request without TLS 1.3, and says what else the statements say."""
    refuse = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    return document(
        {"Sid": "TlsOnly", **refuse, "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        {"Sid": "TlsFloor", **refuse, "Condition": {"NumericLessThan": {"s3:TlsVersion": "1.3"}}},
        *statements,
    )
