"""Steered answers are health-checked and short-lived."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.dns_health_checked import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import clouddns, route53
from tests.policy_helpers import changed, found, places, resource


def weighted(name: str, **more: Any) -> Resource:
    """One of two weighted sets."""
    return route53(
        "mx1",
        "A",
        ["192.0.2.1"],
        setIdentifier=name,
        weightedRoutingPolicies=[{"weight": 1}],
        **{"healthCheckId": "check", "ttl": 60, **more},
    )


def steered(**more: Any) -> Resource:
    """A geographic set at Cloud DNS."""
    item = {"location": "europe-west3", "healthCheckedTargets": {"externalEndpoints": ["192.0.2.1"]}}
    policy = {"geos": [item], "healthCheck": "check"}
    record = clouddns("mx1.example.test", "A", [], **{"routingPolicy": policy, "ttl": 60, **more})
    return changed(record, rrdatas=None)


ALIAS = changed(
    route53("mx1", "A", [], setIdentifier="eu", geolocationRoutingPolicies=[{"continent": "EU"}]),
    records=None,
    ttl=None,
    aliases=[{"name": "eu.mx1.example.test", "zoneId": "zone-id", "evaluateTargetHealth": True}],
)
CHECK = resource("aws:route53/healthCheck:HealthCheck", "check", {"type": "TCP", "disabled": False})
AWS = [weighted("a"), weighted("b"), ALIAS, CHECK]
GCP = [steered()]
CLOUDFLARE = [
    resource("cloudflare:index/loadBalancer:LoadBalancer", "mx1", {"name": "mx1.example.test", "ttl": 60}),
    resource("cloudflare:index/loadBalancerPool:LoadBalancerPool", "pool", {"monitor": "monitor"}),
]
GOOD = (AWS, GCP, CLOUDFLARE)


def test_a_weighted_set_needs_its_check() -> None:
    stack = [weighted("a"), changed(weighted("b"), healthCheckId=None)]
    assert places(RULE, stack) == [("A-mx1b", "healthCheckId")]


@pytest.mark.parametrize("ttl", [61, 300, "60"])
def test_a_long_ttl_is_found(ttl: Any) -> None:
    assert ("A-mx1a", "ttl") in places(RULE, [weighted("a", ttl=ttl)])


def test_a_group_has_one_ttl() -> None:
    assert places(RULE, [weighted("a"), weighted("b", ttl=30)]) == [("A-mx1b", "ttl")]


def test_a_checked_set_is_short_lived_even_alone() -> None:
    plain = route53("mx1", "A", ["192.0.2.1"], healthCheckId="check")
    assert places(RULE, [plain]) == [("A-mx1", "ttl")]


def test_an_alias_evaluates_its_target() -> None:
    spoilt = changed(ALIAS, aliases=[{**ALIAS.props["aliases"][0], "evaluateTargetHealth": False}])
    assert places(RULE, [spoilt]) == [(ALIAS.name, "aliases[0].evaluateTargetHealth")]


def test_plain_answers_of_a_policy_have_no_check() -> None:
    policy = {"wrrs": [{"weight": 1, "rrdatas": ["192.0.2.1"]}], "healthCheck": "check"}
    assert places(RULE, [steered(routingPolicy=policy)]) == [
        ("A-mx1.example.test", "routingPolicy.wrrs[0].rrdatas")
    ]


def test_external_addresses_need_the_sets_check() -> None:
    policy = {"geos": [{"healthCheckedTargets": {"externalEndpoints": ["192.0.2.1"]}}]}
    assert places(RULE, [steered(routingPolicy=policy)]) == [
        ("A-mx1.example.test", "routingPolicy.healthCheck")
    ]


@pytest.mark.parametrize("path", ["disabled", "invertHealthcheck"])
def test_a_check_that_does_not_check_is_found(path: str) -> None:
    assert places(RULE, [changed(CHECK, **{path: True})]) == [("check", path)]


def test_unknown_is_found_and_said() -> None:
    for stack in (
        [weighted("a", ttl=UNKNOWN)],
        [steered(routingPolicy=UNKNOWN)],
        [changed(CHECK, disabled=UNKNOWN)],
    ):
        items = found(RULE, stack)
        assert items and any(item.finding.unknown for item in items)


def test_a_plain_record_is_left_alone() -> None:
    assert found(RULE, [route53("www", "A", ["192.0.2.1"], ttl=86400)]) == []


def test_a_proxied_balancer_has_its_providers_ttl() -> None:
    assert found(RULE, [changed(CLOUDFLARE[0], proxied=True, ttl=None)]) == []
