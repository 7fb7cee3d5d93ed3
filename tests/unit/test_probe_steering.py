"""Tests of mailinfra.probe.steering: what the plan declares for a sender."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mailinfra.fleet import Fleet, SteeringProvider
from mailinfra.plan import FleetPlan, plan
from mailinfra.probe.row import ProbeError
from mailinfra.probe.steering import country_place, near_regions, pool_for, shares
from mailinfra.routing import SteeredSet

STACK = Path(__file__).parents[2] / "stacks" / "Pulumi.sandbox.yaml"


def planned(**mx: Any) -> FleetPlan:
    declared = yaml.safe_load(STACK.read_text())["config"]["mailinfra:fleet"]
    declared["mx"] = {**declared["mx"], **mx}
    return plan(Fleet.load(declared))


def steered(whole: FleetPlan, provider: SteeringProvider, tier: int = 1) -> SteeredSet:
    steering = next(item for item in whole.steering if item.provider is provider)
    return next(one for one in steering.sets if one.name.startswith(f"mx{tier}.") and one.type == "A")


def by_region(found: dict[frozenset[str], float]) -> dict[tuple[str, ...], float]:
    return {tuple(sorted(host.split(".")[1] for host in hosts)): share for hosts, share in found.items()}


def test_a_country_with_regions_is_near_to_those_and_another_to_the_nearest() -> None:
    whole = planned()
    assert near_regions(whole, "DE") == {"eu-central-1", "europe-west3"}
    assert near_regions(whole, "US") == {"us-east-1", "us-central1"}
    assert near_regions(whole, "FR") == {"eu-central-1", "europe-west3"}
    assert near_regions(whole, "MX") == {"us-central1"}


def test_route_53_answers_one_node_of_the_country_by_weight() -> None:
    one = steered(planned(), SteeringProvider.ROUTE53)
    assert by_region(shares(SteeringProvider.ROUTE53, one, country_place("DE"))) == {
        ("eu-central-1",): 0.6,
        ("europe-west3",): 0.4,
    }
    assert by_region(shares(SteeringProvider.ROUTE53, one, country_place("US"))) == {
        ("us-central1",): 0.5,
        ("us-east-1",): 0.5,
    }


def test_cloud_dns_answers_all_nodes_of_the_nearest_place() -> None:
    one = steered(planned(), SteeringProvider.CLOUDDNS)
    assert by_region(shares(SteeringProvider.CLOUDDNS, one, country_place("DE"))) == {
        ("eu-central-1", "europe-west3"): 1.0
    }
    (hosts,) = by_region(shares(SteeringProvider.CLOUDDNS, one, country_place("US")))
    assert set(hosts) <= {"us-east-1", "us-central1"}


def test_a_secondary_leads_to_another_place() -> None:
    one = steered(planned(), SteeringProvider.ROUTE53, tier=2)
    first = steered(planned(), SteeringProvider.ROUTE53, tier=1)
    for country in ("DE", "US"):
        origin = country_place(country)
        primary, secondary = (shares(SteeringProvider.ROUTE53, item, origin) for item in (first, one))
        assert secondary
        assert not set(primary) & set(secondary)


def test_weights_decide_alone_where_the_policy_says_so() -> None:
    declared = yaml.safe_load(STACK.read_text())["config"]["mailinfra:fleet"]
    declared["mx"]["policy"] = "weighted"
    for region, weight in zip(declared["regions"], (10, 20, 30, 40), strict=True):
        region["weight"] = weight
    whole = plan(Fleet.load(declared))
    for provider in SteeringProvider:
        one = steered(whole, provider)
        found = by_region(shares(provider, one, country_place("DE")))
        assert found == pytest.approx(
            {("eu-central-1",): 0.1, ("europe-west3",): 0.2, ("us-east-1",): 0.3, ("us-central1",): 0.4}
        )
        assert sum(found.values()) == pytest.approx(1)


def test_a_set_without_a_pool_for_a_sender_is_said_so() -> None:
    one = steered(planned(), SteeringProvider.ROUTE53)
    narrow = SteeredSet(one.name, one.type, one.ttl, one.policy, one.pools[:0])
    with pytest.raises(ProbeError, match="no pool for DE"):
        pool_for(narrow, country_place("DE"))
