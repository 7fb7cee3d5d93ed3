"""Every S3 bucket is shut to the public, whatever its policy and its objects' ACLs come to say."""

from collections.abc import Iterator

from mailinfra_policy.expect import is_true
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity

_BUCKETS = ("aws:s3/bucket:Bucket", "aws:s3/bucketV2:BucketV2")
_BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
_ACCOUNT = "aws:s3/accountPublicAccessBlock:AccountPublicAccessBlock"
_SWITCHES = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def judge_stack(context: Context) -> Iterator[Finding]:
    """Each bucket has a public access block with all four switches, or the account has."""
    stack = context.stack
    whole = [block for block in stack.of(_ACCOUNT) if not any(True for _ in _open(block))]
    shut: set[str] = set()
    for block in stack.of(_BLOCK):
        yield from _open(block)
        shut.update(bucket.urn for bucket in stack.referred(block, "bucket", *_BUCKETS))
    for bucket in stack.of(*_BUCKETS):
        if bucket.urn not in shut and not whole:
            yield Finding(
                bucket,
                "bucket",
                "no BucketPublicAccessBlock for it",
                "a public access block with all four switches on",
            )


def _open(block: Resource) -> Iterator[Finding]:
    for switch in _SWITCHES:
        yield from is_true(block, switch, default=False)


def _guards(*more: Guard) -> tuple[Guard, ...]:
    return (Guard(""), *more, *(Guard(switch, wrong=(False, "true")) for switch in _SWITCHES))


RULE = Rule(
    id="exposure-bucket-block",
    title="Every S3 bucket is shut to the public",
    severity=Severity.HIGH,
    why="One later policy or ACL makes a bucket public; the block refuses it before anybody reads.",
    mend="Give the bucket a BucketPublicAccessBlock with all four switches on, or the account one.",
    controls=(
        Control(Framework.GDPR, "Art. 25(2)"),
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.8.3"),
    ),
    covers={
        **dict.fromkeys(_BUCKETS, ()),
        _BLOCK: _guards(Guard("bucket", wrong=("another-bucket",))),
        _ACCOUNT: _guards(),
    },
    judge_stack=judge_stack,
)
