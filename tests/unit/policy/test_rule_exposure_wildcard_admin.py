"""Nobody may do everything."""

import json
from typing import Any

import pytest

from mailinfra_policy.grants import IDENTITY_POLICIES, STORE_GRANTS, WIDE_GRANTS
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.exposure_wildcard_admin import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

OBJECTS = {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::mail/*"}
READ_ONLY = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"


def policy(**statement: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


def granted(token: str, role: str) -> Resource:
    member = "serviceAccount:mail@example-mail.iam.gserviceaccount.com"
    props: dict[str, Any] = {"role": role, "member": member}
    if token.endswith("Binding"):
        props = {"role": role, "members": [member]}
    elif token.endswith("Policy"):
        props = {"policyData": json.dumps({"bindings": [{"role": role, "members": [member]}]})}
    return resource(token, token.rsplit(":", 1)[1], props)


NODES = resource("aws:iam/rolePolicy:RolePolicy", "nodes", {"policy": policy(**OBJECTS)})
ROLE = resource(
    "aws:iam/role:Role",
    "nodes",
    {"inlinePolicies": [{"name": "read", "policy": policy(**OBJECTS)}], "managedPolicyArns": [READ_ONLY]},
)
CUSTOM = [
    resource(f"gcp:{where}/iAMCustomRole:IAMCustomRole", where, {"permissions": ["storage.objects.get"]})
    for where in ("projects", "organizations")
]
ATTACHED = [
    resource(f"aws:{token}", "attached", {path: READ_ONLY})
    for token, path in (
        ("iam/rolePolicyAttachment:RolePolicyAttachment", "policyArn"),
        ("iam/userPolicyAttachment:UserPolicyAttachment", "policyArn"),
        ("iam/groupPolicyAttachment:GroupPolicyAttachment", "policyArn"),
        ("iam/policyAttachment:PolicyAttachment", "policyArn"),
        ("ssoadmin/managedPolicyAttachment:ManagedPolicyAttachment", "managedPolicyArn"),
        ("eks/accessPolicyAssociation:AccessPolicyAssociation", "policyArn"),
    )
]
EXCLUSIVE = resource(
    "aws:iam/rolePolicyAttachmentsExclusive:RolePolicyAttachmentsExclusive",
    "all",
    {"policyArns": [READ_ONLY]},
)
GOOD = (
    [
        resource(token, "it", {path: policy(**OBJECTS)})
        for token, (path,) in IDENTITY_POLICIES.items()
        if "[" not in path
    ],
    [ROLE],
    [*ATTACHED, EXCLUSIVE],
    CUSTOM,
    [granted(token, "roles/logging.logWriter") for token in (*WIDE_GRANTS, *STORE_GRANTS)],
)


@pytest.mark.parametrize(
    ("statement", "right"),
    [
        ({"Action": "*", "Resource": "*"}, False),
        ({"Action": "*:*", "Resource": "*"}, False),
        ({"Action": ["s3:GetObject", "*"], "Resource": ["arn:aws:s3:::a", "*"]}, False),
        ({"Action": "iam:*", "Resource": "*"}, False),
        ({"Action": "iam:PassRole", "Resource": "*"}, False),
        ({"Action": "iam:Pass*", "Resource": "arn:aws:iam::111122223333:role/*"}, False),
        ({"Action": "iam:PassRole", "Resource": "arn:aws:iam::111122223333:role/mail"}, True),
        ({"Action": "sts:AssumeRole", "Resource": "*"}, False),
        ({"NotAction": "iam:*", "Resource": "*"}, False),
        ({"Action": "*", "NotResource": "arn:aws:s3:::a"}, False),
        ({"Action": "s3:*", "Resource": "arn:aws:s3:::mail/*"}, True),
        ({"Action": "ec2:Describe*", "Resource": "*"}, True),
        ({"Action": "*", "Resource": "*", "Effect": "Deny"}, True),
    ],
)
def test_statements(statement: dict[str, Any], right: bool) -> None:
    assert (found(RULE, [changed(NODES, policy=policy(**statement))]) == []) is right


@pytest.mark.parametrize("name", ["AdministratorAccess", "PowerUserAccess", "IAMFullAccess"])
def test_the_clouds_own_policies_for_everything(name: str) -> None:
    arn = f"arn:aws:iam::aws:policy/{name}"
    assert places(RULE, [changed(ATTACHED[0], policyArn=arn)]) == [("attached", "policyArn")]
    assert places(RULE, [changed(ROLE, managedPolicyArns=[READ_ONLY, arn])]) == [
        ("nodes", "managedPolicyArns[1]")
    ]


@pytest.mark.parametrize("role", ["roles/owner", "roles/editor", "roles/viewer"])
def test_primitive_roles(role: str) -> None:
    for token in (WIDE_GRANTS[0], STORE_GRANTS[0]):
        assert [path for _, path in places(RULE, [granted(token, role)])] == ["role"]


def test_a_role_over_identities_may_be_given_on_one_of_them() -> None:
    token = "roles/iam.serviceAccountTokenCreator"
    assert [path for _, path in places(RULE, [granted(WIDE_GRANTS[0], token)])] == ["role"]
    one = next(item for item in STORE_GRANTS if item.startswith("gcp:serviceaccount/"))
    assert found(RULE, [granted(one, token)]) == []


def test_a_role_of_ones_own_gives_no_identity_away() -> None:
    wrong = changed(CUSTOM[0], permissions=["storage.objects.get", "iam.serviceAccountKeys.create"])
    assert places(RULE, [wrong]) == [("projects", "permissions[1]")]


@pytest.mark.parametrize("of", [NODES, ATTACHED[0], CUSTOM[0]])
def test_unknown_is_undecided(of: Resource) -> None:
    items = found(RULE, [changed(of, **dict.fromkeys(of.props, UNKNOWN))])
    assert items and all(item.finding.unknown for item in items)
