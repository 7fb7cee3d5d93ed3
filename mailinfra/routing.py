"""Who answers for the MX hosts, and to whom: the steered A and AAAA sets. Pure functions.

A steering zone serves the MX nodes of every cloud. What is wanted is said once, provider-neutral, as
`SteeredSet`s; each provider's record sets are derived from it:

* Route 53: a tree of aliases. The MX host's own sets choose by place (geolocation, latency or weight), a pool
  chooses among regions by weight, a region chooses among its healthy nodes. Every alias evaluates its
  target's health, so a region whose nodes are all dead leaves the answer, and its senders get the default
  pool.
* Cloud DNS: one set for each name with geo or weighted items of health-checked addresses. Weighted and geo
  cannot be combined there, and latency is not offered.

The nodes' addresses are not known here: members name hosts.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mailinfra import names
from mailinfra.fleet import Cloud, Fleet, MxPolicy, Region, Role, Steering, SteeringProvider
from mailinfra.places import CLOUD_DNS_HEALTH_SOURCES, PLACES, Place, Places, distance_km

AddressType = Literal["A", "AAAA"]
TYPES: tuple[AddressType, ...] = ("A", "AAAA")
SMTP_PORT = 25
CLOUD_DNS_MIN_INTERVAL = 30
"""Seconds: the shortest interval of a health check for Cloud DNS' external endpoints."""


@dataclass(frozen=True)
class Capabilities:
    """What a steering provider can do; weights are inclusive bounds, intervals seconds."""

    policies: frozenset[MxPolicy]
    weight_range: tuple[int, int]
    health_intervals: tuple[int, ...]
    health_ttl_limit: int
    answers_limit: int
    """Record sets, or items of one, that a name and type may have."""


CAPABILITIES: Mapping[SteeringProvider, Capabilities] = {
    # Route 53 developer guide: weighted 0-255, at most 100 ("Managing over 100 weighted records"); health checks
    # of 10 or 30 s; TTL of 60 s or less beside them.
    SteeringProvider.ROUTE53: Capabilities(frozenset(MxPolicy), (0, 255), (10, 30), 60, 100),
    # Cloud DNS, "DNS routing policies": geolocation and weighted round robin; weights 0-1000.
    SteeringProvider.CLOUDDNS: Capabilities(
        frozenset({MxPolicy.GEO, MxPolicy.WEIGHTED}), (0, 1000), (30,), 60, 100
    ),
}


@dataclass(frozen=True)
class Location:
    """Whose questions an answer is for.

    `value` is a country (ISO 3166-1), a Route 53 continent code, a cloud's region name, or `*` for the
    default.
    """

    kind: Literal["country", "continent", "default", "aws-region", "gcp-region"]
    value: str


@dataclass(frozen=True)
class Member:
    """A region's part in an answer: its mx nodes' host names and its weight."""

    region: str
    weight: int
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """The regions that answer one location."""

    location: Location
    members: tuple[Member, ...]


@dataclass(frozen=True)
class SteeredSet:
    """What one name answers, to whom; TTL in seconds. Provider-neutral."""

    name: str
    type: AddressType
    ttl: int
    policy: MxPolicy
    pools: tuple[Pool, ...]


@dataclass(frozen=True)
class Route53Set:
    """One record set at Route 53.

    Either `host` (the value is that node's address, its probe the health check, `ttl` is set) or `alias`
    (another name of the same zone, health evaluated). `key` is unique in the zone and stable.
    """

    key: str
    name: str
    type: AddressType
    set_identifier: str | None = None
    ttl: int | None = None
    host: str | None = None
    alias: str | None = None
    weight: int | None = None
    country: str | None = None
    continent: str | None = None
    latency_region: str | None = None


@dataclass(frozen=True)
class CloudDnsItem:
    """One item of a routing policy: a GCP region or a weight, and the hosts that are answered when
    healthy."""

    hosts: tuple[str, ...]
    location: str | None = None
    weight: float | None = None


@dataclass(frozen=True)
class CloudDnsSet:
    """One record set at Cloud DNS, with health-checked external endpoints."""

    key: str
    name: str
    type: AddressType
    ttl: int
    kind: Literal["geo", "wrr"]
    items: tuple[CloudDnsItem, ...]


@dataclass(frozen=True)
class HealthProbe:
    """A TCP probe of one node's address from outside; `interval_seconds` apart, dead after `failures`."""

    host: str
    type: AddressType
    port: int
    interval_seconds: int
    failures: int

    @property
    def key(self) -> str:
        """Unique among the fleet's probes, stable."""
        return f"{self.host}-{self.type.lower()}"


@dataclass(frozen=True)
class CloudDnsProbe:
    """The one health check that all sets of a Cloud DNS zone share."""

    port: int
    interval_seconds: int
    timeout_seconds: int
    failures: int
    source_regions: tuple[str, str, str]


@dataclass(frozen=True)
class SteeringPlan:
    """A steering zone: its MX hosts, what they answer, and the provider's record sets for it.

    Of `route53` with `probes`, and `clouddns` with `clouddns_probe`, only the provider's own is filled.
    """

    provider: SteeringProvider
    label: str
    zone: str
    mx_hosts: tuple[str, ...]
    sets: tuple[SteeredSet, ...]
    route53: tuple[Route53Set, ...]
    clouddns: tuple[CloudDnsSet, ...]
    probes: tuple[HealthProbe, ...]
    clouddns_probe: CloudDnsProbe | None


def mx_regions(fleet: Fleet, tier: names.Tier) -> tuple[Region, ...]:
    """The regions behind one tier of MX hosts, in the config's order; only such that have mx nodes."""
    chosen = set(fleet.mx.primaries if tier == 1 else fleet.mx.secondaries)
    return tuple(
        region
        for region in fleet.regions
        if (not chosen or region.region in chosen)
        and any(Role.MX in group.roles and group.count for group in region.groups)
    )


def mx_nodes(fleet: Fleet, region: Region) -> tuple[str, ...]:
    """The host names of a region's mx nodes."""
    return tuple(
        names.node_fqdn(fleet, region.region, group.name, number)
        for group in region.groups
        if Role.MX in group.roles
        for number in range(1, group.count + 1)
    )


def clouddns_probe(fleet: Fleet) -> CloudDnsProbe:
    """The health check of a Cloud DNS zone. Probes from outside come every 30 seconds at the fastest, from three
    places, so there are as many as fit the time in which the fleet wants a dead server found."""
    health = fleet.mx.health
    interval = max(health.interval_seconds, CLOUD_DNS_MIN_INTERVAL)
    failures = max(1, math.ceil(health.interval_seconds * health.failures / interval))
    return CloudDnsProbe(SMTP_PORT, interval, 10, failures, CLOUD_DNS_HEALTH_SOURCES)


def steering(fleet: Fleet, places: Places = PLACES) -> tuple[SteeringPlan, ...]:
    """Every steering zone of the fleet."""
    members = {
        region.region: Member(region.region, region.weight, hosts)
        for region in fleet.regions
        if (hosts := mx_nodes(fleet, region))
    }
    primaries = tuple(region.region for region in mx_regions(fleet, 1))
    secondaries = tuple(region.region for region in mx_regions(fleet, 2))
    near = _Near(places, {name: places[name] for name in members})
    return tuple(
        _zone(fleet, item, members=members, primaries=primaries, secondaries=secondaries, near=near)
        for item in fleet.dns.steering
    )


def _zone(
    fleet: Fleet,
    item: Steering,
    *,
    members: Mapping[str, Member],
    primaries: Sequence[str],
    secondaries: Sequence[str],
    near: "_Near",
) -> SteeringPlan:
    policy, provider = fleet.mx.policy, item.provider
    first = _pools(policy, provider, primaries, first=(), first_pools=(), members=members, near=near)
    second = _pools(
        policy, provider, secondaries, first=primaries, first_pools=first, members=members, near=near
    )
    tiers: tuple[tuple[names.Tier, tuple[Pool, ...]], ...] = ((1, first), (2, second))
    sets = tuple(
        SteeredSet(names.mx_host(fleet, item.label, tier), kind, fleet.mx.ttl_seconds, policy, pools)
        for tier, pools in tiers
        if pools
        for kind in TYPES
    )
    used = {member.region for one in sets for pool in one.pools for member in pool.members}
    zone = names.steering_zone(fleet, item.label)
    is_route53 = provider is SteeringProvider.ROUTE53
    health = fleet.mx.health
    return SteeringPlan(
        provider=provider,
        label=item.label,
        zone=zone,
        mx_hosts=tuple(dict.fromkeys(one.name for one in sets)),
        sets=sets,
        route53=_route53(zone, sets) if is_route53 else (),
        clouddns=() if is_route53 else tuple(_clouddns(one) for one in sets),
        probes=tuple(
            HealthProbe(host, kind, SMTP_PORT, health.interval_seconds, health.failures)
            for region, member in members.items()
            if is_route53 and region in used
            for host in member.hosts
            for kind in TYPES
        ),
        clouddns_probe=None if is_route53 else clouddns_probe(fleet),
    )


def _pools(
    policy: MxPolicy,
    provider: SteeringProvider,
    regions: Sequence[str],
    *,
    first: Sequence[str],
    first_pools: Sequence[Pool],
    members: Mapping[str, Member],
    near: "_Near",
) -> tuple[Pool, ...]:
    """Who answers whom. With `first` (the primaries) and their pools, each location's first choice is left
    out where another region remains: a sender that turns to the secondary should meet another place than the
    one that failed. Countries are told apart where the primaries tell them apart."""
    if not regions:
        return ()

    def pool(location: Location, chosen: Iterable[str]) -> Pool:
        return Pool(location, tuple(members[name] for name in chosen))

    def candidates(taken: Sequence[str]) -> tuple[str, ...]:
        left_out = set(taken)
        return tuple(name for name in regions if name not in left_out) or tuple(regions)

    everyone = pool(Location("default", "*"), regions)
    if policy is MxPolicy.WEIGHTED:
        return (everyone,)
    if policy is MxPolicy.LATENCY:
        return tuple(
            pool(Location("aws-region", name), chosen)
            for name, chosen in near.by_cloud_region(Cloud.AWS, regions)
        )
    if provider is SteeringProvider.CLOUDDNS:
        pools = []
        for name, chosen in near.by_cloud_region(Cloud.GCP, first or regions):
            answer = chosen
            if first:
                answer = near.nearest(PLACES[name], candidates(chosen))
            pools.append(pool(Location("gcp-region", name), answer))
        return tuple(pools)
    geographic = []
    for continent in near.continents:
        own = near.in_continent(continent, first or regions)
        chosen = near.in_continent(continent, candidates(own)) if first else own
        geographic.append(pool(Location("continent", continent), chosen))
    of_continent = {item.location.value: item.members for item in geographic}
    apart = {item.location.value for item in first_pools if item.location.kind == "country"}
    for country, continent in near.countries:
        if first and country not in apart:
            continue
        own = near.in_country(country, first or regions)
        chosen = near.in_country(country, candidates(own)) if first else own
        answer_pool = pool(Location("country", country), chosen)
        if answer_pool.members != of_continent[continent]:
            geographic.append(answer_pool)
    return (*geographic, everyone)


class _Near:
    """Which of the fleet's regions are near a place, computed once for each question.

    A country or continent with regions of its own is answered by all of these; one without by the nearest
    region, and by what lies within `ALIKE_KM` of that: regions in one city are equally near.
    """

    ALIKE_KM = 150.0

    def __init__(self, places: Places, regions: Mapping[str, Place]) -> None:
        self._regions = regions
        everywhere: dict[str, list[Place]] = {}
        countries: dict[tuple[str, str], list[Place]] = {}
        for place in sorted(places.values(), key=lambda item: item.region):
            everywhere.setdefault(place.continent, []).append(place)
            countries.setdefault((place.country, place.continent), []).append(place)
        self._continents = {name: _middle(group) for name, group in everywhere.items()}
        self._countries = {key: _middle(group) for key, group in countries.items()}
        self.continents = tuple(sorted(self._continents))
        self.countries = tuple(sorted(self._countries))
        self._country_places = {country: place for (country, _), place in self._countries.items()}

    def nearest(self, origin: Place, candidates: Sequence[str]) -> tuple[str, ...]:
        distances = {name: distance_km(origin, self._regions[name]) for name in candidates}
        limit = min(distances.values()) + self.ALIKE_KM
        return tuple(name for name in candidates if distances[name] <= limit)

    def in_continent(self, continent: str, candidates: Sequence[str]) -> tuple[str, ...]:
        own = tuple(name for name in candidates if self._regions[name].continent == continent)
        return own or self.nearest(self._continents[continent], candidates)

    def in_country(self, country: str, candidates: Sequence[str]) -> tuple[str, ...]:
        own = tuple(name for name in candidates if self._regions[name].country == country)
        return own or self.nearest(self._country_places[country], candidates)

    def by_cloud_region(self, cloud: Cloud, candidates: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """The fleet's regions by the region of `cloud` nearest to them: what latency and geo items are keyed
        by."""
        # What a provider takes as a location is its own list, whatever places a plan is made for.
        own = [place for place in PLACES.values() if place.cloud is cloud]
        grouped: dict[str, list[str]] = {}
        for name in candidates:
            here = self._regions[name]
            if here.cloud is cloud and name in PLACES:
                key = name
            else:
                key = min(own, key=lambda place: (distance_km(here, place), place.region)).region
            grouped.setdefault(key, []).append(name)
        return [(key, tuple(grouped[key])) for key in sorted(grouped)]


def _middle(group: Sequence[Place]) -> Place:
    """A stand-in for a country or continent: the mean of its regions, which lie where its people do."""
    first = group[0]
    return Place(
        first.cloud,
        "",
        first.country,
        "",
        sum(place.latitude for place in group) / len(group),
        sum(place.longitude for place in group) / len(group),
        first.continent,
    )


def _route53(zone: str, sets: Sequence[SteeredSet]) -> tuple[Route53Set, ...]:
    """The alias tree. Targets come before the aliases that name them."""
    leaves: dict[str, Route53Set] = {}
    pools: dict[tuple[str, str], tuple[Route53Set, ...]] = {}
    tops: list[Route53Set] = []
    for one in sets:
        members = {member.region: member for pool in one.pools for member in pool.members}
        for leaf in (leaf for member in members.values() for leaf in _region_sets(member, zone, one)):
            leaves[leaf.key] = leaf
        for pool in one.pools:
            tops.extend(_top(one, pool, zone))
            if one.policy is not MxPolicy.WEIGHTED and len(pool.members) > 1:
                name = _pool_name(pool, zone)
                if (name, one.type) not in pools:
                    pools[name, one.type] = _pool_sets(name, pool, zone, one.type)
    return (*leaves.values(), *(item for group in pools.values() for item in group), *tops)


def _region_sets(member: Member, zone: str, one: SteeredSet) -> Iterable[Route53Set]:
    """One record set for each of a region's nodes, with its own health check and equal weight."""
    for host in member.hosts:
        node = host.split(".", 1)[0]
        yield Route53Set(
            key=f"{member.region}-{node}-{one.type.lower()}",
            name=f"{member.region}.region.{zone}",
            type=one.type,
            set_identifier=node,
            ttl=one.ttl,
            host=host,
            weight=1,
        )


def _top(one: SteeredSet, pool: Pool, zone: str) -> tuple[Route53Set, ...]:
    """The sets of an MX host itself: one for a location, or one for each region where weights decide
    alone."""
    host, kind = one.name.split(".", 1)[0], one.type.lower()
    if one.policy is MxPolicy.WEIGHTED:
        return tuple(
            Route53Set(
                key=f"{host}-{member.region}-{kind}",
                name=one.name,
                type=one.type,
                set_identifier=member.region,
                alias=f"{member.region}.region.{zone}",
                weight=member.weight,
            )
            for member in pool.members
        )
    location = pool.location
    identifier = "default" if location.kind == "default" else f"{location.kind}-{location.value.lower()}"
    return (
        Route53Set(
            key=f"{host}-{identifier}-{kind}",
            name=one.name,
            type=one.type,
            set_identifier=identifier,
            alias=_pool_name(pool, zone),
            country=location.value if location.kind in ("country", "default") else None,
            continent=location.value if location.kind == "continent" else None,
            latency_region=location.value if location.kind == "aws-region" else None,
        ),
    )


def _pool_name(pool: Pool, zone: str) -> str:
    """A pool of one is the region itself. Pools of the same regions are one, whichever location asks."""
    if len(pool.members) == 1:
        return f"{pool.members[0].region}.region.{zone}"
    regions = ",".join(sorted(member.region for member in pool.members))
    return f"p{hashlib.sha256(regions.encode()).hexdigest()[:8]}.pool.{zone}"


def _pool_sets(name: str, pool: Pool, zone: str, kind: AddressType) -> tuple[Route53Set, ...]:
    return tuple(
        Route53Set(
            key=f"{name.split('.', 1)[0]}-{member.region}-{kind.lower()}",
            name=name,
            type=kind,
            set_identifier=member.region,
            alias=f"{member.region}.region.{zone}",
            weight=member.weight,
        )
        for member in pool.members
    )


def _clouddns(one: SteeredSet) -> CloudDnsSet:
    key = f"{one.name.split('.', 1)[0]}-{one.type.lower()}"
    if one.policy is MxPolicy.WEIGHTED:
        items = tuple(
            CloudDnsItem(member.hosts, weight=float(member.weight))
            for pool in one.pools
            for member in pool.members
        )
        return CloudDnsSet(key, one.name, one.type, one.ttl, "wrr", items)
    items = tuple(
        CloudDnsItem(
            tuple(host for member in pool.members for host in member.hosts), location=pool.location.value
        )
        for pool in one.pools
    )
    return CloudDnsSet(key, one.name, one.type, one.ttl, "geo", items)
