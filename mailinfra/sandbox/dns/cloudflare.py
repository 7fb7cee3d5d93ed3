"""Cloudflare's DNS records as PowerDNS records.

Source: Cloudflare API reference, "DNS records". One record has one value, in `content` or, for structured
types, in `data`. A TTL of 1 means automatic, which is 300 seconds. Texts are quoted and split by Cloudflare
itself. The proxy is a web service that the sandbox has not: `proxied` is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mailinfra.sandbox.dns.rdata import (
    TEXT_TYPES,
    RefusedError,
    canonical,
    fqdn,
    is_below,
    rtype_of,
    text_chunks,
    text_strings,
    ttl_of,
)
from mailinfra.sandbox.dns.translate import RRset, Translated

Record = Mapping[str, Any]

AUTOMATIC_TTL = 300
_DATA_FIELDS: dict[str, tuple[str, ...]] = {
    "CAA": ("flags", "tag", "value"),
    "DS": ("key_tag", "algorithm", "digest_type", "digest"),
    "HTTPS": ("priority", "target", "value"),
    "NAPTR": ("order", "preference", "flags", "service", "regex", "replacement"),
    "SMIMEA": ("usage", "selector", "matching_type", "certificate"),
    "SRV": ("priority", "weight", "port", "target"),
    "SSHFP": ("algorithm", "type", "fingerprint"),
    "SVCB": ("priority", "target", "value"),
    "TLSA": ("usage", "selector", "matching_type", "certificate"),
    "URI": ("priority", "weight", "target"),
}
_QUOTED = frozenset(
    {("CAA", "value"), ("URI", "target")} | {("NAPTR", f) for f in ("flags", "service", "regex")}
)
_PRIORITY_FIRST = frozenset({"MX", "URI"})


def record_key(record: Record) -> str:
    """What tells one record from another: its id."""
    return str(record.get("id") or "")


def translate(zone: str, records: Sequence[Record]) -> Translated:
    """One zone's records as PowerDNS keeps them. Raises `RefusedError`."""
    zone = fqdn(zone)
    sets: dict[tuple[str, str], tuple[int, list[str]]] = {}
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise RefusedError(f"record {number}: {record!r} is no record")
        where = f"record {number} ({record.get('name')} {record.get('type')})"
        rtype = rtype_of(record.get("type"), where)
        name = _name(record.get("name"), zone)
        where = f"{name} {rtype}"
        if record.get("proxied"):
            raise RefusedError(
                f"{where}: proxied is true; the sandbox has no Cloudflare proxy, allowed is false"
            )
        if rtype == "SOA" or (rtype == "NS" and name == zone):
            raise RefusedError(f"{where}: the records of the zone's own name servers cannot be changed")
        value = _value(rtype, record, where)
        ttl = ttl_of(record.get("ttl", 1), where)
        if ttl != 1 and not 30 <= ttl <= 86400:
            raise RefusedError(f"{where}: TTL {ttl}; allowed are 1 (automatic) and 30 to 86400 seconds")
        ttl = AUTOMATIC_TTL if ttl == 1 else ttl
        least, values = sets.get((name, rtype), (ttl, []))
        if value in values:
            raise RefusedError(f"{where}: an identical record already exists")
        sets[name, rtype] = (min(least, ttl), [*values, value])
    return Translated(
        [RRset(name, rtype, ttl, tuple(values)) for (name, rtype), (ttl, values) in sets.items()]
    )


def _name(value: object, zone: str) -> str:
    """Cloudflare takes `@`, names within the zone and full names."""
    if value == "@":
        return zone
    name = fqdn(str(value or ""))
    return name if is_below(name, zone) else fqdn(name + zone)


def _value(rtype: str, record: Record, where: str) -> str:
    content, data = record.get("content"), record.get("data")
    if content is not None and data:
        data = None  # what Cloudflare answers has both; content is made from data
    if data:
        if rtype not in _DATA_FIELDS:
            raise RefusedError(
                f"{where}: data is for {', '.join(sorted(_DATA_FIELDS))}; this type takes content"
            )
        return canonical(rtype, _from_data(rtype, data, where), where)
    if not isinstance(content, str) or not content.strip():
        raise RefusedError(f"{where}: neither content nor data is given; one is needed")
    if rtype in TEXT_TYPES:
        quoted = (
            content.strip().startswith('"') and content.strip().endswith('"') and len(content.strip()) > 1
        )
        text = text_strings(content, where, quoted_only=True) if quoted else text_chunks(content)
        return canonical(rtype, text, where)
    if rtype in _PRIORITY_FIRST:
        priority = record.get("priority")
        if priority is None:
            raise RefusedError(f"{where}: priority is missing; type {rtype} needs one")
        content = f"{_scalar(priority, f'{where}: priority')} {content}"
    return canonical(rtype, content, where)


def _from_data(rtype: str, data: object, where: str) -> str:
    if not isinstance(data, Mapping):
        raise RefusedError(f"{where}: data {data!r} is no set of fields")
    parts = []
    for name in _DATA_FIELDS[rtype]:
        if data.get(name) is None:
            if (rtype, name) in (("HTTPS", "value"), ("SVCB", "value")):
                continue
            raise RefusedError(
                f"{where}: data.{name} is missing; needed are {', '.join(_DATA_FIELDS[rtype])}"
            )
        text = _scalar(data[name], f"{where}: data.{name}")
        if (rtype, name) in _QUOTED:
            text = text_strings(
                '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"', where, quoted_only=True
            )
        parts.append(text)
    return " ".join(parts)


def _scalar(value: object, where: str) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # numbers come through Pulumi as floats
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise RefusedError(f"{where} is {value!r}; allowed is a number or a text")
    return str(value)
