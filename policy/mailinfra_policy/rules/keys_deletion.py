"""A key that somebody deletes can be brought back for long enough."""

from collections.abc import Iterator

from mailinfra_policy.expect import holds, one_of, within
from mailinfra_policy.keys import (
    AWS_EXTERNAL,
    AWS_EXTERNAL_REPLICA,
    AWS_KEY,
    AWS_REPLICA,
    DAY,
    GCP_KEY,
    seconds,
)
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity

_AWS = (AWS_KEY, AWS_REPLICA, AWS_EXTERNAL, AWS_EXTERNAL_REPLICA)
_SECRET = "aws:secretsmanager/secret:Secret"  # noqa: S105 (a type)
_VERSION = "gcp:kms/cryptoKeyVersion:CryptoKeyVersion"
_DEFAULT = 30
"""Days: of both clouds' KMS and of Secrets Manager."""


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """The time between asking for a key's end and its end."""
    days = context.config.keys.deletion_days
    match resource.type:
        case "aws:secretsmanager/secret:Secret":
            yield from within(resource, "recoveryWindowInDays", min(days, 30), 30, "days", default=_DEFAULT)
        case "gcp:kms/cryptoKey:CryptoKey":
            yield from holds(
                resource,
                "destroyScheduledDuration",
                lambda value: (period := seconds(value)) is not None and period >= days * DAY,
                f"at least {days * DAY}s ({days} days)",
                default=f"{_DEFAULT * DAY}s",
            )
        case "gcp:kms/cryptoKeyVersion:CryptoKeyVersion":
            yield from one_of(resource, "state", ("ENABLED", "DISABLED"), default="ENABLED")
        case _:
            yield from within(resource, "deletionWindowInDays", days, 30, "days", default=_DEFAULT)


RULE = Rule(
    id="keys-deletion",
    title="A deleted key can be brought back",
    severity=Severity.HIGH,
    why="With its key everything that it encrypts is gone, backups included, by mistake or by an attacker's will.",
    mend="Leave the deletion window at its longest: 30 days on AWS, `2592000s` or more on Google Cloud.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(b)"),
        Control(Framework.GDPR, "Art. 32(1)(c)"),
        Control(Framework.SOC2, "A1.2"),
        Control(Framework.ISO27001, "A.8.24"),
    ),
    covers={
        **{token: (Guard("deletionWindowInDays", wrong=(7, 29, 0, "30"), needed=False),) for token in _AWS},
        _SECRET: (Guard("recoveryWindowInDays", wrong=(0, 7), needed=False),),
        GCP_KEY: (Guard("destroyScheduledDuration", wrong=("86400s", "2591999s", "30d"), needed=False),),
        _VERSION: (Guard("state", wrong=("DESTROYED", "DESTROY_SCHEDULED", "enabled"), needed=False),),
    },
    judge=judge,
)
