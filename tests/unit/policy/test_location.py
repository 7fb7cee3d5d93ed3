"""Where a name lies."""

import pytest

from mailinfra.places import PLACES
from mailinfra_policy.config import Zone
from mailinfra_policy.location import Site, foreign, inside, site


def countries(text: str) -> str:
    """What a name stands for, as countries; "-" where it is no place."""
    found = site(text)
    return " ".join(sorted(found.countries)) if found else "-"


def test_every_region_of_the_table_is_a_place() -> None:
    for region, place in PLACES.items():
        assert site(region) == Site(frozenset({place.country}), frozenset({region}))
        for letter in place.zone_letters:
            assert site(place.availability_zone(letter)) == site(region)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EUROPE-WEST3", "DE"),
        ("us-east-1-bue-1a", "AR"),
        ("us-west-2-lax-1b", "US"),
        ("use1-az6", "US"),
        ("apne2-az1", "KR"),
        ("aps1-az1", "IN"),
        ("usw2-lax1-az1", "US"),
        ("regional-europe-west6", "CH"),
        ("europe-west", "BE"),
        ("us-central", "US"),
        ("eur3", "BE FI NL"),
        ("asia1", "JP KR"),
        ("nam-eur-asia1", "-"),
        ("dual-region-germany1", "DE"),
        ("in", "IN"),
        ("global", "-"),
        ("aws-global", "-"),
        ("", "-"),
        ("eu-central-3", "-"),
        ("eu-central-3a", "-"),
        ("europe-west3-", "-"),
        ("us-gov-west-1", "-"),
        ("cn-north-1", "-"),
        ("eusc-de-east-1", "-"),
        ("weur", "-"),
    ],
)
def test_names(text: str, expected: str) -> None:
    assert countries(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arn:aws:kms:eu-west-1:111122223333:key/1", "IE"),
        ("arn:aws:s3:::bucket", None),
        ("arn:aws:iam::111122223333:role/x", None),
        ("projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k", "DE"),
        ("//cloudkms.googleapis.com/projects/p/locations/eur4/keyRings/r", "BE FI NL"),
        ("https://www.googleapis.com/compute/v1/projects/p/regions/us-east1/disks/d", "US"),
        ("https://www.googleapis.com/compute/v1/projects/p/zones/europe-west4-b/disks/d", "NL"),
        ("projects/p/locations/global/keyRings/r", None),
        ("projects/p/instanceConfigs/regional-us-east4", "US"),
        ("https://sqs.eu-central-1.amazonaws.com/111122223333/q", "DE"),
        ("logs.s3.eu-west-3.amazonaws.com", "FR"),
        ("s3://logs/mail?region=eu-north-1&sse=AES256", "SE"),
        ("eu-central-1", None),
        ("europe", None),
    ],
)
def test_what_an_arn_or_link_holds(text: str, expected: str | None) -> None:
    found = inside(text)
    assert (str(found).replace(",", "") if found else None) == expected


def test_a_place_is_within_a_zone_with_all_its_countries_and_regions() -> None:
    two = Zone(countries=frozenset({"DE", "IE"}))
    one = Zone(countries=frozenset({"DE", "IE"}), regions=frozenset({"eu-west-1"}))
    frankfurt, dublin, germany = site("eu-central-1"), site("eu-west-1"), site("de")
    assert frankfurt and dublin and germany
    assert [place.within(two) for place in (frankfurt, dublin, germany)] == [True, True, True]
    # Of a whole country no region is told, so a zone of regions cannot hold it.
    assert [place.within(one) for place in (frankfurt, dublin, germany)] == [False, True, False]
    assert Site(frozenset()).within(two) is False


@pytest.mark.parametrize(
    "text", ["eu-central-1", "sa-east-1", "eu-central-1a", "europe-west3", "europe-west3-a", None]
)
def test_a_foreign_name_is_a_place_of_another_country(text: str | None) -> None:
    assert countries(foreign(text)) not in {"-", countries(text or "eu-central-1")}


def test_a_foreign_name_of_a_foreign_one_is_another_one() -> None:
    for text in ("sa-east-1", "sa-east-1a", "southamerica-east1", "southamerica-east1-a"):
        assert countries(text) != countries(foreign(text))
