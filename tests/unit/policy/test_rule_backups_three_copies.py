"""Three copies of each store of mail, on two kinds of media, one away."""

from dataclasses import replace

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.backups_three_copies import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_copies import (
    BACKUP,
    BY_AWS_BACKUP,
    BY_SCHEDULE,
    BY_SNAPSHOTS,
    COPIED,
    MAIL,
    VOLUME,
    dlm,
    gcs_copy,
    replica,
    s3_copy,
    store,
)
from tests.policy_dns import instead, without
from tests.policy_helpers import changed, found, places, resource, settings

GOOD = COPIED
TAG = "aws:ResourceTag/data-class"


def test_a_store_alone_is_told_what_it_lacks() -> None:
    (item,) = found(RULE, [VOLUME])
    assert item.finding.resource is VOLUME
    assert item.finding.found.startswith("1 copy on 1 kind of media (disk), 0 of them in another")


@pytest.mark.parametrize(
    ("region", "clean"),
    [("eu-west-1", True), ("eu-central-1", False), ("us-east-1", False), ("eu-west-2", False)],
)
def test_the_distant_copy_lies_in_another_region_of_the_zone(region: str, clean: bool) -> None:
    stack = [VOLUME, dlm(), *s3_copy(region=region)]
    assert (found(RULE, stack) == []) == clean


def test_another_cloud_in_the_same_city_is_away() -> None:
    assert found(RULE, [VOLUME, dlm(), gcs_copy(location="europe-west3")]) == []
    assert found(RULE, [VOLUME, dlm(), gcs_copy(location="us-east1")]) != []


def test_one_kind_of_medium_is_not_enough() -> None:
    second = replace(
        replica(), urn="other", name="other", props={**replica().props, "zone": "europe-west1-b"}
    )
    assert "1 kind of media" in found(RULE, [VOLUME, replica(), second])[0].finding.found


@pytest.mark.parametrize("of", ["eu", "eu-central-1", "mail", "us_eu", "us eu"])
def test_a_copy_names_a_zone_a_region_or_a_store(of: str) -> None:
    assert found(RULE, [VOLUME, dlm(), gcs_copy(labels={**BACKUP, "backup-of": of})]) == []


@pytest.mark.parametrize("of", ["us", "Eu", "eu-central", "", UNKNOWN])
def test_a_copy_of_something_else_does_not_count(of: object) -> None:
    assert found(RULE, [VOLUME, dlm(), gcs_copy(labels={**BACKUP, "backup-of": of})]) != []


@pytest.mark.parametrize(
    "spoilt",
    [
        {"state": "DISABLED"},
        {"region": "eu-west-1"},
        {
            "policyDetails": {
                "resourceTypes": ["VOLUME"],
                "targetTags": {"data-class": "Mail"},
                "schedules": [{}],
            }
        },
    ],
)
def test_snapshots_of_something_else_do_not_count(spoilt: dict[str, object]) -> None:
    assert found(RULE, instead(BY_SNAPSHOTS, changed(dlm(), **spoilt))) != []


def selected(**props: object) -> list[Resource]:
    return instead(
        BY_AWS_BACKUP, resource("aws:backup/selection:Selection", "selection", {"planId": "plan-id", **props})
    )


@pytest.mark.parametrize(
    "props",
    [
        {"resources": ["*"]},
        {"resources": ["arn:aws:x:*:*:*"]},
        {
            "resources": ["*"],
            "conditions": [{"stringEquals": [{"key": TAG, "value": "mail"}]}],
        },
        {"selectionTags": [{"type": "STRINGEQUALS", "key": "data-class", "value": "mail"}]},
    ],
)
def test_a_selection_may_go_by_pattern_or_tag(props: dict[str, object]) -> None:
    assert found(RULE, selected(**props)) == []


@pytest.mark.parametrize(
    "props",
    [
        {"resources": ["*"], "notResources": [VOLUME.outputs["arn"]]},
        {
            "resources": ["*"],
            "conditions": [{"stringEquals": [{"key": TAG, "value": "x"}]}],
        },
        {"selectionTags": [{"type": "STRINGLIKE", "key": "data-class", "value": "mail"}]},
        {"resources": UNKNOWN},
    ],
)
def test_a_selection_of_something_else_does_not_count(props: dict[str, object]) -> None:
    assert found(RULE, selected(**props)) != []


def test_a_schedule_without_attachment_copies_nothing() -> None:
    assert found(RULE, without(BY_SCHEDULE, "attached")) != []


def test_a_disk_may_name_its_schedule_itself() -> None:
    disk = store("gcp:compute/disk:Disk", resourcePolicies=["hourly-id"])
    assert found(RULE, instead(without(BY_SCHEDULE, "attached"), disk)) == []


def test_a_class_that_is_not_known_may_be_mail() -> None:
    assert places(RULE, [changed(VOLUME, tags={**MAIL, "data-class": UNKNOWN})]) == [("mail", "")]


def test_a_replica_that_holds_mail_itself_is_a_store_too() -> None:
    labels = {**BACKUP, "data-class": "mail"}
    stack = [VOLUME, dlm(), changed(replica(), labels=labels), gcs_copy()]
    assert places(RULE, stack) == [("replica", "")]


def test_the_config_says_what_a_store_is_and_how_many_copies() -> None:
    assert found(RULE, [VOLUME], settings(backups={"stores": ["queue"]})) == []
    assert found(RULE, BY_SNAPSHOTS, settings(backups={"copies": 4})) != []


@pytest.mark.parametrize("data", ["queue", "backup", "Mail", ""])
def test_what_holds_no_mail_needs_none(data: str) -> None:
    assert found(RULE, [changed(VOLUME, tags={**MAIL, "data-class": data})]) == []
