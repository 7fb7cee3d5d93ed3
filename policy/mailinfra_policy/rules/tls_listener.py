"""Listeners of AWS's load balancers: TLS 1.3; plain HTTP only to redirect."""

from collections.abc import Iterator

from mailinfra_policy import expect
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import ELB, TRANSPORT, Link, floor, one_of
from mailinfra_policy.values import UNKNOWN, Value, show

_LISTENERS = ("aws:lb/listener:Listener", "aws:alb/listener:Listener")
_RULES = ("aws:lb/listenerRule:ListenerRule", "aws:alb/listenerRule:ListenerRule")
_LATTICE = "aws:vpclattice/listener:Listener"
_ENCRYPTED = ("HTTPS", "TLS")
# What the server behind speaks with the client is not the balancer's.
_PASSED = ("TCP", "UDP", "TCP_UDP", "QUIC", "TCP_QUIC", "GENEVE")
_PROTOCOLS = (*_ENCRYPTED, *_PASSED)


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """TLS with one of the policies, or something passed through, or HTTP that redirects and nothing else."""
    if resource.type == _LATTICE:
        yield from one_of(resource, "protocol", ("HTTPS", "TLS_PASSTHROUGH"))
    elif resource.type in _RULES:
        yield from _rule(resource, context)
    else:
        protocol = _protocol(resource)
        if protocol is UNKNOWN:
            yield expect.unknown(resource, "protocol", " or ".join(_PROTOCOLS))
        elif protocol == "HTTP":
            yield from _redirects(resource, "defaultActions")
        elif protocol not in _PROTOCOLS:
            yield Finding(resource, "protocol", show(protocol), " or ".join(_PROTOCOLS))
        elif protocol in _ENCRYPTED:
            allowed = ELB.allowed(floor(context.config.tls, Link.PUBLIC))
            yield from one_of(resource, "sslPolicy", allowed)


def _protocol(listener: Resource) -> Value:
    """Its protocol. A gateway balancer's listener has neither a port nor one: GENEVE."""
    given = listener.get("protocol")
    return "GENEVE" if given is None and listener.get("port") is None else given


def _rule(rule: Resource, context: Context) -> Iterator[Finding]:
    found = context.stack.referred(rule, "listenerArn", *_LISTENERS)
    if any(_protocol(listener) in _PROTOCOLS for listener in found):
        return
    if found or rule.get("listenerArn") is UNKNOWN:
        yield from _redirects(rule, "actions")
    else:
        # A listener of another stack: only what is right with any listener.
        yield from _redirects(rule, "actions", " (its listener is not in this stack)")


def _redirects(resource: Resource, path: str, why: str = "") -> Iterator[Finding]:
    """Every action redirects to HTTPS."""
    actions = resource.get(path)
    allowed = f"a redirect to HTTPS{why}"
    if actions is UNKNOWN:
        yield expect.unknown(resource, path, allowed)
        return
    for index, action in enumerate(actions if isinstance(actions, list) and actions else [None]):
        at = f"{path}[{index}]"
        kind = resource.get(f"{at}.type") if action is not None else None
        if kind is UNKNOWN:
            yield expect.unknown(resource, f"{at}.type", allowed)
        elif kind != "redirect":
            yield Finding(resource, f"{at}.type", f"plain HTTP with the action {show(kind)}", allowed)
        else:
            yield from expect.one_of(resource, f"{at}.redirect.protocol", ("HTTPS",))


def _http(resource: Resource, value: Value) -> bool:
    return bool(resource.get("protocol") == "HTTP")


def _tls(resource: Resource, value: Value) -> bool:
    return resource.get("protocol") in _ENCRYPTED


_POLICIES = (
    "ELBSecurityPolicy-2016-08",
    "ELBSecurityPolicy-TLS13-1-0-2021-06",
    "ELBSecurityPolicy-TLS13-1-2-2021-06",
    "ELBSecurityPolicy-TLS13-1-3-2021-06x",
    "ELBSELBSecurityPolicy-TLS13-1-3-2021-06",
)
_FORWARD = ("forward", "fixed-response", "Redirect")
_LISTENER_GUARDS = (
    Guard("protocol", wrong=("http", "TLSv1.3")),
    Guard("sslPolicy", wrong=_POLICIES, when=_tls),
    Guard("defaultActions[*].type", wrong=_FORWARD, when=_http),
    Guard("defaultActions[*].redirect.protocol", wrong=("HTTP", "#{protocol}", "https"), when=_http),
)

RULE = Rule(
    id="tls-listener",
    title="Listeners of load balancers speak TLS 1.3",
    severity=Severity.HIGH,
    why="AWS's default policy for listeners lets in TLS 1.0, and a listener on HTTP takes everything in plain text.",
    mend="Set sslPolicy to ELBSecurityPolicy-TLS13-1-3-2021-06 (or a newer one with 1-3); on HTTP redirect to HTTPS.",
    controls=TRANSPORT,
    covers={
        **dict.fromkeys(_LISTENERS, _LISTENER_GUARDS),
        **dict.fromkeys(
            _RULES,
            (
                Guard("actions[*].type", wrong=_FORWARD, when=lambda resource, value: value == "redirect"),
                Guard(
                    "actions[*].redirect.protocol",
                    wrong=("HTTP",),
                    when=lambda resource, value: value == "HTTPS",
                ),
            ),
        ),
        _LATTICE: (Guard("protocol", wrong=("HTTP", "https")),),
    },
    judge=judge,
)
