"""Where the sandbox's addresses are: a GeoIP database in MaxMind's format, as PowerDNS reads it.

Networks come from the program (a region's public addresses) and from the outside hosts. Coordinates of a
country are those of its middle, those of a region its city's.
"""

import ipaddress
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import netaddr
from mmdb_writer import MMDBWriter

from mailinfra.places import PLACES
from mailinfra.sandbox.dns.rdata import RefusedError

# Continent, latitude, longitude of countries' middles; others are where their cloud regions are.
_COUNTRIES = """
AR SA -34.0 -64.0
AT EU 47.3 13.3
AU OC -25.3 133.8
BE EU 50.8 4.0
BG EU 43.0 25.0
BR SA -10.0 -55.0
CA NA 56.1 -106.3
CH EU 47.0 8.0
CL SA -35.7 -71.5
CN AS 35.9 104.2
CO SA 4.0 -72.0
CY EU 35.0 33.0
CZ EU 49.8 15.5
DE EU 51.2 10.5
DK EU 56.0 10.0
EE EU 59.0 26.0
EG AF 27.0 30.0
ES EU 40.0 -4.0
FI EU 64.0 26.0
FR EU 46.0 2.0
GB EU 54.0 -2.0
GR EU 39.0 22.0
HR EU 45.2 15.5
HU EU 47.0 20.0
IE EU 53.0 -8.0
IN AS 20.6 79.0
IS EU 65.0 -18.0
IT EU 42.8 12.8
JP AS 36.2 138.3
KE AF 1.0 38.0
KR AS 36.0 128.0
LT EU 56.0 24.0
LU EU 49.8 6.2
LV EU 57.0 25.0
MT EU 35.9 14.4
MX NA 23.6 -102.6
NG AF 10.0 8.0
NL EU 52.2 5.3
NO EU 62.0 10.0
NZ OC -41.0 174.0
PL EU 52.0 20.0
PT EU 39.5 -8.0
RO EU 46.0 25.0
SE EU 62.0 15.0
SG AS 1.4 103.8
SI EU 46.1 14.8
SK EU 48.7 19.5
TR AS 39.0 35.0
UA EU 49.0 32.0
US NA 39.8 -98.6
ZA AF -29.0 24.0
"""
_ACCURACY_KM = 50


@dataclass(frozen=True)
class Location:
    """Where a network is: country (ISO 3166-1 alpha-2) and degrees."""

    country: str
    latitude: float
    longitude: float


def _table() -> dict[str, tuple[str, float, float]]:
    table = {p.country: (p.continent, p.latitude, p.longitude) for p in PLACES.values()}
    for line in _COUNTRIES.strip().splitlines():
        country, continent, latitude, longitude = line.split()
        table[country] = (continent, float(latitude), float(longitude))
    return table


COUNTRIES = _table()


def location(country: str, latitude: float | None = None, longitude: float | None = None) -> Location:
    """A place in a country; without coordinates its middle. Raises `RefusedError` for an unknown country."""
    if country not in COUNTRIES:
        raise RefusedError(
            f"country {country!r} is not known here; allowed are {', '.join(sorted(COUNTRIES))}"
        )
    _, middle_latitude, middle_longitude = COUNTRIES[country]
    found = Location(
        country,
        float(middle_latitude if latitude is None else latitude),
        float(middle_longitude if longitude is None else longitude),
    )
    if not (-90 <= found.latitude <= 90 and -180 <= found.longitude <= 180):
        raise RefusedError(f"{found.latitude}, {found.longitude} is no place: degrees go to 90 and 180")
    return found


def network_of(text: str) -> str:
    """The network in canonical form. Raises `RefusedError` if it is none."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise RefusedError(f"{text!r} is no network: {error}") from error


def database(places: Iterable[tuple[str, Location]]) -> bytes:
    """The database, in MaxMind DB format, of networks and where they are.

    A narrower network wins over a wider one.
    """
    writer = MMDBWriter(
        ip_version=6, ipv4_compatible=True, database_type="GeoLite2-City", description="mailinfra sandbox"
    )
    for network, place in sorted(places, key=lambda p: ipaddress.ip_network(p[0]).prefixlen):
        writer.insert_network(
            netaddr.IPSet([network]),
            {
                "country": {"iso_code": place.country},
                "continent": {"code": COUNTRIES[place.country][0]},
                # PowerDNS takes a location only together with its accuracy.
                "location": {
                    "latitude": place.latitude,
                    "longitude": place.longitude,
                    "accuracy_radius": _ACCURACY_KM,
                },
            },
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "geo.mmdb"
        writer.to_db_file(str(path))
        return path.read_bytes()
