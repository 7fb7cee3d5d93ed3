"""The address plan and the firewalls of a region. Pure functions.

A node's private IPv4 address depends on nothing but its region's network, its group's position and its
number: groups that are appended, counts that change and regions that come and go move nobody. The pairs
(position, number) are laid out along Cantor's diagonals, so neither a group nor its count needs a limit set
beforehand.
"""

import ipaddress
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from mailinfra.errors import Problem
from mailinfra.fleet import Cloud, NodeGroup, Region, Role
from mailinfra.places import Place

AWS_RESERVED = (4, 1)
"""Addresses that AWS keeps at the start and the end of a subnet (VPC user guide, "Subnet sizing")."""
GCP_RESERVED = (2, 2)
"""Addresses that Google Cloud keeps at the start and the end of a subnet (VPC, "Unusable addresses")."""
AWS_SMALLEST, AWS_LARGEST = 28, 16
"""Prefix lengths that an AWS subnet can have."""
IPV6_FIRST = 16
"""Host number of the first node in a subnet's IPv6 /64; the clouds keep the lowest ones."""


@dataclass(frozen=True)
class Subnet:
    """A subnet. On AWS it lies in one availability zone (`zone_letter`), on GCP in the whole region
    (None)."""

    index: int
    zone_letter: str | None
    cidr: str


@dataclass(frozen=True)
class RegionNetwork:
    """The private network of a region and its subnets."""

    region: str
    cidr: str
    subnets: tuple[Subnet, ...]
    zone_letters: tuple[str, ...]


@dataclass(frozen=True)
class NodeAddress:
    """Where a node sits.

    `subnet` is the index in `RegionNetwork.subnets`; `ipv6_index` is the node's host number in its subnet's
    IPv6 /64, unique there.
    """

    private_ipv4: str
    subnet: int
    availability_zone: str
    ipv6_index: int


@dataclass(frozen=True)
class FirewallRule:
    """Incoming traffic that is let through; everything else is dropped.

    `source` is `world`, or `fleet`: the region's own network and the public addresses of the fleet's nodes.
    `port` is None for ICMP.
    """

    key: str
    protocol: Literal["tcp", "icmp", "icmpv6"]
    port: int | None
    source: Literal["world", "fleet"]
    description: str


def zone_letters(region: Region, place: Place) -> tuple[str, ...]:
    """The availability zones that a region's nodes are spread over."""
    return region.availability_zones or place.zone_letters


def region_network(region: Region, place: Place) -> RegionNetwork:
    """The subnets of a region: one for each availability zone on AWS, a single regional one on GCP."""
    letters = zone_letters(region, place)
    if region.cloud is Cloud.GCP:
        return RegionNetwork(region.region, region.network, (Subnet(0, None, region.network),), letters)
    base, prefix = _split(region.network)
    longer = prefix + _bits(len(letters))
    subnets = tuple(
        Subnet(index, letter, f"{ipaddress.IPv4Address(base + (index << (32 - longer)))}/{longer}")
        for index, letter in enumerate(letters)
    )
    return RegionNetwork(region.region, region.network, subnets, letters)


def slot(position: int, number: int) -> int:
    """Cantor's pairing of a group's position and a number in the group, both from 0."""
    diagonal = position + number
    return diagonal * (diagonal + 1) // 2 + number


def position_of(groups: Sequence[NodeGroup], index: int) -> int:
    """A group's position in the address plan: as declared, else its place in the list."""
    declared = groups[index].position
    return index if declared is None else declared


def node_address(
    network: RegionNetwork, cloud: Cloud, place: Place, position: int, number: int
) -> NodeAddress:
    """Where node `number` (from 1) of the group at `position` (from 0) sits.

    Nodes take turns in the availability zones, and groups start with different ones. Whether it fits is
    checked by `fit_problems`; a node that does not fit gets an address beyond its subnet.
    """
    zones = len(network.zone_letters)
    turn = (position + number - 1) % zones
    letter = network.zone_letters[turn]
    if cloud is Cloud.GCP:
        subnet, place_in_subnet, reserved = 0, slot(position, number - 1), GCP_RESERVED
    else:
        subnet, place_in_subnet, reserved = turn, slot(position, (number - 1) // zones), AWS_RESERVED
    base, _ = _split(network.subnets[subnet].cidr)
    return NodeAddress(
        private_ipv4=str(ipaddress.IPv4Address(base + reserved[0] + place_in_subnet)),
        subnet=subnet,
        availability_zone=place.availability_zone(letter),
        ipv6_index=IPV6_FIRST + place_in_subnet,
    )


def fit_problems(region: Region, place: Place, path: str) -> list[Problem]:
    """The problem of a network with no room for its nodes; says which prefix length has."""
    needed = required_prefix(region, place)
    _, prefix = _split(region.network)
    if prefix <= needed:
        return []
    return [
        Problem(
            f"{path}.network",
            f"{region.network}, too small for its {sum(group.count for group in region.groups)} nodes",
            f"a network of /{needed} or larger" if needed >= AWS_LARGEST else "fewer nodes or groups",
        )
    ]


def required_prefix(region: Region, place: Place) -> int:
    """The longest prefix length with room for a region's nodes."""
    zones = len(zone_letters(region, place))
    shares, reserved = (1, GCP_RESERVED) if region.cloud is Cloud.GCP else (zones, AWS_RESERVED)
    last = -1
    for index, group in enumerate(region.groups):
        position = position_of(region.groups, index)
        # The largest number in a subnet has the largest slot: the pairing grows with the number.
        if group.count:
            last = max(last, slot(position, (group.count - 1) // shares))
    addresses = sum(reserved) + last + 1
    longest = 32 - _bits(addresses)
    if region.cloud is Cloud.GCP:
        return min(longest, 29)
    return min(longest, AWS_SMALLEST) - _bits(shares)


def inbound(roles: Iterable[Role]) -> tuple[FirewallRule, ...]:
    """What a node with these roles lets in, by port; a port open to the world needs no fleet rule."""
    wanted = {rule.key: rule for rule in _ICMP}
    for role in roles:
        for rule in _PORTS[role]:
            known = wanted.get(rule.key)
            if known is None or known.source == "fleet":
                wanted[rule.key] = rule
    return tuple(sorted(wanted.values(), key=lambda rule: (rule.port or 0, rule.key)))


def may_send_smtp(roles: Iterable[Role]) -> bool:
    """Whether a node with these roles may open connections to port 25 of the internet: only egress may."""
    return Role.EGRESS in roles


def _tcp(port: int, source: Literal["world", "fleet"], description: str) -> FirewallRule:
    return FirewallRule(f"tcp-{port}", "tcp", port, source, description)


_PORTS: dict[Role, tuple[FirewallRule, ...]] = {
    Role.MX: (_tcp(25, "world", "SMTP from the internet"), _tcp(443, "world", "MTA-STS policy over HTTPS")),
    Role.SUBMISSION: (
        _tcp(465, "world", "Submission over TLS (RFC 8314)"),
        _tcp(587, "world", "Submission with STARTTLS (RFC 6409)"),
    ),
    Role.EGRESS: (_tcp(2526, "fleet", "Mail on its way out, from submission nodes, mTLS"),),
    Role.IMAP: (_tcp(993, "world", "IMAP over TLS"),),
    Role.POP3: (_tcp(995, "world", "POP3 over TLS"),),
    Role.MAILBOX: (
        _tcp(2525, "fleet", "Mail for this region's users, mTLS"),
        _tcp(2527, "fleet", "Replicas of the users of other mailbox nodes, mTLS"),
        _tcp(993, "fleet", "IMAP from the fleet's proxies, mTLS"),
        _tcp(995, "fleet", "POP3 from the fleet's proxies, mTLS"),
    ),
}

# Path MTU discovery breaks without them (RFC 1191, RFC 8201), and IPv6 neighbour discovery as well.
_ICMP = (
    FirewallRule("icmp", "icmp", None, "world", "Path MTU discovery and echo"),
    FirewallRule("icmpv6", "icmpv6", None, "world", "Path MTU and neighbour discovery, echo"),
)


def _bits(count: int) -> int:
    return max(0, math.ceil(math.log2(count)))


@lru_cache(maxsize=4096)
def _split(cidr: str) -> tuple[int, int]:
    network = ipaddress.IPv4Network(cidr)
    return int(network.network_address), network.prefixlen
