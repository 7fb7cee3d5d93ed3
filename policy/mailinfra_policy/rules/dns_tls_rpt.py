"""Where senders report failures of TLS to (RFC 8460)."""

import re
from collections.abc import Iterator

from mailinfra_policy.maildns import dns, lacking, tag_list, text_guards, undecided
from mailinfra_policy.rule import Context, Control, Finding, Framework, Rule, Severity
from mailinfra_policy.values import UNKNOWN, show

_ALLOWED = "one record `v=TLSRPTv1; rua=mailto:…` or with an https: address (RFC 8460 3)"
_ADDRESS = r"(mailto:[^\s,!@]+@[^\s,!@]+|https://[^\s,!]+)"
_PREFIX = "_smtp._tls."


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every mail domain has one record, and every record of the stack names an address."""
    zones = dns(context)
    for domain, sets in zones.domains.items():
        answers = zones.answers(f"{_PREFIX}{domain}", "TXT")
        if not any(answer.value is UNKNOWN or _is_rpt(answer.value) for _, answer in answers):
            yield from lacking(sets, f"no TLS-RPT record at {_PREFIX}{domain}", _ALLOWED)
    for item in zones.sets:
        if item.kind != "TXT" or not (item.owner is UNKNOWN or item.owner.startswith(_PREFIX)):
            continue
        ours = [answer for answer in item.answers if answer.value is UNKNOWN or _is_rpt(answer.value)]
        for number, answer in enumerate(ours):
            if answer.value is UNKNOWN and item.owner is not UNKNOWN:
                yield undecided(item, answer, _ALLOWED)
            elif isinstance(answer.value, str) and (number or not _valid(answer.value)):
                yield Finding(item.resource, answer.path, show(answer.value), _ALLOWED)


def _is_rpt(value: str) -> bool:
    return re.match(r"v=TLSRPTv1\b", value) is not None


def _valid(text: str) -> bool:
    tags = tag_list(text)
    return tags is not None and bool(
        re.fullmatch(rf"{_ADDRESS}(\s*,\s*{_ADDRESS})*", tags.get("rua", ""), re.IGNORECASE)
    )


RULE = Rule(
    id="dns-tls-rpt",
    title="Senders are told where to report failures of TLS",
    severity=Severity.MEDIUM,
    why="When a certificate or a policy breaks, senders stop delivering; without TLS-RPT nobody here hears of it.",
    mend="Publish a TXT record `v=TLSRPTv1; rua=mailto:…` at _smtp._tls.<domain>.",
    controls=(
        Control(Framework.NIST, "chapter 5: TLS between mail servers"),
        Control(Framework.ISO27001, "A.8.16"),
        Control(Framework.SOC2, "CC7.2"),
    ),
    covers=text_guards(
        "v=TLSRPTv1", "v=TLSRPTv1;", "v=TLSRPTv1; rua=tls@example.test", "v=TLSRPTv1; rua=http://example.test"
    ),
    judge_stack=judge_stack,
)
