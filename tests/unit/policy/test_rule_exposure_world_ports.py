"""Only a role's ports face the world."""

from dataclasses import replace
from typing import Any

import pytest

from mailinfra_policy.openings import POLICIES, POLICY_RULES
from mailinfra_policy.resource import Provider, Resource
from mailinfra_policy.rules.exposure_world_ports import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

MX = {"roles": "mx"}
SMTP = {"protocol": "tcp", "fromPort": 25, "toPort": 25}
WORLD = {**SMTP, "cidrBlocks": ["0.0.0.0/0"], "ipv6CidrBlocks": ["::/0"]}
INNER = {
    "protocol": "tcp",
    "fromPort": 5432,
    "toPort": 5432,
    "cidrBlocks": ["10.0.0.0/8"],
    "ipv6CidrBlocks": ["fd00::/8"],
}
GROUP = resource("aws:ec2/securityGroup:SecurityGroup", "mx", {"ingress": [WORLD], "tags": MX})
DATABASE = resource("aws:ec2/securityGroup:SecurityGroup", "db", {"ingress": [INNER]})
DEFAULT = resource(
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", "default", {"ingress": [WORLD], "tags": MX}
)
INGRESS = resource(
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "smtp",
    {"ipProtocol": "tcp", "fromPort": 25, "toPort": 25, "cidrIpv4": "0.0.0.0/0", "tags": MX},
)
BY_GROUP = changed(INGRESS, tags=None, securityGroupId="mx-id")
RELAY = resource(
    INGRESS.type,
    "relay",
    {"ipProtocol": "tcp", "fromPort": 2525, "toPort": 2525, "cidrIpv4": "198.51.100.0/24"},
)
RELAY6 = changed(RELAY, cidrIpv4=None, cidrIpv6="2001:db8::/32")
PEERS = resource(
    "aws:ec2/managedPrefixList:ManagedPrefixList", "peers", {"entries": [{"cidr": "198.51.100.7/32"}]}
)
BY_LIST = changed(RELAY, cidrIpv4=None, prefixListId="peers-id")
OLD_RULE = resource(
    "aws:ec2/securityGroupRule:SecurityGroupRule",
    "old",
    {
        "type": "ingress",
        "protocol": "tcp",
        "fromPort": 25,
        "toPort": 25,
        "cidrBlocks": ["0.0.0.0/0"],
        "securityGroupId": "mx-id",
    },
)
OLD_INNER = changed(OLD_RULE, fromPort=5432, toPort=5432, cidrBlocks=["10.0.0.0/8"], securityGroupId="db-id")
ACL_ENTRIES = [
    {
        "action": "allow",
        "ruleNo": 100,
        "protocol": "tcp",
        "fromPort": 25,
        "toPort": 25,
        "cidrBlock": "0.0.0.0/0",
    },
    {
        "action": "allow",
        "ruleNo": 200,
        "protocol": "tcp",
        "fromPort": 32768,
        "toPort": 65535,
        "cidrBlock": "0.0.0.0/0",
    },
]
ACL = resource("aws:ec2/networkAcl:NetworkAcl", "acl", {"ingress": ACL_ENTRIES, "tags": MX})
DEFAULT_ACL = resource(
    "aws:ec2/defaultNetworkAcl:DefaultNetworkAcl", "default", {"ingress": ACL_ENTRIES, "tags": MX}
)
ACL_RULE = resource(
    "aws:ec2/networkAclRule:NetworkAclRule",
    "answers",
    {
        "networkAclId": "acl-id",
        "ruleAction": "allow",
        "protocol": "tcp",
        "fromPort": 32768,
        "toPort": 65535,
        "cidrBlock": "0.0.0.0/0",
    },
)
LIGHTSAIL = resource(
    "aws:lightsail/instancePublicPorts:InstancePublicPorts",
    "ports",
    {"portInfos": [{"protocol": "tcp", "fromPort": 443, "toPort": 443, "cidrs": ["198.51.100.0/24"]}]},
)
FIREWALL = resource(
    "gcp:compute/firewall:Firewall",
    "mx",
    {
        "allows": [{"protocol": "tcp", "ports": ["25"]}],
        "sourceRanges": ["0.0.0.0/0"],
        "targetTags": ["roles-mx"],
    },
)
FLEET = resource(
    FIREWALL.type,
    "fleet",
    {"allows": [{"protocol": "tcp", "ports": ["2525"]}], "sourceRanges": ["198.51.100.7/32"]},
)
TAG = resource("gcp:tags/tagValue:TagValue", "mx", {"shortName": "mx"})


def policy_rule(token: str, ports: str, source: str, **more: Any) -> Resource:
    match = {"srcIpRanges": [source], "layer4Configs": [{"ipProtocol": "tcp", "ports": [ports]}]}
    return resource(
        token, f"port-{ports}", {"action": "allow", "direction": "INGRESS", "match": match, **more}
    )


def policy(token: str, **rule: Any) -> Resource:
    match = {"srcIpRanges": ["10.0.0.0/8"], "layer4Configs": [{"ipProtocol": "all"}]}
    return resource(
        token, "policy", {"rules": [{"action": "allow", "direction": "INGRESS", "match": match, **rule}]}
    )


GOOD: tuple[list[Resource], ...] = (
    [GROUP, BY_GROUP, OLD_RULE],
    [DATABASE, OLD_INNER],
    [DEFAULT],
    [INGRESS],
    [RELAY],
    [RELAY6],
    [PEERS, BY_LIST],
    [ACL, ACL_RULE],
    [DEFAULT_ACL],
    [LIGHTSAIL],
    [FIREWALL],
    [FLEET],
    *([policy_rule(token, "2525", "198.51.100.0/24")] for token in POLICY_RULES),
    *(
        [TAG, policy_rule(token, "25", "0.0.0.0/0", targetSecureTags=[{"name": "mx-id"}])]
        for token in POLICY_RULES
    ),
    *([policy(token)] for token in POLICIES),
    [
        policy(
            POLICIES[0],
            action="deny",
            match={"srcIpRanges": ["0.0.0.0/0"], "layer4Configs": [{"ipProtocol": "all"}]},
        )
    ],
)


@pytest.mark.parametrize(
    "source",
    [
        ["0.0.0.0/0"],
        ["0.0.0.0/1", "128.0.0.0/1"],
        ["0.0.0.0/1"],
        ["1.0.0.0/8"],
        [f"{n}.0.0.0/12" for n in (1, 2)],
        ["198.51.100.0/24", "0.0.0.0/0"],
        ["::/0"],
        ["2000::/3"],
        ["everyone"],
    ],
)
def test_what_counts_as_the_world(source: list[str]) -> None:
    assert places(RULE, [changed(FLEET, sourceRanges=source)]) == [("fleet", "allows[0]")]


@pytest.mark.parametrize(
    "source",
    [
        ["10.0.0.0/8"],
        ["192.168.0.0/16", "fc00::/7"],
        ["198.51.100.0/24"],
        ["2001:db8::/32"],
        ["100.64.0.0/10"],
    ],
)
def test_what_does_not(source: list[str]) -> None:
    assert found(RULE, [changed(FLEET, sourceRanges=source)]) == []


def test_how_wide_the_world_is_is_configured() -> None:
    near = changed(FLEET, sourceRanges=["198.51.100.0/24"])
    assert places(RULE, [near], settings(exposure={"widest_ipv4": 25})) == [("fleet", "allows[0]")]


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({"tags": {"roles": "mx submission"}}, True),
        ({"tags": {"roles": "imap_mx"}}, True),
        ({"tags": {"roles": "egress"}}, False),
        ({"tags": {"roles": "MX"}}, False),
        ({"tags": {"roles": "notmx"}}, False),
        ({"tags": {}}, False),
        ({"fromPort": 24}, False),
        ({"toPort": 26}, False),
        ({"fromPort": 26, "toPort": 25}, False),
        ({"ipProtocol": "-1", "fromPort": None, "toPort": None}, False),
        ({"ipProtocol": "6"}, True),
        ({"ipProtocol": "udp"}, False),
        ({"ipProtocol": "icmp", "fromPort": -1, "toPort": -1}, True),
        ({"fromPort": None, "toPort": None}, False),
    ],
)
def test_a_rule_of_a_security_group(changes: dict[str, Any], right: bool) -> None:
    assert (found(RULE, [changed(INGRESS, **changes)]) == []) is right


def test_the_finding_says_what_is_open_and_what_may_be() -> None:
    (item,) = found(RULE, [changed(INGRESS, fromPort=587, toPort=587)])
    assert item.finding.found == 'tcp 587 from ["0.0.0.0/0"]'
    assert item.finding.allowed == "TCP 25, 443 from the world (the ports of mx)"


def test_a_rule_has_its_groups_roles() -> None:
    assert found(RULE, [GROUP, BY_GROUP]) == []
    assert places(RULE, [changed(GROUP, tags={"roles": "imap"}, ingress=None), BY_GROUP]) == [
        ("smtp", "fromPort")
    ]


def test_the_roles_may_come_from_the_provider() -> None:
    provider = Provider("pulumi:providers:aws", {"defaultTags": {"tags": {"roles": "mx"}}})
    assert found(RULE, [replace(changed(INGRESS, tags=None), provider=provider)]) == []


@pytest.mark.parametrize("entry", ["0.0.0.0/0", "128.0.0.0/2"])
def test_a_prefix_list_may_hold_the_world(entry: str) -> None:
    inline = changed(PEERS, entries=[{"cidr": entry}])
    assert places(RULE, [inline, BY_LIST]) == [("relay", "fromPort")]
    beside = resource(
        "aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry",
        "one",
        {"prefixListId": "peers-id", "cidr": entry},
    )
    assert places(RULE, [changed(PEERS, entries=None), beside, BY_LIST]) == [("relay", "fromPort")]


def test_a_list_of_others_may_hold_anything() -> None:
    assert places(RULE, [changed(BY_LIST, prefixListId="pl-12345678")]) == [("relay", "fromPort")]


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({"direction": "EGRESS"}, True),
        ({"disabled": True}, True),
        ({"targetTags": ["roles-mx-web"], "allows": [{"protocol": "tcp", "ports": ["25", "443"]}]}, True),
        ({"targetTags": ["roles-mx", "roles-web"]}, False),
        ({"targetTags": ["mx"]}, False),
        ({"targetTags": None}, False),
        ({"allows": [{"protocol": "tcp"}]}, False),
        ({"allows": [{"protocol": "all"}]}, False),
        ({"allows": [{"protocol": "icmp"}]}, True),
        ({"allows": [{"protocol": "tcp", "ports": ["25-25"]}]}, True),
        ({"sourceRanges": None}, False),
        ({"sourceRanges": None, "sourceTags": ["roles-egress"], "targetTags": None}, True),
    ],
)
def test_a_firewall_of_google_cloud(changes: dict[str, Any], right: bool) -> None:
    stays = {"targetTags": ["roles-imap"]} if changes == {"sourceRanges": None} else {}
    assert (found(RULE, [changed(FIREWALL, **{**changes, **stays})]) == []) is right


def test_egress_of_the_older_rule_is_no_opening() -> None:
    assert found(RULE, [changed(OLD_RULE, type="egress", protocol="-1", fromPort=0, toPort=0)]) == []


def test_an_acl_may_not_let_the_servers_ports_in_with_the_answers() -> None:
    entries = [{**ACL_ENTRIES[1], "fromPort": 1024}]
    assert places(RULE, [changed(ACL, ingress=entries)]) == [("acl", "ingress[0]")]
    assert found(RULE, [changed(ACL, ingress=[{**entries[0], "action": "deny"}])]) == []


def test_lightsail_opens_to_the_world_unless_told() -> None:
    infos = [{"protocol": "tcp", "fromPort": 443, "toPort": 443}]
    assert places(RULE, [changed(LIGHTSAIL, portInfos=infos)]) == [("ports", "portInfos[0]")]


@pytest.mark.parametrize("path", ["cidrIpv4", "fromPort", "ipProtocol", "tags"])
def test_unknown_is_undecided(path: str) -> None:
    of = RELAY if path == "cidrIpv4" else INGRESS
    items = found(RULE, [changed(of, **{path: UNKNOWN})])
    assert items and all(item.finding.unknown for item in items)
