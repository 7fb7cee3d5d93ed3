"""Where a user's mailbox lives: the home region by the user's attributes, the mailbox node by rendezvous
hashing.

Rendezvous hashing (Thaler and Ravishankar, 1998): each node scores each address, the highest score wins. When
a node joins, only those users move that it wins; when one leaves, only its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from mailinfra import names
from mailinfra.fleet import Fleet, NodeGroup, Region, Role

MAX_KEY = 64
"""Octets that BLAKE2b takes as a key."""


@dataclass(frozen=True)
class Homes:
    """The placement rules, ready for many users.

    `by_attribute` maps an attribute's values to (rule number, home): the lowest number decides.
    """

    by_attribute: Mapping[str, Mapping[str, tuple[int, str]]]
    default: str
    hosts: Mapping[str, tuple[str, ...]]

    def home(self, attributes: Mapping[str, str]) -> str:
        """The home region of a user with these attributes."""
        best = None
        for attribute, wanted in self.by_attribute.items():
            found = wanted.get(attributes.get(attribute, ""))
            if found is not None and (best is None or found < best):
                best = found
        return self.default if best is None else best[1]


def mailbox_groups(region: Region) -> tuple[NodeGroup, ...]:
    """The groups of a region that hold mail."""
    return tuple(group for group in region.groups if Role.MAILBOX in group.roles and group.count)


def mailbox_hosts(fleet: Fleet, region: Region) -> tuple[str, ...]:
    """The host names of a region's mailbox nodes."""
    return tuple(
        names.node_fqdn(fleet, region.region, group.name, number)
        for group in mailbox_groups(region)
        for number in range(1, group.count + 1)
    )


def homes(fleet: Fleet) -> Homes:
    """The fleet's placement rules and mailbox nodes, indexed."""
    table: dict[str, dict[str, tuple[int, str]]] = {}
    for number, rule in enumerate(fleet.placement.rules):
        wanted = table.setdefault(rule.attribute, {})
        for value in rule.values:
            wanted.setdefault(value, (number, rule.home))
    hosts = {region.region: mailbox_hosts(fleet, region) for region in fleet.regions}
    return Homes(table, fleet.placement.default, hosts)


def home(fleet: Fleet, attributes: Mapping[str, str]) -> str:
    """The home region of one user; for many, `homes(fleet).home`."""
    return homes(fleet).home(attributes)


def mailbox_host(address: str, hosts: Sequence[str]) -> str:
    """The mailbox node, of `hosts`, that keeps the mailbox of `address`. ValueError when there is none."""
    if not hosts:
        raise ValueError("a mailbox needs a region with a mailbox node")
    return _chooser(hosts)(address.encode())


def place_users(table: Homes, users: Iterable[tuple[str, Mapping[str, str]]]) -> list[tuple[str, str]]:
    """(home region, mailbox host) of each (address, attributes), in order.

    ValueError when a home has no mailbox node: `mailinfra.checks` refuses such a fleet.
    """
    choosers = {region: _chooser(hosts) for region, hosts in table.hosts.items() if hosts}
    placed = []
    for address, attributes in users:
        region = table.home(attributes)
        chooser = choosers.get(region)
        if chooser is None:
            raise ValueError(f"{address}: its home {region} has no mailbox node")
        placed.append((region, chooser(address.encode())))
    return placed


def _chooser(hosts: Sequence[str]) -> Callable[[bytes], str]:
    if len(hosts) == 1:
        only = hosts[0]
        return lambda address: only
    keyed = [
        (blake2b(digest_size=8, key=blake2b(host.encode(), digest_size=MAX_KEY).digest()), host)
        for host in hosts
    ]

    def choose(address: bytes) -> str:
        best, chosen = b"", ""
        for keyed_hash, host in keyed:
            scorer = keyed_hash.copy()
            scorer.update(address)
            score = scorer.digest()
            if score > best:
                best, chosen = score, host
        return chosen

    return choose
