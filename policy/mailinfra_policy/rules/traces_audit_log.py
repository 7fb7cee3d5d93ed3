"""Who did what in the clouds is recorded, everywhere, and cannot be forged."""

from collections.abc import Iterator
from dataclasses import replace

from mailinfra_policy.copies import MEDIA
from mailinfra_policy.expect import is_true, present
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.stores import regions
from mailinfra_policy.values import UNKNOWN, show

TRAIL = "aws:cloudtrail/trail:Trail"
AUDIT_CONFIGS = (
    "gcp:projects/iAMAuditConfig:IAMAuditConfig",
    "gcp:folder/iamAuditConfig:IamAuditConfig",
    "gcp:organizations/iamAuditConfig:IamAuditConfig",
)
_KINDS = ("DATA_READ", "DATA_WRITE", "ADMIN_READ")


def judge_stack(context: Context) -> Iterator[Finding]:
    """Each cloud in which the stack has stores."""
    stack = context.stack
    yield from _followed(stack)
    configs = stack.of(*AUDIT_CONFIGS)
    held = next((store for store in stack.of(*MEDIA) if store.cloud == "gcp"), None)
    if held is not None and not any(item.get("service") == "allServices" for item in configs):
        unknown = any(item.get("service") is UNKNOWN for item in configs)
        what = "an audit config of allServices"
        yield Finding(held, "", "no audit log of gcp in the stack", what, unknown)
    for trail in stack.of(TRAIL):
        yield from is_true(trail, "enableLogFileValidation")
        yield from is_true(trail, "enableLogging", default=True)
        yield from is_true(trail, "includeGlobalServiceEvents", default=True)
        yield from present(trail, "kmsKeyId", "a KMS key")
    for config in stack.of(*AUDIT_CONFIGS):
        if config.get("service") == "allServices":
            yield from _kinds(config)


def _followed(stack: Stack) -> Iterator[Finding]:
    """Every region with stores has a trail: one of all regions, or its own (what happens in a zone stays there)."""
    trails = stack.of(TRAIL)
    missing = _missing(stack, trails)
    allowed = f"a CloudTrail trail of all regions, or one in {', '.join(sorted(missing))}"
    if missing and not trails:
        yield Finding(next(iter(missing.values())), "", "no audit log of aws in the stack", allowed)
    elif missing:
        value = trails[0].get("isMultiRegionTrail")
        yield Finding(trails[0], "isMultiRegionTrail", show(value), allowed, value is UNKNOWN)


def _missing(stack: Stack, trails: list[Resource]) -> dict[str, Resource]:
    """The regions with stores that no trail follows, each with one of its stores."""
    if any(trail.get("isMultiRegionTrail") is True for trail in trails):
        return {}
    followed = frozenset[str]().union(*(regions(trail, stack) for trail in trails))
    return {
        region: store
        for store in stack.of(*MEDIA)
        if store.cloud == "aws"
        for region in sorted(regions(store, stack))
        if region not in followed
    }


def _alone(trail: Resource, stack: Stack) -> bool:
    """Whether stores would be left without a trail if this one were one of its own region only."""
    own = [
        replace(other, props={**other.props, "isMultiRegionTrail": False}) if other == trail else other
        for other in stack.of(TRAIL)
    ]
    return bool(_missing(stack, own))


def _kinds(config: Resource) -> Iterator[Finding]:
    allowed = "DATA_READ, DATA_WRITE and ADMIN_READ, with nobody exempted"
    kinds = [value for _, value in config.each("auditLogConfigs[*].logType")]
    missing = [kind for kind in _KINDS if kind not in kinds]
    if missing:
        unknown = any(kind is UNKNOWN for kind in kinds)
        yield Finding(config, "auditLogConfigs", f"no {', '.join(missing)}", allowed, unknown)
    for path, exempted in config.each("auditLogConfigs[*].exemptedMembers"):
        if exempted is UNKNOWN or exempted:
            yield Finding(config, path, show(exempted), allowed, exempted is UNKNOWN)


RULE = Rule(
    id="traces-audit-log",
    title="The clouds' audit logs are on, wherever there are stores, and provable",
    severity=Severity.HIGH,
    why="Without a record of who changed or read what, a break-in is neither seen nor told to those whom it concerns.",
    mend="Add a CloudTrail trail of all regions, or one in each region with stores, with enableLogFileValidation and "
    "kmsKeyId; at Google an "
    "IAMAuditConfig of allServices with DATA_READ, DATA_WRITE and ADMIN_READ.",
    controls=(
        Control(Framework.GDPR, "Art. 33"),
        Control(Framework.SOC2, "CC7.2"),
        Control(Framework.ISO27001, "A.8.15"),
    ),
    covers={
        TRAIL: (
            Guard(""),
            Guard("isMultiRegionTrail", wrong=(False,), where=_alone),
            Guard("enableLogFileValidation", wrong=(False,)),
            Guard("enableLogging", wrong=(False,), needed=False),
            Guard("includeGlobalServiceEvents", wrong=(False,), needed=False),
            Guard("kmsKeyId", wrong=("",), opaque=True),
        ),
        **{
            token: (
                Guard(""),
                Guard("service", wrong=("storage.googleapis.com", "allservices")),
                Guard("auditLogConfigs[*].logType", wrong=("data_read", "LOG_TYPE_UNSPECIFIED")),
                Guard("auditLogConfigs[*].exemptedMembers", wrong=(["user:a@example.test"],), needed=False),
            )
            for token in AUDIT_CONFIGS
        },
    },
    judge_stack=judge_stack,
)
