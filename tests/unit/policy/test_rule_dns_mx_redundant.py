"""Two primary MX hosts of equal preference, in two regions."""

import pytest

from mailinfra_policy.rules.dns_mx_redundant import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import (
    AWS_DOMAIN,
    CLOUDFLARE_DOMAIN,
    DOMAIN,
    DOMAINS,
    address,
    cloudflare,
    instead,
    route53,
)
from tests.policy_helpers import changed, found, places, resource

GOOD = DOMAINS
MX = next(item for item in AWS_DOMAIN if item.name == f"MX-{DOMAIN}")


@pytest.mark.parametrize(
    "records",
    [
        ["10 mx1.example.test."],
        ["10 mx1.example.test.", "20 mx2.example.test."],
        ["10 mx1.example.test.", "10 mx1.example.test."],
    ],
)
def test_one_primary_host_is_not_enough(records: list[str]) -> None:
    assert (MX.name, "records[0]") in places(RULE, instead(AWS_DOMAIN, changed(MX, records=records)))


def test_two_hosts_in_one_region_are_not_enough() -> None:
    stack = instead(AWS_DOMAIN, address("two", "eu-central-1", "192.0.2.20"))
    assert places(RULE, stack) == [(MX.name, "records[0]"), (MX.name, "records[1]")]
    assert "in eu-central-1" in found(RULE, stack)[0].finding.found


def test_a_host_of_another_stack_lies_nowhere() -> None:
    stack = instead(AWS_DOMAIN, changed(MX, records=["10 mx1.example.test", "10 mx.elsewhere.test"]))
    assert (MX.name, "records[1]") in places(RULE, stack)


def test_a_further_host_may_come_later() -> None:
    records = ["10 mx1.example.test", "10 mx2.example.test", "20 mx1.example.test"]
    assert found(RULE, instead(AWS_DOMAIN, changed(MX, records=records))) == []


def test_an_aliased_load_balancer_is_followed() -> None:
    balancer = resource(
        "aws:lb/loadBalancer:LoadBalancer",
        "lb",
        {"region": "eu-west-1"},
        outputs={"dnsName": "lb.eu-west-1.elb.example.net"},
    )
    aliases = [{"name": "lb.eu-west-1.elb.example.net", "zoneId": "Z1", "evaluateTargetHealth": True}]
    record = changed(route53("mx2.example.test", "A", []), records=None, ttl=None, aliases=aliases)
    assert found(RULE, [*instead(AWS_DOMAIN, record), balancer]) == []


def test_an_address_that_is_not_known_leads_to_what_it_is_made_from() -> None:
    two = next(item for item in AWS_DOMAIN if item.name == "two")
    record = resource(
        "aws:route53/record:Record",
        "A-mx2.example.test",
        {"zoneId": "zone-id", "name": "mx2", "type": "A", "ttl": 300, "records": UNKNOWN},
        property_dependencies={"records": (two.urn,)},
    )
    assert found(RULE, instead(AWS_DOMAIN, record)) == []


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, instead(AWS_DOMAIN, changed(MX, records=UNKNOWN)))
    assert items and items[0].finding.unknown


def test_priorities_of_single_records_are_compared() -> None:
    later = cloudflare("@", "MX", "mx2.example.test", priority=20)
    assert places(RULE, instead(CLOUDFLARE_DOMAIN, later)) == [("MX-example.test-mx1.example.", "priority")]


def test_a_domain_without_mail_needs_none() -> None:
    assert found(RULE, [route53("www.example.org", "A", ["192.0.2.1"])]) == []
    assert found(RULE, [route53("example.org", "MX", ["0 ."])]) == []
