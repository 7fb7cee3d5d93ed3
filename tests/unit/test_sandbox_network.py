"""The router's ruleset as text; what the kernel makes of it is in the system tests."""

from pathlib import Path

import pytest

from mailinfra.sandbox import network
from mailinfra.sandbox.model import CloudKind, FirewallRule
from mailinfra.sandbox.network import Endpoint, NetworkError, ruleset

ANYWHERE = ("0.0.0.0/0", "::/0")


def endpoint(
    number: int,
    kind: CloudKind = "aws",
    region: str = "r",
    rules: tuple[FirewallRule, ...] = (),
    egress: bool = False,
    ipv6: bool = False,
) -> Endpoint:
    return Endpoint(
        id=f"m{number}",
        interface=f"if{number}",
        kind=kind,
        region=region,
        private_ipv4=f"203.0.113.{number}",
        ipv6=f"2001:db8::{number}" if ipv6 else None,
        addresses=(),
        firewall=rules,
        egress_port_25=egress,
    )


def chain(text: str, name: str) -> list[str]:
    lines = text.splitlines()
    start = lines.index(f"  chain {name} {{")
    end = lines.index("  }", start)
    return [line.strip() for line in lines[start + 1 : end]]


def test_an_empty_network_forwards_nothing() -> None:
    text = ruleset([], {})
    assert text.startswith("table inet mailinfra\ndelete table inet mailinfra\n"), (
        "replaced in one transaction"
    )
    assert chain(text, "forward") == [
        "type filter hook forward priority filter; policy drop;",
        "ct state invalid drop",
    ]


def test_what_no_rule_allows_is_dropped_at_last() -> None:
    rules = (
        FirewallRule("tcp", (25, 25), ANYWHERE),
        FirewallRule("udp", (53, 60), ("198.51.100.0/24", "198.51.100.7/32", "2001:db8:1::/48")),
        FirewallRule("icmp", None, ANYWHERE),
        FirewallRule("icmpv6", None, ANYWHERE),
        FirewallRule("all", None, ("192.0.2.9/32",)),
        FirewallRule("tcp", None, ("192.0.2.10",)),
    )
    assert chain(ruleset([endpoint(4, rules=rules)], {}), "to_if4") == [
        "ct original ip daddr 203.0.113.4 ip saddr != { 203.0.113.4 } drop",
        "meta nfproto ipv4 tcp dport 25-25 accept",
        "meta nfproto ipv6 tcp dport 25-25 accept",
        # Overlapping sources are merged: nft refuses a set with overlaps.
        "ip saddr { 198.51.100.0/24 } udp dport 53-60 accept",
        "ip6 saddr { 2001:db8:1::/48 } udp dport 53-60 accept",
        "meta nfproto ipv4 meta l4proto icmp accept",
        "meta nfproto ipv6 meta l4proto ipv6-icmp accept",
        "ip saddr { 192.0.2.9/32 } accept",
        "ip saddr { 192.0.2.10/32 } meta l4proto tcp accept",
        "drop",
    ]


@pytest.mark.parametrize(
    ("kind", "egress", "blocked"),
    [("aws", True, False), ("aws", False, True), ("gcp", True, True), ("gcp", False, True)],
)
def test_port_25_out(kind: CloudKind, egress: bool, blocked: bool) -> None:
    text = ruleset([endpoint(4, kind, egress=egress)], {"198.51.100.4": "203.0.113.4"})
    assert ("tcp dport 25 drop" in chain(text, "from_if4")) is blocked


def test_an_outside_machine_has_no_firewall_and_no_limits_but_its_address() -> None:
    text = ruleset([endpoint(4, "outside", ipv6=True)], {})
    assert chain(text, "from_if4") == [
        "ip saddr != { 203.0.113.4 } drop",
        "ip6 saddr != { 2001:db8::4 } drop",
    ]
    assert "chain to_if4" not in text


def test_a_machine_without_ipv6_sends_none() -> None:
    assert "meta nfproto ipv6 drop" in chain(ruleset([endpoint(4)], {}), "from_if4")


def test_addresses_are_mapped_both_ways_but_not_inside_a_network() -> None:
    text = ruleset([endpoint(4), endpoint(5, region="other")], {"198.51.100.9": "203.0.113.4"})
    assert "dnat ip to ip daddr map { 198.51.100.9 : 203.0.113.4 }" in chain(text, "prerouting")
    assert "dnat ip to ip daddr map { 198.51.100.9 : 203.0.113.4 }" in chain(text, "output")
    assert chain(text, "postrouting")[1:] == [
        "ct original ip daddr { 203.0.113.4, 203.0.113.5 } return",
        "snat ip to ip saddr map { 203.0.113.4 : 198.51.100.9 }",
    ]
    # Only its own region is reached by private address.
    assert chain(text, "to_if5")[0] == "ct original ip daddr 203.0.113.5 ip saddr != { 203.0.113.5 } drop"
    # Without a public address there is no way to others.
    assert "ct direction original ct original ip daddr != { 203.0.113.5 } drop" in chain(text, "from_if5")
    assert not [rule for rule in chain(text, "from_if4") if "ct direction" in rule]


def test_the_receivers_firewall_sees_translated_addresses() -> None:
    """A source of a rule is a public address, so the firewall must come after the translation of sources."""
    rules = chain(ruleset([endpoint(4)], {}), "firewall")
    assert rules[0] == "type filter hook postrouting priority srcnat + 10; policy accept;"
    assert rules[-1] == 'oifname vmap { "if4" : jump to_if4 }'


def test_a_namespace_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="network namespace gone does not exist"):
        network.run_in_namespace(tmp_path / "gone", print)
    assert network.namespaces("no-such-prefix") == []
