"""Only the ports of a role face the world."""

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
    Opening,
    openings,
    reaches,
    roles,
    told,
    world,
)
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, Unknown

_ANSWERS = 32_768
"""Linux lets its own connections begin here: what is stateless must let their answers in."""


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Whatever the world may reach is a port of a role that the opening is tagged with."""
    exposure = context.config.exposure
    for opening in openings(resource, context.stack):
        wide = world(opening.sources, exposure)
        if not reaches(opening) or wide is False:
            continue
        named = roles(resource, opening, context.stack, exposure)
        known = frozenset() if named is None or isinstance(named, Unknown) else named
        ports = frozenset[int]().union(*(exposure.role_ports.get(role, ()) for role in known))
        if _fits(opening, ports):
            continue
        allowed = f"TCP {', '.join(map(str, sorted(ports))) or 'nothing'} from the world ({_named(known)})"
        if UNKNOWN in (wide, named, opening.protocol) or isinstance(opening.ports, Unknown):
            yield unknown(resource, opening.path, allowed)
        else:
            yield Finding(resource, opening.path, told(opening), allowed)


def _named(known: frozenset[str]) -> str:
    return f"the ports of {', '.join(sorted(known))}" if known else "no role is named"


def _fits(opening: Opening, ports: frozenset[int]) -> bool:
    if isinstance(opening.ports, Unknown):
        return False
    return all(
        (opening.protocol == "tcp" and last - first < len(ports) and ports.issuperset(range(first, last + 1)))
        or (opening.stateless and opening.protocol in ("tcp", "udp") and first >= _ANSWERS)
        for first, last in opening.ports
    )


def _faces(resource: Resource, value: object) -> bool:
    """Whether the world may come in here (what refers to a prefix list may not, in a clean stack)."""
    if resource.get("prefixListId") is not None:
        return False
    return any(world(opening.sources, Exposure()) is not False for opening in openings(resource, Stack()))


def _hidden(resource: Resource, value: object) -> bool:
    lets_in = any(openings(resource, Stack()))
    return value is not None and lets_in and not _faces(resource, value)


def _port(path: str, *wrong: object, elsewhere: bool = False) -> Guard:
    return Guard(path, wrong=wrong, needed=False, when=_faces, elsewhere=elsewhere)


def _source(path: str, *wrong: object, elsewhere: bool = False) -> Guard:
    return Guard(path, wrong=wrong, needed=False, when=_hidden, elsewhere=elsewhere)


_V4 = (["0.0.0.0/0"], ["0.0.0.0/1"], ["10.0.0.0/8", "64.0.0.0/2"])
_V6 = (["::/0"], ["::/1", "8000::/1"])
_PROTOCOLS = ("-1", "udp", "all")
_GROUP = (
    _port("ingress[*].fromPort", 22, 0),
    _port("ingress[*].toPort", 65_534),
    _port("ingress[*].protocol", *_PROTOCOLS),
    _source("ingress[*].cidrBlocks", *_V4),
    _source("ingress[*].ipv6CidrBlocks", *_V6),
)
_ACL = (
    _port("ingress[*].fromPort", 0, 1024),
    Guard("ingress[*].toPort", wrong=(65_534,), needed=False, when=lambda of, last: last == 25),
    _port("ingress[*].protocol", "-1", "all"),
)
_LAYER4 = (
    _source("match.srcIpRanges", *_V4),
    _port("match.layer4Configs[*].ports", ["22"], ["1-65535"], ["smtp"]),
    _port("match.layer4Configs[*].ipProtocol", "all", "udp"),
    Guard("targetSecureTags", wrong=([],), needed=False, elsewhere=True, when=_faces),
)

RULE = Rule(
    id="exposure-world-ports",
    title="Only a role's ports face the world",
    severity=Severity.HIGH,
    why="Every other open port is a way in that nobody watches; port 25 is open on mail exchangers and nowhere else.",
    mend="Name the roles in the firewall's tag, open their ports only, and every other one to known networks.",
    controls=(
        Control(Framework.SOC2, "CC6.6"),
        Control(Framework.ISO27001, "A.8.20"),
        Control(Framework.ISO27001, "A.8.22"),
        Control(Framework.GDPR, "Art. 32(1)(b)"),
    ),
    covers={
        **dict.fromkeys(INLINE, _GROUP),
        **dict.fromkeys(ACLS, _ACL),
        INGRESS_RULE: (
            _port("fromPort", 22, 0),
            _port("toPort", 65_535, elsewhere=True),
            _port("ipProtocol", *_PROTOCOLS, elsewhere=True),
            _source("cidrIpv4", "0.0.0.0/0", "0.0.0.0/1", elsewhere=True),
            _source("cidrIpv6", "::/0", "2000::/3", elsewhere=True),
            _source("prefixListId", "pl-00000000", elsewhere=True),
            _port("tags", {"roles": "egress"}, {"roles": "Mx"}, elsewhere=True),
        ),
        GROUP_RULE: (
            _port("fromPort", 22, 0),
            _port("toPort", 65_535, elsewhere=True),
            _port("protocol", *_PROTOCOLS, elsewhere=True),
            _source("cidrBlocks", *_V4, elsewhere=True),
        ),
        ACL_RULE: (_port("fromPort", 0, 1024), _port("protocol", "-1", elsewhere=True)),
        LIGHTSAIL: (_source("portInfos[*].cidrs", *_V4),),
        FIREWALL: (
            _source("sourceRanges", *_V4, *_V6, elsewhere=True),
            _port("allows[*].ports", ["22"], ["1-65535"], ["25-65000"], ["smtp"]),
            _port("allows[*].protocol", "all", "udp"),
            _port("targetTags", ["mail"], ["roles-egress"], elsewhere=True),
        ),
        **dict.fromkeys(POLICY_RULES, _LAYER4),
        **dict.fromkeys(
            POLICIES,
            (
                _source("rules[*].match.srcIpRanges", *_V4),
                Guard(
                    "rules[*].action", wrong=("allow",), needed=False, when=lambda of, value: value == "deny"
                ),
            ),
        ),
    },
    judge=judge,
)
