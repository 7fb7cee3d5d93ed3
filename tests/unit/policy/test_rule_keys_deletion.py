"""A deleted key can be brought back."""

import pytest

from mailinfra_policy.rules.keys_deletion import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

KEYS = [
    resource(token, token.rsplit(":", 1)[1], {"deletionWindowInDays": 30})
    for token in (
        "aws:kms/key:Key",
        "aws:kms/replicaKey:ReplicaKey",
        "aws:kms/externalKey:ExternalKey",
        "aws:kms/replicaExternalKey:ReplicaExternalKey",
    )
]
GCP = resource("gcp:kms/cryptoKey:CryptoKey", "storage", {"destroyScheduledDuration": "2592000s"})
VERSION = resource("gcp:kms/cryptoKeyVersion:CryptoKeyVersion", "1", {"state": "ENABLED"})
SECRET = resource("aws:secretsmanager/secret:Secret", "dns", {"recoveryWindowInDays": 30})
GOOD = (KEYS, [GCP, VERSION, SECRET])


def test_what_the_clouds_do_by_themselves_is_long_enough() -> None:
    assert found(RULE, [resource(item.type, "it", {}) for item in (*KEYS, GCP, VERSION, SECRET)]) == []


@pytest.mark.parametrize(("days", "right"), [(30, True), (29, False), (31, False), (7, False), (True, False)])
def test_the_window_on_aws(days: int, right: bool) -> None:
    assert (found(RULE, [changed(KEYS[0], deletionWindowInDays=days)]) == []) is right


@pytest.mark.parametrize(
    ("duration", "right"),
    [("2592000s", True), ("10368000s", True), ("2591999s", False), ("30d", False), ("2592000", False)],
)
def test_the_window_on_google_cloud(duration: str, right: bool) -> None:
    assert (found(RULE, [changed(GCP, destroyScheduledDuration=duration)]) == []) is right


def test_a_shorter_window_may_be_configured() -> None:
    assert found(RULE, [changed(KEYS[0], deletionWindowInDays=7)], settings(keys={"deletion_days": 7})) == []


def test_a_secret_is_not_deleted_at_once() -> None:
    assert places(RULE, [changed(SECRET, recoveryWindowInDays=0)]) == [("dns", "recoveryWindowInDays")]


def test_a_version_is_not_destroyed_by_declaring_it() -> None:
    assert places(RULE, [changed(VERSION, state="DESTROYED")]) == [("1", "state")]


def test_unknown_is_undecided() -> None:
    (item,) = found(RULE, [changed(GCP, destroyScheduledDuration=UNKNOWN)])
    assert item.finding.unknown
