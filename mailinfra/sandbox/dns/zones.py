"""What the sandbox's name servers serve, as a pure function of what was declared.

The root, the top-level domain `test.` and the reverse zones are the sandbox's own; below them are the
providers' zones. The registrar's part is played here too: a zone that lies below no provider's zone is
delegated from `test.`, with its DS record once it is signed.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, get_args

import dns.reversename

from mailinfra.sandbox.dns import clouddns, cloudflare, route53
from mailinfra.sandbox.dns.geo import Location
from mailinfra.sandbox.dns.keys import ZoneKey
from mailinfra.sandbox.dns.rdata import (
    TEXT_TYPES,
    RefusedError,
    ancestors,
    canonical,
    fqdn,
    is_below,
    rtype_of,
    text_chunks,
    text_strings,
    ttl_of,
)
from mailinfra.sandbox.dns.translate import Probe, RRset, Translated, check_zone, merged

Provider = Literal["route53", "clouddns", "cloudflare"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)
Server = Literal["root", "route53", "clouddns", "cloudflare"]
ADDRESSES: dict[Server, str] = {
    "root": "192.0.2.1",
    "cloudflare": "192.0.2.11",
    "route53": "192.0.2.12",
    "clouddns": "192.0.2.13",
}
RESOLVER = "192.0.2.53"
"""A validating resolver for machines that have none of their own yet."""
TLD = "test."
ROOT_SERVER = "a.root-servers.test."
REVERSE_NETWORKS = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
STATIC_TTL = 300
SHORT_TTL = 5
"""Delegations and what does not exist are believed for this long only (seconds), so that a change shows at
once. Real registries say hours."""


def reverse_zone(network: str) -> str:
    """The reverse zone of a network: `2.0.192.in-addr.arpa.`."""
    net = ipaddress.ip_network(network)
    labels = dns.reversename.from_address(str(net.network_address)).to_text().split(".")
    host_labels = (net.max_prefixlen - net.prefixlen) // (8 if net.version == 4 else 4)
    return ".".join(labels[host_labels:])


REVERSE_ZONES = tuple(reverse_zone(n) for n in REVERSE_NETWORKS)
SYSTEM_ZONES = (".", TLD, *REVERSE_ZONES)


@dataclass
class Zone:
    """A zone of a provider: what was declared in it, in the provider's own form."""

    provider: Provider
    name: str
    key: ZoneKey
    signed: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Declared:
    """Everything that was declared. `zones` in the order of their making."""

    system_keys: dict[str, ZoneKey] = field(default_factory=dict)
    zones: list[Zone] = field(default_factory=list)
    health_checks: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    pointers: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    locations: dict[str, Location] = field(default_factory=dict)

    def zone(self, provider: str, name: str) -> Zone | None:
        """A provider's zone, if there is one."""
        return next((z for z in self.zones if z.provider == provider and z.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "system_keys": {z: k.secret for z, k in self.system_keys.items()},
            "zones": [{**z.__dict__, "key": z.key.secret} for z in self.zones],
            "health_checks": self.health_checks,
            "pointers": self.pointers,
            "hosts": self.hosts,
            "locations": {n: place.__dict__ for n, place in self.locations.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Declared":
        """From what `to_json` gave; missing parts are empty."""
        return cls(
            system_keys={z: ZoneKey(k) for z, k in data.get("system_keys", {}).items()},
            zones=[Zone(**{**z, "key": ZoneKey(z["key"])}) for z in data.get("zones", [])],
            health_checks=dict(data.get("health_checks", {})),
            pointers=dict(data.get("pointers", {})),
            hosts=dict(data.get("hosts", {})),
            locations={n: Location(**place) for n, place in data.get("locations", {}).items()},
        )


@dataclass(frozen=True)
class Served:
    """One zone as a name server shall hold it. `key` None: unsigned."""

    soa: str
    rrsets: tuple[RRset, ...]
    key: ZoneKey | None


@dataclass
class Plan:
    """What all name servers shall serve, and what the prober shall probe."""

    zones: dict[tuple[Server, str], Served] = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def name_servers(provider: Provider) -> tuple[str, ...]:
    """The names of a provider's name servers."""
    # As many as the real one gives: programs count on it.
    count = 2 if provider == "cloudflare" else 4
    return tuple(f"ns{number}.{provider}.{TLD}" for number in range(1, count + 1))


def _soa(primary: str) -> str:
    return f"{primary} hostmaster.{primary.split('.', 1)[1]} 1 7200 900 1209600 {SHORT_TTL}"


def plan(declared: Declared) -> Plan:
    """Everything to serve. Raises `RefusedError` for what no provider or name server would take."""
    out = Plan()
    for zone in declared.zones:
        translated = translate(zone, declared)
        servers = name_servers(zone.provider)
        apex = RRset(zone.name, "NS", STATIC_TTL, servers)
        rrsets = (apex, *translated.rrsets)
        check_zone(zone.name, rrsets)
        out.zones[zone.provider, zone.name] = Served(
            _soa(servers[0]), rrsets, zone.key if zone.signed else None
        )
        out.probes.update(translated.probes)
        out.warnings.extend(translated.warnings)
    for name, rrsets in _system(declared).items():
        out.zones["root", name] = Served(_soa(ROOT_SERVER), rrsets, declared.system_keys.get(name))
    return out


def translate(zone: Zone, declared: Declared) -> Translated:
    """One zone's declared records as PowerDNS keeps them."""
    checks = declared.health_checks.get(zone.provider, {})
    if zone.provider == "cloudflare":
        return cloudflare.translate(zone.name, zone.records)
    if zone.provider == "clouddns":
        return clouddns.translate(zone.name, zone.records, checks)
    siblings = {z.name: z.records for z in declared.zones if z.provider == "route53" and z is not zone}
    return route53.translate(zone.name, zone.records, checks, siblings)


def delegated(declared: Declared) -> list[Zone]:
    """The zones that the registrar delegates: each the first of its name, and below no other zone."""
    names = {z.name for z in declared.zones}
    found: dict[str, Zone] = {}
    for zone in declared.zones:
        if not names.intersection(ancestors(zone.name)):
            found.setdefault(zone.name, zone)
    return list(found.values())


def _system(declared: Declared) -> dict[str, tuple[RRset, ...]]:
    """The root, the top-level domain and the reverse zones."""
    apex = {name: RRset(name, "NS", STATIC_TTL, (ROOT_SERVER,)) for name in SYSTEM_ZONES}
    root = [apex["."], RRset(ROOT_SERVER, "A", STATIC_TTL, (ADDRESSES["root"],))]
    for name in SYSTEM_ZONES[1:]:
        root.append(apex[name])
        if name in declared.system_keys:
            root.append(RRset(name, "DS", STATIC_TTL, (declared.system_keys[name].ds_value(name),)))
    top = [apex[TLD], RRset(ROOT_SERVER, "A", STATIC_TTL, (ADDRESSES["root"],))]
    for provider in PROVIDERS:
        for name in name_servers(provider):
            top.append(RRset(name, "A", STATIC_TTL, (ADDRESSES[provider],)))
    for zone in delegated(declared):
        top.append(RRset(zone.name, "NS", SHORT_TTL, name_servers(zone.provider)))
        if zone.signed:
            top.append(RRset(zone.name, "DS", SHORT_TTL, (zone.key.ds_value(zone.name),)))
    for name, records in declared.hosts.items():
        top.extend(host_rrsets(name, records))
    zones = {".": tuple(root), TLD: tuple(merged(top))}
    check_zone(TLD, zones[TLD])
    for zone_name in REVERSE_ZONES:
        pointers = (
            RRset(pointer, "PTR", SHORT_TTL, (name,))
            for address, name in declared.pointers.items()
            if is_below(pointer := pointer_name(address), zone_name)
        )
        zones[zone_name] = (apex[zone_name], *pointers)
    return zones


@lru_cache(maxsize=4096)
def pointer_name(address: str) -> str:
    """The name of an address's PTR record.

    Raises `RefusedError` for one that the sandbox's internet has not.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError as error:
        raise RefusedError(f"{address!r} is no IP address") from error
    if not any(ip in ipaddress.ip_network(n) for n in REVERSE_NETWORKS):
        raise RefusedError(
            f"{address} is not of the sandbox's internet; that is {', '.join(REVERSE_NETWORKS)}"
        )
    return str(dns.reversename.from_address(str(ip)).to_text())


def host_rrsets(name: str, records: list[dict[str, Any]]) -> list[RRset]:
    """Records of an outside name, `[{"type", "ttl", "values"}]`. Raises `RefusedError`."""
    name = fqdn(name)
    if not is_below(name, TLD) or name == TLD:
        raise RefusedError(f"{name}: outside names are below {TLD}")
    made = []
    for record in records:
        if not isinstance(record, Mapping) or not isinstance(record.get("values"), list):
            raise RefusedError(f"{name}: {record!r} is no record; allowed is {{type, ttl, values: [texts]}}")
        rtype = rtype_of(record.get("type"), name)
        values = []
        for value in record["values"]:
            text = value
            if rtype in TEXT_TYPES and isinstance(value, str):
                quoted = len(value) > 1 and value.startswith('"') and value.endswith('"')
                text = text_strings(value, name, quoted_only=True) if quoted else text_chunks(value)
            values.append(canonical(rtype, text, f"{name} {rtype}"))
        made.append(
            RRset(name, rtype, ttl_of(record.get("ttl", STATIC_TTL), name), tuple(dict.fromkeys(values)))
        )
    return merged(r for r in made if r.contents)


def root_hints() -> str:
    """The root servers of the sandbox's internet, as `/usr/share/dns/root.hints` lists the real ones."""
    return f".\t3600000\tNS\t{ROOT_SERVER}\n{ROOT_SERVER}\t3600000\tA\t{ADDRESSES['root']}\n"


def root_trust_anchor(declared: Declared) -> str:
    """The root's key signing key, as `/usr/share/dns/root.key` holds the real one."""
    return f".\t172800\tIN\tDNSKEY\t{declared.system_keys['.'].dnskey()}\n"
