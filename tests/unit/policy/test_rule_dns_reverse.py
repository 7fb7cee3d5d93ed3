"""Senders' addresses have reverse names that lead back to them."""

from mailinfra_policy.rules.dns_reverse import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import AWS_DOMAIN, DOMAINS, GCP_DOMAIN, instead, without
from tests.policy_helpers import changed, found, places, resource

GOOD = DOMAINS
REVERSE = next(item for item in AWS_DOMAIN if item.name == "one-reverse")
ONE = next(item for item in AWS_DOMAIN if item.name == "one")


def test_a_name_that_gives_another_address_is_found() -> None:
    stack = instead(AWS_DOMAIN, changed(REVERSE, domainName="mx2.example.test"))
    assert places(RULE, stack) == [("one-reverse", "domainName")]
    assert found(RULE, stack)[0].finding.found == "mx2.example.test, which gives 192.0.2.20"


def test_a_name_without_an_address_is_found() -> None:
    stack = instead(AWS_DOMAIN, changed(REVERSE, domainName="gone.example.test"))
    assert places(RULE, stack) == [("one-reverse", "domainName")]


def test_a_sender_without_a_reverse_name_is_found() -> None:
    assert places(RULE, without(AWS_DOMAIN, "one-reverse")) == [("one", "")]


def test_the_way_may_lead_over_an_association() -> None:
    association = resource(
        "aws:ec2/eipAssociation:EipAssociation", "tied", {"allocationId": "eipalloc-one", "instanceId": "i-1"}
    )
    assert found(RULE, [*AWS_DOMAIN, association]) == []


def test_addresses_that_are_not_known_are_compared_by_what_they_are_made_from() -> None:
    eip = resource("aws:ec2/eip:Eip", "one", {"region": "eu-central-1"})
    reverse = resource(
        "aws:ec2/eipDomainName:EipDomainName",
        "one-reverse",
        {"allocationId": UNKNOWN, "domainName": "mx1.example.test"},
        property_dependencies={"allocationId": (eip.urn,)},
    )
    record = resource(
        "aws:route53/record:Record",
        "A-mx1",
        {"zoneId": "zone-id", "name": "mx1", "type": "A", "records": UNKNOWN},
        property_dependencies={"records": (eip.urn,)},
    )
    assert found(RULE, instead(AWS_DOMAIN, eip, reverse, record)) == []
    alone = instead(AWS_DOMAIN, eip, changed(reverse, domainName="mx2.example.test"), record)
    assert places(RULE, alone) == [("one-reverse", "domainName")]
    assert found(RULE, alone)[0].finding.unknown


def test_a_pointer_at_google_is_compared_with_its_own_address() -> None:
    node = next(item for item in GCP_DOMAIN if item.name == "node-mx1")
    interfaces = [{"accessConfigs": [{"natIp": "192.0.2.10", "publicPtrDomainName": "mx2.example.test."}]}]
    stack = instead(GCP_DOMAIN, changed(node, networkInterfaces=interfaces))
    assert ("node-mx1", "networkInterfaces[0].accessConfigs[0].publicPtrDomainName") in places(RULE, stack)


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, instead(AWS_DOMAIN, changed(REVERSE, domainName=UNKNOWN)))
    assert items and items[0].finding.unknown


def test_an_address_that_sends_nothing_needs_no_name() -> None:
    assert found(RULE, [ONE]) == []
