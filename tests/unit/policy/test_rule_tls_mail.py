"""Mail services require TLS."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_mail import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

OLD = resource(
    "aws:ses/configurationSet:ConfigurationSet", "old", {"deliveryOptions": {"tlsPolicy": "Require"}}
)
SET = resource(
    "aws:sesv2/configurationSet:ConfigurationSet",
    "set",
    {
        "deliveryOptions": {"tlsPolicy": "REQUIRE"},
        "trackingOptions": {"customRedirectDomain": "t.example.test", "httpsPolicy": "REQUIRE"},
    },
)
UNTRACKED = resource(
    "aws:sesv2/configurationSet:ConfigurationSet", "untracked", {"deliveryOptions": {"tlsPolicy": "REQUIRE"}}
)
RECEIPT = resource("aws:ses/receiptRule:ReceiptRule", "receipt", {"tlsPolicy": "Require"})
INGRESS = resource("aws:mailmanager/ingressPoint:IngressPoint", "ingress", {"tlsPolicy": "REQUIRED"})
DOMAIN = resource(
    "cloudflare:index/emailSecurityDomain:EmailSecurityDomain",
    "domain",
    {"requireTlsInbound": True, "requireTlsOutbound": True},
)
GOOD = ([OLD], [SET], [UNTRACKED], [RECEIPT], [INGRESS], [DOMAIN])


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (OLD, {"deliveryOptions": None}, "deliveryOptions.tlsPolicy"),
        (OLD, {"deliveryOptions": {"tlsPolicy": "REQUIRE"}}, "deliveryOptions.tlsPolicy"),
        (SET, {"deliveryOptions": {"tlsPolicy": "OPTIONAL"}}, "deliveryOptions.tlsPolicy"),
        (SET, {"trackingOptions": {"customRedirectDomain": "t.example.test"}}, "trackingOptions.httpsPolicy"),
        (RECEIPT, {"tlsPolicy": None}, "tlsPolicy"),
        (INGRESS, {"tlsPolicy": "OPTIONAL"}, "tlsPolicy"),
        (DOMAIN, {"requireTlsInbound": False}, "requireTlsInbound"),
        (DOMAIN, {"requireTlsOutbound": None}, "requireTlsOutbound"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [changed(UNTRACKED, deliveryOptions=UNKNOWN)], settings())
    assert item.finding.unknown
