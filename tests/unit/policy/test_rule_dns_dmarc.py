"""DMARC puts mail that only claims the domain into quarantine, or refuses it."""

import pytest

from mailinfra_policy.rules.dns_dmarc import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import AWS_DOMAIN, DOMAIN, DOMAINS, instead, route53, without
from tests.policy_helpers import changed, found, places

GOOD = DOMAINS
NAME = f"_dmarc.{DOMAIN}"


def said(*texts: str) -> list[str]:
    """What is found where these stand at the policy's name."""
    return [item.finding.found for item in found(RULE, instead(AWS_DOMAIN, route53(NAME, "TXT", texts)))]


def test_a_domain_without_a_policy_blames_its_mx() -> None:
    assert places(RULE, without(AWS_DOMAIN, f"TXT-{NAME}")) == [(f"MX-{DOMAIN}", "")]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("v=DMARC1; p=none", "p=none"),
        ("v=DMARC1; p=rejects", "p=rejects"),
        ("v=DMARC1; rua=mailto:a@example.test", "no p="),
        ("v=DMARC1; p=reject; sp=none", "sp=none"),
        ("v=DMARC1; p=reject; pct=99", "pct=99"),
        ("v=DMARC1; p=reject; rua=dmarc@example.test", "rua=dmarc@example.test"),
        ("v=DMARC1; p=reject; adkim=strict", "adkim=strict"),
        ("v=DMARC1 p=reject", '"v=DMARC1 p=reject"'),
        ("v=DMARC1; p=reject; p=none", '"v=DMARC1; p=reject; p=none"'),
    ],
)
def test_a_fault_is_named(text: str, fault: str) -> None:
    assert said(text) == [fault]


@pytest.mark.parametrize(
    "text",
    [
        "v=DMARC1; p=quarantine",
        "v=DMARC1;p=Reject;pct=100;",
        "v=DMARC1; p=reject; rua=mailto:a@x.test!10m, mailto:b@x.test; fo=1:d; ri=3600; aspf=s",
    ],
)
def test_what_holds_is_clean(text: str) -> None:
    assert said(text) == []


def test_a_second_record_is_an_error() -> None:
    assert said("v=DMARC1; p=reject", "v=DMARC1; p=reject") == [f"2 DMARC records at {NAME}"]


def test_a_parents_policy_serves_a_subdomain() -> None:
    below = route53("lists", "MX", ["10 mx1.example.test", "10 mx2.example.test"])
    assert found(RULE, [*AWS_DOMAIN, below]) == []


def test_a_report_authorisation_is_no_policy() -> None:
    stack = [*AWS_DOMAIN, route53(f"other.test._report._dmarc.{DOMAIN}", "TXT", ["v=DMARC1"])]
    assert found(RULE, stack) == []


def test_a_value_that_is_not_known_is_said() -> None:
    items = found(RULE, instead(AWS_DOMAIN, changed(route53(NAME, "TXT", []), records=UNKNOWN)))
    assert items and all(item.finding.unknown for item in items)


def test_a_domain_without_mail_needs_none() -> None:
    assert found(RULE, [route53("www.example.org", "A", ["192.0.2.1"])]) == []
