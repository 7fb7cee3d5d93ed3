"""One region's network alone: who can reach what."""

import pytest

from mailinfra.errors import ConfigError
from mailinfra_components import MailLinks, MailNetwork
from mailinfra_components.links import of_family
from mailinfra_components.network import MAIL_LINKS, OUTBOUND, MailNetworkArgs, first_of_range
from tests.declared import Program, declare

ADMINISTRATION = {22, 3389, 5985, 5986}
GROUPS = [
    {"group": "edge", "roles": ["mx"], "world": [25, 443], "fleet": [], "sends_mail": False},
    {"group": "out", "roles": ["egress"], "world": [], "fleet": [2526], "sends_mail": True},
]


def arguments(cloud: str) -> MailNetworkArgs:
    region = {"aws": "eu-central-1", "gcp": "europe-west3"}[cloud]
    return {
        "cloud": cloud,
        "region": region,
        "zone": "eu",
        "cidr": "203.0.113.0/27",
        "subnets": [{"name": "a", "availability_zone": f"{region}a", "cidr": "203.0.113.0/28"}],
        "addresses": [
            {"node": "edge-1", "subnet": "a", "private_ipv4": "203.0.113.5", "ipv6_index": 16},
            {"node": "out-1", "subnet": "a", "private_ipv4": "203.0.113.6", "ipv6_index": 17},
        ],
        "groups": GROUPS,  # type: ignore[typeddict-item]
    }


def network(cloud: str) -> Program:
    return declare(lambda: MailNetwork("net", arguments(cloud)))


def test_aws_the_default_security_group_is_emptied() -> None:
    default = network("aws").named("net-default")
    assert default.type == "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
    assert not {"ingress", "egress"} & set(default.inputs), "without rules it is taken over and emptied"


def test_aws_rules_are_single_ports_and_none_administers() -> None:
    program = network("aws")
    rules = program.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    assert {(rule.inputs["fromPort"], rule.inputs["toPort"]) for rule in rules} == {(25, 25), (443, 443)}
    assert {rule.inputs["securityGroupId"] for rule in rules} == {"net-edge-firewall-id"}
    assert {rule.inputs.get("cidrIpv4") or rule.inputs["cidrIpv6"] for rule in rules} == {"0.0.0.0/0", "::/0"}
    out = program.of("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule")
    every = {rule.inputs["fromPort"] for rule in [*rules, *out]}
    assert not every & ADMINISTRATION
    allowed = {port for _, port in OUTBOUND} | set(MAIL_LINKS)
    assert {rule.inputs["fromPort"] for rule in out} == allowed | {25}
    assert {r.inputs["securityGroupId"] for r in out if r.inputs["fromPort"] == 25} == {"net-out-firewall-id"}
    for group in program.of("aws:ec2/securityGroup:SecurityGroup"):
        assert not {"ingress", "egress"} & set(group.inputs)


def test_aws_nothing_gets_a_public_address_by_itself() -> None:
    subnets = network("aws").of("aws:ec2/subnet:Subnet")
    assert [(s.inputs["mapPublicIpOnLaunch"], s.inputs["assignIpv6AddressOnCreation"]) for s in subnets] == [
        (False, False)
    ]


def test_gcp_what_is_not_allowed_out_is_denied_and_nothing_administers() -> None:
    program = network("gcp")
    rules = program.of("gcp:compute/firewall:Firewall")
    inward = [rule.inputs for rule in rules if rule.inputs["direction"] == "INGRESS"]
    assert {(rule["targetTags"][0], rule["sourceRanges"][0]) for rule in inward} == {
        ("roles-mx", "0.0.0.0/0"),
        ("roles-mx", "::/0"),
    }
    assert {tuple(allow["ports"]) for rule in inward for allow in rule["allows"]} == {("25", "443")}
    outward = [rule.inputs for rule in rules if rule.inputs["direction"] == "EGRESS"]
    for tag in ("net-edge", "net-out"):
        for everywhere in ("0.0.0.0/0", "::/0"):
            mine = [r for r in outward if r["targetTags"] == [tag] and r["destinationRanges"] == [everywhere]]
            allowed, denied = sorted(mine, key=lambda rule: rule["priority"])
            assert denied["denies"] == [{"protocol": "all"}]
            ports = {port for allow in allowed["allows"] for port in allow["ports"]}
            assert ("25" in ports) is (tag == "net-out")
            assert not ports & {str(port) for port in ADMINISTRATION}
    assert program.named("net-network").inputs["autoCreateSubnetworks"] is False


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_links_are_open_to_the_fleets_own_addresses_only(cloud: str) -> None:
    peers = ["198.51.100.7", "2001:db8::7", "198.51.100.6"]
    program = declare(
        lambda: MailLinks(
            "links",
            {
                "cloud": cloud,
                "region": "r",
                "zone": "eu",
                "groups": GROUPS,  # type: ignore[typeddict-item]
                "network_id": "net-1",
                "security_groups": {"edge": "sg-edge", "out": "sg-out"},
                "peers": peers,
                "room": 16,
            },
        )
    )
    if cloud == "aws":
        lists = program.of("aws:ec2/managedPrefixList:ManagedPrefixList")
        known = [[entry["cidr"] for entry in found.inputs["entries"]] for found in lists]
        rules = program.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
        assert {(r.inputs["fromPort"], r.inputs["securityGroupId"]) for r in rules} == {(2526, "sg-out")}
        assert all("prefixListId" in r.inputs and "cidrIpv4" not in r.inputs for r in rules)
    else:
        rules = program.of("gcp:compute/firewall:Firewall")
        known = [rule.inputs["sourceRanges"] for rule in rules]
        assert {rule.inputs["targetTags"][0] for rule in rules} == {"sg-out"}
    assert known == [["198.51.100.6/32", "198.51.100.7/32"], ["2001:db8::7/128"]]


def test_of_family_sorts_by_number_and_drops_doubles() -> None:
    assert of_family(["198.51.100.10", "198.51.100.9", "198.51.100.9", "2001:db8::1"], 4) == [
        "198.51.100.9/32",
        "198.51.100.10/32",
    ]


@pytest.mark.parametrize("text", ["2001:db8::5", "2001:db8:0:0:0:0:0:5", "2001:db8::5/96"])
def test_first_of_range(text: str) -> None:
    assert first_of_range(text) == "2001:db8::5"


def test_a_cloud_that_there_is_not_is_refused() -> None:
    wrong: MailNetworkArgs = {**arguments("aws"), "cloud": "azure"}
    with pytest.raises(ConfigError, match="cloud: found 'azure'; allowed: aws, gcp"):
        declare(lambda: MailNetwork("net", wrong))


def test_numbers_from_other_languages_become_whole() -> None:
    floats = arguments("aws")
    floats["groups"] = [{"group": "edge", "roles": ["mx"], "world": [25.0], "fleet": [], "sends_mail": False}]  # type: ignore[list-item]
    program = declare(lambda: MailNetwork("net", floats))
    assert program.named("net-edge-in-25-ipv4").inputs["fromPort"] == 25
