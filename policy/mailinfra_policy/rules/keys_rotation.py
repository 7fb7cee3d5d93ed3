"""Keys that encrypt what is stored are rotated by the KMS itself, often enough."""

from collections.abc import Iterator

from mailinfra_policy.expect import holds, is_true, one_of, unknown, within
from mailinfra_policy.keys import AWS_KEY, DAY, GCP_KEY, Purpose, purpose, seconds
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Automatic rotation is on, within the interval, for each key that its KMS can rotate."""
    if (use := purpose(resource)) is UNKNOWN:
        yield unknown(resource, _USE[resource.type], "a key's use that is known")
    elif use is Purpose.ENCRYPTS:
        days = context.config.keys.rotation_days
        yield from (_gcp if resource.type == GCP_KEY else _aws)(resource, days)


def _aws(resource: Resource, days: int) -> Iterator[Finding]:
    spec = resource.get("customerMasterKeySpec")
    if spec not in (None, "SYMMETRIC_DEFAULT"):
        # Of the keys that encrypt, KMS rotates the symmetric ones only.
        yield from one_of(resource, "customerMasterKeySpec", _RSA)
        return
    for store in ("customKeyStoreId", "xksKeyId"):
        if resource.get(store) not in (None, ""):
            # KMS does not rotate what lies in a custom key store: whoever runs the store does.
            return
    yield from is_true(resource, "enableKeyRotation")
    yield from within(resource, "rotationPeriodInDays", 1, days, "days", default=365)


def _gcp(resource: Resource, days: int) -> Iterator[Finding]:
    if resource.get("importOnly") is True:
        # Cloud KMS does not rotate what it did not make.
        return
    yield from holds(
        resource,
        "rotationPeriod",
        lambda value: (period := seconds(value)) is not None and 0 < period <= days * DAY,
        f"at most {days * DAY}s ({days} days)",
    )


_USE = {AWS_KEY: "keyUsage", GCP_KEY: "purpose"}
_RSA = ("SYMMETRIC_DEFAULT", "RSA_2048", "RSA_3072", "RSA_4096", "SM2")


def _rotates(resource: Resource, value: object) -> bool:
    return (
        purpose(resource) is Purpose.ENCRYPTS
        and resource.get("customerMasterKeySpec") in (None, "SYMMETRIC_DEFAULT")
        and not resource.get("customKeyStoreId")
        and resource.get("importOnly") is not True
    )


RULE = Rule(
    id="keys-rotation",
    title="Keys that encrypt what is stored are rotated",
    severity=Severity.MEDIUM,
    why="The longer one key is in use, the more data is lost with it when it leaks.",
    mend="Turn automatic rotation on and let its period be no longer than the pack's config says.",
    controls=(
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.8.24"),
        Control(Framework.GDPR, "Art. 32(1)(a)"),
    ),
    covers={
        AWS_KEY: (
            Guard("enableKeyRotation", wrong=(False, "true"), when=_rotates),
            Guard("rotationPeriodInDays", wrong=(366, 2560, 0), needed=False, when=_rotates),
            Guard("keyUsage", needed=False, when=_rotates),
        ),
        GCP_KEY: (
            Guard("rotationPeriod", wrong=("31536001s", "365d", "0s", "7776000"), when=_rotates),
            Guard("purpose", needed=False, when=_rotates),
        ),
    },
    judge=judge,
)
