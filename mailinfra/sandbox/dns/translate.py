"""From declared record sets to PowerDNS records: what the three providers' translators share.

A record set without a policy becomes plain records. One with a policy becomes a PowerDNS LUA record whose
code is one call, `mailinfra(<tree>)`: the tree (`Node`) is data, and `routing.lua` on the name server decides
each answer from it. Nothing that a program declares is ever code: `lua_literal` writes strings in an alphabet
that can end neither the Lua string nor the record's own quotes.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from mailinfra.sandbox.dns.rdata import TEXT_TYPES, RefusedError, unquoted

Policy = Literal["weighted", "location", "nearest", "failover", "multivalue"]
ROUTING_LUA = "/usr/local/share/mailinfra/routing.lua"
MAX_CONTENT = 60_000
"""PowerDNS keeps a record's content in 64 KiB."""

_RAW = re.compile(r"[A-Za-z0-9 ._:/*-]")


@dataclass(frozen=True)
class RRset:
    """Records of one name and type as PowerDNS keeps them. Type `LUA` may hold several answer types."""

    name: str
    rtype: str
    ttl: int
    contents: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """A health check as the prober runs it; times in seconds, `rise` and `fall` in consecutive probes.

    `kind` "calculated" probes nothing: it is healthy when at least `threshold` of `children` are. An endpoint
    is an `address`, or a `host` to be looked up. `match` is text that an HTTP answer's first 5,120 octets
    must contain.
    """

    kind: Literal["tcp", "http", "https", "calculated"]
    address: str | None = None
    host: str | None = None
    port: int = 0
    path: str = "/"
    match: str | None = None
    interval: float = 30.0
    timeout: float = 10.0
    rise: int = 3
    fall: int = 3
    inverted: bool = False
    children: tuple[str, ...] = ()
    threshold: int = 0

    def key(self, *scope: str) -> str:
        """A name for the file that says whether the check fails: letters and digits only."""
        text = json.dumps([*scope, sorted(self.__dict__.items())], default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Node:
    """A part of an answer tree: fixed values, an alias to another tree, or a policy over members.

    `values` are answered as they are; `addresses` are pairs of address and health check, of which only
    healthy ones are answered (all, if none is healthy). `check` is the health of the node as a whole.
    `weight`, `place`, `latitude` and `longitude` say what the node is as a member of a policy; `place` is a
    country (`DE`), a continent (`continent:EU`), a US state (`US-CA`) or `*`.
    """

    values: tuple[str, ...] = ()
    addresses: tuple[tuple[str, str | None], ...] = ()
    alias: "Node | None" = None
    evaluate: bool = False
    policy: Policy | None = None
    members: tuple["Node", ...] = ()
    check: str | None = None
    weight: int | None = None
    place: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    fenced: bool = False
    trickle: float = 0.0

    @property
    def is_static(self) -> bool:
        """Whether the answer never changes."""
        return self.policy is None and not self.addresses and (self.alias is None or self.alias.is_static)

    def fixed_values(self) -> tuple[str, ...]:
        """The values of a static node."""
        return self.alias.fixed_values() if self.alias is not None else self.values


@dataclass
class Translated:
    """A zone's content for PowerDNS:

    record sets, the probes they need by key, and what deserves a warning.
    """

    rrsets: list[RRset] = field(default_factory=list)
    probes: dict[str, Probe] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def lua_string(text: str) -> str:
    """A Lua string literal of the text; only harmless characters appear as they are, the rest as `\\DDD`."""
    return (
        "'"
        + "".join(
            chr(b) if b < 128 and _RAW.match(chr(b)) else f"\\{b:03d}"
            for b in text.encode("utf-8", "surrogateescape")
        )
        + "'"
    )


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise RefusedError(f"{value!r} is no finite number")
    return repr(int(value)) if float(value).is_integer() else f"{value:.6f}"


def lua_literal(node: Node) -> str:
    """The node as a Lua table: fields by name, members as the array part."""
    parts: list[str] = []
    if node.values:
        parts.append("values={" + ",".join(lua_string(v) for v in node.values) + "}")
    if node.addresses:
        pairs = (
            "{" + ",".join(lua_string(x) for x in pair if x is not None) + "}" for pair in node.addresses
        )
        parts.append("addresses={" + ",".join(pairs) + "}")
    if node.alias is not None:
        parts.append("alias=" + lua_literal(node.alias))
    for name, flag in (("evaluate", node.evaluate), ("fenced", node.fenced)):
        if flag:
            parts.append(f"{name}=true")
    for name, text in (("policy", node.policy), ("check", node.check), ("place", node.place)):
        if text is not None:
            parts.append(f"{name}={lua_string(text)}")
    for name, number in (("weight", node.weight), ("latitude", node.latitude), ("longitude", node.longitude)):
        if number is not None:
            parts.append(f"{name}={_number(number)}")
    if node.trickle:
        parts.append(f"trickle={_number(node.trickle)}")
    parts.extend(lua_literal(m) for m in node.members)
    return "{" + ",".join(parts) + "}"


def _with_texts(node: Node) -> Node:
    """The tree with TXT values as the bare octets that they say: PowerDNS quotes and splits a LUA record's text itself.

    Octets that are no UTF-8 are carried by surrogate escapes (PEP 383).
    """
    return replace(
        node,
        values=tuple(unquoted(v).decode("utf-8", "surrogateescape") for v in node.values),
        alias=None if node.alias is None else _with_texts(node.alias),
        members=tuple(map(_with_texts, node.members)),
    )


def lua_content(rtype: str, node: Node, where: str) -> str:
    """The content of a PowerDNS LUA record that answers `rtype` from the tree."""
    if rtype in TEXT_TYPES:
        node = _with_texts(node)
    code = f";mailinfra=mailinfra or dofile({lua_string(ROUTING_LUA)}) return mailinfra({lua_literal(node)})"
    content = f'{rtype} "' + code.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if len(content) > MAX_CONTENT:
        raise RefusedError(
            f"{where}: the policy has {len(content)} characters as a rule; at most {MAX_CONTENT} are allowed"
        )
    return content


def rrset(name: str, rtype: str, ttl: int, node: Node, where: str) -> RRset | None:
    """The record set that answers from the tree; None if there is nothing to answer."""
    if node.is_static:
        values = tuple(dict.fromkeys(node.fixed_values()))
        return RRset(name, rtype, ttl, values) if values else None
    return RRset(name, "LUA", ttl, (lua_content(rtype, node, where),))


def merged(rrsets: Iterable[RRset]) -> list[RRset]:
    """Record sets with one entry a name and type:

    LUA records for several answer types share one TTL, the least.
    """
    found: dict[tuple[str, str], RRset] = {}
    for r in rrsets:
        old = found.get((r.name, r.rtype))
        if old is None:
            found[r.name, r.rtype] = r
        else:
            contents = tuple(dict.fromkeys((*old.contents, *r.contents)))
            found[r.name, r.rtype] = RRset(r.name, r.rtype, min(old.ttl, r.ttl), contents)
    return list(found.values())


def check_zone(zone: str, rrsets: Iterable[RRset]) -> None:
    """Refuse what no name server accepts:

    CNAME beside other records or at the apex (RFC 1034 3.6.2), names outside.
    """
    by_name: dict[str, set[str]] = {}
    for r in rrsets:
        kinds = {c.split(" ", 1)[0] for c in r.contents} if r.rtype == "LUA" else {r.rtype}
        by_name.setdefault(r.name, set()).update(kinds)
        if r.rtype == "CNAME" and len(r.contents) > 1:
            raise RefusedError(f"{r.name} CNAME: {len(r.contents)} values; exactly one is allowed")
    for name, kinds in by_name.items():
        if "CNAME" in kinds and len(kinds) > 1:
            others = ", ".join(sorted(kinds - {"CNAME"}))
            raise RefusedError(
                f"{name}: a CNAME cannot stand beside other records ({others}), RFC 1034 3.6.2"
            )
        if "CNAME" in kinds and name == zone:
            raise RefusedError(f"{name}: a CNAME cannot stand at the top of a zone, RFC 1034 3.6.2")
