"""Ports of protocols without TLS are closed."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_plain_ports import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

IMAPS = {"protocol": "tcp", "fromPort": 993, "toPort": 993, "cidrBlocks": ["0.0.0.0/0"]}
GROUP = resource("aws:ec2/securityGroup:SecurityGroup", "group", {"ingress": [IMAPS]})
DEFAULT = resource("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", "default", {"ingress": [IMAPS]})
RULE_OLD = resource(
    "aws:ec2/securityGroupRule:SecurityGroupRule",
    "old",
    {"type": "ingress", "protocol": "tcp", "fromPort": 25, "toPort": 25},
)
RULE_NEW = resource(
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "new",
    {"ipProtocol": "tcp", "fromPort": 443, "toPort": 443},
)
SMALL = resource("aws:lightsail/instancePublicPorts:InstancePublicPorts", "small", {"portInfos": [IMAPS]})
PASSED = resource("aws:lb/listener:Listener", "passed", {"port": 993, "protocol": "TCP"})
REDIRECT = resource("aws:alb/listener:Listener", "redirect", {"port": 80, "protocol": "HTTP"})
CLASSIC = resource(
    "aws:elb/loadBalancer:LoadBalancer", "classic", {"listeners": [{"lbPort": 443, "lbProtocol": "ssl"}]}
)
ANYCAST = resource(
    "aws:globalaccelerator/listener:Listener",
    "anycast",
    {"protocol": "TCP", "portRanges": [{"fromPort": 993, "toPort": 995}]},
)
FIREWALL = resource(
    "gcp:compute/firewall:Firewall",
    "firewall",
    {"allows": [{"protocol": "tcp", "ports": ["25", "465", "993-995"]}]},
)
FORWARDED = resource(
    "gcp:compute/forwardingRule:ForwardingRule", "forwarded", {"portRange": "443-443", "ports": ["993"]}
)
GLOBAL = resource(
    "gcp:compute/globalForwardingRule:GlobalForwardingRule", "global", {"portRange": "443", "target": "x"}
)
SPECTRUM = resource(
    "cloudflare:index/spectrumApplication:SpectrumApplication", "spectrum", {"protocol": "tcp/993"}
)
GOOD = (
    [GROUP, DEFAULT, RULE_OLD, RULE_NEW, SMALL],
    [PASSED, CLASSIC, ANYCAST],
    [REDIRECT],
    [FIREWALL, FORWARDED, GLOBAL],
    [SPECTRUM],
)


@pytest.mark.parametrize("port", [110, 143, 389, 23, 21])
def test_a_plain_port_is_named_wherever_it_is_open(port: int) -> None:
    ports = {"fromPort": port, "toPort": port}
    stack = [
        changed(GROUP, ingress=[IMAPS, {**IMAPS, **ports}]),
        changed(RULE_OLD, **ports),
        changed(RULE_NEW, **ports),
        changed(SMALL, portInfos=[{**IMAPS, **ports}]),
        changed(PASSED, port=port),
        changed(CLASSIC, listeners=[{"lbPort": port, "lbProtocol": "tcp"}]),
        changed(ANYCAST, portRanges=[ports]),
        changed(FIREWALL, allows=[{"protocol": "tcp", "ports": [str(port)]}]),
        changed(FORWARDED, ports=[str(port)]),
        changed(GLOBAL, portRange=f"{port}"),
        changed(SPECTRUM, protocol=f"tcp/{port}"),
    ]
    assert places(RULE, stack) == sorted(
        [
            ("group", "ingress[1].fromPort"),
            ("old", "fromPort"),
            ("new", "fromPort"),
            ("small", "portInfos[0].fromPort"),
            ("passed", "port"),
            ("classic", "listeners[0].lbPort"),
            ("anycast", "portRanges[0].fromPort"),
            ("firewall", "allows[0].ports[0]"),
            ("forwarded", "ports[0]"),
            ("global", "portRange"),
            ("spectrum", "protocol"),
        ]
    )


@pytest.mark.parametrize(
    ("good", "props"),
    [
        (GROUP, {"ingress": [{**IMAPS, "fromPort": 100, "toPort": 1000}]}),
        (GROUP, {"ingress": [{**IMAPS, "protocol": "6", "fromPort": 143, "toPort": 143}]}),
        (FIREWALL, {"allows": [{"protocol": "TCP", "ports": ["1-65535"]}]}),
        (FIREWALL, {"allows": [{"protocol": "tcp", "ports": ["imap"]}]}),
        (PASSED, {"port": 80}),
        (CLASSIC, {"listeners": [{"lbPort": 80, "lbProtocol": "http"}]}),
        (GLOBAL, {"portRange": "80"}),
        (SPECTRUM, {"protocol": "tcp/80"}),
    ],
)
def test_ranges_and_port_80(good: Resource, props: dict[str, Any]) -> None:
    assert len(found(RULE, [changed(good, **props)])) == 1


@pytest.mark.parametrize(
    ("good", "props"),
    [
        (GROUP, {"ingress": [{**IMAPS, "fromPort": 80, "toPort": 80}]}),
        (GROUP, {"ingress": [{"protocol": "-1", "fromPort": 0, "toPort": 0, "self": True}]}),
        (GROUP, {"ingress": [{"protocol": "icmp", "fromPort": 0, "toPort": 143}]}),
        (RULE_OLD, {"type": "egress", "fromPort": 0, "toPort": 65535}),
        (FIREWALL, {"allows": [{"protocol": "icmp"}]}),
        (SPECTRUM, {"protocol": "https"}),
    ],
)
def test_what_other_rules_judge(good: Resource, props: dict[str, Any]) -> None:
    assert found(RULE, [changed(good, **props)]) == []


def test_a_proxy_that_redirects_may_have_port_80() -> None:
    proxy = resource("gcp:compute/targetHttpProxy:TargetHttpProxy", "proxy")
    assert found(RULE, [proxy, changed(GLOBAL, portRange="80", target="proxy-id")]) == []


def test_the_ports_are_config() -> None:
    only = settings(tls={"plain_ports": [8080]})
    assert found(RULE, [changed(PASSED, port=143)], only) == []
    assert len(found(RULE, [changed(PASSED, port=8080)], only)) == 1


@pytest.mark.parametrize(
    "item",
    [
        changed(GROUP, ingress=UNKNOWN),
        changed(GROUP, ingress=[{**IMAPS, "fromPort": UNKNOWN}]),
        changed(GROUP, ingress=[{**IMAPS, "toPort": UNKNOWN}]),
        changed(PASSED, port=UNKNOWN),
        changed(FIREWALL, allows=[{"protocol": UNKNOWN, "ports": ["143"]}]),
    ],
)
def test_unknown_is_found(item: Resource) -> None:
    (only,) = found(RULE, [item])
    assert only.finding.unknown
