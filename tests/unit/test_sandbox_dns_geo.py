"""The GeoIP database says of each address what was declared of its network."""

import struct

import pytest

from mailinfra.places import PLACES
from mailinfra.sandbox.dns import geo
from mailinfra.sandbox.dns.rdata import RefusedError


def test_a_country_has_a_middle_and_a_place_may_be_more_exact() -> None:
    assert geo.location("DE") == geo.Location("DE", 51.2, 10.5)
    assert geo.location("DE", 50.1, 8.7) == geo.Location("DE", 50.1, 8.7)


@pytest.mark.parametrize(("country", "latitude"), [("XX", None), ("de", None), ("DE", 91.0)])
def test_what_is_no_place_is_refused(country: str, latitude: float | None) -> None:
    with pytest.raises(RefusedError, match=r"country|degrees"):
        geo.location(country, latitude)


def test_networks_are_checked() -> None:
    assert geo.network_of("198.51.100.7") == "198.51.100.7/32"
    assert geo.network_of("2001:DB8::/64") == "2001:db8::/64"
    with pytest.raises(RefusedError, match="no network"):
        geo.network_of("198.51.100.7/8")


def test_the_database_holds_country_continent_and_degrees() -> None:
    data = geo.database(
        {"198.51.100.0/24": geo.location("US"), "198.51.100.7/32": geo.location("DE", 50.5, 8.25)}.items()
    )
    assert b"\xab\xcd\xefMaxMind.com" in data
    for text in (b"\x42US", b"\x42DE", b"\x42NA", b"\x42EU"):  # strings of two octets (MaxMind DB format 2.0)
        assert text in data
    assert struct.pack(">d", 50.5) in data
    assert b"accuracy_radius" in data


def test_every_country_of_a_region_is_known() -> None:
    assert {place.country for place in PLACES.values()} <= set(geo.COUNTRIES)
