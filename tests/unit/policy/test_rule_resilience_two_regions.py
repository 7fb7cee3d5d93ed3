"""Each zone holds mail in two regions."""

from typing import Any

import pytest

from mailinfra_policy.copies import MEDIA
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.resilience_two_regions import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_copies import BACKUP, MAIL, VOLUME, gcs_copy, store
from tests.policy_helpers import changed, found, places

SECOND = {
    "region": {"aws": "eu-west-1", "gcp": "europe-west4"},
    "zone": {"gcp": "europe-west4-a"},
    "location": {"gcp": "europe-west4"},
}


def second(of: Resource, **more: Any) -> Resource:
    """Another store of the same type in another region of the zone."""
    place = next(name for name in SECOND if name in of.props)
    where = SECOND[place][of.cloud]
    if of.type.endswith("filestore/instance:Instance"):
        where = f"{where}-a"
    return store(of.type, "second", **{place: where, **more})


GOOD = tuple([store(token), second(store(token))] for token in MEDIA)


def test_one_region_is_not_enough() -> None:
    same = store(VOLUME.type, "same")
    assert places(RULE, [VOLUME, same]) == [("mail", "region"), ("same", "region")]
    assert "eu-central-1 only" in found(RULE, [VOLUME])[0].finding.found


def test_each_zone_by_itself() -> None:
    tags = {**MAIL, "residency-zone": "us"}
    american = store(VOLUME.type, "american", region="us-east-1", tags=tags)
    assert places(RULE, [VOLUME, second(VOLUME), american]) == [("american", "region")]


@pytest.mark.parametrize("copy", [gcs_copy(), gcs_copy(labels={**BACKUP, "data-class": "queue"})])
def test_a_copy_is_no_region(copy: Resource) -> None:
    assert places(RULE, [VOLUME, copy]) == [("mail", "region")]


def test_the_other_cloud_is_another_region() -> None:
    assert found(RULE, [VOLUME, store("gcp:compute/disk:Disk", "other")]) == []


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, [VOLUME, changed(second(VOLUME), region=UNKNOWN)])
    assert any(item.finding.unknown for item in items)


def test_a_stack_without_mail_needs_none() -> None:
    assert found(RULE, [changed(VOLUME, tags={**MAIL, "data-class": "queue"})]) == []
