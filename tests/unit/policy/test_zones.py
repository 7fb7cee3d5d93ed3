"""Which residency zone a resource belongs to, and the zones of the config."""

from typing import Any

import pytest

from mailinfra.errors import ConfigError
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.values import UNKNOWN
from mailinfra_policy.zones import other_zone, zone_of
from tests.policy_helpers import ZONES, resource, settings

QUEUE = "aws:sqs/queue:Queue"


def zone(item: Resource, *others: Resource, **config: Any) -> object:
    return zone_of(item, Stack([*others, item]), settings(**config)).name


def test_the_nearest_word_counts() -> None:
    zones = {**ZONES, "ap": {"countries": ["JP"], "resources": [f"{QUEUE}::q"]}}
    parent = resource("example:index:Group", "group", {"tags": {"residency-zone": "us"}})
    tagged = resource(QUEUE, "q", {"tags": {"residency-zone": "eu"}}, parent=parent.urn)
    bare = resource(QUEUE, "q", parent=parent.urn)
    other = resource(QUEUE, "r", parent=parent.urn)
    alone = resource(QUEUE, "r")
    assert zone(tagged, parent, zones=zones, zone="ap") == "eu"
    assert zone(bare, parent, zones=zones, zone="eu") == "ap"
    assert zone(other, parent, zones=zones, zone="eu") == "us"
    assert zone(alone, zones=zones, zone="eu") == "eu"
    assert zone(alone, zones=zones) is None


def test_an_unknown_tag_is_not_passed_over() -> None:
    assert zone(resource(QUEUE, "q", {"tags": UNKNOWN}), zone="eu") is UNKNOWN


def test_the_tags_name_is_config() -> None:
    item = resource(QUEUE, "q", {"tags": {"zone": "eu", "residency-zone": "us"}})
    assert zone(item, tags={"zone": "zone"}) == "eu"


def test_what_belongs_to_what_belongs() -> None:
    ring = resource("gcp:kms/keyRing:KeyRing", "ring", {"location": "europe-west3"}, id="r")
    key = resource(
        "gcp:kms/cryptoKey:CryptoKey", "key", {"keyRing": "r", "labels": {"residency-zone": "eu"}}, id="k"
    )
    version = resource("gcp:kms/cryptoKeyVersion:CryptoKeyVersion", "v", {"cryptoKey": "k"})
    assert zone(version, ring, key) == "eu"


def test_a_brother_that_belongs_to_the_same_is_not_meant() -> None:
    first = resource(
        "aws:s3/bucketObject:BucketObject", "a", {"bucket": "b", "tags": {"residency-zone": "us"}}
    )
    second = resource("aws:s3/bucketObject:BucketObject", "b", {"bucket": "b"})
    assert zone(second, first) is None


def test_references_in_a_circle_come_to_an_end() -> None:
    one = resource("gcp:kms/cryptoKeyVersion:CryptoKeyVersion", "1", {"cryptoKey": "2"}, id="1")
    two = resource("gcp:kms/cryptoKeyVersion:CryptoKeyVersion", "2", {"cryptoKey": "1"}, id="2")
    assert zone(one, two) is None


@pytest.mark.parametrize(
    ("zones", "path"),
    [
        ({"eu": {"countries": []}}, "zones.eu.countries"),
        ({"eu": {}}, "zones.eu.countries"),
        ({"eu": {"countries": ["DE"], "anywhere": True}}, "zones.eu.countries"),
        ({"eu": {"countries": ["de"]}}, "zones.eu.countries"),
        ({"eu": {"countries": ["DE"]}, "de": {"countries": ["DE"]}}, "zones.de.countries"),
        ({"eu": {"countries": ["DE"], "regions": ["eu-central-9"]}}, "zones.eu.regions"),
        ({"eu": {"countries": ["DE"], "regions": ["eu-west-1"]}}, "zones.eu.regions"),
        ({"eu": {"countries": ["DE"], "resources": ["*::*"]}}, "zones.eu.resources[0]"),
        ({"eu": {"countries": ["DE"], "resources": ["a::b", "queue"]}}, "zones.eu.resources[1]"),
    ],
)
def test_a_wrong_zone_is_refused_with_its_path(zones: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(zones=zones)
    assert next(iter(refused.value.problems)).path.startswith(path)


def test_another_zone() -> None:
    assert [other_zone(value) for value in ("eu", "us", "ap", None, UNKNOWN)] == [
        "us",
        "eu",
        "us",
        None,
        UNKNOWN,
    ]
