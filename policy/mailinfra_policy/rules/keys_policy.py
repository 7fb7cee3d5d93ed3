"""Nobody may use a key but those who are named: no wildcard in key policies, grants or roles."""

import json
import re
from collections.abc import Iterator

from mailinfra_policy.expect import is_false, unknown
from mailinfra_policy.grants import (
    IDENTITIES,
    IDENTITY_POLICIES,
    KEY_GRANTS,
    KEY_POLICIES,
    NAMED,
    RING_GRANTS,
    WIDE_GRANTS,
    bindings,
    guarded_paths,
    opens_to_everyone,
    told,
    wildcard,
)
from mailinfra_policy.policies import Answer, Statement, all_of, any_of, negated, overlaps
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, Unknown, show

_GRANT = "aws:kms/grant:Grant"
_ACCOUNT = re.compile(r"AWS:(?:\d{12}|arn:aws[a-z-]*:iam::\d{12}:root)")
_GRANTEE = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::\d{12}:(?:role|user|assumed-role|federated-user)/[^*?]+")
_USES = (
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DeriveSharedSecret",
    "kms:Encrypt",
    "kms:GenerateDataKey*",
    "kms:GenerateMac",
    "kms:PutKeyPolicy",
    "kms:ReEncrypt*",
    "kms:ScheduleKeyDeletion",
    "kms:Sign",
)
_KEYS = tuple(f"arn:{partition}:kms:*:key/*" for partition in ("aws", "aws-cn", "aws-eusc", "aws-us-gov"))
_BY_KEY = re.compile(r"kms:resourcealiases|kms:requestalias|aws:resourcetag/.+|\*")

PRIMITIVE = frozenset({"roles/owner", "roles/editor", "roles/viewer"})
USE_ROLES = frozenset(
    f"roles/cloudkms.{name}"
    for name in (
        "cryptoKeyDecrypter",
        "cryptoKeyDecrypterViaDelegation",
        "cryptoKeyEncrypter",
        "cryptoKeyEncrypterDecrypter",
        "cryptoKeyEncrypterDecrypterViaDelegation",
        "cryptoKeyEncrypterViaDelegation",
        "cryptoOperator",
        "decapsulator",
        "signer",
        "signerVerifier",
    )
)
"""The roles of Cloud KMS that use a key."""


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Whoever is allowed something is somebody in particular, and what is allowed is for keys in particular."""
    if resource.type in KEY_POLICIES:
        yield from is_false(resource, "bypassPolicyLockoutSafetyCheck", default=False)
        yield from told(
            resource, KEY_POLICIES, _key_statement, "principals by name; kms:* for the account only"
        )
    elif resource.type in IDENTITY_POLICIES:
        yield from told(resource, IDENTITY_POLICIES, _wide_use, "the keys' own ARNs")
    elif resource.type == _GRANT:
        yield from _grantee(resource, context)
    elif resource.type in _WIDE:
        yield from _wide_roles(resource)
    else:
        yield from _key_members(resource, context)


def _key_statement(statement: Statement) -> Answer:
    return any_of((opens_to_everyone(statement), _rules(statement)))


def _rules(statement: Statement) -> Answer:
    """Whether somebody but an account as such gets every action."""
    names = statement.principals
    if names is None:
        return False
    others: Answer = not all(_ACCOUNT.fullmatch(pattern) for pattern in names.patterns)
    if not others and names.unknown:
        others = UNKNOWN
    return all_of((statement.allows, statement.actions.covers("kms:*"), others))


def _wide_use(statement: Statement) -> Answer:
    """Whether it lets its identity use keys by a pattern, none of the conditions telling the keys apart."""
    resources = statement.resources
    wide: Answer = resources.excluded or any(
        wildcard(pattern) and any(overlaps(pattern, keys) for keys in _KEYS) for pattern in resources.patterns
    )
    if not wide and resources.unknown:
        wide = UNKNOWN
    told = (
        UNKNOWN
        if isinstance(statement.conditions, Unknown)
        else any(_BY_KEY.fullmatch(condition.key) for condition in statement.conditions)
    )
    used = any_of(statement.actions.touches(action) for action in _USES)
    return all_of((statement.allows, used, wide, negated(told)))


def _grantee(resource: Resource, context: Context) -> Iterator[Finding]:
    allowed = "the ARN of one role or user"
    value = resource.get("granteePrincipal")
    if isinstance(value, str) and _GRANTEE.fullmatch(value):
        return
    if context.stack.referred(resource, "granteePrincipal", "aws:iam/role:Role", "aws:iam/user:User"):
        return
    if value is UNKNOWN:
        yield unknown(resource, "granteePrincipal", allowed)
    else:
        yield Finding(resource, "granteePrincipal", show(value), allowed)


def _wide_roles(resource: Resource) -> Iterator[Finding]:
    allowed = "roles that use keys on the keys themselves only"
    for member in bindings(resource):
        if member.role is UNKNOWN:
            yield unknown(resource, member.role_path, allowed)
        elif member.role in USE_ROLES:
            yield Finding(resource, member.role_path, show(member.role), allowed)


def _key_members(resource: Resource, context: Context) -> Iterator[Finding]:
    who = "users, groups, service accounts or principals by name"
    what = "a role of Cloud KMS"
    for member in bindings(resource):
        if member.role is UNKNOWN:
            yield unknown(resource, member.role_path, what)
        elif member.role in PRIMITIVE:
            yield Finding(resource, member.role_path, show(member.role), what)
        if isinstance(member.name, str) and NAMED.fullmatch(member.name):
            continue
        if member.name is UNKNOWN:
            # A member made from an identity of this stack is one; which it is does not matter here.
            if not context.stack.referred(resource, member.path, *IDENTITIES):
                yield unknown(resource, member.path, who)
        else:
            yield Finding(resource, member.path, show(member.name), who)


_WIDE = (*WIDE_GRANTS, *RING_GRANTS)
_EVERYONE = {"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}


def _text(**changes: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{**_EVERYONE, **changes}]})


_OPEN_KEYS = (
    _text(),
    _text(Principal={"AWS": "*"}, Action="kms:*"),
    _text(Principal={"AWS": "arn:aws:iam::*:root"}),
    _text(Principal={"AWS": "arn:aws:iam::111122223333:role/a"}, Action="kms:*"),
    "no policy",
)
_WIDE_USE = (
    json.dumps({"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}),
    json.dumps(
        {"Statement": [{"Effect": "Allow", "Action": "kms:Dec*", "Resource": "arn:aws:kms:*:*:key/*"}]}
    ),
)
_BROAD = ("allUsers", "allAuthenticatedUsers", "domain:example.test", "projectEditor:example-mail")


def _data(role: str, member: str) -> str:
    return json.dumps({"bindings": [{"role": role, "members": [member]}]})


_DECRYPTER = "roles/cloudkms.cryptoKeyDecrypter"


def _members(token: str) -> tuple[Guard, ...]:
    members, role = guarded_paths(token)
    if members == "policyData":
        wrong = (_data(_DECRYPTER, "allUsers"), _data("roles/owner", "user:a@example.test"))
        return (Guard("policyData", wrong=wrong, needed=False),)
    return (
        Guard(members, wrong=_BROAD, needed=members == "member"),
        Guard(role, wrong=("roles/owner", "roles/editor"), needed=False),
    )


def _roles(token: str) -> tuple[Guard, ...]:
    _, role = guarded_paths(token)
    wrong = (_data(_DECRYPTER, "user:a@example.test"),) if role == "policyData" else tuple(sorted(USE_ROLES))
    return (Guard(role, wrong=wrong, needed=False),)


RULE = Rule(
    id="keys-policy",
    title="Only those who are named may use a key",
    severity=Severity.CRITICAL,
    why="A wildcard in a key's policy gives whatever the key protects to people whom nobody chose.",
    mend="Name the roles, service accounts and keys; leave kms:* to the account itself; grant roles on the key.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(b)"),
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.SOC2, "CC6.3"),
        Control(Framework.ISO27001, "A.5.15"),
        Control(Framework.ISO27001, "A.8.24"),
    ),
    covers={
        **{
            token: (
                Guard("policy", wrong=_OPEN_KEYS, needed=False),
                Guard("bypassPolicyLockoutSafetyCheck", wrong=(True,), needed=False),
            )
            for token in KEY_POLICIES
        },
        **{
            token: tuple(Guard(path, wrong=_WIDE_USE, needed=False) for path in paths)
            for token, paths in IDENTITY_POLICIES.items()
        },
        _GRANT: (
            Guard("granteePrincipal", wrong=("*", "arn:aws:iam::111122223333:root", "arn:aws:iam::1:role/*")),
        ),
        **{token: _members(token) for token in KEY_GRANTS},
        **{token: _roles(token) for token in _WIDE},
    },
    judge=judge,
)
