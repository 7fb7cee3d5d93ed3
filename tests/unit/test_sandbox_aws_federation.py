"""A role that trusts an account of Google's, and everybody else who would like to be it."""

from typing import Any

import pytest

from mailinfra.sandbox.aws.federation import Refusal, Trust, check
from mailinfra.sandbox.web_identity import Issuer
from mailinfra_components.vaults import google_trust

ARN = "arn:aws:iam::000000000000:role/vault"
CLAIMS = {"aud": "bucket", "azp": "107", "sub": "107"}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("gcp"))


def trust(document: dict[str, Any] | None = None) -> Trust:
    import json

    return Trust(document or json.loads(google_trust(["106", "107"], "bucket")), 3600)


def form(token: str, **other: str) -> dict[str, str]:
    return {"RoleArn": ARN, "RoleSessionName": "store-1", "WebIdentityToken": token, **other}


def refusal(parameters: dict[str, str], given: Trust | None, issuer: Issuer) -> str:
    """The error's code, empty where there is none."""
    try:
        check(parameters, given, issuer.certs)
    except Refusal as error:
        return error.code
    return ""


def test_the_account_that_is_trusted_gets_in(issuer: Issuer) -> None:
    assert refusal(form(issuer.sign(CLAIMS)), trust(), issuer) == ""
    assert refusal(form(issuer.sign({**CLAIMS, "azp": "106", "sub": "106"})), trust(), issuer) == ""


@pytest.mark.parametrize(
    "changed", [{"aud": "other"}, {"sub": "108"}, {"azp": "108"}, {"aud": ""}, {"sub": ""}]
)
def test_another_audience_or_account_does_not(issuer: Issuer, changed: dict[str, str]) -> None:
    assert refusal(form(issuer.sign(CLAIMS | changed)), trust(), issuer) == "AccessDenied"


def test_a_role_that_is_not_there_reads_like_one_that_does_not_trust(issuer: Issuer) -> None:
    assert refusal(form(issuer.sign(CLAIMS)), None, issuer) == "AccessDenied"


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"Federated": "accounts.google.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"Federated": "*"}, "Action": "sts:AssumeRoleWithWebIdentity"},
        {
            "Effect": "Allow",
            "Principal": {"Federated": "cognito-identity.amazonaws.com"},
            "Action": "sts:AssumeRoleWithWebIdentity",
        },
    ],
)
def test_a_role_that_trusts_others_is_not_assumed(issuer: Issuer, statement: dict[str, Any]) -> None:
    token = form(issuer.sign(CLAIMS))
    assert refusal(token, trust({"Statement": [statement]}), issuer) == "AccessDenied"


def test_what_is_wrong_with_a_token_is_said(issuer: Issuer) -> None:
    assert refusal(form(issuer.sign({**CLAIMS, "exp": 1})), trust(), issuer) == "ExpiredTokenException"
    assert refusal(form("x.y.z"), trust(), issuer) == "InvalidIdentityToken"
    assert refusal(form(""), trust(), issuer) == "ValidationError"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DurationSeconds", "900", ""),
        ("DurationSeconds", "3600", ""),
        ("DurationSeconds", "3601", "ValidationError"),
        ("DurationSeconds", "899", "ValidationError"),
        ("DurationSeconds", "-1", "ValidationError"),
        ("Policy", "{}", "ValidationError"),
        ("PolicyArns.member.1.arn", "arn", "ValidationError"),
        ("ProviderId", "www.amazon.com", "ValidationError"),
        ("RoleSessionName", "", "ValidationError"),
    ],
)
def test_parameters(issuer: Issuer, name: str, value: str, expected: str) -> None:
    assert refusal(form(issuer.sign(CLAIMS), **{name: value}), trust(), issuer) == expected
