"""Steering: who answers whom, when all is well and when nodes are dead. Route 53's tree is walked as it does."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from mailinfra.fleet import Fleet, MxPolicy, SteeringProvider
from mailinfra.places import PLACES
from mailinfra.routing import CAPABILITIES, Route53Set, SteeringPlan, clouddns_probe, mx_regions, steering
from tests.fleets import AWS_REGION, STACKS, fleet


def _route53(one: Fleet) -> SteeringPlan:
    return next(item for item in steering(one) if item.provider is SteeringProvider.ROUTE53)


def _clouddns(one: Fleet) -> SteeringPlan:
    return next(item for item in steering(one) if item.provider is SteeringProvider.CLOUDDNS)


def _answers(
    sets: Iterable[Route53Set], name: str, country: str = "", continent: str = "", dead: Iterable[str] = ()
) -> dict[str, float]:
    """The share of each host in the A answers that a resolver in a country gets; empty when all are dead."""
    table: dict[str, list[Route53Set]] = {}
    for item in sets:
        if item.type == "A":
            table.setdefault(item.name, []).append(item)

    def below(item: Route53Set) -> dict[str, float]:
        if item.host is not None:
            return {} if item.host in dead else {item.host: 1.0}
        assert item.alias is not None
        return walk(item.alias)

    def walk(at: str) -> dict[str, float]:
        here = table[at]
        if here[0].weight is not None:
            alive = [(item, answer) for item in here if (answer := below(item))]
            if any(item.weight for item, _ in alive):
                alive = [(item, answer) for item, answer in alive if item.weight]
            weights = [item.weight or 0 for item, _ in alive]
            if not sum(weights):
                weights = [1] * len(alive)
            total: Counter[str] = Counter()
            for (_, answer), weight in zip(alive, weights, strict=True):
                for host, share in answer.items():
                    total[host] += share * weight / sum(weights)  # type: ignore[assignment]
            return dict(total)
        for item in (
            *(i for i in here if i.country == country and country),
            *(i for i in here if i.continent == continent and continent),
            *(i for i in here if i.country == "*"),
        ):
            answer = below(item)
            if answer:
                return answer
        return {}

    return walk(name)


def _regions(answer: dict[str, float]) -> set[str]:
    return {host.split(".")[1] for host in answer}


MX1, MX2 = "mx1.aws.mx.example.test", "mx2.aws.mx.example.test"


@pytest.mark.parametrize(
    ("country", "continent", "near"),
    [
        ("DE", "EU", {"eu-central-1", "europe-west3"}),
        ("NO", "EU", {"eu-central-1", "europe-west3"}),
        ("US", "NA", {"us-east-1", "us-central1"}),
        ("ZA", "AF", {"eu-central-1", "europe-west3"}),
        ("MX", "NA", {"us-central1"}),
        ("", "", {"eu-central-1", "europe-west3", "us-east-1", "us-central1"}),
    ],
)
def test_senders_reach_the_near_regions_on_both_clouds(country: str, continent: str, near: set[str]) -> None:
    assert _regions(_answers(_route53(fleet()).route53, MX1, country, continent)) == near


def test_the_secondary_is_another_place_than_the_primary() -> None:
    plan = _route53(fleet())
    for country, continent in (("DE", "EU"), ("US", "NA"), ("JP", "AS"), ("MX", "NA"), ("BR", "SA")):
        first = _regions(_answers(plan.route53, MX1, country, continent))
        second = _regions(_answers(plan.route53, MX2, country, continent))
        assert second
        assert not first & second


def test_weights_share_the_near_regions() -> None:
    plan = _route53(fleet(regions__0__weight=150, regions__1__weight=50))
    shares = _answers(plan.route53, MX1, "DE", "EU")
    assert shares == {
        "edge-1.eu-central-1.nodes.example.test": 0.75,
        "edge-1.europe-west3.nodes.example.test": 0.25,
    }


def test_a_dead_region_leaves_and_a_dead_place_falls_back_to_the_world() -> None:
    plan = _route53(fleet())
    frankfurt = ["edge-1.eu-central-1.nodes.example.test", "edge-1.europe-west3.nodes.example.test"]
    one_dead = _answers(plan.route53, MX1, "DE", "EU", dead=frankfurt[:1])
    assert one_dead == {frankfurt[1]: 1.0}
    both_dead = _answers(plan.route53, MX1, "DE", "EU", dead=frankfurt)
    assert _regions(both_dead) == {"us-east-1", "us-central1"}


def test_weighted_policy_needs_no_places() -> None:
    one = fleet(mx={"policy": "weighted"}, regions__0__weight=30, regions__1__weight=10, regions__2__weight=0)
    shares = _answers(_route53(one).route53, MX1)
    total = 30 + 10 + 100
    assert shares["edge-1.eu-central-1.nodes.example.test"] == pytest.approx(30 / total)
    assert "edge-1.us-east-1.nodes.example.test" not in shares
    items = next(
        item for item in _clouddns(one).clouddns if item.name.startswith("mx1") and item.type == "A"
    ).items
    assert [item.weight for item in items] == [30, 10, 0, 100]
    assert all(item.location is None for item in items)


def test_latency_has_one_set_for_each_aws_region() -> None:
    one = fleet(
        mx={"policy": "latency"},
        dns__steering=[{"provider": "route53", "label": "one"}, {"provider": "route53", "label": "two"}],
    )
    for plan in steering(one):
        tops = [item for item in plan.route53 if item.name.startswith("mx1.") and item.type == "A"]
        regions = [item.latency_region for item in tops]
        # Frankfurt's two are one AWS region, Iowa's nearest is Ohio.
        assert regions == ["eu-central-1", "us-east-1", "us-east-2"]
        assert all(PLACES[region].cloud.value == "aws" for region in regions if region)


def test_cloud_dns_is_asked_by_its_own_regions() -> None:
    sets = {(item.name, item.type): item for item in _clouddns(fleet()).clouddns}
    first = sets["mx1.gcp.mx.example.test", "A"]
    assert first.kind == "geo"
    assert {item.location: len(item.hosts) for item in first.items} == {
        "europe-west3": 2,
        "us-central1": 1,
        "us-east4": 1,
    }
    second = sets["mx2.gcp.mx.example.test", "A"]
    for one, other in zip(first.items, second.items, strict=True):
        assert one.location == other.location
        assert not set(one.hosts) & set(other.hosts)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("policy", [MxPolicy.GEO, MxPolicy.WEIGHTED])
def test_route53_sets_are_such_as_route53_takes(stack: str, policy: MxPolicy) -> None:
    one = fleet(stack, mx__policy=policy.value)
    plan = _route53(one)
    names = {(item.name, item.type) for item in plan.route53}
    groups: dict[tuple[str, str], list[Route53Set]] = {}
    for item in plan.route53:
        groups.setdefault((item.name, item.type), []).append(item)
        assert (item.host is None) != (item.alias is None)
        assert (item.ttl is None) == (item.host is None)
        assert item.name.endswith(plan.zone)
        if item.alias is not None:
            assert (item.alias, item.type) in names
        if item.host is not None:
            assert any(probe.host == item.host and probe.type == item.type for probe in plan.probes)
        assert (
            sum(v is not None for v in (item.weight, item.country, item.continent, item.latency_region)) == 1
        )
        assert item.weight is None or 0 <= item.weight <= 255
    for group in groups.values():
        identifiers = [item.set_identifier for item in group]
        assert len(set(identifiers)) == len(identifiers)
        assert len({item.weight is None for item in group}) == 1
        assert len({item.ttl for item in group}) == 1
    assert len({item.key for item in plan.route53}) == len(plan.route53)
    assert plan.mx_hosts == (f"mx1.{plan.zone}", f"mx2.{plan.zone}")


@pytest.mark.parametrize("stack", STACKS)
def test_targets_come_before_their_aliases(stack: str) -> None:
    made: set[tuple[str, str]] = set()
    for item in _route53(fleet(stack)).route53:
        if item.alias is not None:
            assert (item.alias, item.type) in made
        made.add((item.name, item.type))


@pytest.mark.parametrize("stack", STACKS)
def test_every_mx_node_can_be_reached_in_every_zone(stack: str) -> None:
    one = fleet(stack)
    wanted = {
        host
        for plan in steering(one)
        for item in plan.sets
        for p in item.pools
        for m in p.members
        for host in m.hosts
    }
    assert {
        host for plan in steering(one) for item in plan.clouddns for i in item.items for host in i.hosts
    } == wanted
    assert {item.host for item in _route53(one).route53 if item.host} == wanted
    assert len({host.split(".")[1] for host in wanted}) == len(mx_regions(one, 1))


def test_a_region_more_changes_no_leaf_of_the_others() -> None:
    before = {item.key: item for item in _route53(fleet()).route53 if item.host}
    after = {item.key: item for item in _route53(fleet(regions__4=AWS_REGION)).route53 if item.host}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2


def test_chosen_regions_only() -> None:
    one = fleet(
        mx={"primaries": ["eu-central-1", "us-east-1"], "secondaries": ["europe-west3", "us-central1"]}
    )
    plan = _route53(one)
    assert _regions(_answers(plan.route53, MX1, "DE", "EU")) == {"eu-central-1"}
    assert _regions(_answers(plan.route53, MX2, "DE", "EU")) == {"europe-west3"}
    assert _regions(_answers(plan.route53, MX2)) == {"europe-west3", "us-central1"}


def test_probes_are_what_the_providers_offer() -> None:
    one = fleet(mx={"health": {"interval_seconds": 10, "failures": 2}})
    assert {probe.interval_seconds for probe in _route53(one).probes} == {10}
    assert clouddns_probe(one).interval_seconds == 30
    detection = {
        (interval, failures): clouddns_probe(
            fleet(mx={"health": {"interval_seconds": interval, "failures": failures}})
        ).failures
        for interval, failures in ((10, 2), (10, 3), (10, 4), (30, 3))
    }
    assert detection == {(10, 2): 1, (10, 3): 1, (10, 4): 2, (30, 3): 3}
    assert _clouddns(one).clouddns_probe == clouddns_probe(one)
    assert _route53(one).clouddns_probe is None
    assert len({probe.key for probe in _route53(one).probes}) == len(_route53(one).probes) == 8


def test_latency_is_not_a_thing_of_cloud_dns() -> None:
    assert MxPolicy.LATENCY not in CAPABILITIES[SteeringProvider.CLOUDDNS].policies


def test_a_tier_without_nodes_has_no_sets() -> None:
    one = fleet().model_copy(update={"regions": fleet().regions[:1]})
    mute: Any = one.regions[0].model_copy(update={"groups": one.regions[0].groups[1:]})
    assert _route53(one.model_copy(update={"regions": (mute,)})).sets == ()
