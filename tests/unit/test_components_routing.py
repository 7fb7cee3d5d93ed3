"""A steering zone alone: the MX hosts' answers at Route 53 and Cloud DNS."""

from functools import cache
from typing import Any

import pytest

from mailinfra.errors import ConfigError
from mailinfra.plan import FleetPlan, plan
from mailinfra_components import MxRouting
from tests.declared import Program, declare, public_key
from tests.fleets import config, fleet


def routing(label: str, **changes: Any) -> Program:
    fleet_plan = plan(fleet(**changes))
    return declare(
        lambda: MxRouting(
            f"mx-{label}",
            {
                "fleet": config(**changes),
                "label": label,
                "addresses": addresses(fleet_plan),
                "ca": {region.name: public_key(region.name) for region in fleet_plan.regions},
            },
        )
    )


def addresses(fleet_plan: FleetPlan) -> dict[str, dict[str, str]]:
    return {
        node.fqdn: {"ipv4": f"198.51.100.{n}", "ipv6": f"2001:db8::{n:x}"}
        for n, node in enumerate(fleet_plan.nodes, start=1)
    }


def mx_addresses() -> set[str]:
    fleet_plan = plan(fleet())
    known = addresses(fleet_plan)
    return {a for node in fleet_plan.nodes if "mx" in node.roles for a in known[node.fqdn].values()}


@cache
def route53() -> Program:
    return routing("aws")


@cache
def clouddns() -> Program:
    return routing("gcp")


def test_every_address_at_route53_has_a_check_of_its_own_that_probes_it() -> None:
    checks = {f"{c.name}-id": c.inputs for c in route53().of("aws:route53/healthCheck:HealthCheck")}
    steered = [
        r.inputs for r in route53().of("aws:route53/record:Record") if r.inputs["type"] in {"A", "AAAA"}
    ]
    leaves = [record for record in steered if "records" in record]
    assert {record["records"][0] for record in leaves} == mx_addresses()
    for record in leaves:
        check = checks[record["healthCheckId"]]
        assert check["ipAddress"] == record["records"][0]
        assert (check["type"], check["port"], check["requestInterval"]) == ("TCP", 25, 10)
        assert record["ttl"] <= 60
    for record in steered:
        if "records" not in record:
            [alias] = record["aliases"]
            assert alias["evaluateTargetHealth"] is True
            assert alias["name"] in {other["name"] for other in steered}, "an alias points into its own zone"
            assert "ttl" not in record
    assert len(checks) == len(mx_addresses())


def test_route53_answers_everyone_by_place() -> None:
    tops = [
        r.inputs
        for r in route53().of("aws:route53/record:Record")
        if r.inputs["name"].startswith("mx1.") and r.inputs["type"] == "A"
    ]
    places = [record["geolocationRoutingPolicies"][0] for record in tops]
    assert {"country": "*"} in places, "the default, for whom no other answer is meant"
    assert len(places) == len(tops) > 1
    assert len({record["setIdentifier"] for record in tops}) == len(tops)


def test_every_answer_of_cloud_dns_is_health_checked() -> None:
    [check] = clouddns().of("gcp:compute/healthCheck:HealthCheck")
    assert check.inputs["tcpHealthCheck"] == {"port": 25}
    assert check.inputs["checkIntervalSec"] >= 30, "the least that Cloud DNS takes"
    assert len(check.inputs["sourceRegions"]) == 3
    steered = [r.inputs for r in clouddns().of("gcp:dns/recordSet:RecordSet") if "routingPolicy" in r.inputs]
    assert steered
    answered: set[str] = set()
    for record in steered:
        policy = record["routingPolicy"]
        assert policy["healthCheck"] == f"{check.name}-id"
        assert record["ttl"] <= 60
        for item in policy["geos"]:
            assert set(item) == {"location", "healthCheckedTargets"}, "no address without its check"
            answered |= set(item["healthCheckedTargets"]["externalEndpoints"])
    assert answered == mx_addresses()


def test_weights_reach_both_providers() -> None:
    changes: dict[str, Any] = {"mx__policy": "weighted", "regions__0__weight": 50}
    weights = {
        policy["weight"]
        for r in routing("aws", **changes).of("aws:route53/record:Record")
        for policy in r.inputs.get("weightedRoutingPolicies", [])
        if "aliases" in r.inputs
    }
    assert weights == {50, 100}
    items = [
        item
        for r in routing("gcp", **changes).of("gcp:dns/recordSet:RecordSet")
        for item in r.inputs.get("routingPolicy", {}).get("wrrs", [])
    ]
    assert {item["weight"] for item in items} >= {50.0, 100.0} or len({item["weight"] for item in items}) == 2


@pytest.mark.parametrize(
    ("program", "token"), [(route53, "aws:route53/record:Record"), (clouddns, "gcp:dns/recordSet:RecordSet")]
)
def test_the_mx_hosts_certificates_are_pinned_to_the_fleets_authorities(program: Any, token: str) -> None:
    pins = [r.inputs for r in program().of(token) if r.inputs["type"] == "TLSA"]
    assert {pin["name"].split(".")[0] for pin in pins} == {"_25"}
    for pin in pins:
        values = pin.get("records", pin.get("rrdatas"))
        assert values
        assert all(value.startswith("2 1 1 ") for value in values)


def test_the_zones_are_signed() -> None:
    assert len(route53().of("aws:route53/hostedZoneDnsSec:HostedZoneDnsSec")) == 1
    [zone] = clouddns().of("gcp:dns/managedZone:ManagedZone")
    assert zone.inputs["dnssecConfig"]["state"] == "on"


def test_a_label_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="label: found 'azure'; allowed: aws, gcp"):
        declare(lambda: MxRouting("mx", {"fleet": config(), "label": "azure", "addresses": {}}))
