"""Every DNS record of the fleet that is not steered: what it says, or what it needs to be able to say it.

`static_records` is known before anything exists. Where a value is not (a node's address, a public key, a name
server), the record carries a `Need`, and `values` turns what became known into its values.

Values are in presentation form (RFC 1035 5.1) with absolute names, TXT unquoted and in one piece; how a TXT
is cut into strings and quoted is each provider's affair (`txt_strings`, `txt_quoted`).
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mailinfra import names
from mailinfra.fleet import Authentication, Fleet, KeyStage, MtaStsMode, Region, Role, SteeringProvider
from mailinfra.routing import mx_regions

Family = Literal[4, 6]
RecordType = Literal["A", "AAAA", "CNAME", "DS", "MX", "NS", "SRV", "TLSA", "TXT"]
TXT_OCTETS = 255
"""The longest string in a TXT record (RFC 1035 3.3.14)."""
SPF_LOOKUPS = 10
"""The DNS look-ups that an SPF check may cost (RFC 7208 4.6.4)."""
PUBLISHED = frozenset({KeyStage.PUBLISHED, KeyStage.SIGNING})


@dataclass(frozen=True)
class Addresses:
    """The public addresses of these hosts in one family."""

    hosts: tuple[str, ...]
    family: Family


@dataclass(frozen=True)
class DkimPublic:
    """The public half of a region's DKIM key of one generation."""

    region: str
    serial: str


@dataclass(frozen=True)
class CaHashes:
    """The TLSA values of these regions' CA keys."""

    regions: tuple[str, ...]


@dataclass(frozen=True)
class NameServers:
    """The name servers that the provider gave a steering zone."""

    zone: str


@dataclass(frozen=True)
class DelegationSigners:
    """The DS data of a steering zone."""

    zone: str


Need = Addresses | DkimPublic | CaHashes | NameServers | DelegationSigners


@dataclass(frozen=True)
class Record:
    """One RRset. `zone` is the apex of the zone that it lies in; TTL in seconds.

    With `needs`, `values` is empty until `resolve`.
    """

    zone: str
    name: str
    type: RecordType
    ttl: int
    values: tuple[str, ...] = ()
    needs: Need | None = None

    @property
    def key(self) -> str:
        """Unique among the fleet's records and stable: `mx-example.test`."""
        return f"{self.type.lower()}-{self.name}"


@dataclass(frozen=True)
class Known:
    """What became known while the fleet was made.

    `addresses`: host name to family to address. `dkim` and `ca`: DER SubjectPublicKeyInfo by (region, serial)
    and by region. `name_servers` and `ds`: values by steering zone.
    """

    addresses: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    dkim: Mapping[tuple[str, str], bytes] = field(default_factory=dict)
    ca: Mapping[str, bytes] = field(default_factory=dict)
    name_servers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ds: Mapping[str, Sequence[str]] = field(default_factory=dict)


def values(need: Need, known: Known) -> tuple[str, ...]:
    """A record's values. KeyError when what it needs is not known; a host without an address in the family is
    left out."""
    match need:
        case Addresses(hosts, family):
            found = (known.addresses[host].get(family, "") for host in hosts)
            return tuple(dict.fromkeys(address for address in found if address))
        case DkimPublic(region, serial):
            return (dkim_value(known.dkim[region, serial]),)
        case CaHashes(regions):
            return tuple(tlsa_value(known.ca[region]) for region in regions)
        case NameServers(zone):
            return tuple(sorted(absolute(server) for server in known.name_servers[zone]))
        case DelegationSigners(zone):
            return tuple(known.ds[zone])


def resolve(records: Iterable[Record], known: Known) -> tuple[Record, ...]:
    """The records with all values in; a set that ends up without any is left out."""
    filled = (
        record if record.needs is None else replace(record, values=values(record.needs, known), needs=None)
        for record in records
    )
    return tuple(record for record in filled if record.values)


def absolute(name: str) -> str:
    """A domain name with its final dot."""
    return name if name.endswith(".") else f"{name}."


def txt_strings(value: str) -> tuple[str, ...]:
    """A TXT value cut into strings of at most 255 octets, to be joined without a space (RFC 6376 3.6.2.2)."""
    octets = value.encode()
    if not octets.isascii():
        raise ValueError(f"a TXT value in ASCII is needed, not {value!r}")
    return tuple(value[start : start + TXT_OCTETS] for start in range(0, len(value), TXT_OCTETS)) or ("",)


def txt_quoted(value: str) -> str:
    """A TXT value as Route 53 and Cloud DNS want it: quoted strings, a space between."""
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in txt_strings(value))
    return " ".join(f'"{text}"' for text in escaped)


def dkim_value(spki: bytes) -> str:
    """The DKIM key record of a public key (RFC 6376 3.6.1); `spki` is DER SubjectPublicKeyInfo, RSA."""
    return f"v=DKIM1; k=rsa; p={base64.b64encode(spki).decode()}"


DKIM_REVOKED = "v=DKIM1; p="
"""The record of a key that signs no more: RFC 6376 3.6.1, an empty `p=` means revoked."""


def tlsa_value(spki: bytes) -> str:
    """DANE-TA over a CA key: usage 2, selector 1 (the key), SHA-256 (RFC 6698 2.1, RFC 7671 5.2)."""
    return f"2 1 1 {hashlib.sha256(spki).hexdigest()}"


def spf_value(fleet: Fleet) -> str:
    """The domains' SPF record: the egress nodes of every zone by name, nobody else.

    A name costs one look-up and never changes with the nodes behind it.
    """
    senders = (f"a:{names.service_host(fleet, 'egress', zone)}" for zone in egress_zones(fleet))
    return " ".join(("v=spf1", *senders, "-all"))


def dmarc_value(fleet: Fleet) -> str:
    """The domains' DMARC record (RFC 7489 6.3); DKIM must align strictly, as the fleet signs with `d=` the
    sender's own domain."""
    policy = fleet.authentication.dmarc.value
    return f"v=DMARC1; p={policy}; sp={policy}; adkim=s; aspf=r; rua=mailto:{dmarc_reports(fleet)}"


def dmarc_reports(fleet: Fleet) -> str:
    """The address that DMARC aggregate reports go to."""
    return fleet.authentication.dmarc_reports or f"dmarc@{fleet.primary_domain}"


def tls_reports(fleet: Fleet) -> str:
    """The address that TLS reports go to."""
    return fleet.authentication.tls_reports or f"tls-reports@{fleet.primary_domain}"


def all_mx_hosts(fleet: Fleet) -> tuple[str, ...]:
    """Every MX host, primaries first; a tier without mx nodes has none."""
    return tuple(host for tier in _tiers(fleet) for host in names.mx_hosts(fleet, tier))


def mta_sts_policy(fleet: Fleet) -> str:
    """The policy file (RFC 8461 3.2), CRLF line ends; empty when the mode is `off`."""
    authentication: Authentication = fleet.authentication
    if authentication.mta_sts is MtaStsMode.OFF:
        return ""
    lines = [
        "version: STSv1",
        f"mode: {authentication.mta_sts.value}",
        *(f"mx: {host}" for host in all_mx_hosts(fleet)),
        f"max_age: {authentication.mta_sts_max_age_seconds}",
    ]
    return "".join(f"{line}\r\n" for line in lines)


def mta_sts_id(fleet: Fleet) -> str:
    """The policy's id: a hash, so that it changes exactly when the policy does (RFC 8461 3.1)."""
    return hashlib.sha256(mta_sts_policy(fleet).encode()).hexdigest()[:32]


def role_hosts(fleet: Fleet, role: Role, zone: str | None = None) -> tuple[str, ...]:
    """The host names of all nodes with a role, of one residency zone or of all."""
    return tuple(
        names.node_fqdn(fleet, region.region, group.name, number)
        for region in fleet.regions
        if zone is None or region.zone == zone
        for group in region.groups
        if role in group.roles
        for number in range(1, group.count + 1)
    )


def has_role(region: Region, role: Role) -> bool:
    """Whether a region has a node with this role."""
    return any(role in group.roles and group.count for group in region.groups)


def role_zones(fleet: Fleet, role: Role) -> tuple[str, ...]:
    """The residency zones that have a node with this role, sorted."""
    return tuple(sorted({region.zone for region in fleet.regions if has_role(region, role)}))


def egress_zones(fleet: Fleet) -> tuple[str, ...]:
    """The residency zones that can send by themselves, sorted."""
    return role_zones(fleet, Role.EGRESS)


def static_records(fleet: Fleet) -> tuple[Record, ...]:
    """Every RRset of the fleet but the steered A and AAAA sets."""
    return (
        *_hosts(fleet),
        *_services(fleet),
        *_delegations(fleet),
        *(record for domain in fleet.domains for record in _domain(fleet, domain)),
        *_tlsa(fleet),
    )


def _tiers(fleet: Fleet) -> tuple[names.Tier, ...]:
    tiers: tuple[names.Tier, ...] = (1, 2)
    return tuple(tier for tier in tiers if mx_regions(fleet, tier))


def _both_families(fleet: Fleet, name: str, hosts: tuple[str, ...]) -> tuple[Record, Record]:
    zone, ttl = fleet.primary_domain, fleet.dns.ttl_seconds
    return (
        Record(zone, name, "A", ttl, needs=Addresses(hosts, 4)),
        Record(zone, name, "AAAA", ttl, needs=Addresses(hosts, 6)),
    )


def _hosts(fleet: Fleet) -> Iterable[Record]:
    """The nodes' own names, and what they may say of themselves in HELO (RFC 7208 2.3, 10.1.3)."""
    for region in fleet.regions:
        for group in region.groups:
            for number in range(1, group.count + 1):
                host = names.node_fqdn(fleet, region.region, group.name, number)
                yield from _both_families(fleet, host, (host,))
                spf = "v=spf1 a -all" if Role.EGRESS in group.roles else "v=spf1 -all"
                yield Record(fleet.primary_domain, host, "TXT", fleet.dns.ttl_seconds, (spf,))


_SERVICE_ROLES: tuple[tuple[names.Service, Role], ...] = (
    ("imap", Role.IMAP),
    ("pop3", Role.POP3),
    ("smtp", Role.SUBMISSION),
    ("egress", Role.EGRESS),
)


def _services(fleet: Fleet) -> Iterable[Record]:
    for service, role in _SERVICE_ROLES:
        for zone in role_zones(fleet, role):
            yield from _both_families(
                fleet, names.service_host(fleet, service, zone), role_hosts(fleet, role, zone)
            )


def _delegations(fleet: Fleet) -> Iterable[Record]:
    for zone in names.steering_zones(fleet):
        yield Record(fleet.primary_domain, zone, "NS", fleet.dns.ttl_seconds, needs=NameServers(zone))
        if fleet.dns.dnssec:
            yield Record(
                fleet.primary_domain, zone, "DS", fleet.dns.ttl_seconds, needs=DelegationSigners(zone)
            )


def _domain(fleet: Fleet, domain: str) -> Iterable[Record]:
    ttl = fleet.dns.ttl_seconds

    def record(name: str, kind: RecordType, *contents: str, needs: Need | None = None) -> Record:
        return Record(domain, name, kind, ttl, contents, needs)

    exchanges = tuple(
        f"{priority} {absolute(host)}"
        for tier, priority in ((1, fleet.mx.primary_priority), (2, fleet.mx.secondary_priority))
        if tier in _tiers(fleet)
        for host in names.mx_hosts(fleet, 1 if tier == 1 else 2)
    )
    if exchanges:
        yield Record(domain, domain, "MX", fleet.mx.record_ttl_seconds, exchanges)
    yield record(domain, "TXT", spf_value(fleet))
    yield record(f"_dmarc.{domain}", "TXT", dmarc_value(fleet))
    reports_domain = dmarc_reports(fleet).rpartition("@")[2]
    if domain == reports_domain:
        # RFC 7489 7.1: who receives another domain's reports says that it wants them.
        for other in fleet.domains:
            if other != domain:
                yield record(f"{other}._report._dmarc.{domain}", "TXT", "v=DMARC1")
    yield record(f"_smtp._tls.{domain}", "TXT", f"v=TLSRPTv1; rua=mailto:{tls_reports(fleet)}")
    if fleet.authentication.mta_sts is not MtaStsMode.OFF and all_mx_hosts(fleet):
        yield record(f"_mta-sts.{domain}", "TXT", f"v=STSv1; id={mta_sts_id(fleet)}")
        # The mx nodes serve the policy; the steered name keeps dead ones out of the answer.
        yield record(names.mta_sts_host(domain), "CNAME", absolute(all_mx_hosts(fleet)[0]))
    yield from _dkim(fleet, domain)
    yield from _discovery(fleet, domain)


def _dkim(fleet: Fleet, domain: str) -> Iterable[Record]:
    ttl = fleet.dns.ttl_seconds
    for region in fleet.regions:
        if not has_role(region, Role.SUBMISSION):
            continue
        for key in fleet.dkim.keys:
            if key.stage is KeyStage.GENERATED:
                continue
            selector = names.dkim_selector(fleet, region.region, key.serial)
            name = names.dkim_name(selector, domain)
            if domain != fleet.primary_domain:
                target = names.dkim_name(selector, fleet.primary_domain)
                yield Record(domain, name, "CNAME", ttl, (absolute(target),))
            elif key.stage in PUBLISHED:
                yield Record(domain, name, "TXT", ttl, needs=DkimPublic(region.region, key.serial))
            else:
                yield Record(domain, name, "TXT", ttl, (DKIM_REVOKED,))


_DISCOVERY: tuple[tuple[str, names.Service, Role, int], ...] = (
    ("_submissions", "smtp", Role.SUBMISSION, 465),
    ("_submission", "smtp", Role.SUBMISSION, 587),
    ("_imaps", "imap", Role.IMAP, 993),
    ("_pop3s", "pop3", Role.POP3, 995),
)


def _discovery(fleet: Fleet, domain: str) -> Iterable[Record]:
    """What mail programs look for (RFC 6186, RFC 8314 5.1); what is not offered is said so with a dot."""
    ttl = fleet.dns.ttl_seconds
    for label, service, role, port in _DISCOVERY:
        targets = (
            f"0 1 {port} {absolute(names.service_host(fleet, service, zone))}"
            for zone in role_zones(fleet, role)
        )
        yield Record(domain, f"{label}._tcp.{domain}", "SRV", ttl, tuple(targets) or ("0 0 0 .",))
    for label in ("_imap", "_pop3"):
        yield Record(domain, f"{label}._tcp.{domain}", "SRV", ttl, ("0 0 0 .",))


def _tlsa(fleet: Fleet) -> Iterable[Record]:
    """DANE for SMTP (RFC 7672) in the steering zones, and for clients at the services' names (RFC 7673)."""
    if not fleet.dns.dnssec:
        return
    ttl = fleet.dns.ttl_seconds
    for steering in fleet.dns.steering:
        zone = names.steering_zone(fleet, steering.label)
        for tier in _tiers(fleet):
            regions = tuple(region.region for region in mx_regions(fleet, tier))
            # A geo secondary may answer with any region of its tier, so each tier trusts all of its regions.
            name = f"_25._tcp.{names.mx_host(fleet, steering.label, tier)}"
            yield Record(zone, name, "TLSA", ttl, needs=CaHashes(regions))
    for _, service, role, port in _DISCOVERY:
        for zone in role_zones(fleet, role):
            regions = tuple(
                region.region for region in fleet.regions if region.zone == zone and has_role(region, role)
            )
            name = f"_{port}._tcp.{names.service_host(fleet, service, zone)}"
            yield Record(fleet.primary_domain, name, "TLSA", ttl, needs=CaHashes(regions))


def steering_provider(fleet: Fleet, zone: str) -> SteeringProvider | None:
    """Who serves a zone of the fleet's records: a steering provider, or None for the parent's."""
    for item in fleet.dns.steering:
        if names.steering_zone(fleet, item.label) == zone:
            return item.provider
    return None
