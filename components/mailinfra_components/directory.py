"""UserDirectory: one region's copy of the directory and the trust anchors, in an encrypted bucket."""

import json
from dataclasses import dataclass
from typing import TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra.node.pack import software
from mailinfra_components.options import after, children, received, tags

ANCHORS_KEY = "trust/anchors.pem"
"""Where nodes find the trust anchors."""


class UserDirectoryArgs(TypedDict):
    """Where the copy is and what it is encrypted with."""

    cloud: str
    """`aws` or `gcp`."""
    region: str
    """The cloud's region."""
    zone: str
    """The residency zone, as tag or label."""
    bucket: pulumi.Input[str]
    """The bucket's name, unique in the whole cloud."""
    storage_key: pulumi.Input[str]
    """The region's key at rest, from `MailKeys`."""
    anchors: pulumi.Input[str]
    """The trust anchors of the fleet's authorities, PEM; public."""


class UserDirectory(pulumi.ComponentResource):
    """The region's control bucket: private, versioned, encrypted with the region's own key.

    Routes of all users, accounts of the residency zone's users (both written by `mailinfra directory publish`, never
    by Pulumi, so no personal data gets into state), the fleet's trust anchors, the nodes' software and their
    enrolment. Every node keeps a copy of what it needs, so mail flows when the bucket cannot be reached.
    """

    bucket: pulumi.Output[str]
    """The bucket's name; known only when its protection is in place and a node finds what it boots from."""
    arn: pulumi.Output[str]
    """The bucket's ARN (AWS) or name (GCP)."""

    def __init__(
        self, name: str, args: UserDirectoryArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mailinfra:index:UserDirectory", name, {}, opts)
        args = received(args)
        if args["cloud"] == "aws":
            self._aws(name, args)
        else:
            self._gcp(name, args)
        self.register_outputs({"bucket": self.bucket, "arn": self.arn})

    def _aws(self, name: str, args: UserDirectoryArgs) -> None:
        region = args["region"]
        bucket = aws.s3.Bucket(
            f"{name}-bucket",
            region=region,
            bucket=args["bucket"],
            # Holds copies only: the directory is published from its source, enrolment happens again.
            force_destroy=True,
            tags=tags(name, args["zone"], data="personal"),
            opts=children(self),
        )
        closed = aws.s3.BucketPublicAccessBlock(
            f"{name}-private",
            region=region,
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=children(self),
        )
        owner = aws.s3.BucketOwnershipControls(
            f"{name}-owner",
            region=region,
            bucket=bucket.id,
            rule={"object_ownership": "BucketOwnerEnforced"},
            opts=children(self),
        )
        encrypted = aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            region=region,
            bucket=bucket.id,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {
                        "sse_algorithm": "aws:kms",
                        "kms_master_key_id": args["storage_key"],
                    },
                    "bucket_key_enabled": True,
                }
            ],
            opts=children(self),
        )
        versioned = aws.s3.BucketVersioning(
            f"{name}-versions",
            region=region,
            bucket=bucket.id,
            versioning_configuration={"status": "Enabled"},
            opts=children(self),
        )
        tls_only = aws.s3.BucketPolicy(
            f"{name}-tls",
            region=region,
            bucket=bucket.id,
            policy=bucket.arn.apply(tls_policy),
            opts=children(self, depends_on=[closed]),
        )
        guards: list[pulumi.Resource] = [closed, owner, encrypted, versioned, tls_only]
        objects = [
            aws.s3.BucketObjectv2(
                f"{name}-{item.name}",
                region=region,
                bucket=bucket.id,
                key=item.key,
                content=item.content,
                content_type=item.kind,
                opts=children(self, depends_on=guards),
            )
            for item in contents(args)
        ]
        self.bucket = after(bucket.bucket, objects)
        self.arn = bucket.arn

    def _gcp(self, name: str, args: UserDirectoryArgs) -> None:
        bucket = gcp.storage.Bucket(
            f"{name}-bucket",
            name=args["bucket"],
            location=args["region"],
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning={"enabled": True},
            encryption={"default_kms_key_name": args["storage_key"]},
            force_destroy=True,
            labels=tags(name, args["zone"], data="personal"),
            opts=children(self),
        )
        objects = [
            gcp.storage.BucketObject(
                f"{name}-{item.name}",
                bucket=bucket.name,
                name=item.key,
                content=item.content,
                content_type=item.kind,
                opts=children(self),
            )
            for item in contents(args)
        ]
        self.bucket = after(bucket.name, objects)
        self.arn = bucket.name


@dataclass(frozen=True)
class Content:
    """An object that the bucket has from the beginning."""

    name: str
    key: str
    content: pulumi.Input[str]
    kind: str


def contents(args: UserDirectoryArgs) -> tuple[Content, ...]:
    """What a node boots from, beside its own script."""
    node = software()
    return (
        Content("anchors", ANCHORS_KEY, args["anchors"], "application/x-pem-file"),
        Content("software", node.key, node.text, "application/json"),
    )


def tls_policy(arn: str) -> str:
    """A bucket policy that refuses every request without TLS 1.3."""
    refuse = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Sid": "TlsOnly", **refuse, "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
                {"Sid": "TlsFloor", **refuse, "Condition": {"NumericLessThan": {"s3:TlsVersion": "1.3"}}},
            ],
        }
    )
