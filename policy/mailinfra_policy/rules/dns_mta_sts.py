"""Senders must use TLS with a checked certificate (RFC 8461): the record, and the policy that it announces.

The policy is looked for in `mailinfra_policy.mtasts.WHERE`; one that is kept elsewhere cannot be judged and needs an
exception. What it says is `dns-mta-sts-policy`'s business, which is decided before a machine gets it.
"""

import re
from collections.abc import Iterator

from mailinfra_policy.maildns import MailDns, dns, lacking, name_of, tag_list, text_guards, undecided
from mailinfra_policy.mtasts import WHERE, Policy, policies
from mailinfra_policy.resource import Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Rule, Severity
from mailinfra_policy.values import UNKNOWN, show

_PREFIX = "_mta-sts."
_ALLOWED = "one record `v=STSv1; id=…` of letters and digits (RFC 8461 3.1)"


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every mail domain has a record, a host that serves the policy, and policies that enforce."""
    zones = dns(context)
    found, hidden = _policies(context.stack)
    for domain, sets in zones.domains.items():
        answers = zones.answers(f"{_PREFIX}{domain}", "TXT")
        ours = [found for found in answers if found[1].value is UNKNOWN or _is_sts(found[1].value)]
        if not ours:
            yield from lacking(sets, f"no MTA-STS record at {_PREFIX}{domain}", _ALLOWED)
        host = f"mta-sts.{domain}"
        if not any(zones.of(host, kind) for kind in ("A", "AAAA", "CNAME")):
            yield from lacking(sets, f"no host {host}", f"{host}, which serves the policy")
        yield from _served(domain, zones, found, hidden)
    for item in zones.sets:
        if item.kind != "TXT" or not (item.owner is UNKNOWN or item.owner.startswith(_PREFIX)):
            continue
        for number, answer in enumerate(item.answers):
            if answer.value is UNKNOWN and item.owner is not UNKNOWN:
                yield undecided(item, answer, _ALLOWED)
            elif isinstance(answer.value, str) and _is_sts(answer.value):
                tags = tag_list(answer.value)
                if number or not tags or not re.fullmatch("[A-Za-z0-9]{1,32}", tags.get("id", "")):
                    yield Finding(item.resource, answer.path, show(answer.value), _ALLOWED)


def _is_sts(value: str) -> bool:
    return re.match(r"v=STSv1\b", value) is not None


def _served(domain: str, zones: MailDns, found: list[Policy], hidden: bool) -> Iterator[Finding]:
    """Some policy of the stack names all MX hosts of the domain."""
    hosts = {host for _, host, *_ in zones.exchanges(domain) if isinstance(host, str)}
    if any(all(_matches(host, policy.all("mx")) for host in hosts) for policy in found):
        return
    allowed = "a policy in the stack that names all MX hosts of the domain"
    for policy in found:
        yield Finding(policy.resource, policy.path, f"mx: {', '.join(policy.all('mx'))}", allowed)
    # What is hidden until the update is `dns-mta-sts-policy`'s finding; the update's own end tells whether it is there.
    if not found and not hidden:
        yield from lacking(zones.domains[domain], f"no policy text for {domain} in the stack", allowed)


def _matches(host: str, patterns: list[str]) -> bool:
    _, _, above = host.partition(".")
    return any(
        name_of(pattern) == host or (pattern.startswith("*.") and name_of(pattern[2:]) == above)
        for pattern in patterns
    )


def _policies(stack: Stack) -> tuple[list[Policy], bool]:
    """Every policy text of the stack, and whether something that may hold one is not known yet."""
    holders = stack.of(*WHERE)
    hidden = any(holder.get(path) is UNKNOWN for holder in holders for path in WHERE[holder.type])
    return [policy for holder in holders for policy in policies(holder)], hidden


RULE = Rule(
    id="dns-mta-sts",
    title="MTA-STS makes senders use TLS with a checked certificate",
    severity=Severity.HIGH,
    why="Without an enforced policy whoever sits on the line strips STARTTLS, and the mail travels readable.",
    mend="Publish `v=STSv1; id=…` at _mta-sts.<domain> and serve a policy with `mode: enforce` and all MX hosts at "
    "https://mta-sts.<domain>/.well-known/mta-sts.txt.",
    controls=(
        Control(Framework.NIST, "chapter 5: MTA-STS"),
        Control(Framework.ISO27001, "A.5.14"),
        Control(Framework.SOC2, "CC6.7"),
        Control(Framework.GDPR, "Art. 32(1)(a)"),
    ),
    covers={**text_guards("v=STSv1", "v=STSv1;", "v=STSv1; id=not-a-word"), **dict.fromkeys(WHERE, ())},
    judge_stack=judge_stack,
)
