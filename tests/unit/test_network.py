"""The address plan and the firewalls."""

import ipaddress
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.fleet import Cloud, NodeGroup, Region, Role
from mailinfra.network import (
    fit_problems,
    inbound,
    may_send_smtp,
    node_address,
    position_of,
    region_network,
    required_prefix,
    slot,
)
from mailinfra.places import PLACES

AWS, GCP = PLACES["eu-central-1"], PLACES["europe-west3"]


def _region(cloud: str, network: str, counts: list[int], **more: object) -> Region:
    groups = [{"name": f"g{number}", "roles": ["mx"], "count": count} for number, count in enumerate(counts)]
    place = AWS if cloud == "aws" else GCP
    data = {
        "cloud": cloud,
        "region": place.region,
        "zone": "eu",
        "network": network,
        "groups": groups,
        **more,
    }
    return Region.model_validate(data)


def _addresses(region: Region) -> dict[tuple[str, int], str]:
    place = AWS if region.cloud is Cloud.AWS else GCP
    network = region_network(region, place)
    return {
        (group.name, number): node_address(
            network, region.cloud, place, position_of(region.groups, index), number
        ).private_ipv4
        for index, group in enumerate(region.groups)
        for number in range(1, group.count + 1)
    }


def test_slots_are_a_pairing() -> None:
    assert sorted(slot(a, b) for a, b in product(range(20), repeat=2) if a + b < 20) == list(range(210))


def test_aws_has_a_subnet_in_each_availability_zone() -> None:
    network = region_network(_region("aws", "203.0.113.0/27", [1]), AWS)
    assert [(s.zone_letter, s.cidr) for s in network.subnets] == [
        ("a", "203.0.113.0/28"),
        ("b", "203.0.113.16/28"),
    ]


def test_gcp_has_one_subnet_for_the_region() -> None:
    network = region_network(_region("gcp", "203.0.113.0/27", [1]), GCP)
    assert [(s.zone_letter, s.cidr) for s in network.subnets] == [(None, "203.0.113.0/27")]


def test_three_zones_make_four_parts() -> None:
    region = _region("aws", "10.0.0.0/24", [1], availability_zones=["a", "b", "c"])
    network = region_network(region, AWS)
    assert [s.cidr for s in network.subnets] == ["10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26"]


def test_nodes_and_groups_take_turns_in_the_zones() -> None:
    region = _region("aws", "10.0.0.0/24", [2, 1])
    network = region_network(region, AWS)
    zones = [
        node_address(network, Cloud.AWS, AWS, p, n).availability_zone for p, n in ((0, 1), (0, 2), (1, 1))
    ]
    assert zones == ["eu-central-1a", "eu-central-1b", "eu-central-1b"]


counts = st.lists(st.integers(0, 12), min_size=1, max_size=6)


@given(st.sampled_from(["aws", "gcp"]), counts)
def test_addresses_are_unique_inside_and_not_reserved(cloud: str, sizes: list[int]) -> None:
    region = _region(cloud, "10.0.0.0/22", sizes)
    place = AWS if cloud == "aws" else GCP
    network = region_network(region, place)
    seen = set()
    for index, group in enumerate(region.groups):
        for number in range(1, group.count + 1):
            found = node_address(network, region.cloud, place, index, number)
            subnet = ipaddress.IPv4Network(network.subnets[found.subnet].cidr)
            host = int(ipaddress.IPv4Address(found.private_ipv4)) - int(subnet.network_address)
            if cloud == "aws":
                assert 4 <= host < subnet.num_addresses - 1
                assert found.availability_zone[-1] == network.subnets[found.subnet].zone_letter
            else:
                assert 2 <= host < subnet.num_addresses - 2
            seen.add((found.subnet, found.private_ipv4, found.ipv6_index))
    assert len(seen) == len({address for _, address, _ in seen}) == sum(sizes)
    assert len({(subnet, index) for subnet, _, index in seen}) == sum(sizes)


@given(st.sampled_from(["aws", "gcp"]), counts, st.data())
def test_nobody_moves_when_counts_change_and_groups_join(
    cloud: str, sizes: list[int], data: st.DataObject
) -> None:
    before = _addresses(_region(cloud, "10.0.0.0/20", sizes))
    grown = [data.draw(st.integers(0, 12)) for _ in sizes] + data.draw(counts)
    after = _addresses(_region(cloud, "10.0.0.0/20", grown))
    for node in before.keys() & after.keys():
        assert before[node] == after[node]


def test_positions_keep_addresses_when_a_group_in_front_goes() -> None:
    region = _region("aws", "10.0.0.0/24", [2, 2])
    kept = NodeGroup.model_validate({"name": "g1", "roles": ["mx"], "count": 2, "position": 1})
    alone = region.model_copy(update={"groups": (kept,)})
    before, after = _addresses(region), _addresses(alone)
    assert after == {node: address for node, address in before.items() if node[0] == "g1"}


@given(st.sampled_from(["aws", "gcp"]), counts, st.integers(16, 27))
def test_the_fits_check_is_exact(cloud: str, sizes: list[int], prefix: int) -> None:
    region = _region(cloud, f"10.0.0.0/{prefix}", sizes)
    place = AWS if cloud == "aws" else GCP
    network = region_network(region, place)
    last_allowed = 1 if cloud == "aws" else 2
    fits = all(int(s.cidr.rpartition("/")[2]) <= 28 for s in network.subnets)
    for index, group in enumerate(region.groups):
        for number in range(1, group.count + 1):
            found = node_address(network, region.cloud, place, index, number)
            subnet = ipaddress.IPv4Network(network.subnets[found.subnet].cidr)
            address = int(ipaddress.IPv4Address(found.private_ipv4))
            fits &= address <= int(subnet.broadcast_address) - last_allowed
    found_problems = fit_problems(region, place, "regions[0]")
    assert (not found_problems) == fits
    if found_problems:
        assert found_problems[0].path == "regions[0].network"
        assert f"/{required_prefix(region, place)}" in found_problems[0].allowed


def test_the_smallest_network_holds_a_small_region() -> None:
    assert not fit_problems(_region("aws", "203.0.113.0/27", [2, 2, 2]), AWS, "x")
    assert fit_problems(_region("aws", "203.0.113.0/27", [20, 1, 1]), AWS, "x")


@pytest.mark.parametrize(
    ("roles", "world", "fleet"),
    [
        ([Role.MX], {25, 443}, set()),
        ([Role.SUBMISSION], {465, 587}, set()),
        ([Role.EGRESS], set(), {2526}),
        ([Role.MAILBOX], set(), {2525, 2527, 993, 995}),
        ([Role.IMAP, Role.MAILBOX], {993}, {2525, 2527, 995}),
        ([Role.MAILBOX, Role.IMAP], {993}, {2525, 2527, 995}),
    ],
)
def test_ports_by_role(roles: list[Role], world: set[int], fleet: set[int]) -> None:
    rules = inbound(roles)
    assert {rule.port for rule in rules if rule.source == "world" and rule.port} == world
    assert {rule.port for rule in rules if rule.source == "fleet"} == fleet
    assert len({rule.key for rule in rules}) == len(rules)
    assert {rule.protocol for rule in rules if rule.port is None} == {"icmp", "icmpv6"}


def test_only_egress_opens_port_25_outwards() -> None:
    assert [role for role in Role if may_send_smtp([role])] == [Role.EGRESS]
