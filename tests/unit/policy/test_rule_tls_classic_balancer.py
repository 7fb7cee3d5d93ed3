"""Classic load balancers speak TLS 1.2."""

from typing import Any

import pytest

from mailinfra_policy.rules.tls_classic_balancer import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

REFERENCE = [{"name": "Reference-Security-Policy", "value": "ELBSecurityPolicy-TLS-1-2-2017-01"}]
LISTENER = {"lbPort": 443, "lbProtocol": "https", "instancePort": 443, "instanceProtocol": "https"}
WEB = resource("aws:elb/loadBalancer:LoadBalancer", "web", {"listeners": [LISTENER]})
PASSED = resource(
    "aws:elb/loadBalancer:LoadBalancer",
    "passed",
    {"listeners": [{"lbPort": 993, "lbProtocol": "tcp", "instancePort": 993, "instanceProtocol": "tcp"}]},
)
NEGOTIATED = resource(
    "aws:elb/sslNegotiationPolicy:SslNegotiationPolicy",
    "negotiated",
    {"loadBalancer": "web-id", "lbPort": 443, "attributes": REFERENCE},
)
POLICY = resource(
    "aws:elb/loadBalancerPolicy:LoadBalancerPolicy",
    "policy",
    {
        "loadBalancerName": "web-id",
        "policyName": "tls",
        "policyTypeName": "SSLNegotiationPolicyType",
        "policyAttributes": REFERENCE,
    },
)
ATTACHED = resource(
    "aws:elb/listenerPolicy:ListenerPolicy",
    "attached",
    {"loadBalancerName": "web-id", "loadBalancerPort": 443, "policyNames": ["tls"]},
)
GOOD = ([WEB, NEGOTIATED], [WEB, POLICY, ATTACHED])


def test_what_is_passed_through_needs_no_policy() -> None:
    assert found(RULE, [PASSED]) == []


def test_tls_without_a_policy_is_found() -> None:
    assert places(RULE, [WEB]) == [("web", "")]
    assert places(RULE, [WEB, POLICY]) == [("web", "")]
    assert places(RULE, [WEB, changed(NEGOTIATED, lbPort=444)]) == [("web", "")]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"lbProtocol": "http"}, "listeners[0].lbProtocol"),
        ({"instanceProtocol": "http"}, "listeners[0].instanceProtocol"),
    ],
)
def test_plain_text_is_named(change: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(WEB, listeners=[{**LISTENER, **change}]), NEGOTIATED]) == [("web", path)]


@pytest.mark.parametrize("value", ["ELBSecurityPolicy-2016-08", "ELBSecurityPolicy-TLS-1-2-2017-01x", ""])
def test_a_weaker_policy_is_named(value: str) -> None:
    attributes = [{"name": "Reference-Security-Policy", "value": value}]
    assert places(RULE, [WEB, changed(NEGOTIATED, attributes=attributes)]) == [("negotiated", "attributes")]


def test_none_has_a_floor_of_13() -> None:
    (item,) = found(RULE, [WEB, NEGOTIATED], settings(tls={"services": "1.3"}))
    assert item.finding.allowed.startswith("nothing of this type")


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [changed(WEB, listeners=UNKNOWN)])
    assert item.finding.unknown
    (item,) = found(RULE, [WEB, changed(NEGOTIATED, attributes=UNKNOWN)])
    assert item.finding.unknown
