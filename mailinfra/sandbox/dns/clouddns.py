"""Cloud DNS's record sets as PowerDNS records.

Source: Cloud DNS REST reference (`ResourceRecordSet`, `RRSetRoutingPolicy`) and "DNS routing policies and
health checks". Of a policy's items only healthy endpoints are answered; an item without one is passed over: a
weighted item's share goes to the others, a geographic item's to the next nearest, unless fencing keeps it.
Where all are unhealthy, all count as healthy. Internal load balancers belong to private zones and are
refused.
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
from mailinfra.sandbox.dns.translate import Node, Probe, RRset, Translated, merged, rrset

Record = Mapping[str, Any]

_KNOWN = frozenset({"kind", "name", "type", "ttl", "rrdatas", "signatureRrdatas", "routingPolicy"})
_POLICIES = ("wrr", "geo", "primaryBackup")
_CHECK_BODIES: dict[str, tuple[Literal["tcp", "http", "https"], str, int]] = {
    "TCP": ("tcp", "tcpHealthCheck", 80),
    "HTTP": ("http", "httpHealthCheck", 80),
    "HTTPS": ("https", "httpsHealthCheck", 443),
}
_WEIGHT_STEPS = 1_000_000


def record_key(record: Record) -> tuple[str, str]:
    """What tells one record set from another: name and type."""
    return fqdn(record.get("name", "")), str(record.get("type", "")).upper()


def probe_of(check_id: str, config: Mapping[str, Any], address: str) -> Probe:
    """A Compute Engine `healthCheck` as a probe of one endpoint.

    Raises `RefusedError` for what Cloud DNS does not allow.
    """
    where = f"health check {check_id}"
    kind = str(config.get("type") or "")
    if not kind:  # Terraform-like callers leave the type to the body that is there
        kind = next((k for k, (_, body, _) in _CHECK_BODIES.items() if config.get(body)), "")
    if kind not in _CHECK_BODIES:
        allowed = ", ".join(_CHECK_BODIES)
        raise RefusedError(f"{where}: type {kind!r}; allowed for DNS are {allowed}")
    plain, body_name, default_port = _CHECK_BODIES[kind]
    body = config.get(body_name) or {}
    interval = _number(config.get("checkIntervalSec", 30), f"{where}: checkIntervalSec", 30, 300)
    timeout = _number(config.get("timeoutSec", 5), f"{where}: timeoutSec", 1, 300)
    if timeout > interval:
        raise RefusedError(f"{where}: timeoutSec {timeout:g} is longer than checkIntervalSec {interval:g}")
    return Probe(
        plain,
        address=address,
        host=str(body.get("host") or "") or None,
        port=int(_number(body.get("port") or default_port, f"{where}: port", 1, 65535)),
        path=str(body.get("requestPath") or "/"),
        match=str(body.get("response") or "") or None if plain != "tcp" else None,
        interval=interval,
        timeout=timeout,
        rise=int(_number(config.get("healthyThreshold", 2), f"{where}: healthyThreshold", 1, 10)),
        fall=int(_number(config.get("unhealthyThreshold", 2), f"{where}: unhealthyThreshold", 1, 10)),
    )


def probe_key(check_id: str, address: str) -> str:
    """The prober's name of a health check as it applies to one endpoint."""
    return Probe("tcp").key("clouddns", check_id, address)


def translate(
    zone: str, records: Sequence[Record], health_checks: Mapping[str, Mapping[str, Any]]
) -> Translated:
    """One managed zone's record sets as PowerDNS keeps them.

    `health_checks` are keyed as policies name them.
    """
    zone = fqdn(zone)
    out = Translated()
    built: list[RRset] = []
    taken: set[tuple[str, str]] = set()
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise RefusedError(f"record set {number}: {record!r} is no record set")
        where = f"record set {number} ({record.get('name')} {record.get('type')})"
        if unknown := sorted(set(record) - _KNOWN):
            raise RefusedError(
                f"{where}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(_KNOWN))}"
            )
        name, rtype = key = record_key(record)
        rtype_of(rtype, where)
        if name == zone and rtype in ("SOA", "NS"):
            continue  # the name server's own
        where = f"{name} {rtype}"
        if not is_below(name, zone):
            raise RefusedError(f"{where}: the name is not in the zone {zone}")
        if key in taken:
            raise RefusedError(f"{where}: two record sets of the same name and type")
        taken.add(key)
        node = _node(rtype, record, health_checks, where, out.probes)
        made = rrset(name, rtype, ttl_of(record.get("ttl", 300), where), node, where)
        if made is not None:
            built.append(made)
    out.rrsets = merged(built)
    return out


def _node(
    rtype: str,
    record: Record,
    checks: Mapping[str, Mapping[str, Any]],
    where: str,
    probes: dict[str, Probe],
) -> Node:
    policy = record.get("routingPolicy")
    rrdatas = record.get("rrdatas") or ()
    if not policy:
        if not rrdatas:
            raise RefusedError(f"{where}: neither rrdatas nor routingPolicy is given; one is needed")
        return Node(values=_values(rtype, rrdatas, where))
    if rrdatas:
        raise RefusedError(f"{where}: both rrdatas and routingPolicy are given; one is allowed")
    if not isinstance(policy, Mapping):
        raise RefusedError(f"{where}: routingPolicy {policy!r} is no policy")
    if unknown := sorted(set(policy) - {*_POLICIES, "healthCheck", "kind"}):
        raise RefusedError(
            f"{where}: routingPolicy: unknown {', '.join(unknown)}; allowed are {', '.join(_POLICIES)}"
        )
    given = [p for p in _POLICIES if policy.get(p)]
    if len(given) != 1:
        raise RefusedError(
            f"{where}: routingPolicy needs exactly one of {', '.join(_POLICIES)}; "
            f"found {', '.join(given) or 'none'}"
        )
    health = _Health(rtype, policy.get("healthCheck"), checks, probes)
    if policy.get("wrr"):
        return _weighted(rtype, policy["wrr"], health, where)
    if policy.get("geo"):
        return _nearest(rtype, policy["geo"], health, where)
    return _failover(rtype, policy["primaryBackup"], health, where)


class _Health:
    """The endpoints of one policy and the check that all of them share."""

    def __init__(
        self, rtype: str, check: object, checks: Mapping[str, Mapping[str, Any]], probes: dict[str, Probe]
    ) -> None:
        self.rtype, self.check, self.checks, self.probes = rtype, check, checks, probes

    def endpoints(self, targets: object, where: str) -> tuple[tuple[str, str | None], ...]:
        """The external endpoints of a `healthCheckedTargets`, each with the name of its probe."""
        if not targets:
            return ()
        if not isinstance(targets, Mapping):
            raise RefusedError(f"{where}: healthCheckedTargets {targets!r} is no list of targets")
        if targets.get("internalLoadBalancers"):
            raise RefusedError(f"{where}: internalLoadBalancers are for private zones; this zone is public")
        found: list[tuple[str, str | None]] = []
        for text in targets.get("externalEndpoints") or ():
            if self.rtype not in ("A", "AAAA"):
                raise RefusedError(
                    f"{where}: health-checked targets are allowed in A and AAAA record sets only"
                )
            address = canonical(self.rtype, text, where)
            if not self.check:
                raise RefusedError(f"{where}: externalEndpoints without the policy's healthCheck")
            check_id = str(self.check)
            if check_id not in self.checks:
                raise RefusedError(f"{where}: health check {check_id!r} does not exist")
            key = probe_key(check_id, address)
            self.probes[key] = probe_of(check_id, self.checks[check_id], str(ipaddress.ip_address(address)))
            found.append((address, key))
        return tuple(found)


def _values(rtype: str, rrdatas: object, where: str) -> tuple[str, ...]:
    if isinstance(rrdatas, str) or not isinstance(rrdatas, Sequence):
        raise RefusedError(f"{where}: rrdatas {rrdatas!r} is no list of values")
    texts = []
    for value in rrdatas:
        if not isinstance(value, str):
            raise RefusedError(f"{where}: rrdatas holds {value!r}; allowed are texts")
        text = text_strings(value, where, quoted_only=False) if rtype in TEXT_TYPES else value
        texts.append(canonical(rtype, text, where))
    if len(set(texts)) < len(texts):
        raise RefusedError(f"{where}: a value is given twice")
    return tuple(texts)


def _item(rtype: str, item: object, health: _Health, where: str, **position: Any) -> Node:
    if not isinstance(item, Mapping):
        raise RefusedError(f"{where}: {item!r} is no item of a policy")
    plain = _values(rtype, item.get("rrdatas") or (), where)
    checked = health.endpoints(item.get("healthCheckedTargets"), where)
    if not plain and not checked:
        raise RefusedError(f"{where}: the item has neither rrdatas nor healthCheckedTargets; one is needed")
    if not checked:
        return Node(values=plain, **position)
    return Node(addresses=(*((value, None) for value in plain), *checked), **position)


def _items(policy: object, name: str, where: str) -> Sequence[object]:
    items = policy.get("items") or policy.get("item") if isinstance(policy, Mapping) else None
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        raise RefusedError(f"{where}: routingPolicy.{name} needs at least one item")
    return items


def _weighted(rtype: str, policy: object, health: _Health, where: str) -> Node:
    members = []
    weights = []
    for number, item in enumerate(_items(policy, "wrr", where)):
        place = f"{where}: wrr item {number}"
        if not isinstance(item, Mapping):
            raise RefusedError(f"{place}: {item!r} is no item of a policy")
        weights.append(_number(item.get("weight"), f"{place}: weight", 0, 1_000_000))
        members.append(_item(rtype, item, health, place))
    total = sum(weights)
    if total <= 0:
        raise RefusedError(f"{where}: all weights are 0; at least one must be larger")
    # PowerDNS draws by whole numbers; fractions keep six digits of their share.
    whole = all(w.is_integer() for w in weights)
    shares = [int(w) if whole else (max(1, round(w / total * _WEIGHT_STEPS)) if w else 0) for w in weights]
    return Node(
        policy="weighted",
        members=tuple(replace(m, weight=s) for m, s in zip(members, shares, strict=True)),
    )


def _nearest(rtype: str, policy: object, health: _Health, where: str) -> Node:
    members = []
    taken: set[str] = set()
    for number, item in enumerate(_items(policy, "geo", where)):
        place = f"{where}: geo item {number}"
        location = str(item.get("location") or "") if isinstance(item, Mapping) else ""
        region = PLACES.get(location)
        if region is None or region.cloud is not Cloud.GCP:
            raise RefusedError(f"{place}: location {location!r} is no region of Google Cloud")
        if location in taken:
            raise RefusedError(f"{place}: a second item for {location}")
        taken.add(location)
        members.append(
            _item(rtype, item, health, place, latitude=region.latitude, longitude=region.longitude)
        )
    fenced = bool(
        isinstance(policy, Mapping) and (policy.get("enableFencing") or policy.get("enableGeoFencing"))
    )
    return Node(policy="nearest", members=tuple(members), fenced=fenced)


def _failover(rtype: str, policy: object, health: _Health, where: str) -> Node:
    if not isinstance(policy, Mapping):
        raise RefusedError(f"{where}: primaryBackup {policy!r} is no policy")
    primary = health.endpoints(policy.get("primaryTargets"), f"{where}: primaryTargets")
    if not primary:
        raise RefusedError(f"{where}: primaryBackup needs primaryTargets with at least one external endpoint")
    backup = _nearest(rtype, policy.get("backupGeoTargets") or {}, health, f"{where}: backupGeoTargets")
    trickle = _number(policy.get("trickleTraffic") or 0, f"{where}: trickleTraffic", 0, 1)
    return Node(policy="failover", members=(Node(addresses=primary), backup), trickle=trickle)


def _number(value: object, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RefusedError(f"{where} {value!r} is no number")
    try:
        number = float(value)
    except ValueError as error:
        raise RefusedError(f"{where} {value!r} is no number") from error
    if not low <= number <= high:
        raise RefusedError(f"{where} {number:g} is outside {low:g} to {high:g}")
    return number
