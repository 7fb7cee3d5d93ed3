"""Buckets refuse plain text and old TLS."""

from collections.abc import Iterator

from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Rule, Severity
from mailinfra_policy.secure_transport import (
    Asked,
    Store,
    older_denied,
    plain_denied,
    undenied,
    without_policy,
)
from mailinfra_policy.tls import TRANSPORT
from mailinfra_policy.values import UNKNOWN, Value


def _arn(resource: Resource) -> Value:
    known = resource.outputs.get("arn", UNKNOWN)
    name = resource.get("bucket")
    return known if known is not UNKNOWN else f"arn:aws:s3:::{name}" if isinstance(name, str) else UNKNOWN


BUCKETS = Store(
    types=("aws:s3/bucket:Bucket", "aws:s3/bucketV2:BucketV2"),
    policies=(("aws:s3/bucketPolicy:BucketPolicy", "bucket"),),
    inline="policy",
    actions=("s3:*",),
    resources=lambda arn: (arn, f"{arn}/*"),
    arn=_arn,
)


def _asked(context: Context) -> tuple[tuple[Asked, str], ...]:
    least = context.config.tls.services
    return (plain_denied, "plain text"), (older_denied(least), f"TLS below {least}")


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """A bucket's policy denies everyone what comes without TLS, and what comes with TLS below the floor."""
    yield from undenied(resource, context.stack, BUCKETS, _asked(context))


def judge_stack(context: Context) -> Iterator[Finding]:
    """Each bucket has a policy."""
    yield from without_policy(context.stack, BUCKETS, _asked(context))


RULE = Rule(
    id="tls-bucket",
    title="Buckets refuse plain text and old TLS",
    severity=Severity.HIGH,
    why="S3 answers over plain HTTP to whoever asks so, unless the bucket's policy denies it.",
    mend="Add a bucket policy that denies s3:* to everyone when aws:SecureTransport is false, and when s3:TlsVersion "
    "is less than the floor, on the bucket and its objects.",
    controls=TRANSPORT,
    covers=BUCKETS.covers,
    judge=judge,
    judge_stack=judge_stack,
)
