"""Where a name lies: regions, availability zones, ARNs, self-links and multi-regions, as countries.

One table says where regions are: `mailinfra.places.PLACES`. What is here tells how a cloud's other names lead there,
and which countries stand behind a name that means several places. A name that leads nowhere has no place: never a
guess.

Sources: AWS "Regions and Availability Zones", "AWS Local Zones", "AWS Wavelength" (names of zones); Google Cloud
"Bucket locations", "Cloud KMS locations", "Spanner instance configurations", "Firestore locations", "App Engine
locations"; Cloudflare R2 "Data location" (jurisdictions).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from mailinfra.fleet import Cloud
from mailinfra.places import PLACES
from mailinfra_policy.config import Zone


@dataclass(frozen=True)
class Site:
    """What a name stands for: every country that data may then lie in, and the regions where they can be told."""

    countries: frozenset[str]
    regions: frozenset[str] = frozenset()

    def within(self, zone: Zone) -> bool:
        """Whether all of it lies in a residency zone."""
        if zone.anywhere:
            return True
        if not self.countries or not self.countries <= zone.countries:
            return False
        return not zone.regions or (bool(self.regions) and self.regions <= zone.regions)

    def __str__(self) -> str:
        return ", ".join(sorted(self.countries))


_MEMBERS = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU = frozenset(_MEMBERS.split())
"""The member states of the European Union: "EU" as a location promises no more than one of them."""

# Google's names for several regions. Services give the same name to different sets (`eur5` is two regions for Cloud
# Storage and three for Spanner; a Cloud KMS dual-region has a third replica): all of them count.
_SEVERAL = """
asia1  asia-northeast1 asia-northeast2 asia-northeast3
asia2  asia-south1 asia-south2 asia-southeast1
eur3   europe-west1 europe-west4 europe-north1
eur4   europe-north1 europe-west4 europe-west1
eur5   europe-west2 europe-west1 europe-west4
eur6   europe-west4 europe-west3 europe-west6
eur7   europe-west2 europe-west3 europe-west8 europe-west12
eur8   europe-west3 europe-west6
nam14  us-east4 us-east1 northamerica-northeast1
dual-region-australia1 australia-southeast1 australia-southeast2
dual-region-germany1   europe-west3 europe-west10
dual-region-india1     asia-south1 asia-south2
dual-region-japan1     asia-northeast1 asia-northeast2
"""

# Names of which only the country counts: some of their regions are Google's own (Oklahoma), or not told.
_US_ONLY = (
    "nam3",
    "nam4",
    "nam5",
    "nam6",
    "nam7",
    "nam8",
    "nam9",
    "nam10",
    "nam11",
    "nam12",
    "nam13",
    "nam15",
    "nam16",
)

# Google's multi-regions inside one country are called after it.
_COUNTRIES = ("AU", "CA", "DE", "IN", "IT", "JP", "US")

# App Engine's first regions have names of their own.
_SHORT = {"us-central": "us-central1", "europe-west": "europe-west1"}

# Cities of AWS Local Zones and Wavelength Zones, which may lie in another country than their region.
_CITIES = {
    city: country
    for country, cities in {
        "AR": "bue", "AU": "per", "BR": "for", "CA": "yto", "CL": "scl", "DE": "ham ber dtm muc",
        "DK": "cph", "FI": "hel", "GB": "lon man", "ID": "cgk", "IN": "ccu del", "JP": "nrt kix",
        "KR": "cjj sel", "MA": "cmn", "MX": "qro", "NG": "los", "NZ": "akl", "OM": "mct", "PE": "lim",
        "PH": "mnl", "PL": "waw", "SN": "dkr", "TH": "bkk", "TW": "tpe",
        "US": "atl bna bos chi clt dfw den dtw hnl iah las lax mci mia msp nyc pdx phl phx sea sfo slc tpa was",
    }.items()
    for city in cities.split()
}  # fmt: skip

_AREAS = {"north": "n", "south": "s", "east": "e", "west": "w", "central": "c"}


def _short(region: str) -> str:
    """The prefix of a region's availability zone ids: `apne1` for `ap-northeast-1`."""
    area, side, number = region.split("-")
    for word, letter in _AREAS.items():
        side = side.replace(word, letter)
    return f"{area}{side}{number}"


_SHORT_AWS = {_short(name): name for name, place in PLACES.items() if place.cloud is Cloud.AWS}

_ZONES = (
    re.compile(r"(?P<region>[a-z]+-[a-z]+-\d+)[a-z]"),
    re.compile(r"(?P<region>[a-z]+-[a-z]+\d+)-[a-z]"),
    re.compile(r"(?P<region>[a-z]+-[a-z]+-\d+)-(?P<city>[a-z]{3})-\d+[a-z]"),
    re.compile(r"(?P<region>[a-z]+-[a-z]+-\d+)-wl\d-(?P<city>[a-z]{3})-wlz-\d+"),
    re.compile(r"(?P<short>[a-z]+\d)-az\d+"),
    re.compile(r"(?P<short>[a-z]+\d)-(?P<city>[a-z]{3})\d-az\d+"),
    re.compile(r"(?P<short>[a-z]+\d)-wl\d-(?P<city>[a-z]{3})-wlz\d+"),
)

_INSIDE = (
    re.compile(r"arn:aws:[a-z0-9-]+:(?P<place>[a-z0-9-]+):.*"),
    re.compile(r"(?:.*/)?(?:locations|regions|zones|instanceconfigs)/(?P<place>[a-z0-9-]+)(?:/.*)?"),
    re.compile(r"(?:https?://)?[^/]*\.(?P<place>[a-z]+-[a-z]+-\d+)\.amazonaws\.com(?:[:/].*)?"),
    re.compile(r"s3://.*[?&]region=(?P<place>[a-z0-9-]+)(?:&.*)?"),
)


def _of_regions(regions: Iterable[str]) -> Site:
    names = frozenset(regions)
    return Site(frozenset(PLACES[name].country for name in names), names)


def _named() -> Mapping[str, Site]:
    found = {name: _of_regions([name]) for name in PLACES}
    found |= {country.lower(): Site(frozenset({country})) for country in _COUNTRIES}
    found |= {short: _of_regions([name]) for short, name in _SHORT.items()}
    for line in _SEVERAL.strip().splitlines():
        name, *regions = line.split()
        found[name] = _of_regions(regions)
    found |= {name: Site(frozenset({"US"})) for name in (*_US_ONLY, "fedramp")}
    found |= {name: Site(EU) for name in ("eu", "europe")}
    google = [place for place in PLACES.values() if place.cloud is Cloud.GCP]
    found["asia"] = Site(frozenset(place.country for place in google if place.region.startswith("asia-")))
    return found


_NAMED = _named()


@cache
def site(text: str) -> Site | None:
    """What a name stands for: a region, an availability zone (or its id), a local zone, a multi-region, a jurisdiction,
    or an ARN, self-link or address with one of these inside. None where it names no place (`global`, a typo)."""
    name = text.strip().lower()
    if name in _NAMED:
        return _NAMED[name]
    for pattern in _ZONES:
        if match := pattern.fullmatch(name):
            parts = match.groupdict()
            return _zone(parts.get("region") or _SHORT_AWS.get(parts.get("short", ""), ""), parts.get("city"))
    if name.startswith("regional-"):
        return _NAMED.get(name.removeprefix("regional-"))
    return inside(name)


@cache
def inside(text: str) -> Site | None:
    """The place inside an ARN, a self-link or an address. A bare name is none, even if it reads like a region's."""
    for pattern in _INSIDE:
        if match := pattern.fullmatch(text.strip().lower()):
            return site(match["place"])
    return None


def site_of(cloud: str, text: str) -> Site | None:
    """What a name stands for at one cloud: AWS has no multi-regions and writes its names in small letters, and neither
    cloud knows the other's regions."""
    found = site(text)
    if found is None or cloud not in {"aws", "gcp"}:
        return found
    ours = all(PLACES[region].cloud == cloud for region in found.regions)
    exact = cloud == "gcp" or (bool(found.regions) and text == text.lower())
    return found if ours and exact else None


def _zone(region: str, city: str | None) -> Site | None:
    if region not in PLACES:
        return None
    country = PLACES[region].country if city is None else _CITIES.get(city)
    return Site(frozenset({country}), frozenset({region})) if country else None


def foreign(value: object) -> str:
    """A name of the same kind in another part of the world: for mutants."""
    text = value if isinstance(value, str) else ""
    if re.fullmatch(r"[a-z]+-[a-z]+\d+-[a-z]", text):
        return "southamerica-east1-a" if "southamerica" not in text else "africa-south1-a"
    if re.fullmatch(r"[a-z]+-[a-z]+-\d+[a-z]", text):
        return "sa-east-1a" if not text.startswith("sa-") else "af-south-1a"
    if re.fullmatch(r"[a-z]+-[a-z]+-\d+", text):
        return "sa-east-1" if not text.startswith("sa-") else "af-south-1"
    return "southamerica-east1" if "southamerica" not in text else "africa-south1"
