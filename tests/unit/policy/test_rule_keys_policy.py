"""Only those who are named may use a key."""

import json
from typing import Any

import pytest

from mailinfra_policy.grants import IDENTITY_POLICIES, KEY_GRANTS, KEY_POLICIES, RING_GRANTS, WIDE_GRANTS
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.keys_policy import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

ROOT = {"AWS": "arn:aws:iam::111122223333:root"}
ROLE = {"AWS": "arn:aws:iam::111122223333:role/mail"}
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
MEMBER = "serviceAccount:mail@example-mail.iam.gserviceaccount.com"
DECRYPTER = "roles/cloudkms.cryptoKeyDecrypter"


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **s} for s in statements]})


OWN = policy(
    {"Principal": ROOT, "Action": "kms:*", "Resource": "*"},
    {"Principal": ROLE, "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"},
)
USER = policy({"Action": "kms:Decrypt", "Resource": KEY}, {"Action": "s3:*", "Resource": "*"})


def granted(token: str, role: str = DECRYPTER, member: str = MEMBER) -> Resource:
    props: dict[str, Any] = {"role": role, "member": member}
    if token.endswith("Binding"):
        props = {"role": role, "members": [member]}
    elif token.endswith("Policy"):
        props = {"policyData": json.dumps({"bindings": [{"role": role, "members": [member]}]})}
    return resource(token, token.rsplit(":", 1)[1], props)


AWS_KEY = resource("aws:kms/key:Key", "storage", {"policy": OWN})
GRANT = resource("aws:kms/grant:Grant", "grant", {"keyId": "k", "granteePrincipal": ROLE["AWS"]})
POLICY = resource("aws:iam/rolePolicy:RolePolicy", "nodes", {"policy": USER})
ON_KEY = granted(KEY_GRANTS[0])
WIDE = granted(WIDE_GRANTS[0], "roles/logging.logWriter")
GOOD = (
    [resource(token, "it", {"policy": OWN}) for token in KEY_POLICIES],
    [resource(token, "it", {path: USER}) for token, (path,) in IDENTITY_POLICIES.items() if "[" not in path],
    [resource("aws:iam/role:Role", "nodes", {"inlinePolicies": [{"name": "use", "policy": USER}]})],
    [GRANT],
    [granted(token) for token in KEY_GRANTS],
    [granted(token, "roles/logging.logWriter") for token in (*WIDE_GRANTS, *RING_GRANTS)],
)


def test_the_clouds_own_key_policy_names_the_account() -> None:
    assert found(RULE, [changed(AWS_KEY, policy=None)]) == []


@pytest.mark.parametrize(
    "statement",
    [
        {"Principal": "*", "Action": "kms:Decrypt"},
        {"Principal": {"AWS": "*"}, "Action": "kms:*"},
        {"Principal": {"AWS": ["arn:aws:iam::111122223333:root", "*"]}, "Action": "kms:Encrypt"},
        {"Principal": {"AWS": "arn:aws:iam::*:role/mail"}, "Action": "kms:Decrypt"},
        {"NotPrincipal": ROLE, "Action": "kms:Decrypt"},
        {"Principal": ROLE, "Action": "kms:*"},
        {"Principal": ROLE, "Action": "*"},
        {"Principal": ROLE, "NotAction": "s3:*"},
        {"Principal": {"Service": "logs.eu-central-1.amazonaws.com"}, "Action": "KMS:*"},
        {"Principal": "*", "Action": "kms:Decrypt", "Condition": {"Bool": {"aws:SecureTransport": "true"}}},
        {"Principal": "*", "Action": "kms:Decrypt", "Condition": {"StringLike": {"kms:CallerAccount": "*"}}},
    ],
)
def test_a_wildcard_in_a_key_policy_is_found(statement: dict[str, Any]) -> None:
    wrong = changed(AWS_KEY, policy=policy({"Resource": "*", **statement}))
    assert places(RULE, [wrong]) == [("storage", "policy")]


@pytest.mark.parametrize(
    "statement",
    [
        {"Principal": "*", "Action": "kms:*", "Effect": "Deny"},
        {
            "Principal": "*",
            "Action": "kms:Decrypt",
            "Condition": {"StringEquals": {"kms:CallerAccount": "111122223333"}},
        },
        {"Principal": {"Service": "dnssec-route53.amazonaws.com"}, "Action": "kms:Sign"},
        {"Principal": {"AWS": "111122223333"}, "Action": "kms:*"},
    ],
)
def test_what_is_narrow_enough(statement: dict[str, Any]) -> None:
    assert found(RULE, [changed(AWS_KEY, policy=policy({"Resource": "*", **statement}))]) == []


def test_the_finding_shows_the_statement() -> None:
    wrong = policy({"Principal": "*", "Action": "kms:Decrypt", "Resource": "*"})
    (item,) = found(RULE, [changed(AWS_KEY, policy=wrong)])
    assert item.finding.found == 'Statement[0]: ["AWS:*"] may ["kms:Decrypt"] on ["*"]'


@pytest.mark.parametrize(
    ("statement", "right"),
    [
        ({"Action": "kms:Decrypt", "Resource": "*"}, False),
        ({"Action": "kms:*", "Resource": KEY}, True),
        ({"Action": "*", "NotResource": "arn:aws:s3:::a"}, False),
        ({"Action": "kms:Sign", "Resource": f"{KEY[:-1]}*"}, False),
        ({"Action": "kms:DescribeKey", "Resource": "*"}, True),
        ({"Action": "kms:Decrypt", "Resource": "arn:aws:s3:::mail/*"}, True),
        (
            {
                "Action": "kms:Decrypt",
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:ResourceTag/data-class": "mail"}},
            },
            True,
        ),
    ],
)
def test_identities_use_keys_by_name(statement: dict[str, Any], right: bool) -> None:
    assert (found(RULE, [changed(POLICY, policy=policy(statement))]) == []) is right


@pytest.mark.parametrize("grantee", ["*", "111122223333", "arn:aws:iam::111122223333:root", ""])
def test_a_grant_names_a_role(grantee: str) -> None:
    assert places(RULE, [changed(GRANT, granteePrincipal=grantee)]) == [("grant", "granteePrincipal")]


@pytest.mark.parametrize(
    "member",
    [
        "allUsers",
        "allAuthenticatedUsers",
        "domain:example.test",
        "projectOwner:example-mail",
        "AllUsers",
        "user:*",
    ],
)
def test_members_of_a_key_are_named(member: str) -> None:
    assert places(RULE, [changed(ON_KEY, member=member)]) == [("CryptoKeyIAMMember", "member")]


@pytest.mark.parametrize("role", ["roles/owner", "roles/editor", "roles/viewer"])
def test_no_primitive_role_on_a_key(role: str) -> None:
    assert places(RULE, [changed(ON_KEY, role=role)]) == [("CryptoKeyIAMMember", "role")]


def test_a_whole_project_is_no_place_for_a_role_that_uses_keys() -> None:
    assert places(RULE, [changed(WIDE, role="roles/cloudkms.signer")]) == [("IAMMember", "role")]


def test_a_member_made_from_a_service_account_is_somebody() -> None:
    account = resource("gcp:serviceaccount/account:Account", "nodes")
    made = resource(
        ON_KEY.type,
        "grant",
        {"role": DECRYPTER, "member": UNKNOWN},
        property_dependencies={"member": (account.urn,)},
    )
    assert found(RULE, [account, made]) == []


@pytest.mark.parametrize("of", [AWS_KEY, POLICY, GRANT, ON_KEY, WIDE])
def test_unknown_is_undecided(of: Resource) -> None:
    names = {"policy", "granteePrincipal", "member", "role"} & set(of.props)
    items = found(RULE, [changed(of, **dict.fromkeys(names, UNKNOWN))])
    assert items and all(item.finding.unknown for item in items)
