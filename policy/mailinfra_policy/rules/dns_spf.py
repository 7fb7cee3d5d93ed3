"""Who may send for a domain (RFC 7208): one record, within its look-ups, that ends in a refusal."""

import re
from collections.abc import Iterator

from mailinfra_policy.maildns import Answer, MailDns, RecordSet, dns, lacking, name_of, text_guards, undecided
from mailinfra_policy.rule import Context, Control, Finding, Framework, Rule, Severity
from mailinfra_policy.values import UNKNOWN, show

_ALLOWED = "one SPF record that ends in -all or ~all"
_TERM = re.compile(r"([-+?~]?)([a-z][a-z0-9]*)(?:([:/])(.*))?", re.IGNORECASE)
_MODIFIER = re.compile(r"([a-z][a-z0-9._-]*)=(.*)", re.IGNORECASE)
_MECHANISMS = frozenset({"all", "include", "a", "mx", "ip4", "ip6", "exists"})
_LOOKUPS = frozenset({"include", "a", "mx", "exists"})


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every mail domain has one record, and every SPF record of the stack holds."""
    zones = dns(context)
    for domain, sets in zones.domains.items():
        found = [answer for item in zones.of(domain, "TXT") for answer in item.answers]
        if not any(answer.value is UNKNOWN or _is_spf(answer.value) for answer in found):
            yield from lacking(sets, f"no SPF record at {domain}", _ALLOWED)
    names: dict[object, list[tuple[RecordSet, Answer]]] = {}
    for item in zones.sets:
        if item.kind != "TXT" or (isinstance(item.owner, str) and "_" in item.owner):
            continue
        for answer in item.answers:
            if answer.value is UNKNOWN:
                yield undecided(item, answer, "a TXT value that is known, as it may be an SPF record")
            elif _is_spf(answer.value):
                names.setdefault(item.owner, []).append((item, answer))
    for owner, records in names.items():
        if owner is not UNKNOWN:
            for item, answer in records[1:]:
                yield Finding(item.resource, answer.path, f"{len(records)} SPF records at {owner}", _ALLOWED)
        for item, answer in records:
            for found_, allowed in _faults(answer.value, zones, context.config.dns.spf_lookups):
                yield Finding(item.resource, answer.path, found_, allowed)


def _is_spf(value: object) -> bool:
    return isinstance(value, str) and re.match(r"v=spf1(\s|$)", value, re.IGNORECASE) is not None


def _faults(text: str, zones: MailDns, limit: int) -> Iterator[tuple[str, str]]:
    last = ""
    for term in text.split()[1:]:
        if _MODIFIER.fullmatch(term):
            continue
        match = _TERM.fullmatch(term)
        if match is None or match[2].lower() not in _MECHANISMS:
            yield show(term), "a mechanism of RFC 7208 5, and not `ptr`"
        elif match[2].lower() == "all":
            last = match[1] or "+"
    if not last:
        last = _redirected(text, zones, frozenset())
    if last not in ("-", "~"):
        ending = f"an ending in {last}all" if last else "no ending"
        yield ending, "-all or ~all at the end"
    count = lookups(text, zones, frozenset())
    if count > limit:
        yield f"{count} look-ups", f"at most {limit} look-ups (RFC 7208 4.6.4)"


def _redirected(text: str, zones: MailDns, seen: frozenset[str]) -> str:
    """The qualifier of `all` in the record that this one hands over to; empty where the stack does not know it."""
    target = _modifier(text, "redirect")
    record = _record(target, zones) if target and target not in seen else None
    if record is None:
        return ""
    for term in record.split()[1:]:
        match = _TERM.fullmatch(term)
        if match and match[2].lower() == "all":
            return match[1] or "+"
    return _redirected(record, zones, seen | {target})


def lookups(text: str, zones: MailDns, seen: frozenset[str]) -> int:
    """The look-ups of an SPF record: what it includes is counted where the stack knows it, else as one."""
    count = 0
    targets = []
    for term in text.split()[1:]:
        match = _TERM.fullmatch(term)
        if match and not _MODIFIER.fullmatch(term) and match[2].lower() in _LOOKUPS:
            count += 1
            if match[2].lower() == "include":
                targets.append(name_of(match[4] or ""))
    if redirect := _modifier(text, "redirect"):
        count += 1
        targets.append(redirect)
    for target in targets:
        record = _record(target, zones) if target not in seen else None
        if record is not None:
            count += lookups(record, zones, seen | {target})
    return count


def senders(domain: str, zones: MailDns) -> Iterator[str]:
    """The host names that a domain's SPF record, and what the stack knows of its includes, lets send."""
    seen: set[str] = set()
    waiting = [domain]
    while waiting:
        name = waiting.pop()
        record = _record(name, zones)
        if record is None or name in seen:
            continue
        seen.add(name)
        for term in record.split()[1:]:
            match = _TERM.fullmatch(term)
            if match is None or match[1] not in ("", "+") or _MODIFIER.fullmatch(term):
                continue
            kind, target = match[2].lower(), name_of((match[4] or "").partition("/")[0]) or name
            if kind == "a":
                yield target
            elif kind == "mx":
                yield from (host for _, host, *_ in zones.exchanges(target) if isinstance(host, str))
            elif kind == "include":
                waiting.append(target)
        if redirect := _modifier(record, "redirect"):
            waiting.append(redirect)


def _modifier(text: str, name: str) -> str:
    for term in text.split()[1:]:
        match = _MODIFIER.fullmatch(term)
        if match and match[1].lower() == name:
            return name_of(match[2])
    return ""


def _record(name: str, zones: MailDns) -> str | None:
    values = (answer.value for item in zones.exactly(name, "TXT") for answer in item.answers)
    return next((value for value in values if isinstance(value, str) and _is_spf(value)), None)


RULE = Rule(
    id="dns-spf",
    title="SPF names the senders of each mail domain and refuses the rest",
    severity=Severity.HIGH,
    why="Without a record that ends in a refusal anyone can send in the domain's name; one over its look-ups, or a "
    "second one, is an error for every receiver and protects nothing.",
    mend="Publish one TXT record `v=spf1 … -all` at the domain, without `ptr`, with at most ten look-ups.",
    controls=(
        Control(Framework.NIST, "Security Recommendation 4-1"),
        Control(Framework.ISO27001, "A.5.14"),
        Control(Framework.SOC2, "CC6.6"),
    ),
    covers=text_guards(
        "v=spf1",
        "v=spf1 +all",
        "v=spf1 a ?all",
        "v=spf1 a",
        "v=spf1 ptr -all",
        "v=spf1 " + " ".join(f"include:s{n}.example.net" for n in range(11)) + " -all",
    ),
    judge_stack=judge_stack,
)
