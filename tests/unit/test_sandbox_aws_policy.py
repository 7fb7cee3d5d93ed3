"""IAM policies judged: actions, resources, principals, conditions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.sandbox.aws.policy import judge, statements

OBJECT = "arn:aws:s3:::b/enrol/mx/mx-1.csr"


def allow(**statement: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", **statement}


def test_nothing_is_allowed_that_no_statement_allows():
    assert judge([], "s3:GetObject", OBJECT, {}) == "none"
    assert judge([allow()], "s3:PutObject", OBJECT, {}) == "none"


def test_a_deny_wins_wherever_it_stands():
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}
    assert judge([deny, allow()], "s3:GetObject", OBJECT, {}) == "deny"
    assert judge([allow(), deny], "s3:GetObject", OBJECT, {}) == "deny"


@pytest.mark.parametrize(
    ("resource", "verdict"),
    [
        ("arn:aws:s3:::b/enrol/mx/*", "allow"),
        ("arn:aws:s3:::b/enrol/edge/*", "none"),
        (["arn:aws:s3:::c/*", "arn:aws:s3:::b/*"], "allow"),
        ("arn:aws:s3:::b/enrol/mx/mx-?.csr", "allow"),
        ("arn:aws:s3:::b/enrol/mx/mx-[0-9].csr", "none"),
        ("arn:aws:s3:::b", "none"),
    ],
)
def test_resources(resource: str | list[str], verdict: str):
    assert judge([allow(Resource=resource)], "s3:GetObject", OBJECT, {}) == verdict


def test_names_of_actions_have_no_case_and_may_be_negated():
    assert judge([allow(Action=["S3:getobject"])], "s3:GetObject", OBJECT, {}) == "allow"
    other = {"Effect": "Allow", "NotAction": "s3:Get*", "Resource": "*"}
    assert judge([other], "s3:GetObject", OBJECT, {}) == "none"
    assert judge([other], "s3:PutObject", OBJECT, {}) == "allow"


@pytest.mark.parametrize(
    ("condition", "context", "verdict"),
    [
        ({"StringEquals": {"kms:SigningAlgorithm": "A"}}, {"kms:signingalgorithm": "A"}, "allow"),
        ({"StringEquals": {"kms:SigningAlgorithm": ["A", "B"]}}, {"kms:signingalgorithm": "B"}, "allow"),
        ({"StringEquals": {"kms:SigningAlgorithm": "A"}}, {"kms:signingalgorithm": "B"}, "none"),
        ({"StringEquals": {"kms:SigningAlgorithm": "A"}}, {}, "none"),
        ({"StringEqualsIfExists": {"kms:SigningAlgorithm": "A"}}, {}, "allow"),
        ({"StringNotEquals": {"x": "A"}}, {}, "allow"),
        ({"StringNotEquals": {"x": "A"}}, {"x": "A"}, "none"),
        ({"StringLike": {"s3:prefix": "enrol/*"}}, {"s3:prefix": "enrol/mx/"}, "allow"),
        ({"Bool": {"aws:SecureTransport": "true"}}, {"aws:securetransport": "true"}, "allow"),
        ({"Null": {"x": "true"}}, {}, "allow"),
        ({"Null": {"x": "false"}}, {}, "none"),
        ({"NumericLessThan": {"x": "5"}}, {"x": "4"}, "allow"),
        ({"NumericLessThan": {"x": "5"}}, {"x": "many"}, "none"),
        ({"StringEquals": {"x": "A"}, "Bool": {"y": "true"}}, {"x": "A"}, "none"),
        ({"ForAnyValue:StringEquals": {"x": ["A", "B"]}}, {"x": "B"}, "allow"),
        ({"SomethingNew": {"x": "A"}}, {"x": "A"}, "none"),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, str], verdict: str):
    assert judge([allow(Condition=condition)], "s3:GetObject", OBJECT, context) == verdict


def test_a_deny_with_a_condition_that_is_not_known_denies():
    deny = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"SomethingNew": {"x": "A"}}}
    assert judge([deny], "s3:GetObject", OBJECT, {}) == "deny"


def test_the_tls_only_policy_denies_plain_requests_alone():
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    me = frozenset({"arn:me"})
    assert judge([deny], "s3:GetObject", OBJECT, {"aws:securetransport": "true"}, me) == "none"
    assert judge([deny], "s3:GetObject", OBJECT, {"aws:securetransport": "false"}, me) == "deny"


def test_principals():
    me = frozenset({"arn:aws:iam::0:role/node"})
    for principal, verdict in (
        ("*", "allow"),
        ({"AWS": "*"}, "allow"),
        ({"AWS": ["arn:aws:iam::0:role/node"]}, "allow"),
        ({"AWS": "arn:aws:iam::0:role/other"}, "none"),
        ({"Service": "s3.amazonaws.com"}, "none"),
        (None, "none"),
    ):
        assert judge([allow(Principal=principal)], "s3:GetObject", OBJECT, {}, me) == verdict


def test_policy_variables():
    mine = allow(Resource="arn:aws:s3:::b/${aws:PrincipalTag/team}/*")
    assert judge([mine], "s3:GetObject", "arn:aws:s3:::b/x/y", {"aws:principaltag/team": "x"}) == "allow"
    assert judge([mine], "s3:GetObject", "arn:aws:s3:::b/x/y", {}) == "none"


def test_a_single_statement_needs_no_list():
    assert statements({"Statement": allow()}) == [allow()]
    assert statements({}) == []


@given(st.text(), st.text(), st.text(), st.text())
def test_any_texts_have_a_verdict(action: str, resource: str, wanted: str, pattern: str):
    given_ = [allow(Action=wanted, Resource=pattern)]
    assert judge(given_, action, resource, {}) in {"allow", "none"}
