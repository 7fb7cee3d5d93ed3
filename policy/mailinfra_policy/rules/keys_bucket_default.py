"""Every S3 bucket encrypts what is put into it with a key of the fleet's own."""

from collections.abc import Iterator

from mailinfra_policy.expect import one_of
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.rules.keys_customer_managed import own_key

_BUCKET = "aws:s3/bucket:Bucket"
_BUCKET_V2 = "aws:s3/bucketV2:BucketV2"
_ALGORITHMS = ("aws:kms", "aws:kms:dsse")
_INLINE = {
    _BUCKET: "serverSideEncryptionConfiguration.rule.applyServerSideEncryptionByDefault",
    _BUCKET_V2: "serverSideEncryptionConfigurations[*].rules[*].applyServerSideEncryptionByDefaults[*]",
}
_BESIDE = dict.fromkeys(
    (
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        "aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2",
    ),
    "rules[*].applyServerSideEncryptionByDefault",
)


def judge_stack(context: Context) -> Iterator[Finding]:
    """Each bucket says it itself or beside it, and each saying names a key."""
    said: set[str] = set()
    for beside in context.stack.of(*_BESIDE):
        said.update(bucket.urn for bucket in context.stack.referred(beside, "bucket", _BUCKET, _BUCKET_V2))
        yield from _judged(beside, _BESIDE[beside.type], context)
    for bucket in context.stack.of(*_INLINE):
        path = _INLINE[bucket.type]
        if any(value is not None for _, value in bucket.each(path)):
            yield from _judged(bucket, path, context)
        elif bucket.urn not in said:
            yield Finding(
                bucket,
                path.split(".", 1)[0].removesuffix("[*]"),
                "nothing here, and no BucketServerSideEncryptionConfiguration for it",
                "default encryption with a customer-managed KMS key",
            )


def _judged(resource: Resource, path: str, context: Context) -> Iterator[Finding]:
    yield from one_of(resource, f"{path}.sseAlgorithm", _ALGORITHMS)
    for concrete, value in resource.each(f"{path}.kmsMasterKeyId"):
        yield from own_key(resource, concrete, value, context)


def _guards(path: str) -> tuple[Guard, ...]:
    return (
        Guard(f"{path}.sseAlgorithm", wrong=("AES256", "AWS:KMS", "aws:kms:"), when=_there),
        Guard(f"{path}.kmsMasterKeyId", wrong=("alias/aws/s3", "storage"), when=_there),
    )


def _there(resource: Resource, value: object) -> bool:
    return value is not None


RULE = Rule(
    id="keys-bucket-default",
    title="Every S3 bucket encrypts with a key of the fleet's own",
    severity=Severity.HIGH,
    why="Without it S3 encrypts with keys that whoever may read an object never needs to ask for.",
    mend="Give the bucket a BucketServerSideEncryptionConfiguration with `aws:kms` and the region's key.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(a)"),
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.8.24"),
    ),
    covers={
        **{token: _guards(path) for token, path in _INLINE.items()},
        **{
            token: (Guard(""), Guard("bucket", wrong=("another-bucket",), opaque=False), *_guards(path))
            for token, path in _BESIDE.items()
        },
    },
    judge_stack=judge_stack,
)
