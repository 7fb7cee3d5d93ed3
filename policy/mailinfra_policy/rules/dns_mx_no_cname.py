"""MX records name hosts that have addresses themselves: no alias (RFC 2181 10.3), no bare address (RFC 5321 5.1)."""

import re
from collections.abc import Iterator

from mailinfra_policy.maildns import CLOUDDNS, CLOUDFLARE, CLOUDFLARE_OLD, ROUTE53, VALUES, dns, of_kind
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, show

_ALLOWED = "a preference and the name of a host with A or AAAA records of its own"
_NAME = re.compile(r"(?!\d+(\.\d+){3}$)([a-z0-9_]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every MX value of the stack."""
    zones = dns(context)
    for item in zones.sets:
        if item.kind is UNKNOWN:
            yield Finding(item.resource, "type", str(UNKNOWN), "a type that is known", unknown=True)
    for domain in zones.domains:
        for preference, host, item, answer in zones.exchanges(domain):
            if preference is UNKNOWN:
                yield Finding(item.resource, answer.path, str(UNKNOWN), _ALLOWED, unknown=True)
            elif host is None or not _NAME.fullmatch(host):
                yield Finding(item.resource, answer.path, show(answer.value), _ALLOWED)
            elif aliases := zones.of(host, "CNAME"):
                target = ", ".join(show(value) for value in aliases[0].values)
                yield Finding(item.resource, answer.path, f"{host}, an alias of {target}", _ALLOWED)


_MX = of_kind("MX")

RULE = Rule(
    id="dns-mx-no-cname",
    title="MX records name hosts, not aliases or addresses",
    severity=Severity.MEDIUM,
    why="Senders may refuse an MX host that is an alias or an address; and DANE and MTA-STS check the host's own name.",
    mend="Point the MX record at a name that has A and AAAA records of its own.",
    controls=(Control(Framework.SOC2, "A1.2"), Control(Framework.ISO27001, "A.8.20")),
    covers={
        ROUTE53: (
            Guard(
                VALUES[ROUTE53],
                wrong=("10 192.0.2.1.", "mx1.example.test.", "10 mx1"),
                needed=False,
                when=_MX,
            ),
        ),
        CLOUDDNS: (
            Guard(VALUES[CLOUDDNS], wrong=("10 192.0.2.1.", "mx1.example.test."), needed=False, when=_MX),
        ),
        **{
            token: (Guard("content", wrong=("192.0.2.1", "2001:db8::1", "mx1"), when=_MX),)
            for token in (CLOUDFLARE, CLOUDFLARE_OLD)
        },
    },
    judge_stack=judge_stack,
)
