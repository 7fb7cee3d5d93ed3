"""Route 53's resource record sets as PowerDNS records.

Source: Amazon Route 53 API reference (`ResourceRecordSet`, `HealthCheckConfig`) and its developer guide,
"Choosing a routing policy" and "How Amazon Route 53 chooses records when health checking is configured". Not
served, and refused: CIDR and geoproximity routing, traffic policies, aliases of AWS resources, CloudWatch and
recovery-control checks.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from mailinfra.fleet import Cloud
from mailinfra.places import PLACES
from mailinfra.sandbox.dns.rdata import (
    TEXT_TYPES,
    RefusedError,
    canonical,
    fqdn,
    is_below,
    rtype_of,
    text_strings,
    ttl_of,
)
from mailinfra.sandbox.dns.translate import Node, Policy, Probe, RRset, Translated, merged, rrset

Record = Mapping[str, Any]
Key = tuple[str, str]

CONTINENTS = frozenset({"AF", "AN", "AS", "EU", "NA", "OC", "SA"})
_POLICY_FIELDS: dict[str, Policy] = {
    "Weight": "weighted",
    "Region": "nearest",
    "GeoLocation": "location",
    "Failover": "failover",
    "MultiValueAnswer": "multivalue",
}
_UNSERVED = ("CidrRoutingConfig", "GeoProximityLocation", "TrafficPolicyInstanceId")
_KNOWN = frozenset(
    {
        "Name",
        "Type",
        "TTL",
        "ResourceRecords",
        "AliasTarget",
        "SetIdentifier",
        "HealthCheckId",
        *_POLICY_FIELDS,
    }
)
_NO_ALIAS = frozenset({"NS", "SOA"})
_CHECK_KINDS: dict[str, Literal["tcp", "http", "https"]] = {
    "TCP": "tcp",
    "HTTP": "http",
    "HTTPS": "https",
    "HTTP_STR_MATCH": "http",
    "HTTPS_STR_MATCH": "https",
}
SERVED_TTL = 60
"""An alias without a target of its own TTL answers with this, in seconds."""


def record_key(record: Record) -> tuple[str, str, str]:
    """What tells one record set from another: name, type and set identifier."""
    return (
        fqdn(record.get("Name", "")),
        str(record.get("Type", "")).upper(),
        str(record.get("SetIdentifier") or ""),
    )


def probe_of(check_id: str, config: Mapping[str, Any]) -> Probe | None:
    """A `HealthCheckConfig` as a probe; None if the check is disabled, which counts as healthy.

    Raises `RefusedError` for a kind of check that the sandbox does not run, or values outside Route 53's
    ranges.
    """
    where = f"health check {check_id}"
    kind = str(config.get("Type", ""))
    inverted = bool(config.get("Inverted", False))
    if config.get("Disabled"):
        return None
    if kind == "CALCULATED":
        children = tuple(str(c) for c in config.get("ChildHealthChecks") or ())
        threshold = _whole(config.get("HealthThreshold", 0), f"{where}: HealthThreshold", 0, 256)
        return Probe("calculated", children=children, threshold=threshold, inverted=inverted, rise=1, fall=1)
    if kind not in _CHECK_KINDS:
        allowed = ", ".join(sorted([*_CHECK_KINDS, "CALCULATED"]))
        raise RefusedError(f"{where}: Type {kind!r} is not run here; allowed are {allowed}")
    address = config.get("IPAddress") or None
    host = config.get("FullyQualifiedDomainName") or None
    if address is not None:
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError as error:
            raise RefusedError(f"{where}: IPAddress {address!r} is no IP address") from error
    elif host is None:
        raise RefusedError(f"{where}: neither IPAddress nor FullyQualifiedDomainName is given; one is needed")
    default_port = {"HTTP": 80, "HTTP_STR_MATCH": 80, "HTTPS": 443, "HTTPS_STR_MATCH": 443}.get(kind)
    interval = _whole(config.get("RequestInterval", 30), f"{where}: RequestInterval", 10, 30)
    if interval not in (10, 30):
        raise RefusedError(f"{where}: RequestInterval {interval} seconds; allowed are 10 and 30")
    threshold = _whole(config.get("FailureThreshold", 3), f"{where}: FailureThreshold", 1, 10)
    return Probe(
        _CHECK_KINDS[kind],
        address=address,
        host=fqdn(host).rstrip(".") if host else None,
        port=_whole(config.get("Port") or default_port, f"{where}: Port", 1, 65535),
        path=str(config.get("ResourcePath") or "/"),
        match=str(config.get("SearchString") or "") if kind.endswith("_STR_MATCH") else None,
        interval=float(interval),
        # Route 53 gives a TCP connection 10 seconds and an HTTP one 4, and 2 more for the answer.
        timeout=10.0 if kind == "TCP" else 6.0,
        rise=threshold,
        fall=threshold,
        inverted=inverted,
    )


def probe_key(check_id: str) -> str:
    """The prober's name of a Route 53 health check, the same for as long as the check has its id."""
    return Probe("tcp").key("route53", check_id)


def translate(
    zone: str,
    records: Sequence[Record],
    health_checks: Mapping[str, Mapping[str, Any]],
    siblings: Mapping[str, Sequence[Record]] | None = None,
) -> Translated:
    """One hosted zone's record sets as PowerDNS keeps them.

    `siblings` are the provider's other zones by name: aliases may point into them. Raises `RefusedError`.
    """
    zone = fqdn(zone)
    book = _Book(zone, records, health_checks, siblings or {})
    out = Translated()
    built: list[RRset] = []
    for name, rtype in book.groups:
        if name == zone and rtype in _NO_ALIAS:
            continue  # the name server's own
        if not is_below(name, zone):
            raise RefusedError(f"{name} {rtype}: the name is not in the zone {zone}")
        node, ttl = book.tree((name, rtype), ())
        if node is not None and (made := rrset(name, rtype, ttl, node, f"{name} {rtype}")) is not None:
            built.append(made)
    out.rrsets = merged(built)
    out.warnings = book.warnings
    for check_id in sorted(book.used_checks()):
        probe = book.probe(check_id)
        if probe is not None:
            out.probes[probe_key(check_id)] = probe
    return out


class _Book:
    """The record sets of all zones by name and type, and the trees made from them."""

    def __init__(
        self,
        zone: str,
        records: Sequence[Record],
        health_checks: Mapping[str, Mapping[str, Any]],
        siblings: Mapping[str, Sequence[Record]],
    ) -> None:
        self.checks = health_checks
        self.warnings: list[str] = []
        self.groups = _grouped(records)
        self.zones = {zone, *map(fqdn, siblings)}
        self.all: dict[Key, list[Record]] = {}
        for other in siblings.values():
            self.all.update(_grouped(other))
        self.all.update(self.groups)
        self._used: set[str] = set()

    def used_checks(self) -> set[str]:
        """Health checks that the trees so far lean on, children of calculated ones too."""
        found: set[str] = set()
        queue = list(self._used)
        while queue:
            check_id = queue.pop()
            if check_id in found:
                continue
            found.add(check_id)
            queue.extend(str(c) for c in self.checks.get(check_id, {}).get("ChildHealthChecks") or ())
        return found

    def probe(self, check_id: str) -> Probe | None:
        if check_id not in self.checks:
            raise RefusedError(f"health check {check_id!r} does not exist")
        probe = probe_of(check_id, self.checks[check_id])
        if probe is None or probe.kind != "calculated":
            return probe
        for child in probe.children:
            if child not in self.checks:
                raise RefusedError(f"health check {check_id}: its child {child!r} does not exist")
        return replace(probe, children=tuple(probe_key(c) for c in probe.children))

    def tree(self, key: Key, seen: tuple[Key, ...]) -> tuple[Node | None, int]:
        """The answer tree of a name and type, and its TTL; None if there is nothing there."""
        where = f"{key[0]} {key[1]}"
        if key in seen:
            raise RefusedError(
                f"{where}: the aliases form a circle: {' → '.join(f'{n} {t}' for n, t in (*seen, key))}"
            )
        records = self.all.get(key)
        if records is None:
            return None, SERVED_TTL
        policies = {_policy(r, where) for r in records}
        if len(policies) > 1:
            names = ", ".join(sorted(str(p or "simple") for p in policies))
            raise RefusedError(
                f"{where}: record sets of one name and type must share one routing policy, found {names}"
            )
        policy = policies.pop()
        if policy is None and len(records) > 1:
            raise RefusedError(f"{where}: {len(records)} simple record sets; one is allowed")
        members: list[Node] = []
        ttls: list[int] = []
        for record in records:
            node, ttl = self._member(record, key, policy, (*seen, key))
            if node is not None:
                members.append(node)
                ttls.append(ttl)
        if not members:
            return None, SERVED_TTL
        if policy is None:
            return members[0], ttls[0]
        _distinct(members, policy, where)
        if policy == "failover":
            members.sort(key=lambda m: m.place != "PRIMARY")
            members = [replace(m, place=None) for m in members]
        if policy == "location" and all(m.place != "*" for m in members):
            self.warnings.append(
                f"{where}: no record set for the default location: clients elsewhere get no answer, "
                "and PowerDNS cannot prove that to validating resolvers if the zone is signed"
            )
        return Node(policy=policy, members=tuple(members)), min(ttls)

    def _member(
        self, record: Record, key: Key, policy: Policy | None, seen: tuple[Key, ...]
    ) -> tuple[Node | None, int]:
        where = f"{key[0]} {key[1]}" + (
            f" ({record['SetIdentifier']})" if record.get("SetIdentifier") else ""
        )
        base: dict[str, Any] = _position(record, policy, where)
        check_id = record.get("HealthCheckId") or None
        if check_id is not None and policy is not None:  # the health of a simple record set changes nothing
            probe = self.probe(str(check_id))
            self._used.add(str(check_id))
            if probe is not None:
                base["check"] = probe_key(str(check_id))
        target = record.get("AliasTarget")
        values = record.get("ResourceRecords")
        if target and values:
            raise RefusedError(f"{where}: both AliasTarget and ResourceRecords are given; one is allowed")
        if target:
            node, ttl = self._alias(target, key[1], where, seen)
            if node is None:
                return None, ttl
            return Node(alias=node, evaluate=bool(target.get("EvaluateTargetHealth")), **base), ttl
        if not values:
            raise RefusedError(f"{where}: neither ResourceRecords nor AliasTarget is given; one is needed")
        if record.get("TTL") is None:
            raise RefusedError(f"{where}: TTL is missing; a record set that is no alias needs one")
        texts = tuple(_value(key[1], v, where) for v in values)
        if len(set(texts)) < len(texts):
            raise RefusedError(f"{where}: a value is given twice")
        if policy == "multivalue" and len(texts) != 1:
            raise RefusedError(f"{where}: {len(texts)} values; a multivalue answer record has exactly one")
        return Node(values=texts, **base), ttl_of(record["TTL"], where)

    def _alias(
        self, target: Mapping[str, Any], rtype: str, where: str, seen: tuple[Key, ...]
    ) -> tuple[Node | None, int]:
        if rtype in _NO_ALIAS:
            raise RefusedError(f"{where}: a record of type {rtype} cannot be an alias")
        name = fqdn(target.get("DNSName", ""))
        if not any(is_below(name, zone) for zone in self.zones):
            raise RefusedError(
                f"{where}: the alias target {name} is in no hosted zone of this sandbox; "
                f"zones are {', '.join(sorted(self.zones))}; "
                "aliases of other AWS resources are not served"
            )
        node, ttl = self.tree((name, rtype), seen)
        if node is None:
            self.warnings.append(
                f"{where}: the alias target {name} has no {rtype} record set, so it has no answer"
            )
        return node, ttl


def _grouped(records: Sequence[Record]) -> dict[Key, list[Record]]:
    groups: dict[Key, list[Record]] = {}
    taken: set[tuple[str, str, str]] = set()
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise RefusedError(f"record set {number}: {record!r} is no record set")
        where = f"record set {number} ({record.get('Name')} {record.get('Type')})"
        for name in _UNSERVED:
            if record.get(name):
                raise RefusedError(f"{where}: {name} is not served here")
        if unknown := sorted(set(record) - _KNOWN - set(_UNSERVED)):
            raise RefusedError(
                f"{where}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(_KNOWN))}"
            )
        name, _, identifier = key = record_key(record)
        rtype = rtype_of(record.get("Type"), where)
        if key in taken:
            raise RefusedError(f"{name} {rtype}: two record sets with the set identifier {identifier!r}")
        taken.add(key)
        groups.setdefault((name, rtype), []).append(record)
    return groups


def _policy(record: Record, where: str) -> Policy | None:
    found = [
        policy
        for name, policy in _POLICY_FIELDS.items()
        if record.get(name) or (name == "Weight" and record.get(name) is not None)
    ]
    if len(found) > 1:
        raise RefusedError(f"{where}: more than one routing policy: {', '.join(found)}")
    if found and not record.get("SetIdentifier"):
        raise RefusedError(f"{where}: SetIdentifier is missing; a record set with a routing policy needs one")
    if not found and record.get("SetIdentifier"):
        raise RefusedError(f"{where}: SetIdentifier {record['SetIdentifier']!r} without a routing policy")
    return found[0] if found else None


def _position(record: Record, policy: Policy | None, where: str) -> dict[str, Any]:
    """What a record set is as a member of its policy."""
    if policy == "weighted":
        return {"weight": _whole(record["Weight"], f"{where}: Weight", 0, 255)}
    if policy == "nearest":
        place = PLACES.get(str(record["Region"]))
        if place is None or place.cloud is not Cloud.AWS:
            raise RefusedError(f"{where}: Region {record['Region']!r} is no region of AWS")
        return {"latitude": place.latitude, "longitude": place.longitude}
    if policy == "location":
        return {"place": _place(record["GeoLocation"], where)}
    if policy == "failover":
        if record["Failover"] not in ("PRIMARY", "SECONDARY"):
            raise RefusedError(f"{where}: Failover {record['Failover']!r}; allowed are PRIMARY and SECONDARY")
        return {"place": record["Failover"]}
    return {}


def _place(location: object, where: str) -> str:
    if not isinstance(location, Mapping):
        raise RefusedError(f"{where}: GeoLocation {location!r} is no location")
    continent, country, state = (
        str(location.get(k) or "") for k in ("ContinentCode", "CountryCode", "SubdivisionCode")
    )
    if continent and (country or state):
        raise RefusedError(f"{where}: GeoLocation has a continent and a country; one is allowed")
    if continent:
        if continent not in CONTINENTS:
            raise RefusedError(
                f"{where}: ContinentCode {continent!r} is unknown; "
                f"allowed are {', '.join(sorted(CONTINENTS))}"
            )
        return f"continent:{continent}"
    if country == "*" and not state:
        return "*"
    if not (len(country) == 2 and country.isascii() and country.isalpha() and country.isupper()):
        raise RefusedError(
            f"{where}: CountryCode {country!r}; allowed is '*' or a code of ISO 3166-1 such as DE"
        )
    if state:
        if country not in ("US", "UA") or not (state.isascii() and state.isalnum() and len(state) <= 3):
            raise RefusedError(
                f"{where}: SubdivisionCode {state!r} of {country}; only those of US and UA are allowed"
            )
        return f"{country}-{state}"
    return country


def _distinct(members: list[Node], policy: Policy, where: str) -> None:
    """Two members for one place leave no rule which one to answer; Route 53 refuses them."""
    if policy in ("location", "failover"):
        places: list[object] = [m.place for m in members]
    elif policy == "nearest":
        places = [(m.latitude, m.longitude) for m in members]
    else:
        return
    if len(set(places)) < len(places):
        double = next(p for p in places if places.count(p) > 1)
        raise RefusedError(f"{where}: two record sets for the same place or role {double!r}")


def _value(rtype: str, entry: object, where: str) -> str:
    value = entry.get("Value") if isinstance(entry, Mapping) else None
    if not isinstance(value, str):
        raise RefusedError(f"{where}: ResourceRecords holds {entry!r}; allowed are entries with a text Value")
    if rtype in TEXT_TYPES:
        value = text_strings(value, where, quoted_only=True)
    return canonical(rtype, value, where)


def _whole(value: object, where: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RefusedError(f"{where} {value!r} is no whole number")
    try:
        number = int(value)
        if float(value) != number:
            raise ValueError(value)
    except (ValueError, OverflowError) as error:
        raise RefusedError(f"{where} {value!r} is no whole number") from error
    if not low <= number <= high:
        raise RefusedError(f"{where} {number} is outside {low} to {high}")
    return number
