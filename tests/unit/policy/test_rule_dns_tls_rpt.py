"""Senders are told where to report failures of TLS."""

import pytest

from mailinfra_policy.rules.dns_tls_rpt import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_dns import AWS_DOMAIN, DOMAIN, DOMAINS, instead, route53, without
from tests.policy_helpers import changed, found, places

GOOD = DOMAINS
NAME = f"_smtp._tls.{DOMAIN}"


def test_a_domain_without_a_record_blames_its_mx() -> None:
    assert places(RULE, without(AWS_DOMAIN, f"TXT-{NAME}")) == [(f"MX-{DOMAIN}", "")]


@pytest.mark.parametrize("rua", ["tls@example.test", "http://example.test/", "mailto:nobody", ""])
def test_a_wrong_address_is_named(rua: str) -> None:
    text = f"v=TLSRPTv1; rua={rua}"
    (item,) = found(RULE, instead(AWS_DOMAIN, route53(NAME, "TXT", [text])))
    assert (item.finding.path, item.finding.found) == ("records[0]", f'"{text}"')


@pytest.mark.parametrize(
    "rua", ["https://example.test/tls", "mailto:a@example.test,https://example.test/tls"]
)
def test_an_address_may_be_https(rua: str) -> None:
    assert found(RULE, instead(AWS_DOMAIN, route53(NAME, "TXT", [f"v=TLSRPTv1;rua={rua}"]))) == []


def test_a_value_that_is_not_known_is_said() -> None:
    items = found(RULE, instead(AWS_DOMAIN, changed(route53(NAME, "TXT", []), records=UNKNOWN)))
    assert items and all(item.finding.unknown for item in items)


def test_a_domain_without_mail_needs_none() -> None:
    assert found(RULE, [route53("www.example.org", "A", ["192.0.2.1"])]) == []
