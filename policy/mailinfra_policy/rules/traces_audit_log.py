"""Who did what in the clouds is recorded, everywhere, and cannot be forged."""

from collections.abc import Iterator

from mailinfra_policy.copies import MEDIA
from mailinfra_policy.expect import is_true, present
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
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
    for cloud, types, what in (
        ("aws", (TRAIL,), "a CloudTrail trail of all regions"),
        ("gcp", AUDIT_CONFIGS, "an audit config of allServices"),
    ):
        held = next((store for store in stack.of(*MEDIA) if store.cloud == cloud), None)
        if held is None:
            continue
        found = [item for item in stack.of(*types) if cloud == "aws" or item.get("service") == "allServices"]
        if not found:
            unknown = any(item.get("service") is UNKNOWN for item in stack.of(*types) if cloud == "gcp")
            yield Finding(held, "", f"no audit log of {cloud} in the stack", what, unknown)
    for trail in stack.of(TRAIL):
        yield from is_true(trail, "isMultiRegionTrail")
        yield from is_true(trail, "enableLogFileValidation")
        yield from is_true(trail, "enableLogging", default=True)
        yield from is_true(trail, "includeGlobalServiceEvents", default=True)
        yield from present(trail, "kmsKeyId", "a KMS key")
    for config in stack.of(*AUDIT_CONFIGS):
        if config.get("service") == "allServices":
            yield from _kinds(config)


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
    title="The clouds' audit logs are on, in all regions, and provable",
    severity=Severity.HIGH,
    why="Without a record of who changed or read what, a break-in is neither seen nor told to those whom it concerns.",
    mend="Add a CloudTrail trail with isMultiRegionTrail, enableLogFileValidation and kmsKeyId; at Google an "
    "IAMAuditConfig of allServices with DATA_READ, DATA_WRITE and ADMIN_READ.",
    controls=(
        Control(Framework.GDPR, "Art. 33"),
        Control(Framework.SOC2, "CC7.2"),
        Control(Framework.ISO27001, "A.8.15"),
    ),
    covers={
        TRAIL: (
            Guard(""),
            Guard("isMultiRegionTrail", wrong=(False,)),
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
