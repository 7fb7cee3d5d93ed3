"""Copies of mail cannot be changed or deleted."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.backups_immutable import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_copies import (
    BY_AWS_BACKUP,
    BY_BACKUP_AND_DR,
    BY_SCHEDULE,
    BY_SNAPSHOTS,
    COPIED,
    VOLUME,
    dlm,
    gcs_copy,
    replica,
    s3_copy,
)
from tests.policy_dns import instead, without
from tests.policy_helpers import changed, found, places, settings

GOOD = COPIED


def lock(**retention: Any) -> Resource:
    """The object lock of the S3 copy, changed."""
    whole = s3_copy()[2]
    return changed(whole, rule={"defaultRetention": retention})


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        (without(BY_AWS_BACKUP, "far-lock"), ("far", "")),
        (without(BY_AWS_BACKUP, "near-lock"), ("near", "")),
        (without(BY_SCHEDULE, "restic-lock"), ("restic", "")),
        (
            instead(BY_SCHEDULE, lock(mode="GOVERNANCE", days=30)),
            ("restic-lock", "rule.defaultRetention.mode"),
        ),
        (
            instead(BY_SCHEDULE, lock(mode="COMPLIANCE", days=29)),
            ("restic-lock", "rule.defaultRetention.days"),
        ),
        (instead(BY_SCHEDULE, lock(mode="COMPLIANCE")), ("restic-lock", "rule.defaultRetention.days")),
        (
            instead(BY_SNAPSHOTS, gcs_copy(retentionPolicy={"retentionPeriod": "2592000"})),
            ("restic", "retentionPolicy.isLocked"),
        ),
    ],
)
def test_what_can_be_changed_is_named(stack: list[Resource], place: tuple[str, str]) -> None:
    assert places(RULE, stack) == [place]


@pytest.mark.parametrize("seconds", ["86400s", "2592000", None])
def test_the_vault_of_backup_and_dr_enforces_its_days(seconds: str | None) -> None:
    vault = next(item for item in BY_BACKUP_AND_DR if item.name == "safe")
    stack = instead(BY_BACKUP_AND_DR, changed(vault, backupMinimumEnforcedRetentionDuration=seconds))
    assert (found(RULE, stack) == []) == (seconds == "2592000")


def test_years_count() -> None:
    assert found(RULE, instead(BY_SCHEDULE, lock(mode="COMPLIANCE", years=1))) == []


def test_the_config_may_accept_governance() -> None:
    conf = settings(backups={"object_lock": "GOVERNANCE", "retention_days": 7})
    assert found(RULE, instead(BY_SCHEDULE, lock(mode="GOVERNANCE", days=7)), conf) == []
    far = next(item for item in BY_AWS_BACKUP if item.name == "far-lock")
    stack = instead(BY_AWS_BACKUP, changed(far, changeableForDays=None))
    assert found(RULE, stack, conf) == []
    assert places(RULE, stack) == [("far-lock", "changeableForDays")]


def test_the_locked_copy_lies_away() -> None:
    assert places(RULE, [VOLUME, dlm(), replica()]) == [("mail", "")]
    assert places(RULE, [VOLUME, dlm(), replica(), *s3_copy(region="eu-central-1")]) == [("mail", "")]


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, instead(BY_SCHEDULE, lock(mode=UNKNOWN, days=30)))
    assert items and all(item.finding.unknown for item in items)


def test_a_bucket_that_holds_no_copy_needs_no_lock() -> None:
    assert found(RULE, [gcs_copy(labels={}, retentionPolicy={})]) == []
