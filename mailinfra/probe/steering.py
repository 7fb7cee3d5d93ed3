"""Claims about who is sent where: the near region first, and answers that fit the declared weights."""

import time
from collections import Counter
from collections.abc import Iterable

from mailinfra.fleet import Cloud, MxPolicy, Role, SteeringProvider
from mailinfra.places import PLACES, Place, distance_km
from mailinfra.plan import FleetPlan
from mailinfra.probe import statistics
from mailinfra.probe.row import Claim, Finding, ProbeError, listed
from mailinfra.probe.site import Site, each
from mailinfra.routing import Pool, SteeredSet, SteeringPlan
from mailinfra.sandbox.dns import geo
from mailinfra.sandbox.dns.outside import OutsideHost
from mailinfra.sandbox.dns.zones import ADDRESSES

LOOKUPS = 1000
"""How many look-ups are compared with the declared weights, for each country and steering zone."""
SETTLED_LOOKUPS = 20
"""Look-ups that show whether all nodes are answered."""
PAUSE_SECONDS = 1.0
ALIKE_KM = 150.0
"""Regions whose distances differ by less are equally near."""
SERVERS = {SteeringProvider.ROUTE53: ADDRESSES["route53"], SteeringProvider.CLOUDDNS: ADDRESSES["clouddns"]}
"""The steering providers' name servers in the sandbox."""

Hosts = frozenset[str]


def country_place(country: str) -> Place:
    """Where a sender of this country is taken to be."""
    where = geo.location(country)
    return Place(Cloud.AWS, "", country, "", where.latitude, where.longitude, geo.COUNTRIES[country][0])


def near_regions(plan: FleetPlan, country: str) -> frozenset[str]:
    """The regions that a sender of this country should reach first: its country's own, else the nearest."""
    origin = country_place(country)
    places = {
        region.name: region.place
        for region in plan.regions
        if any(Role.MX in node.roles for node in region.nodes)
    }
    own = frozenset(name for name, place in places.items() if place.country == country)
    if own or not places:
        return own
    least = min(distance_km(origin, place) for place in places.values())
    return frozenset(name for name, place in places.items() if distance_km(origin, place) <= least + ALIKE_KM)


def pool_for(one: SteeredSet, origin: Place) -> Pool:
    """Which of a set's pools answers a sender at `origin`: the most specific place, or the nearest."""
    if one.policy is MxPolicy.WEIGHTED:
        return one.pools[0]
    regional = [pool for pool in one.pools if pool.location.kind in ("aws-region", "gcp-region")]
    if regional:
        return min(regional, key=lambda pool: distance_km(origin, PLACES[pool.location.value]))
    for kind, value in (("country", origin.country), ("continent", origin.continent), ("default", "*")):
        for pool in one.pools:
            if (pool.location.kind, pool.location.value) == (kind, value):
                return pool
    raise ProbeError(f"{one.name}: no pool for {origin.country}")


def shares(provider: SteeringProvider, one: SteeredSet, origin: Place) -> dict[Hosts, float]:
    """Which hosts a look-up gets at once, and how often: what the plan declares for a sender at `origin`.

    Route 53 answers one node of one region. Cloud DNS answers all nodes of the place, or of the weighted item.
    """
    pool = pool_for(one, origin)
    if provider is SteeringProvider.CLOUDDNS and one.policy is not MxPolicy.WEIGHTED:
        return {frozenset(host for member in pool.members for host in member.hosts): 1.0}
    total = sum(member.weight for member in pool.members)
    weights = {
        member.region: member.weight / total if total else 1 / len(pool.members) for member in pool.members
    }
    found: dict[Hosts, float] = {}
    for member in pool.members:
        if provider is SteeringProvider.CLOUDDNS:
            found[frozenset(member.hosts)] = weights[member.region]
            continue
        for host in member.hosts:
            found[frozenset({host})] = weights[member.region] / len(member.hosts)
    return found


def detection_seconds(steering: SteeringPlan) -> float:
    """How long a steering zone may take to find a node dead: its probes' interval times the failures that it takes."""
    if steering.clouddns_probe is not None:
        return steering.clouddns_probe.interval_seconds * steering.clouddns_probe.failures
    return max(probe.interval_seconds * probe.failures for probe in steering.probes)


def settled(site: Site) -> None:
    """Wait until health checks have found all nodes that are answered for: a fleet that has just come up needs as
    long as it takes to find a node dead. Whatever is not there by then is left to the claims to tell."""
    pending = [(outside, steering) for outside in site.outside for steering in site.plan.steering]
    end = time.monotonic() + max(map(detection_seconds, site.plan.steering))
    while pending and time.monotonic() < end:
        pending = [pair for pair in pending if not _all_answered(site, *pair)]
        if pending:
            time.sleep(PAUSE_SECONDS)


def _all_answered(site: Site, outside: OutsideHost, steering: SteeringPlan) -> bool:
    counted = _draw(site, outside, steering, SETTLED_LOOKUPS)
    origin = country_place(outside.country)
    return all(
        set(hosts) == {key for key, share in shares(steering.provider, one, origin).items() if share}
        for one, hosts in zip(steering.sets, counted, strict=True)
    )


def _draw(site: Site, outside: OutsideHost, steering: SteeringPlan, times: int) -> list["Counter[Hosts]"]:
    """How often which hosts were answered together, for each of the zone's sets."""
    questions = [[one.name, one.type, times] for one in steering.sets]
    told = {"server": SERVERS[steering.provider], "questions": questions}
    return [
        sum(
            (
                Counter({frozenset(site.owner(a) or a for a in item["values"]): item["times"]})
                for item in answer["counts"]
            ),
            Counter(),
        )
        for answer in site.run(outside.id, "draws", told, 120)
    ]


def near_first(site: Site) -> Iterable[Finding]:
    """Each outside host resolves the MX through its own resolver and calls the first choices."""
    site.once(settled)
    return each(lambda host: _near(site, host), site.outside)


def _near(site: Site, outside: OutsideHost) -> Finding:
    near = near_regions(site.plan, outside.country)
    exchanges = site.run(outside.id, "resolve", {"queries": [[site.plan.fleet.primary_domain, "MX"]]})[0]
    pairs = sorted((int(value.split()[0]), value.split()[1].rstrip(".")) for value in exchanges["values"])
    if not pairs:
        raise ProbeError(f"{outside.country}: no MX: {exchanges['error'] or exchanges['rcode']}")
    first = [host for preference, host in pairs if preference == pairs[0][0]]
    queries = [[host, kind] for host in first for kind in ("A", "AAAA")]
    answers = site.run(outside.id, "resolve", {"queries": queries})
    calls = [
        {"address": address, "port": 25, "tls": "starttls", "name": answer["name"]}
        for answer in answers
        for address in answer["values"]
    ]
    sessions = site.run(outside.id, "smtp", calls)
    reached: dict[str, str] = {}
    wrong = []
    for call, session in zip(calls, sessions, strict=True):
        owner, said = site.owner(call["address"]), session["banner"].partition(" ")[0]
        if not session["tls"]:
            wrong.append(f"{call['address']}: {session['error'] or session['banner'] or 'no TLS'}")
        elif owner != said:
            wrong.append(f"{call['address']} of {owner or 'nobody'} says that it is {said}")
        else:
            region = owner.split(".")[1]
            reached[region] = call["name"]
            if region not in near:
                wrong.append(f"{call['name']} leads to {owner}")
    return Finding(
        bool(reached) and not wrong,
        ", ".join(sorted(reached)) or "nobody",
        ", ".join(sorted(near)),
        "region",
        outside.country,
        listed(wrong) or f"by {', '.join(first)}",
    )


def weights(site: Site) -> Iterable[Finding]:
    """1,000 look-ups at each steering zone's own name servers, from each country."""
    site.once(settled)
    pairs = [(outside, steering) for outside in site.outside for steering in site.plan.steering]
    return each(lambda pair: _weights(site, *pair), pairs)


def _weights(site: Site, outside: OutsideHost, steering: SteeringPlan) -> Finding:
    each_times = -(-LOOKUPS // len(steering.sets))
    drawn = _draw(site, outside, steering, each_times)
    origin = country_place(outside.country)
    statistic, degrees = 0.0, 0
    detail, counted = [], 0
    for one, hosts in zip(steering.sets, drawn, strict=True):
        declared = shares(steering.provider, one, origin)
        value, free = statistics.chi_square(hosts, declared)
        statistic, degrees, counted = statistic + value, degrees + free, counted + sum(hosts.values())
        detail.append(f"{one.name} {one.type}: " + ", ".join(_share(hosts, declared)))
    limit = statistics.critical(degrees)
    return Finding(
        statistic <= limit and counted >= LOOKUPS,
        "an answer that no weight allows" if statistic == float("inf") else round(statistic, 2),
        round(limit, 2),
        f"χ², {degrees} d.f., {counted} look-ups",
        f"{outside.country}, {steering.zone}",
        "; ".join(detail),
    )


def _share(counted: "Counter[Hosts]", declared: dict[Hosts, float]) -> list[str]:
    total = sum(counted.values())
    found = []
    for hosts in sorted({*counted, *declared}, key=sorted):
        names = "+".join(sorted(".".join(host.split(".")[:2]) for host in hosts))
        found.append(f"{names} {counted[hosts] / total:.1%} of {declared.get(hosts, 0):.1%}")
    return found


CLAIMS = (
    Claim("steering.near", "A sender's first choice is a near region", ("R10", "R11"), near_first),
    Claim("steering.weights", "Answers fit the declared weights", ("R11",), weights),
)
