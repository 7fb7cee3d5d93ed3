"""Reverse names that hold in both directions: receivers look at them before they take mail."""

from collections.abc import Iterator

from mailinfra_policy.addresses import EIP, GCP_INSTANCE, AddressBook
from mailinfra_policy.maildns import MailDns, dns, name_of
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.rules.dns_spf import senders
from mailinfra_policy.values import UNKNOWN, get, show

_REVERSE = "aws:ec2/eipDomainName:EipDomainName"
_ASSOCIATION = "aws:ec2/eipAssociation:EipAssociation"
_GCP_ADDRESS = "gcp:compute/address:Address"
_CONFIGS = (
    ("networkInterfaces[*].accessConfigs[*]", "natIp", "A"),
    ("networkInterfaces[*].ipv6AccessConfigs[*]", "externalIpv6", "AAAA"),
)


def judge_stack(context: Context) -> Iterator[Finding]:
    """Every reverse name leads back, and what SPF names as a sender has one."""
    zones, stack = dns(context), context.stack
    named: set[str] = set()
    for resource in stack.of(_REVERSE):
        eips = _eips(stack, resource)
        named |= {eip.urn for eip in eips}
        if resource.get("allocationId") is UNKNOWN and not eips:
            yield Finding(resource, "allocationId", str(UNKNOWN), "an address of the stack", unknown=True)
        yield from _forward(resource, "domainName", "A", eips, zones)
    for instance in stack.of(GCP_INSTANCE):
        for base, address, kind in _CONFIGS:
            for path, config in instance.each(base):
                if config is UNKNOWN or get(config, "publicPtrDomainName") is None:
                    continue
                named.add(instance.urn)
                holders = [instance, *stack.referred(instance, f"{path}.{address}", _GCP_ADDRESS)]
                named |= {holder.urn for holder in holders}
                yield from _forward(
                    instance,
                    f"{path}.publicPtrDomainName",
                    kind,
                    holders,
                    zones,
                    get(config, address),
                )
    yield from _unnamed(zones, named)


def _eips(stack: Stack, resource: Resource) -> list[Resource]:
    found = stack.referred(resource, "allocationId", EIP)
    for association in stack.referred(resource, "allocationId", _ASSOCIATION):
        found += stack.referred(association, "allocationId", EIP)
    return found


def _forward(
    resource: Resource,
    path: str,
    kind: str,
    holders: list[Resource],
    zones: MailDns,
    address: object = None,
) -> Iterator[Finding]:
    """The reverse name has an address record that gives one of the holders' addresses."""
    name = resource.get(path)
    allowed = f"a name whose {kind} record gives the same address"
    if not isinstance(name, str):
        yield Finding(resource, path, show(name), allowed, unknown=name is UNKNOWN)
        return
    answers = zones.answers(name_of(name), kind)
    if not answers:
        yield Finding(resource, path, f"{name_of(name)}, which has no {kind} record in the stack", allowed)
        return
    book = zones.stack.derived(AddressBook)
    for item, answer in answers:
        if isinstance(address, str) and answer.value == address:
            return
        if any(holder in book.behind(item, answer) for holder in holders):
            return
    open_ = not holders or any(answer.value is UNKNOWN for _, answer in answers) or _open(holders, address)
    shown = ", ".join(str(answer.value) for _, answer in answers)
    yield Finding(resource, path, f"{name_of(name)}, which gives {shown}", allowed, unknown=open_)


def _open(holders: list[Resource], address: object) -> bool:
    return address is UNKNOWN or not any(
        isinstance(holder.outputs.get("publicIp", holder.outputs.get("address")), str) for holder in holders
    )


def _unnamed(zones: MailDns, named: set[str]) -> Iterator[Finding]:
    """What the domains' SPF records name as senders, and has no reverse name."""
    book = zones.stack.derived(AddressBook)
    seen: set[str] = set()
    for domain in zones.domains:
        for host in senders(domain, zones):
            for item, answer in zones.answers(host, "A"):
                for holder in book.behind(item, answer):
                    if holder.type in (EIP, _GCP_ADDRESS) and holder.urn not in named | seen:
                        seen.add(holder.urn)
                        yield Finding(
                            holder, "", f"the address of {host}, without a reverse name", "a reverse name"
                        )


RULE = Rule(
    id="dns-reverse",
    title="Senders' addresses have reverse names that lead back to them",
    severity=Severity.MEDIUM,
    why="Many receivers refuse mail from an address whose reverse name is missing or does not lead back to it.",
    mend="Set EipDomainName (AWS) or publicPtrDomainName (GCP) to a name whose A or AAAA record gives that address.",
    controls=(Control(Framework.SOC2, "A1.2"), Control(Framework.ISO27001, "A.8.20")),
    covers={
        _REVERSE: (
            Guard("domainName", wrong=("elsewhere.example.org",)),
            Guard("allocationId", needed=False),
        ),
        GCP_INSTANCE: tuple(
            Guard(
                f"{base}.publicPtrDomainName",
                wrong=("elsewhere.example.org.",),
                needed=False,
                when=lambda _instance, value: value is not None,
            )
            for base, _, _ in _CONFIGS
        ),
    },
    judge_stack=judge_stack,
)
