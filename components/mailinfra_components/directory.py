"""UserDirectory: one region's copy of the directory and the trust anchors, in an encrypted bucket."""

from dataclasses import dataclass
from typing import TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra.node.pack import software
from mailinfra_components.buckets import gcs_bucket, s3_bucket
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
        bucket = s3_bucket(
            name,
            self,
            region=region,
            bucket=args["bucket"],
            key=args["storage_key"],
            marks=tags(name, args["zone"], data="personal"),
            # Holds copies only: the directory is published from its source, enrolment happens again.
            force_destroy=True,
        )
        objects = [
            aws.s3.BucketObjectv2(
                f"{name}-{item.name}",
                region=region,
                bucket=bucket.name,
                key=item.key,
                content=item.content,
                content_type=item.kind,
                opts=children(self, depends_on=bucket.guards),
            )
            for item in contents(args)
        ]
        self.bucket = after(bucket.name, objects)
        self.arn = bucket.arn

    def _gcp(self, name: str, args: UserDirectoryArgs) -> None:
        bucket = gcs_bucket(
            name,
            self,
            region=args["region"],
            bucket=args["bucket"],
            key=args["storage_key"],
            marks=tags(name, args["zone"], data="personal"),
            force_destroy=True,
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
        self.arn = bucket.arn


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
