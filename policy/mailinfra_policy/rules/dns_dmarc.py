"""What receivers do with mail that only claims to come from a domain (RFC 7489)."""

import re
from collections.abc import Iterator

from mailinfra_policy.maildns import (
    Answer,
    MailDns,
    RecordSet,
    dns,
    lacking,
    tag_list,
    text_guards,
    undecided,
)
from mailinfra_policy.rule import Context, Control, Finding, Framework, Rule, Severity
from mailinfra_policy.values import UNKNOWN, show

_ALLOWED = "one DMARC record with p=quarantine or p=reject"
_STRICT = ("quarantine", "reject")
# RFC 7489 6.3: what else a record may say.
_SYNTAX = {
    "adkim": "[rs]",
    "aspf": "[rs]",
    "fo": "[01ds](:[01ds])*",
    "rf": "[A-Za-z0-9-]+(:[A-Za-z0-9-]+)*",
    "ri": r"\d+",
    "rua": r"\s*[a-z]+:[^,;!\s]+(!\d+[kmgt]?)?(\s*,\s*[a-z]+:[^,;!\s]+(!\d+[kmgt]?)?)*\s*",
}
_SYNTAX["ruf"] = _SYNTAX["rua"]


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every mail domain has one policy, its own or its parent's, and every policy of the stack holds."""
    zones = dns(context)
    for domain, sets in zones.domains.items():
        if not any(_policies(zones, name) for name in _upwards(domain)):
            yield from lacking(sets, f"no DMARC record at _dmarc.{domain}", _ALLOWED)
    names: dict[object, list[tuple[RecordSet, Answer]]] = {}
    for item in zones.sets:
        if item.kind == "TXT" and (item.owner is UNKNOWN or item.owner.startswith("_dmarc.")):
            for answer in item.answers:
                if answer.value is UNKNOWN and item.owner is not UNKNOWN:
                    yield undecided(item, answer, _ALLOWED)
                elif isinstance(answer.value, str) and _is_dmarc(answer.value):
                    names.setdefault(item.owner, []).append((item, answer))
    for owner, records in names.items():
        if owner is not UNKNOWN:
            for item, answer in records[1:]:
                yield Finding(
                    item.resource, answer.path, f"{len(records)} DMARC records at {owner}", _ALLOWED
                )
        for item, answer in records:
            for found, allowed in _faults(answer.value):
                yield Finding(item.resource, answer.path, found, allowed)


def _upwards(domain: str) -> Iterator[str]:
    """The domain and those above it, the top-level one left out."""
    labels = domain.split(".")
    for start in range(max(1, len(labels) - 1)):
        yield ".".join(labels[start:])


def _policies(zones: MailDns, domain: str) -> bool:
    found = zones.answers(f"_dmarc.{domain}", "TXT")
    return any(answer.value is UNKNOWN or _is_dmarc(answer.value) for _, answer in found)


def _is_dmarc(value: str) -> bool:
    return re.match(r"\s*v\s*=\s*DMARC1\b", value) is not None


def _faults(text: str) -> Iterator[tuple[str, str]]:
    tags = tag_list(text)
    if tags is None or next(iter(tags), "") != "v" or tags["v"] != "DMARC1":
        yield show(text), "`tag=value` pairs parted by `;`, v=DMARC1 first (RFC 7489 6.3)"
        return
    for name in ("p", "sp"):
        value = tags.get(name)
        if (value is None and name == "p") or (value is not None and value.lower() not in _STRICT):
            yield f"{name}={value}" if value else f"no {name}=", f"{name}=quarantine or {name}=reject"
    if tags.get("pct", "100") != "100":
        yield f"pct={tags['pct']}", "pct=100, or no pct"
    for name, pattern in _SYNTAX.items():
        if name in tags and not re.fullmatch(pattern, tags[name]):
            yield f"{name}={tags[name]}", f"a value of {name} as in RFC 7489 6.3"


RULE = Rule(
    id="dns-dmarc",
    title="DMARC puts mail that only claims the domain into quarantine, or refuses it",
    severity=Severity.HIGH,
    why="Without a DMARC policy receivers deliver mail with a forged From: as if SPF and DKIM were not there.",
    mend="Publish one TXT record `v=DMARC1; p=quarantine` (or reject) at _dmarc.<domain>, with no pct below 100.",
    controls=(
        Control(Framework.NIST, "chapter 4: DMARC"),
        Control(Framework.ISO27001, "A.5.14"),
        Control(Framework.SOC2, "CC6.6"),
    ),
    covers=text_guards(
        "v=DMARC1; p=",
        "v=DMARC1; p=none",
        "v=DMARC1; p=reject; sp=none",
        "v=DMARC1; p=quarantine; pct=50",
        "v=DMARC1; rua=mailto:dmarc@example.test",
        "v=DMARC1 p=reject",
    ),
    judge_stack=judge_stack,
)
