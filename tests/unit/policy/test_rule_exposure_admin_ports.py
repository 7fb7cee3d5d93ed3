"""No port of administration faces the world."""

from typing import Any

import pytest

from mailinfra_policy.openings import (
    ACL_RULE,
    ACLS,
    FIREWALL,
    GROUP_RULE,
    INGRESS_RULE,
    INLINE,
    LIGHTSAIL,
    POLICIES,
    POLICY_RULES,
)
from mailinfra_policy.rules.exposure_admin_ports import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

WEB = {"protocol": "tcp", "fromPort": 443, "toPort": 443}
ENTRY = {"action": "allow", "ruleNo": 1, "cidrBlock": "0.0.0.0/0", **WEB}
MATCH = {"srcIpRanges": ["0.0.0.0/0"], "layer4Configs": [{"ipProtocol": "tcp", "ports": ["443"]}]}
OPEN = {"action": "allow", "direction": "INGRESS", "match": MATCH}
GROUPS = [resource(token, "group", {"ingress": [{**WEB, "cidrBlocks": ["0.0.0.0/0"]}]}) for token in INLINE]
NETWORK = [resource(token, "acl", {"ingress": [ENTRY]}) for token in ACLS]
INGRESS = resource(
    INGRESS_RULE, "rule", {"ipProtocol": "tcp", "fromPort": 443, "toPort": 443, "cidrIpv6": "::/0"}
)
OLD = resource(GROUP_RULE, "rule", {"type": "ingress", "cidrBlocks": ["0.0.0.0/0"], **WEB})
ENTRY_RULE = resource(ACL_RULE, "rule", {"ruleAction": "allow", "cidrBlock": "0.0.0.0/0", **WEB})
PORTS = resource(LIGHTSAIL, "ports", {"portInfos": [WEB]})
WALL = resource(
    FIREWALL, "wall", {"allows": [{"protocol": "tcp", "ports": ["443"]}], "sourceRanges": ["::/0"]}
)
SPECTRUM = resource("cloudflare:index/spectrumApplication:SpectrumApplication", "mx", {"protocol": "tcp/25"})
GOOD = (
    GROUPS,
    NETWORK,
    [INGRESS, OLD, ENTRY_RULE],
    [PORTS],
    [WALL],
    [resource(token, "rule", OPEN) for token in POLICY_RULES],
    [resource(token, "policy", {"rules": [OPEN]}) for token in POLICIES],
    [SPECTRUM],
)


@pytest.mark.parametrize("port", [22, 23, 135, 445, 2375, 3306, 3389, 5432, 5900, 5985, 6443])
def test_each_of_them(port: int) -> None:
    assert places(RULE, [changed(INGRESS, fromPort=port, toPort=port)]) == [("rule", "fromPort")]


@pytest.mark.parametrize(
    ("first", "last", "right"),
    [(0, 65535, False), (20, 22, False), (22, 30, False), (23, 24, False), (24, 134, True)],
)
def test_ranges_that_hold_one(first: int, last: int, right: bool) -> None:
    assert (found(RULE, [changed(INGRESS, fromPort=first, toPort=last)]) == []) is right


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({"tags": {"roles": "mx"}, "fromPort": 22, "toPort": 22}, False),
        ({"cidrIpv6": None, "cidrIpv4": "10.0.0.0/8", "fromPort": 22, "toPort": 22}, True),
        ({"cidrIpv6": None, "referencedSecurityGroupId": "sg-1", "fromPort": 22, "toPort": 22}, True),
        ({"cidrIpv6": "2000::/3", "fromPort": 22, "toPort": 22}, False),
        ({"ipProtocol": "-1"}, False),
        ({"ipProtocol": "icmpv6"}, True),
    ],
)
def test_no_role_helps_and_no_stranger_is_meant(changes: dict[str, Any], right: bool) -> None:
    assert (found(RULE, [changed(INGRESS, **changes)]) == []) is right


@pytest.mark.parametrize(
    ("allows", "right"),
    [
        ([{"protocol": "tcp", "ports": ["20-25"]}], False),
        ([{"protocol": "udp", "ports": ["3389"]}], False),
        ([{"protocol": "tcp"}], False),
        ([{"protocol": "tcp", "ports": ["25", "443"]}], True),
        ([{"protocol": "icmp"}], True),
    ],
)
def test_google_clouds_firewalls(allows: list[dict[str, Any]], right: bool) -> None:
    assert (found(RULE, [changed(WALL, allows=allows)]) == []) is right


@pytest.mark.parametrize(
    ("protocol", "right"),
    [
        ("tcp/443", True),
        ("tcp/22", False),
        ("tcp/1-1024", False),
        ("ssh", False),
        ("rdp", False),
        ("udp/53", True),
    ],
)
def test_spectrum(protocol: str, right: bool) -> None:
    assert (found(RULE, [changed(SPECTRUM, protocol=protocol)]) == []) is right


def test_the_ports_are_configured() -> None:
    conf = settings(exposure={"admin_ports": [443]})
    assert places(RULE, [INGRESS], conf) == [("rule", "fromPort")]


@pytest.mark.parametrize("of", [INGRESS, OLD])
def test_unknown_is_undecided(of: Any) -> None:
    (item,) = found(RULE, [changed(of, fromPort=UNKNOWN)])
    assert item.finding.unknown
