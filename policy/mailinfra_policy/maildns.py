"""The DNS records of a stack in one form, whichever service holds them.

Names are absolute, in lower case and without the final dot; values are in presentation form (RFC 1035 5.1), TXT in one
piece and unquoted, MX as `10 host` at Cloudflare too. What is not known yet stays `UNKNOWN`; its resource tells what it
was made from.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Finding, Guard
from mailinfra_policy.values import UNKNOWN, Value

ROUTE53 = "aws:route53/record:Record"
CLOUDDNS = "gcp:dns/recordSet:RecordSet"
CLOUDFLARE = "cloudflare:index/dnsRecord:DnsRecord"
CLOUDFLARE_OLD = "cloudflare:index/record:Record"
RECORDS = (ROUTE53, CLOUDDNS, CLOUDFLARE, CLOUDFLARE_OLD)
"""The types that hold records."""
ZONES: Mapping[str, str] = {
    "aws:route53/zone:Zone": "name",
    "gcp:dns/managedZone:ManagedZone": "dnsName",
    "cloudflare:index/zone:Zone": "name",
}
"""The types of zones, and where each has its apex."""
_ZONE_OF = {ROUTE53: "zoneId", CLOUDDNS: "managedZone", CLOUDFLARE: "zoneId", CLOUDFLARE_OLD: "zoneId"}
VALUES: Mapping[str, str] = {
    ROUTE53: "records[*]",
    CLOUDDNS: "rrdatas[*]",
    CLOUDFLARE: "content",
    CLOUDFLARE_OLD: "content",
}
"""Where each type has its plain values."""
_ROUTE53_POLICIES = {
    "weightedRoutingPolicies": "weighted",
    "geolocationRoutingPolicies": "geo",
    "geoproximityRoutingPolicy": "geo",
    "latencyRoutingPolicies": "latency",
    "failoverRoutingPolicies": "failover",
    "cidrRoutingPolicy": "cidr",
    "multivalueAnswerRoutingPolicy": "multivalue",
}


@dataclass(frozen=True)
class Answer:
    """One value of a record set, and where it stands. `group` names the item of a routing policy that it is in."""

    value: Value
    path: str
    group: str = ""


@dataclass(frozen=True)
class RecordSet:
    """What one resource says of one name and type.

    `owner` and `kind` may be `UNKNOWN`. `policy` is how it is chosen among its like: "" (the only one), `weighted`,
    `geo`, `latency`, `failover`, `cidr`, `multivalue`, or `UNKNOWN`. `alias` is the name that it takes its answers from
    (Route 53).
    """

    resource: Resource
    owner: Value
    kind: Value
    ttl: Value
    answers: tuple[Answer, ...]
    policy: Value = ""
    alias: Value = None

    @property
    def values(self) -> list[Value]:
        """Its values."""
        return [answer.value for answer in self.answers]

    @property
    def path(self) -> str:
        """Where its first value stands, or should."""
        return self.answers[0].path if self.answers else VALUES[self.resource.type].removesuffix("[*]")


class MailDns:
    """All record sets of a stack, and the zones that they lie in. Made by `stack.derived(MailDns)`."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.zones = [zone for zone in stack.of(*ZONES) if not _private(zone)]
        self.sets = [found for resource in stack.of(*RECORDS) if (found := self._read(resource)) is not None]
        self._by_name: dict[tuple[Value, Value], list[RecordSet]] = {}
        for item in self.sets:
            self._by_name.setdefault((item.owner, item.kind), []).append(item)
        self._owners = {item.owner for item in self.sets}

    def of(self, owner: str, kind: str) -> list[RecordSet]:
        """The sets of a name and type, by a wildcard where nothing else stands at the name (RFC 4592)."""
        found = self._by_name.get((owner, kind), [])
        if found or owner in self._owners:
            return found
        _, _, above = owner.partition(".")
        return self._by_name.get((f"*.{above}", kind), []) if above else []

    def exactly(self, owner: str, kind: str) -> list[RecordSet]:
        """The sets of a name and type, wildcards left out."""
        return self._by_name.get((owner, kind), [])

    def answers(self, owner: str, kind: str) -> list[tuple[RecordSet, Answer]]:
        """Every value of a name and type; a CNAME or an alias of the stack is followed."""
        seen: set[str] = set()
        waiting, found = [owner], []
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for item in self.of(name, kind):
                found += [(item, answer) for answer in item.answers]
                waiting += [item.alias] if isinstance(item.alias, str) else []
            for item in self.of(name, "CNAME"):
                waiting += [name_of(value) for value in item.values if isinstance(value, str)]
        return found

    @cached_property
    def domains(self) -> Mapping[str, list[RecordSet]]:
        """The mail domains (each name with an MX record that names a host, RFC 7505) with their MX sets."""
        found: dict[str, list[RecordSet]] = {}
        for item in self.sets:
            if item.kind == "MX" and isinstance(item.owner, str) and not _null_mx(item):
                found.setdefault(item.owner, []).append(item)
        return found

    @cached_property
    def unknown_mx(self) -> list[RecordSet]:
        """MX sets whose domain is not known."""
        return [item for item in self.sets if item.owner is UNKNOWN and item.kind == "MX"]

    def exchanges(self, domain: str) -> list[tuple[Value, Value, RecordSet, Answer]]:
        """The mail exchangers of a domain: (preference, host, set, answer), `UNKNOWN` where not known."""
        found = []
        for item in self.domains.get(domain, []):
            for answer in item.answers:
                preference, host = exchange(answer.value)
                found.append((preference, host, item, answer))
        return found

    def zone_of(self, item: RecordSet) -> Resource | None:
        """The zone of the stack that a set lies in."""
        return self._zone(item.resource)

    def _zone(self, resource: Resource) -> Resource | None:
        found = self.stack.referred(resource, _ZONE_OF[resource.type], *ZONES)
        return found[0] if len(found) == 1 else None

    def _read(self, resource: Resource) -> RecordSet | None:
        zone = self._zone(resource)
        if zone is not None and _private(zone):
            return None
        return record_set(resource, zone.get(ZONES[zone.type]) if zone is not None else None)


def record_set(resource: Resource, apex: Value = None) -> RecordSet:
    """What one record resource says by itself; `apex` is its zone's name, which a relative owner name is below."""
    kind = resource.get("type")
    kind = kind.upper() if isinstance(kind, str) else kind
    owner = _owner(resource.get("name"), apex, resource.type)
    ttl = resource.get("ttl")
    if resource.type == ROUTE53:
        return RecordSet(
            resource,
            owner,
            kind,
            ttl,
            tuple(_plain(resource, "records[*]", kind)),
            _route53_policy(resource),
            _alias(resource),
        )
    if resource.type == CLOUDDNS:
        policy, answers = _clouddns(resource, kind)
        return RecordSet(resource, owner, kind, ttl, answers, policy)
    return RecordSet(resource, owner, kind, ttl, (_cloudflare(resource, kind),))


def dns(context: Context) -> MailDns:
    """The DNS records of the context's stack."""
    return context.stack.derived(MailDns)


def of_kind(*kinds: str) -> Callable[[Resource, Value], bool]:
    """For guards: whether a record resource is of one of these types."""
    return lambda resource, _value: resource.get("type") in kinds


def text_guards(starts: str, *wrong: str, needed: bool = False) -> dict[str, tuple[Guard, ...]]:
    """For rules on TXT records: guards on the values that start with this text, at every service."""

    def ours(resource: Resource, value: Value) -> bool:
        return (
            resource.get("type") == "TXT"
            and isinstance(value, str)
            and txt(value).lower().startswith(starts.lower())
        )

    return {token: (Guard(VALUES[token], wrong=wrong, needed=needed, when=ours),) for token in RECORDS}


def name_of(text: str) -> str:
    """A name in one form: lower case, no final dot."""
    return text.strip().lower().removesuffix(".")


def within(name: str, apex: str) -> bool:
    """Whether a name is the apex or lies below it."""
    return name == apex or name.endswith(f".{apex}")


def exchange(value: Value) -> tuple[Value, Value]:
    """An MX value's preference and host; a value that is none gives (None, None)."""
    if value is UNKNOWN:
        return UNKNOWN, UNKNOWN
    match = re.fullmatch(r"\s*(\d{1,5})\s+(\S+)\s*", value) if isinstance(value, str) else None
    return (int(match[1]), name_of(match[2])) if match else (None, None)


def txt(text: str) -> str:
    """A TXT value's strings joined (RFC 7208 3.3): `"a" "b"`, Route 53's inner `a""b`, or plain text."""
    stripped = text.strip()
    if not stripped.startswith('"'):
        # Route 53's provider adds the outer quotes: `""` parts the strings.
        return _unescape(re.sub(r'"\s*"', "", text))
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', stripped)
    return _unescape("".join(strings))


def _unescape(text: str) -> str:
    text = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1]) % 256), text)
    return re.sub(r"\\(.)", r"\1", text)


def tag_list(text: str) -> dict[str, str] | None:
    """A `tag=value; …` record (RFC 6376 3.2) as a dict with its order; None where it is no such list."""
    found: dict[str, str] = {}
    parts = text.split(";")
    if not parts[-1].strip():
        parts = parts[:-1]
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or name in found:
            return None
        found[name] = value.strip()
    return found


def undecided(item: RecordSet, answer: Answer, allowed: str) -> Finding:
    """The finding for a record that is not known yet."""
    return Finding(item.resource, answer.path, str(UNKNOWN), allowed, unknown=True)


def lacking(sets: list[RecordSet], found: str, allowed: str) -> Iterator[Finding]:
    """The finding for a mail domain that lacks a record: it blames the domain's MX record."""
    yield Finding(sets[0].resource, "", found, allowed)


def _private(zone: Resource) -> bool:
    return zone.get("visibility") == "private" or bool(zone.props.get("vpcs") not in (None, [], UNKNOWN))


def _owner(name: Value, apex: Value, token: str) -> Value:
    if name is None and token == CLOUDFLARE_OLD:
        return UNKNOWN
    if not isinstance(name, str):
        return UNKNOWN
    text = name.strip().lower().replace("\\052", "*")
    if apex is UNKNOWN:
        return name_of(text) if text.endswith(".") else UNKNOWN
    top = name_of(apex) if isinstance(apex, str) else ""
    if text in ("", "@"):
        return top or UNKNOWN
    if text.endswith(".") or not top or within(text, top):
        return name_of(text)
    # Route 53's and Cloudflare's providers put the zone's name behind a relative one.
    return f"{text}.{top}"


def _text(value: Value, kind: Value) -> Value:
    return txt(value) if kind == "TXT" and isinstance(value, str) else value


def _plain(resource: Resource, path: str, kind: Value, group: str = "") -> Iterator[Answer]:
    for concrete, value in resource.each(path):
        yield Answer(_text(value, kind), concrete, group)


def _route53_policy(resource: Resource) -> Value:
    for path, kind in _ROUTE53_POLICIES.items():
        value = resource.get(path)
        if value is UNKNOWN:
            return UNKNOWN
        if value not in (None, [], {}, False):
            return kind
    return ""


def _alias(resource: Resource) -> Value:
    aliases = resource.get("aliases")
    if aliases is UNKNOWN:
        return UNKNOWN
    if not aliases:
        return None
    name = resource.get("aliases[0].name")
    return name_of(name) if isinstance(name, str) else name


def _clouddns(resource: Resource, kind: Value) -> tuple[Value, tuple[Answer, ...]]:
    found = [*_plain(resource, "rrdatas[*]", kind)]
    policy = resource.get("routingPolicy")
    if policy is None:
        return "", tuple(found)
    if policy is UNKNOWN:
        return UNKNOWN, (*found, Answer(UNKNOWN, "routingPolicy"))
    chosen = ""
    for branch, name in (("geos", "geo"), ("wrrs", "weighted")):
        for path, item in resource.each(f"routingPolicy.{branch}[*]"):
            chosen = name
            if item is UNKNOWN:
                found.append(Answer(UNKNOWN, path, path))
                continue
            for inner in ("rrdatas[*]", "healthCheckedTargets.externalEndpoints[*]"):
                found += _plain(resource, f"{path}.{inner}", kind, path)
            for at, _ in resource.each(f"{path}.healthCheckedTargets.internalLoadBalancers[*]"):
                found += _plain(resource, f"{at}.ipAddress", kind, path)
    if resource.get("routingPolicy.primaryBackup") is not None:
        chosen = "failover"
        base = "routingPolicy.primaryBackup"
        found += _plain(resource, f"{base}.primary.externalEndpoints[*]", kind, f"{base}.primary")
        for path, _ in resource.each(f"{base}.backupGeos[*]"):
            for inner in ("rrdatas[*]", "healthCheckedTargets.externalEndpoints[*]"):
                found += _plain(resource, f"{path}.{inner}", kind, path)
    return chosen, tuple(found)


def _cloudflare(resource: Resource, kind: Value) -> Answer:
    path = "content"
    value = resource.get(path)
    if value is None and resource.get("data") is not None:
        return Answer(UNKNOWN if resource.get("data") is UNKNOWN else _data(resource), "data")
    if kind != "MX":
        return Answer(_text(value, kind), path)
    preference = resource.get("priority")
    if preference is UNKNOWN or value is UNKNOWN:
        return Answer(UNKNOWN, "priority" if preference is UNKNOWN else path)
    return Answer(f"{0 if preference is None else preference} {value or ''}", path)


def _data(resource: Resource) -> Value:
    data = resource.get("data")
    values = list(data.values()) if isinstance(data, Mapping) else []
    return UNKNOWN if UNKNOWN in values else " ".join(str(value) for value in values)


def _null_mx(item: RecordSet) -> bool:
    return bool(item.answers) and all(
        isinstance(value, str) and exchange(value)[1] == "" for value in item.values
    )
