"""Copies lie under keys of their own, which the store's administrators cannot destroy."""

import re
from collections.abc import Iterator

from mailinfra_policy import policies
from mailinfra_policy.copies import (
    BUCKETS,
    GCP_VAULT,
    KEYS,
    S3_BUCKETS,
    S3_ENCRYPTION,
    S3_KEY,
    VAULTS,
    Copy,
    away,
    copies,
    holds_copies,
    key_paths,
    stores,
)
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, document, get, show

_KEY_TYPES = ("aws:kms/key:Key", "aws:kms/replicaKey:ReplicaKey", "gcp:kms/cryptoKey:CryptoKey")
_KEY_POLICY = "aws:kms/keyPolicy:KeyPolicy"
_DESTROYS = ("kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:PutKeyPolicy")


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every vault and bucket with copies has a key of its own; one that lies away has its own administrators too."""
    stack = context.stack
    for store in stores(context):
        found = [copy for copy in copies(store, context) if copy.vessel is not None]
        separate, faults = False, False
        for copy in found:
            own = [*_own_key(store, copy, stack)]
            faults = faults or bool(own)
            yield from own
            separate = separate or (
                not own and away(copy, store, context) and _administered_apart(store, copy, stack)
            )
        if not separate and not faults:
            yield Finding(
                store,
                "",
                "no copy that lies away from it and under other administrators",
                "a copy in another cloud, account or project, or under a key whose policy names other administrators",
            )


def _own_key(store: Resource, copy: Copy, stack: Stack) -> Iterator[Finding]:
    if copy.vessel is None:
        return
    holder, path = key_paths(copy.vessel, stack)
    allowed = f"a key that is not {store.name}'s"
    value = holder.get(path)
    keys = _keys(holder, path, stack)
    if value is None or value == "":
        yield Finding(holder, path, show(value), allowed)
    elif value is UNKNOWN and not keys:
        yield Finding(holder, path, show(value), allowed, unknown=True)
    else:
        other, at = key_paths(store, stack)
        theirs = other.get(at) if at else None
        if (isinstance(value, str) and value == theirs) or set(keys) & set(_keys(other, at, stack)):
            yield Finding(holder, path, "the same key as the store's", allowed)


def _keys(resource: Resource, path: str, stack: Stack) -> list[Resource]:
    return stack.referred(resource, path, *_KEY_TYPES) if path and resource.get(path) is not None else []


def _administered_apart(store: Resource, copy: Copy, stack: Stack) -> bool:
    if copy.vessel is None:
        return False
    if copy.vessel.cloud != store.cloud:
        return True
    ours, theirs = _account(store), _account(copy.vessel)
    if ours and theirs and ours != theirs:
        return True
    keys = _keys(*key_paths(store, stack), stack), _keys(*key_paths(copy.vessel, stack), stack)
    administrators = [[_administrators(key, stack) for key in side] for side in keys]
    first, second = administrators
    return bool(first and second) and all(
        one is not None and two is not None and not one & two for one in first for two in second
    )


def _account(resource: Resource) -> str:
    """The AWS account or Google project that a resource is made in; empty where that cannot be told."""
    provider = resource.provider.props if resource.provider else {}
    if resource.cloud == "gcp":
        project = resource.get("project") or provider.get("project")
        return project if isinstance(project, str) else ""
    arns = (
        resource.outputs.get("arn"),
        get(provider, "assumeRoles[0].roleArn"),
        get(provider, "assumeRole.roleArn"),
    )
    for arn in arns:
        match = (
            re.match(r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:(\d{12}):", arn) if isinstance(arn, str) else None
        )
        if match:
            return match[1]
    allowed = provider.get("allowedAccountIds")
    return (
        allowed[0] if isinstance(allowed, list) and len(allowed) == 1 and isinstance(allowed[0], str) else ""
    )


def _administrators(key: Resource, stack: Stack) -> frozenset[str] | None:
    """Whom a key's policy lets destroy it; None where that cannot be told."""
    attached = stack.referring(key, "keyId", _KEY_POLICY)
    text = attached[0].get("policy") if attached else key.get("policy")
    if not isinstance(text, str):
        return None
    found: set[str] = set()
    try:
        statements = policies.statements(document(text))
    except ValueError:
        return None
    for statement in statements:
        if statement.effect == "Deny":
            continue
        touches = [statement.actions.touches(action) for action in _DESTROYS]
        if any(answer is UNKNOWN for answer in touches) or statement.principals is None:
            return None
        if any(answer is True for answer in touches):
            if statement.principals.excluded or statement.principals.unknown:
                return None
            found |= set(statement.principals.patterns)
    # A wildcard lets anybody; the account's root lets whoever its IAM lets, which is the same for both keys.
    return None if any("*" in name or name.endswith(":root") for name in found) else frozenset(found)


RULE = Rule(
    id="backups-separate-keys",
    title="Copies of mail lie under their own keys and administrators",
    severity=Severity.CRITICAL,
    why="With one key, or one set of administrators, for mail and backups, a single loss or break-in takes both.",
    mend="Give the vault or bucket a KMS key of its own, in another cloud, account or project, or with a key policy "
    "that names other administrators than the store's key.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(c)"),
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.8.24"),
        Control(Framework.ISO27001, "A.5.3"),
    ),
    covers={
        **dict.fromkeys(S3_BUCKETS, ()),
        BUCKETS[-1]: (Guard(KEYS[BUCKETS[-1]], wrong=("",), where=holds_copies),),
        **{token: (Guard(KEYS[token], wrong=("",)),) for token in (*VAULTS, GCP_VAULT)},
        **{token: (Guard(S3_KEY, wrong=("",), where=holds_copies),) for token in S3_ENCRYPTION},
    },
    judge_stack=judge_stack,
)
