"""What the name servers shall serve: delegations, keys, reverse names, outside names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.sandbox.dns import zones
from mailinfra.sandbox.dns.geo import location
from mailinfra.sandbox.dns.keys import ZoneKey
from mailinfra.sandbox.dns.rdata import RefusedError
from mailinfra.sandbox.dns.zones import Declared, Provider, Zone


@pytest.fixture
def declared() -> Declared:
    return Declared(system_keys={z: ZoneKey.make() for z in zones.SYSTEM_ZONES})


def add(
    declared: Declared, provider: Provider, name: str, *, signed: bool = False, records: Any = ()
) -> Zone:
    zone = Zone(provider, name, ZoneKey.make(), signed, list(records))
    declared.zones.append(zone)
    return zone


def values(plan: zones.Plan, server: zones.Server, zone: str, name: str, rtype: str) -> tuple[str, ...]:
    found = [r.contents for r in plan.zones[server, zone].rrsets if (r.name, r.rtype) == (name, rtype)]
    assert len(found) <= 1
    return found[0] if found else ()


def test_reverse_zones() -> None:
    assert zones.REVERSE_ZONES == (
        "2.0.192.in-addr.arpa.",
        "100.51.198.in-addr.arpa.",
        "113.0.203.in-addr.arpa.",
        "8.b.d.0.1.0.0.2.ip6.arpa.",
    )


def test_the_root_vouches_for_the_zones_below_it(declared: Declared) -> None:
    plan = zones.plan(declared)
    for zone in (zones.TLD, *zones.REVERSE_ZONES):
        assert values(plan, "root", ".", zone, "DS") == (declared.system_keys[zone].ds_value(zone),)
        assert plan.zones["root", zone].key == declared.system_keys[zone]
    assert declared.system_keys["."].dnskey() in zones.root_trust_anchor(declared)
    assert zones.ADDRESSES["root"] in zones.root_hints()


def test_the_registrar_delegates_a_new_zone_and_publishes_its_key_once_signed(declared: Declared) -> None:
    zone = add(declared, "cloudflare", "example.test.")
    plan = zones.plan(declared)
    assert values(plan, "root", "test.", "example.test.", "NS") == zones.name_servers("cloudflare")
    assert values(plan, "root", "test.", "example.test.", "DS") == ()
    assert plan.zones["cloudflare", "example.test."].key is None
    zone.signed = True
    plan = zones.plan(declared)
    assert values(plan, "root", "test.", "example.test.", "DS") == (zone.key.ds_value("example.test."),)
    assert plan.zones["cloudflare", "example.test."].key == zone.key


def test_a_zone_below_another_is_not_delegated_by_itself(declared: Declared) -> None:
    add(declared, "cloudflare", "example.test.")
    add(declared, "route53", "aws.mx.example.test.", signed=True)
    plan = zones.plan(declared)
    assert values(plan, "root", "test.", "aws.mx.example.test.", "NS") == ()
    assert values(plan, "cloudflare", "example.test.", "aws.mx.example.test.", "NS") == ()
    assert ("route53", "aws.mx.example.test.") in plan.zones


def test_of_two_zones_with_one_name_the_first_is_delegated(declared: Declared) -> None:
    add(declared, "route53", "example.test.")
    add(declared, "clouddns", "example.test.")
    assert values(zones.plan(declared), "root", "test.", "example.test.", "NS") == zones.name_servers(
        "route53"
    )
    del declared.zones[0]
    assert values(zones.plan(declared), "root", "test.", "example.test.", "NS") == zones.name_servers(
        "clouddns"
    )


def test_an_alias_may_lead_into_another_zone(declared: Declared) -> None:
    plain = {"Name": "a.pool.test", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.9"}]}
    to = {"DNSName": "a.pool.test", "HostedZoneId": "Z", "EvaluateTargetHealth": True}
    add(declared, "route53", "pool.test.", records=[plain])
    add(
        declared,
        "route53",
        "example.test.",
        records=[{"Name": "b.example.test", "Type": "A", "AliasTarget": to}],
    )
    assert values(zones.plan(declared), "route53", "example.test.", "b.example.test.", "A") == ("192.0.2.9",)


def test_reverse_names(declared: Declared) -> None:
    declared.pointers = {"198.51.100.7": "a.test.", "2001:db8::7": "b.test."}
    plan = zones.plan(declared)
    assert values(plan, "root", "100.51.198.in-addr.arpa.", "7.100.51.198.in-addr.arpa.", "PTR") == (
        "a.test.",
    )
    six = zones.pointer_name("2001:db8::7")
    assert values(plan, "root", "8.b.d.0.1.0.0.2.ip6.arpa.", six, "PTR") == ("b.test.",)


@pytest.mark.parametrize("address", ["8.8.8.8", "x", "2001:4860::1"])
def test_addresses_of_the_real_internet_have_no_reverse_name_here(address: str) -> None:
    with pytest.raises(RefusedError):
        zones.pointer_name(address)


def test_outside_names(declared: Declared) -> None:
    declared.hosts = {
        "out.test.": [
            {"type": "MX", "values": ["10 mail.out.test"]},
            {"type": "TXT", "ttl": 60, "values": ["v=spf1 -all"]},
        ]
    }
    plan = zones.plan(declared)
    assert values(plan, "root", "test.", "out.test.", "MX") == ("10 mail.out.test.",)
    assert values(plan, "root", "test.", "out.test.", "TXT") == ('"v=spf1 -all"',)
    for name, records in (
        ("out.example", []),
        ("test", []),
        ("a.test", [{"type": "A", "values": ["x"]}]),
        ("a.test", ["x"]),
    ):
        with pytest.raises(RefusedError):
            zones.host_rrsets(name, records)  # type: ignore[arg-type]


def test_what_is_declared_outlives_json(declared: Declared) -> None:
    add(declared, "route53", "example.test.", signed=True, records=[{"Name": "x"}])
    declared.health_checks = {"route53": {"h": {"Type": "TCP"}}}
    declared.pointers, declared.hosts = {"192.0.2.1": "a.test."}, {"a.test.": []}
    declared.locations = {"192.0.2.0/24": location("DE")}
    assert Declared.from_json(declared.to_json()) == declared


@given(st.sets(st.sampled_from(["a.test.", "b.a.test.", "c.b.a.test.", "d.test.", "ba.test."])))
def test_exactly_the_zones_below_no_other_are_delegated(names: set[str]) -> None:
    declared = Declared()
    for name in sorted(names):
        add(declared, "route53", name)
    expected = {n for n in names if not any(n != o and n.endswith("." + o) for o in names)}
    assert {z.name for z in zones.delegated(declared)} == expected
