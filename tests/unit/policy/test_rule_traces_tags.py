"""Every store says its owner, its zone and what it holds."""

from dataclasses import replace

import pytest

from mailinfra_policy.resource import Provider
from mailinfra_policy.rules.traces_tags import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_copies import MAIL, VOLUME
from tests.policy_helpers import changed, found, places, resource, settings

GOOD = (
    [
        resource(token, "it", {("tags" if token.startswith("aws") else "labels"): MAIL})
        for token in RULE.covers
    ],
)


@pytest.mark.parametrize("name", sorted(MAIL))
@pytest.mark.parametrize("value", [None, "", "  ", UNKNOWN])
def test_a_missing_tag_is_named(name: str, value: object) -> None:
    tags = {key: text for key, text in {**MAIL, name: value}.items() if text is not None}
    (item,) = found(RULE, [changed(VOLUME, tags=tags)])
    assert (item.finding.path, item.finding.unknown) == (f"tags.{name}", value is UNKNOWN)


def test_tags_of_the_provider_count() -> None:
    provider = Provider("pulumi:providers:aws", {"region": "eu-central-1", "defaultTags": {"tags": MAIL}})
    assert found(RULE, [replace(changed(VOLUME, tags=None), provider=provider)]) == []


def test_the_case_of_a_tag_counts() -> None:
    tags = {**MAIL, "Data-Class": "mail"}
    del tags["data-class"]
    assert places(RULE, [changed(VOLUME, tags=tags)]) == [("mail", "tags.data-class")]


def test_the_names_are_the_configs() -> None:
    conf = settings(tags={"owner": "team"})
    assert places(RULE, [VOLUME], conf) == [("mail", "tags.team")]


def test_what_stores_nothing_needs_none() -> None:
    assert found(RULE, [resource("aws:ec2/vpc:Vpc", "net", {})]) == []
