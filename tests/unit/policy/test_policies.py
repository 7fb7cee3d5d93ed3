"""AWS policy documents as rules ask about them."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra_policy.policies import (
    Answer,
    PolicyError,
    all_of,
    any_of,
    denied,
    denied_without,
    includes,
    overlaps,
    statements,
)
from mailinfra_policy.values import UNKNOWN

ARN = "arn:aws:s3:::mail"
BOTH = [ARN, f"{ARN}/*"]


def document(**statement: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [statement]}


def closed(**more: Any) -> dict[str, Any]:
    """A bucket's policy that refuses plain text."""
    return document(
        **{
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": BOTH,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            **more,
        }
    )


def tls_only(data: Any) -> Answer:
    return denied_without(statements(data), "aws:SecureTransport", "true", ["s3:*"], BOTH)


@pytest.mark.parametrize(
    "data",
    [
        closed(),
        closed(Principal={"AWS": "*"}, Action="*", Resource="*"),
        closed(Action=["S3:*"], Condition={"Bool": {"AWS:securetransport": [False]}}),
        closed(Condition={"BoolIfExists": {"aws:SecureTransport": "False"}}),
        closed(Condition={"StringNotEquals": {"aws:SecureTransport": "true"}}),
        {"Statement": closed()["Statement"][0]},
        {"Statement": closed(Resource=ARN)["Statement"] + closed(Resource=f"{ARN}/*")["Statement"]},
        closed(Condition={}),
    ],
)
def test_a_denial_is_recognised(data: Any) -> None:
    assert tls_only(data) is True
    assert tls_only(json.dumps(data)) is True


@pytest.mark.parametrize(
    "more",
    [
        {"Effect": "Allow"},
        {"Principal": {"AWS": "arn:aws:iam::111122223333:root"}},
        {"Action": "s3:GetObject"},
        {"Action": None, "NotAction": "s3:GetObject"},
        {"Principal": None, "NotPrincipal": {"AWS": "arn:aws:iam::111122223333:root"}},
        {"Resource": f"{ARN}/*"},
        {"Resource": ARN},
        {"Resource": f"{ARN}s"},
        {"Condition": {"Bool": {"aws:SecureTransport": "true"}}},
        {"Condition": {"Bool": {"aws:SecureTransports": "false"}}},
        {
            "Condition": {
                "Bool": {"aws:SecureTransport": "false"},
                "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
            }
        },
        {"Condition": {"ForAllValues:Bool": {"aws:SecureTransport": "false"}}},
        {"Condition": {"ForAnyValue:StringNotEquals": {"aws:SecureTransport": "true"}}},
    ],
)
def test_a_denial_with_a_hole_is_none(more: dict[str, Any]) -> None:
    data = closed(**more)
    data["Statement"][0] = {key: value for key, value in data["Statement"][0].items() if value is not None}
    assert tls_only(data) is False


@pytest.mark.parametrize(
    "more",
    [
        {"Effect": UNKNOWN},
        {"Principal": UNKNOWN},
        {"Principal": {"AWS": UNKNOWN}},
        {"Principal": {"AWS": ["arn:aws:iam::111122223333:root", UNKNOWN]}},
        {"Action": UNKNOWN},
        {"Action": ["s3:GetObject", UNKNOWN]},
        {"Resource": UNKNOWN},
        {"Resource": [ARN, UNKNOWN]},
        {"Condition": UNKNOWN},
        {"Condition": {"Bool": UNKNOWN}},
        {"Condition": {"Bool": {"aws:SecureTransport": UNKNOWN}}},
    ],
)
def test_what_is_not_known_is_neither(more: dict[str, Any]) -> None:
    assert tls_only(closed(**more)) is UNKNOWN


@pytest.mark.parametrize("data", [UNKNOWN, {"Statement": UNKNOWN}, {"Statement": [UNKNOWN]}])
def test_an_unknown_document_is_one_unknown_statement(data: Any) -> None:
    (statement,) = statements(data)
    assert statement.allows is UNKNOWN
    assert statement.denies is UNKNOWN
    assert statement.everyone is UNKNOWN
    assert statement.conditional is UNKNOWN
    assert statement.applies("kms:Sign") is UNKNOWN
    assert tls_only(data) is UNKNOWN


def test_a_sure_no_outweighs_what_is_unknown() -> None:
    assert tls_only(closed(Effect="Allow", Condition=UNKNOWN)) is False


def test_no_document_has_no_statement() -> None:
    assert statements(None) == []
    assert denied([], ["s3:*"], ["*"]) is False


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        "1",
        {},
        {"Statement": "x"},
        {"Statement": ["x"]},
        document(Effect="allow"),
        document(),
        document(Effect="Allow", Actions="s3:*"),
        document(Effect="Allow", Action="s3:*", NotAction="s3:*"),
        document(Effect="Allow", Action=1),
        document(Effect="Allow", Principal="everyone"),
        document(Effect="Allow", Condition="x"),
        document(Effect="Allow", Condition={"Bool": "x"}),
    ],
)
def test_what_is_no_policy_is_refused(data: Any) -> None:
    with pytest.raises(PolicyError):
        statements(data)


def test_an_exclusion_allows_the_rest() -> None:
    (statement,) = statements(
        document(Effect="Allow", NotPrincipal={"AWS": "x"}, NotAction="kms:Sign*", Resource="*")
    )
    assert statement.everyone is True
    assert statement.applies("kms:PutKeyPolicy") is True
    assert statement.applies("kms:Sign") is False
    assert statement.applies("kms:*") is True
    assert statement.actions.covers("kms:*") is False
    assert statement.actions.covers("s3:*") is True


def test_an_exclusion_that_is_not_known() -> None:
    (statement,) = statements(document(Effect="Allow", NotAction=["kms:Sign", UNKNOWN], Resource="*"))
    assert statement.applies("kms:Sign") is False
    assert statement.applies("kms:Verify") is UNKNOWN


def test_principals_have_their_kind() -> None:
    (statement,) = statements(
        document(
            Effect="Allow", Principal={"AWS": ["111122223333"], "Service": "sns.amazonaws.com"}, Action="*"
        )
    )
    assert statement.principals and statement.principals.patterns == (
        "AWS:111122223333",
        "Service:sns.amazonaws.com",
    )
    assert statement.everyone is False
    assert statements(document(Effect="Allow", Action="*"))[0].principals is None


def test_answers() -> None:
    assert any_of([False, UNKNOWN, True]) is True
    assert any_of([False, UNKNOWN]) is UNKNOWN
    assert all_of([True, UNKNOWN, False]) is False
    assert all_of([True, UNKNOWN]) is UNKNOWN
    assert any_of([]) is False
    assert all_of([]) is True


PATTERNS = st.text("ab*?", max_size=6)


def fits(pattern: str, text: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern)
    return re.fullmatch(expression, text) is not None


@given(PATTERNS, PATTERNS, st.text("abc", max_size=7))
def test_patterns_against_names(pattern: str, asked: str, name: str) -> None:
    if includes(pattern, asked):
        assert fits(pattern, name) or not fits(asked, name)
    if fits(pattern, name) and fits(asked, name):
        assert overlaps(pattern, asked)
    assert includes(pattern, name) == overlaps(pattern, name) == fits(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "asked", "included", "overlapping"),
    [
        ("*", "s3:*", True, True),
        ("s3:*", "*", False, True),
        ("s3:*", "s3:Get*", True, True),
        ("s3:Get*", "s3:*", False, True),
        ("s3:Get*", "s3:Put*", False, False),
        ("s3:?et*", "s3:*", False, True),
        ("", "", True, True),
        ("*Object", "s3:Get*", False, True),
    ],
)
def test_patterns_against_patterns(pattern: str, asked: str, included: bool, overlapping: bool) -> None:
    assert includes(pattern, asked) is included
    assert overlaps(pattern, asked) is overlapping
