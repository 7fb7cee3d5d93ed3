"""Global services hold data only under a jurisdiction."""

import pytest

from mailinfra_policy.rules.residency_global import JURISDICTION, PLACELESS, RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import ZONES, changed, found, places, resource, settings

GROUP = resource("example:index:Group", "group", {"tags": {"residency-zone": "us"}})
GOOD = ([GROUP, *(resource(t, "it", {"jurisdiction": "fedramp"}, parent=GROUP.urn) for t in JURISDICTION)],)
NEVER = tuple(PLACELESS)

BUCKET = resource("cloudflare:index/r2Bucket:R2Bucket", "mail", {"jurisdiction": "eu"})
MEMBERS = [
    "AT",
    "BE",
    "BG",
    "CY",
    "CZ",
    "DE",
    "DK",
    "EE",
    "ES",
    "FI",
    "FR",
    "GR",
    "HR",
    "HU",
    "IE",
    "IT",
    "LT",
]
MEMBERS += ["LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"]


def test_a_jurisdiction_is_judged_by_all_its_countries() -> None:
    whole = settings(zones={"eu": {"countries": MEMBERS}}, zone="eu")
    assert found(RULE, [BUCKET], whole) == []
    assert places(RULE, [BUCKET], settings(zone="eu")) == [("mail", "jurisdiction")]


@pytest.mark.parametrize("value", [None, "EU", "default", "DE", "europe-west3", "", True])
def test_no_jurisdiction(value: object) -> None:
    whole = settings(zones={"eu": {"countries": MEMBERS}}, zone="eu")
    assert places(RULE, [changed(BUCKET, jurisdiction=value)], whole) == [("mail", "jurisdiction")]


def test_a_location_is_only_a_hint() -> None:
    whole = settings(zones={"eu": {"countries": MEMBERS}}, zone="eu")
    assert places(RULE, [changed(BUCKET, jurisdiction=None, location="weur")], whole) == [
        ("mail", "jurisdiction")
    ]


def test_unknown_is_found_and_said() -> None:
    (item,) = found(RULE, [changed(BUCKET, jurisdiction=UNKNOWN)], settings(zone="eu"))
    assert item.finding.unknown


def test_without_a_zone_no_jurisdiction_is_right() -> None:
    assert places(RULE, [BUCKET]) == [("mail", "")]


def test_what_is_published_may_be_anywhere() -> None:
    public = {"countries": [], "anywhere": True, "resources": ["aws:ecrpublic/repository:Repository::*"]}
    zones = {**ZONES, "public": public}
    images = resource("aws:ecrpublic/repository:Repository", "images")
    assert found(RULE, [images], settings(zones=zones)) == []
    assert places(RULE, [images], settings(zone="eu")) == [("images", "")]


def test_an_exception_accepts_it() -> None:
    accepted = {
        "rule": "residency-global",
        "resource": "cloudflare:index/workersKv:WorkersKv::flags",
        "reason": "feature flags, no data of persons",
        "expires": "2027-01-31",
    }
    flags = resource("cloudflare:index/workersKv:WorkersKv", "flags")
    assert found(RULE, [flags], settings(exceptions=[accepted])) == []


def test_what_has_a_region_is_not_judged() -> None:
    assert (
        found(RULE, [resource("aws:s3/bucket:Bucket"), resource("cloudflare:index/dnsRecord:DnsRecord")])
        == []
    )
