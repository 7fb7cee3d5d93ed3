"""Ports of protocols without TLS are closed: at balancers that pass TCP on, and in firewalls."""

from collections.abc import Iterator
from dataclasses import dataclass

from mailinfra_policy import expect
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import MAIL
from mailinfra_policy.values import UNKNOWN, Value, show

_TCP = frozenset({"tcp", "6", "tcp_udp", "udp", "17"})
_REDIRECTS = frozenset({80})
"""A firewall cannot tell a redirect from a page; listeners on this port are judged by tls-listener and tls-proxy."""
_HTTP_PROXIES = (
    "gcp:compute/targetHttpProxy:TargetHttpProxy",
    "gcp:compute/regionTargetHttpProxy:RegionTargetHttpProxy",
)


@dataclass(frozen=True)
class Opening:
    """Where ports are opened: `at` the items (`[*]`), within them the first and last port or one text or list of them.

    `firewall`: 80 may pass. What opens every port (all protocols, TCP without ports) is judged by exposure rules.
    """

    at: str
    low: str
    high: str = ""
    protocol: str = ""
    firewall: bool = True


_GROUP = Opening("ingress[*]", "fromPort", "toPort", "protocol")
_BALANCED = Opening("", "port", protocol="protocol", firewall=False)
_FORWARDED = Opening("", "portRange", protocol="ipProtocol", firewall=False)

OPENINGS: dict[str, tuple[Opening, ...]] = {
    "aws:ec2/securityGroup:SecurityGroup": (_GROUP,),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": (_GROUP,),
    "aws:ec2/securityGroupRule:SecurityGroupRule": (Opening("", "fromPort", "toPort", "protocol"),),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": (
        Opening("", "fromPort", "toPort", "ipProtocol"),
    ),
    "aws:lightsail/instancePublicPorts:InstancePublicPorts": (
        Opening("portInfos[*]", "fromPort", "toPort", "protocol"),
    ),
    "aws:lb/listener:Listener": (_BALANCED,),
    "aws:alb/listener:Listener": (_BALANCED,),
    "aws:elb/loadBalancer:LoadBalancer": (
        Opening("listeners[*]", "lbPort", protocol="lbProtocol", firewall=False),
    ),
    "aws:globalaccelerator/listener:Listener": (
        Opening("portRanges[*]", "fromPort", "toPort", firewall=True),
    ),
    "gcp:compute/firewall:Firewall": (Opening("allows[*]", "ports[*]", protocol="protocol"),),
    "gcp:compute/forwardingRule:ForwardingRule": (
        _FORWARDED,
        Opening("", "ports[*]", protocol="ipProtocol", firewall=False),
    ),
    "gcp:compute/globalForwardingRule:GlobalForwardingRule": (_FORWARDED,),
    "cloudflare:index/spectrumApplication:SpectrumApplication": (Opening("", "protocol", firewall=False),),
}
_SPECTRUM = "cloudflare:index/spectrumApplication:SpectrumApplication"


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """No opening takes in a plain port."""
    if resource.type == "aws:ec2/securityGroupRule:SecurityGroupRule" and resource.get("type") == "egress":
        return
    plain = context.config.tls.plain_ports
    for opening in OPENINGS[resource.type]:
        closed = plain - _REDIRECTS if opening.firewall or _redirects(resource, context) else plain
        for at, item in resource.each(opening.at) if opening.at else [("", resource.props)]:
            if item is UNKNOWN:
                yield expect.unknown(resource, at, _allowed(closed))
            else:
                yield from _opening(resource, opening, f"{at}." if at else "", closed)


def _redirects(resource: Resource, context: Context) -> bool:
    """Whether what listens is one that other rules hold to redirecting."""
    if resource.type.endswith("listener:Listener"):
        return resource.get("protocol") in ("HTTP", "HTTPS")
    if "orwardingRule" in resource.type:
        return bool(context.stack.referred(resource, "target", *_HTTP_PROXIES))
    return False


def _allowed(closed: frozenset[int]) -> str:
    return f"none of the plain-text ports {', '.join(map(str, sorted(closed)))}"


def _opening(resource: Resource, opening: Opening, at: str, closed: frozenset[int]) -> Iterator[Finding]:
    protocol = resource.get(f"{at}{opening.protocol}") if opening.protocol else "tcp"
    if protocol is UNKNOWN:
        yield expect.unknown(resource, f"{at}{opening.protocol}", "a protocol")
        return
    if opening.firewall and str(protocol or "tcp").lower() not in _TCP:
        return
    for path, low in resource.each(f"{at}{opening.low}"):
        high = resource.get(f"{at}{opening.high}") if opening.high else low
        if UNKNOWN in (low, high):
            where = path if low is UNKNOWN else f"{at}{opening.high}"
            yield expect.unknown(resource, where, _allowed(closed))
        elif low is not None:
            yield from _between(resource, path, low, high, closed)


def _between(
    resource: Resource, path: str, low: Value, high: Value, closed: frozenset[int]
) -> Iterator[Finding]:
    text = str(low) if low == high else f"{low}-{high}"
    if resource.type == _SPECTRUM:
        _, _, text = text.partition("/")
        if not text:
            return
    first, _, last = text.partition("-")
    if not (first.isascii() and first.isdigit() and (last or first).isascii() and (last or first).isdigit()):
        yield Finding(resource, path, show(text), f"ports; {_allowed(closed)}")
    elif hit := sorted(port for port in closed if int(first) <= port <= int(last or first)):
        ports = ", ".join(map(str, hit))
        yield Finding(resource, path, f"port {text}, which opens {ports}", _allowed(closed))


def _wrong(opening: Opening) -> tuple[object, ...]:
    if opening.low == "protocol":
        return ("tcp/143", "tcp/110-143")
    return ("143", "100-200") if opening.low in {"ports[*]", "portRange"} else (143,)


def _guards(token: str) -> tuple[Guard, ...]:
    found = []
    for opening in OPENINGS[token]:
        prefix = f"{opening.at}." if opening.at else ""
        wrong = _wrong(opening)
        if opening.high:
            # One end alone makes a range that may be empty: both are looked at together.
            wrong = (1,)
        found.append(
            Guard(
                f"{prefix}{opening.low}",
                wrong=wrong,
                needed=False,
                when=lambda resource, value: value is not None,
            )
        )
    return tuple(found)


RULE = Rule(
    id="tls-plain-ports",
    title="Ports of protocols without TLS are closed",
    severity=Severity.HIGH,
    why="On the old ports of IMAP, POP3, LDAP and their like passwords and mail go in plain text until a client asks "
    "for TLS, and an attacker on the way sees to it that none does.",
    mend="Open the ports with TLS from the first byte (993, 995, 465, 636, 443) and close the plain ones.",
    controls=MAIL,
    covers={token: _guards(token) for token in OPENINGS},
    judge=judge,
)
