"""Keys that encrypt what is stored are rotated."""

import pytest

from mailinfra_policy.rules.keys_rotation import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

AWS = resource(
    "aws:kms/key:Key",
    "storage",
    {"enableKeyRotation": True, "rotationPeriodInDays": 90, "keyUsage": "ENCRYPT_DECRYPT"},
)
GCP = resource(
    "gcp:kms/cryptoKey:CryptoKey", "storage", {"purpose": "ENCRYPT_DECRYPT", "rotationPeriod": "7776000s"}
)
GOOD = ([AWS], [changed(AWS, rotationPeriodInDays=None, keyUsage=None)], [GCP], [changed(GCP, purpose=None)])


@pytest.mark.parametrize(
    ("token", "props"),
    [
        ("aws:kms/key:Key", {"keyUsage": "SIGN_VERIFY", "customerMasterKeySpec": "RSA_2048"}),
        ("aws:kms/key:Key", {"keyUsage": "GENERATE_VERIFY_MAC", "customerMasterKeySpec": "HMAC_256"}),
        ("aws:kms/key:Key", {"customerMasterKeySpec": "RSA_4096"}),
        ("aws:kms/key:Key", {"customKeyStoreId": "cks-1"}),
        ("gcp:kms/cryptoKey:CryptoKey", {"purpose": "ASYMMETRIC_SIGN"}),
        ("gcp:kms/cryptoKey:CryptoKey", {"purpose": "MAC"}),
        ("gcp:kms/cryptoKey:CryptoKey", {"importOnly": True}),
        ("aws:kms/externalKey:ExternalKey", {}),
    ],
)
def test_what_a_kms_cannot_rotate_is_not_asked_to(token: str, props: dict[str, object]) -> None:
    assert found(RULE, [resource(token, "key", props)]) == []


def test_rotation_is_off_by_default() -> None:
    assert places(RULE, [resource("aws:kms/key:Key", "k", {})]) == [("k", "enableKeyRotation")]
    assert places(RULE, [resource("gcp:kms/cryptoKey:CryptoKey", "k", {})]) == [("k", "rotationPeriod")]


@pytest.mark.parametrize(("days", "right"), [(365, True), (366, False), (90, True), (True, False)])
def test_the_boundary(days: int, right: bool) -> None:
    assert (found(RULE, [changed(AWS, rotationPeriodInDays=days)]) == []) is right


@pytest.mark.parametrize(
    ("period", "right"),
    [
        ("31536000s", True),
        ("31536000.5s", False),
        ("90d", False),
        ("-1s", False),
        ("", False),
        (7776000, False),
    ],
)
def test_the_boundary_in_seconds(period: object, right: bool) -> None:
    assert (found(RULE, [changed(GCP, rotationPeriod=period)]) == []) is right


def test_the_default_period_counts_against_a_shorter_interval() -> None:
    conf = settings(keys={"rotation_days": 180})
    assert places(RULE, [changed(AWS, rotationPeriodInDays=None)], conf) == [
        ("storage", "rotationPeriodInDays")
    ]


def test_a_spec_that_there_is_not_does_not_exempt() -> None:
    assert places(RULE, [changed(AWS, customerMasterKeySpec="SYMMETRIC")]) == [
        ("storage", "customerMasterKeySpec")
    ]


@pytest.mark.parametrize("of", [AWS, GCP])
def test_an_unknown_use_is_undecided(of: object) -> None:
    name = "keyUsage" if of is AWS else "purpose"
    (item,) = found(RULE, [changed(AWS if of is AWS else GCP, **{name: UNKNOWN})])
    assert (item.finding.path, item.finding.unknown) == (name, True)
