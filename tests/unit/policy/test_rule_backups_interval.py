"""Copies of mail are no older than the recovery point objective."""

import pytest

from mailinfra_policy.copies import UNSCHEDULED, minutes
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.backups_interval import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_copies import (
    BACKUP,
    BY_AWS_BACKUP,
    BY_SCHEDULE,
    BY_SNAPSHOTS,
    COPIED,
    VOLUME,
    dlm,
    gcs_copy,
    plan,
    schedule,
)
from tests.policy_dns import instead
from tests.policy_helpers import found, places, settings

GOOD = COPIED


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("cron(0 * * * ? *)", 60),
        ("cron(0,30 * * * ? *)", 30),
        ("cron(0/15 * * * ? *)", 15),
        ("cron(0 5 * * ? *)", 1440),
        ("cron(0 8-18 * * ? *)", 840),
        ("cron(0 0/6 * * ? *)", 360),
        ("cron(0 * ? * MON *)", 7 * 1440),
        ("rate(1 hour)", 60),
        ("rate(2 days)", 2880),
        ("cron(0 24 * * ? *)", UNSCHEDULED),
        ("cron(0 * * *)", UNSCHEDULED),
        ("hourly", UNSCHEDULED),
        (None, UNSCHEDULED),
        (UNKNOWN, UNKNOWN),
    ],
)
def test_the_longest_time_between_two_runs(text: object, every: object) -> None:
    assert minutes(text) == every


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        (
            instead(BY_SNAPSHOTS, dlm(createRule={"interval": 2})),
            ("snapshots", "policyDetails.schedules[0].createRule.interval"),
        ),
        (
            instead(BY_SNAPSHOTS, dlm(createRule={"cronExpression": "cron(0 3 * * ? *)"})),
            ("snapshots", "policyDetails.schedules[0].createRule.cronExpression"),
        ),
        (
            instead(BY_SNAPSHOTS, gcs_copy(labels={**BACKUP, "backup-interval-minutes": "61"})),
            ("restic", "labels.backup-interval-minutes"),
        ),
        (
            instead(BY_SCHEDULE, schedule(4)),
            ("hourly", "snapshotSchedulePolicy.schedule.hourlySchedule.hoursInCycle"),
        ),
        (
            instead(BY_AWS_BACKUP, *plan(VOLUME, "near", "far", schedule="rate(12 hours)")),
            ("plan", "rules[0].schedule"),
        ),
    ],
)
def test_a_schedule_that_is_too_rare_is_named(stack: list[Resource], place: tuple[str, str]) -> None:
    assert places(RULE, stack) == [place]


def test_a_rarer_copy_beside_enough_others_is_fine() -> None:
    extra = gcs_copy("archive", labels={**BACKUP, "backup-interval-minutes": "10080"})
    assert found(RULE, [*BY_SNAPSHOTS, extra]) == []


def test_the_objective_is_the_configs() -> None:
    assert found(RULE, BY_SNAPSHOTS, settings(backups={"rpo_minutes": 15})) != []
    assert found(RULE, instead(BY_SCHEDULE, schedule(4)), settings(backups={"rpo_minutes": 240})) == []


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, instead(BY_SNAPSHOTS, dlm(createRule={"interval": UNKNOWN})))
    assert items and all(item.finding.unknown for item in items)


def test_without_three_copies_another_rule_speaks() -> None:
    assert found(RULE, [VOLUME]) == []
