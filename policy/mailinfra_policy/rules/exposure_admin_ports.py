"""No port of administration faces the world, whatever the role."""

import re
from collections.abc import Iterator

from mailinfra_policy.config import Exposure
from mailinfra_policy.expect import unknown
from mailinfra_policy.openings import (
    ACL_RULE,
    ACLS,
    FIREWALL,
    GROUP_RULE,
    INGRESS_RULE,
    INLINE,
    LIGHTSAIL,
    POLICIES,
    POLICY_RULES,
    openings,
    reaches,
    told,
    world,
)
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, Unknown, show

_SPECTRUM = "cloudflare:index/spectrumApplication:SpectrumApplication"


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """No opening towards the world holds a port of administration."""
    exposure = context.config.exposure
    allowed = f"none of the ports {', '.join(map(str, sorted(exposure.admin_ports)))}"
    if resource.type == _SPECTRUM:
        yield from _spectrum(resource, exposure.admin_ports, allowed)
        return
    for opening in openings(resource, context.stack):
        wide = world(opening.sources, exposure)
        if not reaches(opening) or wide is False:
            continue
        if isinstance(opening.ports, Unknown) or opening.protocol is UNKNOWN:
            # A protocol may mean all ports.
            yield unknown(resource, opening.path, allowed)
        elif _holds(opening.ports, exposure.admin_ports):
            if wide is UNKNOWN:
                yield unknown(resource, opening.path, allowed)
            else:
                yield Finding(resource, opening.path, told(opening), allowed)


def _holds(ports: tuple[tuple[int, int], ...], admin: frozenset[int]) -> bool:
    return any(first <= port <= last for first, last in ports for port in admin)


def _spectrum(resource: Resource, admin: frozenset[int], allowed: str) -> Iterator[Finding]:
    """Spectrum stands in the world itself: its protocol is `tcp/25` or `tcp/8000-8080`."""
    value = resource.get("protocol")
    if value is UNKNOWN:
        yield unknown(resource, "protocol", allowed)
        return
    found = re.fullmatch(r"(?:tcp|udp)/(\d{1,5})(?:-(\d{1,5}))?", str(value))
    if found is None or _holds(((int(found[1]), int(found[2] or found[1])),), admin):
        yield Finding(resource, "protocol", show(value), allowed)


def _open(resource: Resource, value: object) -> bool:
    """What refers to others' addresses, or to Google's countries, has no world of its own to spoil."""
    if resource.get("prefixListId") is not None:
        return False
    return any(world(opening.sources, Exposure()) is True for opening in openings(resource, Stack()))


_RANGES = (["22"], ["20-30"], ["1-65535"])
_WITHIN = (
    Guard("ingress[*].fromPort", wrong=(22, 0), needed=False, when=_open),
    Guard("ingress[*].protocol", wrong=("-1",), needed=False, when=_open),
)

RULE = Rule(
    id="exposure-admin-ports",
    title="No port of administration faces the world",
    severity=Severity.CRITICAL,
    why="Ports of administration and of databases are tried from all over the world within minutes.",
    mend="Close the port; nodes are replaced instead of repaired, and consoles go through the cloud's own access.",
    controls=(
        Control(Framework.SOC2, "CC6.6"),
        Control(Framework.ISO27001, "A.8.20"),
        Control(Framework.ISO27001, "A.8.2"),
        Control(Framework.GDPR, "Art. 32(1)(b)"),
    ),
    covers={
        **dict.fromkeys((*INLINE, *ACLS), _WITHIN),
        INGRESS_RULE: (
            Guard("fromPort", wrong=(22, 0), needed=False, when=_open),
            Guard("ipProtocol", wrong=("-1",), needed=False, elsewhere=True, when=_open),
        ),
        GROUP_RULE: (
            Guard("fromPort", wrong=(22, 0), needed=False, when=_open),
            Guard("protocol", wrong=("-1",), needed=False, elsewhere=True, when=_open),
        ),
        ACL_RULE: (Guard("fromPort", wrong=(22, 0), needed=False, when=_open),),
        LIGHTSAIL: (
            Guard("portInfos[*].fromPort", wrong=(22, 0), needed=False, when=_open),
            Guard("portInfos[*].protocol", wrong=("all",), needed=False, when=_open),
        ),
        FIREWALL: (
            Guard("allows[*].ports", wrong=_RANGES, when=_open),
            Guard("allows[*].protocol", wrong=("all",), needed=False, when=_open),
        ),
        **dict.fromkeys(
            POLICY_RULES,
            (
                Guard("match.layer4Configs[*].ports", wrong=_RANGES, when=_open),
                Guard("match.layer4Configs[*].ipProtocol", wrong=("all",), needed=False, when=_open),
            ),
        ),
        **dict.fromkeys(
            POLICIES, (Guard("rules[*].match.layer4Configs[*].ports", wrong=_RANGES, when=_open),)
        ),
        _SPECTRUM: (Guard("protocol", wrong=("tcp/22", "ssh", "tcp/1-65535", "rdp")),),
    },
    judge=judge,
)
