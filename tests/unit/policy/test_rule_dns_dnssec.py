"""The zones that mail depends on are signed."""

import pytest

from mailinfra_policy.rules.dns_dnssec import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import AWS_DOMAIN, CLOUDFLARE_DOMAIN, DOMAINS, GCP_DOMAIN, instead, route53, without
from tests.policy_helpers import changed, found, places, resource

GOOD = DOMAINS


@pytest.mark.parametrize("part", ["signing", "signed"])
def test_route53_needs_both_a_key_and_signing(part: str) -> None:
    assert places(RULE, without(AWS_DOMAIN, part)) == [("zone", "")]


def test_cloudflare_needs_its_setting() -> None:
    assert places(RULE, without(CLOUDFLARE_DOMAIN, "signed")) == [("zone", "")]


@pytest.mark.parametrize("state", ["off", "transfer", None, "ON", UNKNOWN])
def test_clouddns_needs_state_on(state: object) -> None:
    zone = next(item for item in GCP_DOMAIN if item.name == "zone")
    stack = instead(GCP_DOMAIN, changed(zone, dnssecConfig={"state": state}))
    (item,) = found(RULE, stack)
    assert item.finding.path == "dnssecConfig.state" and item.finding.unknown == (state is UNKNOWN)


def test_another_zones_signature_does_not_count() -> None:
    signed = resource("aws:route53/hostedZoneDnsSec:HostedZoneDnsSec", "signed", {"hostedZoneId": "Z0"})
    assert ("zone", "") in places(RULE, instead(AWS_DOMAIN, signed))


def test_the_zone_of_an_mx_host_counts() -> None:
    other = resource("aws:route53/zone:Zone", "other", {"name": "mx.example.org"})
    mx = route53("example.test", "MX", ["10 a.mx.example.org", "10 mx2.example.test"])
    assert places(RULE, [*instead(AWS_DOMAIN, mx), other]) == [("other", "")]


def test_a_zone_without_mail_is_left_alone() -> None:
    other = resource("aws:route53/zone:Zone", "other", {"name": "example.org"})
    assert found(RULE, [*AWS_DOMAIN, other]) == []
    assert found(RULE, [other]) == []


def test_a_zone_of_another_stack_must_be_signed_here() -> None:
    mx = next(item for item in AWS_DOMAIN if item.name == "MX-example.test")
    stack = without(AWS_DOMAIN, "zone", "signed", "signing")
    assert places(RULE, stack) == [("MX-example.test", "zoneId")]
    assert found(RULE, without(AWS_DOMAIN, "zone")) == []
    assert found(RULE, instead(stack, changed(mx, zoneId=UNKNOWN)))[0].finding.unknown
