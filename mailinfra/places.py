"""Clouds, regions and countries: the one table from a region's name to where it lies.

Sources: AWS "Regions and Availability Zones" and botocore's own list of partitions; Google Cloud "Geography and
regions"; Route 53 "Values specific for geolocation records" (continent codes). Coordinates are those of the
region's city, good enough to tell which of two regions is nearer.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType

from mailinfra.errors import Problem
from mailinfra.fleet import Cloud, Size

EARTH_RADIUS_KM = 6371.0


@dataclass(frozen=True)
class Place:
    """Where a cloud region lies.

    `country` is ISO 3166-1 alpha-2, `continent` one of Route 53's continent codes, `zone_letters` the
    suffixes of availability zones that every account has, latitude and longitude are degrees.
    """

    cloud: Cloud
    region: str
    country: str
    city: str
    latitude: float
    longitude: float
    continent: str
    zone_letters: tuple[str, ...] = ("a", "b")

    @cached_property
    def vector(self) -> tuple[float, float, float]:
        """The place on a globe of radius 1: what makes distances cheap."""
        latitude, longitude = math.radians(self.latitude), math.radians(self.longitude)
        flat = math.cos(latitude)
        return flat * math.cos(longitude), flat * math.sin(longitude), math.sin(latitude)

    def availability_zone(self, letter: str) -> str:
        """The cloud's name of an availability zone: `eu-central-1a`, `europe-west3-a`."""
        return f"{self.region}-{letter}" if self.cloud is Cloud.GCP else f"{self.region}{letter}"


@dataclass(frozen=True)
class MachineImage:
    """The stock Debian 12 image of a cloud, x86-64.

    AWS: `owner` (Debian's account) and `name_filter` for the newest AMI. GCP: `project` and `family`.
    """

    owner: str = ""
    name_filter: str = ""
    project: str = ""
    family: str = ""


Places = Mapping[str, Place]

_AWS = """
af-south-1      ZA AF  -33.92   18.42 Cape Town
ap-east-1       HK AS   22.32  114.17 Hong Kong
ap-east-2       TW AS   25.03  121.57 Taipei
ap-northeast-1  JP AS   35.68  139.69 Tokyo
ap-northeast-2  KR AS   37.57  126.98 Seoul
ap-northeast-3  JP AS   34.69  135.50 Osaka
ap-south-1      IN AS   19.08   72.88 Mumbai
ap-south-2      IN AS   17.39   78.49 Hyderabad
ap-southeast-1  SG AS    1.35  103.82 Singapore
ap-southeast-2  AU OC  -33.87  151.21 Sydney
ap-southeast-3  ID AS   -6.21  106.85 Jakarta
ap-southeast-4  AU OC  -37.81  144.96 Melbourne
ap-southeast-5  MY AS    3.14  101.69 Kuala Lumpur
ap-southeast-6  NZ OC  -36.85  174.76 Auckland
ap-southeast-7  TH AS   13.76  100.50 Bangkok
ca-central-1    CA NA   45.50  -73.57 Montreal
ca-west-1       CA NA   51.05 -114.07 Calgary
eu-central-1    DE EU   50.11    8.68 Frankfurt
eu-central-2    CH EU   47.37    8.54 Zurich
eu-north-1      SE EU   59.33   18.07 Stockholm
eu-south-1      IT EU   45.46    9.19 Milan
eu-south-2      ES EU   41.65   -0.89 Zaragoza
eu-west-1       IE EU   53.35   -6.26 Dublin
eu-west-2       GB EU   51.51   -0.13 London
eu-west-3       FR EU   48.86    2.35 Paris
il-central-1    IL AS   32.09   34.78 Tel Aviv
me-central-1    AE AS   24.45   54.38 Abu Dhabi
me-south-1      BH AS   26.07   50.56 Bahrain
me-west-1       SA AS   24.71   46.68 Riyadh
mx-central-1    MX NA   20.59 -100.39 Queretaro
sa-east-1       BR SA  -23.55  -46.63 Sao Paulo
sa-west-1       CL SA  -33.45  -70.67 Santiago
us-east-1       US NA   38.95  -77.45 Northern Virginia
us-east-2       US NA   39.96  -83.00 Columbus
us-west-1       US NA   37.77 -122.42 Northern California
us-west-2       US NA   45.84 -119.70 Oregon
"""

_GCP = """
africa-south1           ZA AF  -26.20   28.05 Johannesburg
asia-east1              TW AS   24.05  120.52 Changhua
asia-east2              HK AS   22.32  114.17 Hong Kong
asia-northeast1         JP AS   35.68  139.69 Tokyo
asia-northeast2         JP AS   34.69  135.50 Osaka
asia-northeast3         KR AS   37.57  126.98 Seoul
asia-south1             IN AS   19.08   72.88 Mumbai
asia-south2             IN AS   28.61   77.21 Delhi
asia-southeast1         SG AS    1.35  103.82 Singapore
asia-southeast2         ID AS   -6.21  106.85 Jakarta
asia-southeast3         TH AS   13.76  100.50 Bangkok
australia-southeast1    AU OC  -33.87  151.21 Sydney
australia-southeast2    AU OC  -37.81  144.96 Melbourne
europe-central2         PL EU   52.23   21.01 Warsaw
europe-north1           FI EU   60.57   27.20 Hamina
europe-north2           SE EU   59.33   18.07 Stockholm
europe-southwest1       ES EU   40.42   -3.70 Madrid
europe-west1            BE EU   50.45    3.82 Saint-Ghislain
europe-west10           DE EU   52.52   13.41 Berlin
europe-west12           IT EU   45.07    7.69 Turin
europe-west2            GB EU   51.51   -0.13 London
europe-west3            DE EU   50.11    8.68 Frankfurt
europe-west4            NL EU   53.44    6.83 Eemshaven
europe-west6            CH EU   47.37    8.54 Zurich
europe-west8            IT EU   45.46    9.19 Milan
europe-west9            FR EU   48.86    2.35 Paris
me-central1             QA AS   25.29   51.53 Doha
me-central2             SA AS   26.43   50.10 Dammam
me-west1                IL AS   32.09   34.78 Tel Aviv
northamerica-northeast1 CA NA   45.50  -73.57 Montreal
northamerica-northeast2 CA NA   43.65  -79.38 Toronto
northamerica-south1     MX NA   20.59 -100.39 Queretaro
southamerica-east1      BR SA  -23.53  -46.79 Osasco
southamerica-west1      CL SA  -33.45  -70.67 Santiago
us-central1             US NA   41.26  -95.86 Council Bluffs
us-east1                US NA   33.20  -80.01 Moncks Corner
us-east4                US NA   39.04  -77.49 Ashburn
us-east5                US NA   39.96  -83.00 Columbus
us-south1               US NA   32.78  -96.80 Dallas
us-west1                US NA   45.59 -121.18 The Dalles
us-west2                US NA   34.05 -118.24 Los Angeles
us-west3                US NA   40.76 -111.89 Salt Lake City
us-west4                US NA   36.17 -115.14 Las Vegas
"""

# Where zone "a" or "b" is missing, or closed to new accounts.
_ZONE_LETTERS = {
    "ap-northeast-1": ("a", "c"),
    "ca-central-1": ("a", "b"),
    "us-west-1": ("a", "c"),
    "europe-west1": ("b", "c"),
    "us-east1": ("b", "c"),
}


def _table(cloud: Cloud, text: str) -> Iterable[tuple[str, Place]]:
    for line in text.strip().splitlines():
        region, country, continent, latitude, longitude, city = line.split(maxsplit=5)
        letters = _ZONE_LETTERS.get(region, ("a", "b"))
        yield (
            region,
            Place(cloud, region, country, city, float(latitude), float(longitude), continent, letters),
        )


_ISO_3166 = """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW
    BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI
    FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN
    IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME
    MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF
    PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV
    SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE
    YT ZA ZM ZW
"""

COUNTRIES: frozenset[str] = frozenset(_ISO_3166.split())
"""The countries of ISO 3166-1 alpha-2."""

PLACES: Places = MappingProxyType(dict([*_table(Cloud.AWS, _AWS), *_table(Cloud.GCP, _GCP)]))
"""Every public region of both clouds by its name. AWS in China, for the US government and the European
Sovereign Cloud are partitions with accounts, DNS and IAM of their own, and are not in it."""

MACHINE_IMAGES: Mapping[Cloud, MachineImage] = MappingProxyType(
    {
        Cloud.AWS: MachineImage(owner="136693071363", name_filter="debian-12-amd64-*"),
        Cloud.GCP: MachineImage(project="debian-cloud", family="debian-12"),
    }
)
"""Debian's own AMIs (wiki.debian.org/Cloud/AmazonEC2Image) and Google's Debian images."""

_MACHINE_TYPES: Mapping[Cloud, Mapping[Size, str]] = MappingProxyType(
    {
        Cloud.AWS: {
            Size.NANO: "t3.micro",
            Size.SMALL: "t3.small",
            Size.MEDIUM: "t3.medium",
            Size.LARGE: "m6i.large",
            Size.XLARGE: "m6i.xlarge",
        },
        Cloud.GCP: {
            Size.NANO: "e2-micro",
            Size.SMALL: "e2-small",
            Size.MEDIUM: "e2-medium",
            Size.LARGE: "n2-standard-2",
            Size.XLARGE: "n2-standard-4",
        },
    }
)

OUTBOUND_SMTP: frozenset[Cloud] = frozenset({Cloud.AWS})
"""Clouds whose servers can be allowed to open TCP connections to port 25 of the internet. AWS lifts its block
on request; Google Cloud never does (Compute Engine, "Sending email from an instance")."""

CLOUD_DNS_HEALTH_SOURCES: tuple[str, str, str] = ("us-central1", "europe-west1", "asia-southeast1")
"""The three regions from which Cloud DNS probes external endpoints: it wants exactly three, far apart."""


def place(region: str, places: Places = PLACES) -> Place:
    """Where `region` lies. KeyError when the table has no such region."""
    return places[region]


def machine_type(cloud: Cloud, size: Size) -> str:
    """The cloud's x86-64 machine type for a size: 1, 2, 4, 8 and 16 GiB of memory."""
    return _MACHINE_TYPES[cloud][size]


def distance_km(one: Place, other: Place) -> float:
    """The great-circle distance between two places, in kilometres."""
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.dist(one.vector, other.vector) / 2))


_Ranked = tuple[float, str, Place | None]
"""A distance through a globe of radius 1, and the place that is so far away with its region's name."""


@dataclass(frozen=True)
class Nearby:
    """Places among which the nearest to another one is found without looking at all of them: a k-d tree (Bentley 1975,
    https://doi.org/10.1145/361002.361007). All vectors lie between the corners `low` and `high`."""

    place: Place
    low: tuple[float, ...]
    high: tuple[float, ...]
    parts: tuple["Nearby", ...]

    @classmethod
    def of(cls, places: Iterable[Place]) -> "Nearby | None":
        """The tree of some places; None of none."""
        ranked = list(places)
        if not ranked:
            return None
        axes = list(zip(*(place.vector for place in ranked), strict=True))
        low, high = tuple(map(min, axes)), tuple(map(max, axes))
        widest = max(range(3), key=lambda axis: high[axis] - low[axis])
        ranked.sort(key=lambda place: place.vector[widest])
        middle = len(ranked) // 2
        parts = (cls.of(ranked[:middle]), cls.of(ranked[middle + 1 :]))
        return cls(ranked[middle], low, high, tuple(part for part in parts if part))

    def nearest(self, origin: Place) -> Place | None:
        """The place nearest to `origin` that is not in its own region; None where there is none. Of those equally far
        it is the one whose region's name comes first."""
        return self._nearest(origin, (math.inf, "", None))[2]

    def _nearest(self, origin: Place, best: _Ranked) -> _Ranked:
        if self.place.region != origin.region:
            chord = math.dist(origin.vector, self.place.vector)
            if (chord, self.place.region) < best[:2]:
                best = chord, self.place.region, self.place
        for distance, part in sorted(((part._away(origin), part) for part in self.parts), key=itemgetter(0)):
            if distance <= best[0]:
                best = part._nearest(origin, best)
        return best

    def _away(self, origin: Place) -> float:
        """How far the box of these places is from `origin`: nothing in it is nearer."""
        x, y, z = origin.vector
        (x0, y0, z0), (x1, y1, z1) = self.low, self.high
        return math.hypot(max(x0 - x, 0.0, x - x1), max(y0 - y, 0.0, y - y1), max(z0 - z, 0.0, z - z1))


def unknown_region(path: str, region: str, cloud: Cloud, places: Places = PLACES) -> Problem:
    """The problem to report for a region that `cloud` does not have, with the names most like it."""
    known = sorted(name for name, item in places.items() if item.cloud is cloud)
    close = get_close_matches(region, known, n=3, cutoff=0.6)
    owner = next((item.cloud for name, item in places.items() if name == region), None)
    if owner is not None:
        return Problem(
            path, f"'{region}', a region of {owner.value}", f"a region of {cloud.value}, such as {known[0]}"
        )
    allowed = f"a region of {cloud.value}: {', '.join(close or known)}"
    return Problem(path, repr(region), f"{allowed}{' (the names most like it)' if close else ''}")
