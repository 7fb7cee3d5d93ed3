"""Nobody may do everything: no wildcard administrator in either cloud."""

import json
import re
from collections.abc import Iterator

from mailinfra_policy.expect import unknown
from mailinfra_policy.grants import (
    IDENTITY_POLICIES,
    STORE_GRANTS,
    WIDE_GRANTS,
    bindings,
    guarded_paths,
    told,
    wildcard,
)
from mailinfra_policy.policies import Answer, Statement, all_of, any_of
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, show

_ATTACHED = {
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": "policyArn",
    "aws:iam/userPolicyAttachment:UserPolicyAttachment": "policyArn",
    "aws:iam/groupPolicyAttachment:GroupPolicyAttachment": "policyArn",
    "aws:iam/policyAttachment:PolicyAttachment": "policyArn",
    "aws:iam/rolePolicyAttachmentsExclusive:RolePolicyAttachmentsExclusive": "policyArns[*]",
    "aws:iam/role:Role": "managedPolicyArns[*]",
    "aws:ssoadmin/managedPolicyAttachment:ManagedPolicyAttachment": "managedPolicyArn",
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": "policyArn",
}
_TOO_MUCH = frozenset(
    {
        "AdministratorAccess",
        "AdministratorAccess-AWSElasticBeanstalk",
        "AdministratorAccess-Amplify",
        "AmazonEKSClusterAdminPolicy",
        "AWSKeyManagementServicePowerUser",
        "IAMFullAccess",
        "PowerUserAccess",
        "job-function/SystemAdministrator",
    }
)
_MANAGED = re.compile(r"arn:aws[a-z-]*:(?:iam|eks)::aws:(?:policy|cluster-access-policy)/(.+)")
_ROLES = frozenset(
    {
        "roles/admin",
        "roles/editor",
        "roles/owner",
        "roles/viewer",
        "roles/writer",
        "roles/reader",
        "roles/iam.securityAdmin",
        "roles/iam.serviceAccountAdmin",
        "roles/iam.serviceAccountKeyAdmin",
        "roles/iam.serviceAccountTokenCreator",
        "roles/iam.serviceAccountUser",
        "roles/resourcemanager.organizationAdmin",
        "roles/resourcemanager.projectIamAdmin",
    }
)
"""Roles over everything, and roles with which one takes every other identity over (on a whole project or above)."""
_PRIMITIVE = frozenset(
    {"roles/admin", "roles/editor", "roles/owner", "roles/viewer", "roles/writer", "roles/reader"}
)
_CUSTOM = {
    "gcp:projects/iAMCustomRole:IAMCustomRole": "permissions",
    "gcp:organizations/iAMCustomRole:IAMCustomRole": "permissions",
}
_ESCALATING = frozenset(
    {
        "iam.roles.update",
        "iam.serviceAccountKeys.create",
        "iam.serviceAccounts.getAccessToken",
        "iam.serviceAccounts.setIamPolicy",
        "iam.serviceAccounts.signBlob",
        "iam.serviceAccounts.signJwt",
        "resourcemanager.folders.setIamPolicy",
        "resourcemanager.organizations.setIamPolicy",
        "resourcemanager.projects.setIamPolicy",
    }
)


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """No statement, attached policy or role makes anybody an administrator of everything."""
    if resource.type in IDENTITY_POLICIES:
        yield from told(resource, IDENTITY_POLICIES, _everything, "named actions on named resources")
    if resource.type in _ATTACHED:
        yield from _attached(resource, _ATTACHED[resource.type], context)
    elif resource.type in _CUSTOM:
        yield from _permissions(resource)
    elif resource.cloud == "gcp":
        yield from _roles(resource, _ROLES if resource.type in WIDE_GRANTS else _PRIMITIVE)


def _everything(statement: Statement) -> Answer:
    """Every action (of all, or of IAM) on every resource, or any role handed to any service."""
    every = any_of((statement.resources.covers("*"), statement.resources.covers("arn:aws:*")))
    roles: Answer = statement.resources.excluded or any(
        wildcard(name) and re.fullmatch(r"\*|arn:aws[a-z-]*:iam::[\d*]*:(?:\*|role/\*)", name) is not None
        for name in statement.resources.patterns
    )
    if not roles and statement.resources.unknown:
        roles = UNKNOWN
    actions = statement.actions
    return all_of(
        (
            statement.allows,
            any_of(
                (
                    all_of(
                        (any_of((actions.covers("*:*"), actions.covers("*"), actions.covers("iam:*"))), every)
                    ),
                    all_of((actions.excluded, every)),
                    all_of((actions.touches("iam:PassRole"), roles)),
                    all_of((actions.touches("sts:AssumeRole"), roles)),
                )
            ),
        )
    )


def _attached(resource: Resource, path: str, context: Context) -> Iterator[Finding]:
    allowed = "a policy of named actions on named resources"
    for concrete, value in resource.each(path):
        if value is UNKNOWN:
            # A policy of this stack is judged itself.
            if not context.stack.referred(resource, concrete, "aws:iam/policy:Policy"):
                yield unknown(resource, concrete, allowed)
        elif isinstance(value, str) and (managed := _MANAGED.fullmatch(value)) and managed[1] in _TOO_MUCH:
            yield Finding(resource, concrete, show(value), allowed)


def _permissions(resource: Resource) -> Iterator[Finding]:
    for concrete, value in resource.each("permissions[*]"):
        if value is UNKNOWN:
            yield unknown(resource, concrete, "permissions that give no other identity away")
        elif value in _ESCALATING or "*" in str(value):
            yield Finding(resource, concrete, show(value), "permissions that give no other identity away")


def _roles(resource: Resource, refused: frozenset[str]) -> Iterator[Finding]:
    allowed = "a role for one service"
    for member in bindings(resource):
        if member.role is UNKNOWN:
            yield unknown(resource, member.role_path, allowed)
        elif member.role in refused:
            yield Finding(resource, member.role_path, show(member.role), allowed)


def _policy(action: object, resource: object) -> str:
    return json.dumps({"Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]})


_WRONG = (
    _policy("*", "*"),
    _policy(["s3:GetObject", "iam:*"], ["arn:aws:s3:::mail/*", "*"]),
    _policy("iam:PassRole", "*"),
    json.dumps({"Statement": {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}}),
)
_ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"


def _role(token: str, wrong: tuple[str, ...]) -> tuple[Guard, ...]:
    _, path = guarded_paths(token)
    if path == "policyData":
        bad = tuple(
            json.dumps({"bindings": [{"role": role, "members": ["user:a@example.test"]}]}) for role in wrong
        )
        return (Guard(path, wrong=bad, needed=False),)
    return (Guard(path, wrong=wrong, needed=False),)


RULE = Rule(
    id="exposure-wildcard-admin",
    title="Nobody may do everything",
    severity=Severity.CRITICAL,
    why="One stolen session of a wildcard administrator is the whole fleet, its mail, its keys and its backups.",
    mend="Name the actions and resources; hand over only roles by name; give roles of single services.",
    controls=(
        Control(Framework.SOC2, "CC6.3"),
        Control(Framework.ISO27001, "A.5.15"),
        Control(Framework.ISO27001, "A.8.2"),
        Control(Framework.GDPR, "Art. 32(1)(b)"),
    ),
    covers={
        **{
            token: tuple(Guard(path, wrong=_WRONG, needed=False) for path in paths)
            for token, paths in IDENTITY_POLICIES.items()
            if token not in _ATTACHED
        },
        **{token: (Guard(path, wrong=(_ADMIN,), needed=False),) for token, path in _ATTACHED.items()},
        "aws:iam/role:Role": (
            Guard("inlinePolicies[*].policy", wrong=_WRONG, needed=False),
            Guard("managedPolicyArns[*]", wrong=(_ADMIN,), needed=False),
        ),
        **{
            token: (Guard("permissions[*]", wrong=("resourcemanager.projects.setIamPolicy",), needed=False),)
            for token in _CUSTOM
        },
        **{token: _role(token, ("roles/owner", "roles/iam.serviceAccountUser")) for token in WIDE_GRANTS},
        **{token: _role(token, ("roles/owner", "roles/editor")) for token in STORE_GRANTS},
    },
    judge=judge,
)
