"""MX records name hosts, not aliases or addresses."""

import pytest

from mailinfra_policy.rules.dns_mx_no_cname import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import AWS_DOMAIN, DOMAIN, DOMAINS, instead, route53, without
from tests.policy_helpers import changed, found, places

GOOD = DOMAINS
MX = next(item for item in AWS_DOMAIN if item.name == f"MX-{DOMAIN}")


@pytest.mark.parametrize("alias", ["mx2.example.test", "*.example.test"])
def test_an_alias_is_found(alias: str) -> None:
    stack = [*without(AWS_DOMAIN, "A-mx2.example.test"), route53(alias, "CNAME", ["mx1.example.test"])]
    assert (MX.name, "records[1]") in places(RULE, stack)


@pytest.mark.parametrize(
    "value", ["10 192.0.2.1", "10 2001:db8::1", "mx1.example.test", "ten mx1.example.test", "10 mx1", ""]
)
def test_what_is_no_name_is_found(value: str) -> None:
    assert places(RULE, instead(AWS_DOMAIN, changed(MX, records=[value]))) == [(MX.name, "records[0]")]


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, instead(AWS_DOMAIN, changed(MX, records=UNKNOWN)))
    assert items and all(item.finding.unknown for item in items)


def test_an_alias_that_is_no_mx_host_is_fine() -> None:
    stack = [*AWS_DOMAIN, route53(f"www.{DOMAIN}", "CNAME", ["mx1.example.test"])]
    assert found(RULE, stack) == []
