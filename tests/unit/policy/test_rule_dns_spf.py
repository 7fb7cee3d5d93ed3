"""SPF names the senders of each mail domain and refuses the rest."""

import pytest

from mailinfra_policy.rules.dns_spf import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import AWS_DOMAIN, DOMAIN, DOMAINS, TEXTS, instead, route53, without
from tests.policy_helpers import changed, found, places, resource

GOOD = DOMAINS
SPF = next(item for item in AWS_DOMAIN if item.name == f"TXT-{DOMAIN}")


def said(text: str, *more: str) -> list[str]:
    """What is found where the domain's record says this."""
    others = [route53(f"n{number}", "TXT", [value]) for number, value in enumerate(more)]
    return [
        item.finding.found
        for item in found(RULE, instead(AWS_DOMAIN, route53(DOMAIN, "TXT", [text]), *others))
    ]


def test_a_domain_without_a_record_blames_its_mx() -> None:
    assert places(RULE, without(AWS_DOMAIN, SPF.name)) == [(f"MX-{DOMAIN}", "")]


def test_a_second_record_is_an_error() -> None:
    stack = instead(AWS_DOMAIN, route53(DOMAIN, "TXT", ["v=spf1 -all", TEXTS[DOMAIN]]))
    assert places(RULE, stack) == [(SPF.name, "records[1]")]


def test_what_is_no_spf_record_is_left_alone() -> None:
    stack = instead(AWS_DOMAIN, route53(DOMAIN, "TXT", ["v=spf10 +all", TEXTS[DOMAIN]]))
    assert places(RULE, stack) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("v=spf1 a +all", "an ending in +all"),
        ("V=SPF1 a ALL", "an ending in +all"),
        ("v=spf1 a ?all", "an ending in ?all"),
        ("v=spf1 a", "no ending"),
        ("v=spf1 ptr -all", '"ptr"'),
        ("v=spf1 inlcude:x.example.net -all", '"inlcude:x.example.net"'),
        ("v=spf1 redirect=elsewhere.example.net", "no ending"),
        ("v=spf1 " + "a:h.example.net " * 11 + "-all", "11 look-ups"),
    ],
)
def test_a_fault_is_named(text: str, fault: str) -> None:
    assert said(text) == [fault]


@pytest.mark.parametrize(
    "text",
    [
        "v=spf1 " + "a:h.example.net " * 10 + "-all",
        "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 exp=why.example.test ~ALL",
        "v=spf1 -all",
    ],
)
def test_what_holds_is_clean(text: str) -> None:
    assert said(text) == []


def test_includes_that_the_stack_knows_are_counted_through() -> None:
    inner = "v=spf1 " + "include:x.example.net " * 5 + "-all"
    assert said(f"v=spf1 include:n0.{DOMAIN} include:n1.{DOMAIN} -all", inner, inner) == ["12 look-ups"]


def test_a_redirect_that_the_stack_knows_ends_the_record() -> None:
    assert said(f"v=spf1 redirect=n0.{DOMAIN}", "v=spf1 -all") == []


def test_records_that_include_each_other_end() -> None:
    loop = f"v=spf1 include:n0.{DOMAIN} -all"
    assert said(loop, loop) == []


def test_a_value_that_is_not_known_is_said() -> None:
    items = found(RULE, instead(AWS_DOMAIN, changed(SPF, records=UNKNOWN)))
    assert items and all(item.finding.unknown for item in items)


def test_a_domain_without_mail_needs_none() -> None:
    assert found(RULE, [route53("www.example.org", "A", ["192.0.2.1"])]) == []
    assert found(RULE, [route53("example.org", "MX", ["0 ."])]) == []


def test_a_private_zone_is_nobodys_mail_domain() -> None:
    zone = resource("aws:route53/zone:Zone", "zone", {"name": "example.org", "vpcs": [{"vpcId": "vpc-1"}]})
    assert found(RULE, [zone, route53("example.org", "MX", ["10 mx.example.org"])]) == []
