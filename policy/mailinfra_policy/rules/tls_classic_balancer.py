"""Classic Load Balancers: TLS listeners with a policy of 1.2, their newest."""

from collections.abc import Iterator
from itertools import chain

from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import CLASSIC_ELB, TRANSPORT, Link, floor, said
from mailinfra_policy.values import UNKNOWN, Value, show

_BALANCER = "aws:elb/loadBalancer:LoadBalancer"
_NEGOTIATION = "aws:elb/sslNegotiationPolicy:SslNegotiationPolicy"
_POLICY = "aws:elb/loadBalancerPolicy:LoadBalancerPolicy"
_ATTACHED = "aws:elb/listenerPolicy:ListenerPolicy"
_REFERENCE = "Reference-Security-Policy"


def judge(context: Context) -> Iterator[Finding]:
    """Every listener is HTTPS or SSL to both sides, or TCP, and each that ends TLS has a policy of the list."""
    stack = context.stack
    allowed = CLASSIC_ELB.allowed(floor(context.config.tls, Link.SERVICES))
    for balancer in stack.of(_BALANCER):
        for path, listener in balancer.each("listeners[*]"):
            protocol, port = balancer.get(f"{path}.lbProtocol"), balancer.get(f"{path}.lbPort")
            if UNKNOWN in (listener, protocol, port):
                yield Finding(balancer, path, show(UNKNOWN), "a listener on https, ssl or tcp", unknown=True)
                continue
            name = str(protocol).lower()
            if name not in {"https", "ssl", "tcp"}:
                yield Finding(balancer, f"{path}.lbProtocol", show(protocol), "https, ssl or tcp")
            elif name != "tcp":
                yield from _ends_tls(stack, balancer, path, name, port, allowed)


def _ends_tls(
    stack: Stack, balancer: Resource, path: str, name: str, port: Value, allowed: tuple[str, ...]
) -> Iterator[Finding]:
    behind = balancer.get(f"{path}.instanceProtocol")
    if behind is UNKNOWN or str(behind).lower() != name:
        yield Finding(
            balancer, f"{path}.instanceProtocol", show(behind), f'"{name}"', unknown=behind is UNKNOWN
        )
    policies = [*chain(_negotiated(stack, balancer, port), _attached(stack, balancer, port))]
    if not policies:
        wanted = f"a policy on port {port} with {_REFERENCE} {said(allowed)}"
        yield Finding(balancer, "", f"no TLS policy on port {port}", wanted)
    for policy, attributes in policies:
        given = {
            policy.get(f"{at}.name"): policy.get(f"{at}.value") for at, _ in policy.each(f"{attributes}[*]")
        }
        reference = UNKNOWN if UNKNOWN in given else given.get(_REFERENCE)
        if policy.get(attributes) is UNKNOWN or reference is UNKNOWN:
            yield Finding(policy, attributes, show(UNKNOWN), said(allowed), unknown=True)
        elif reference not in allowed:
            yield Finding(policy, attributes, f"{_REFERENCE} {show(reference)}", said(allowed))


def _negotiated(stack: Stack, balancer: Resource, port: Value) -> Iterator[tuple[Resource, str]]:
    for policy in stack.referring(balancer, "loadBalancer", _NEGOTIATION):
        if policy.get("lbPort") == port:
            yield policy, "attributes"


def _attached(stack: Stack, balancer: Resource, port: Value) -> Iterator[tuple[Resource, str]]:
    names = [
        name
        for attached in stack.referring(balancer, "loadBalancerName", _ATTACHED)
        if attached.get("loadBalancerPort") == port
        for _, name in attached.each("policyNames[*]")
    ]
    for policy in stack.referring(balancer, "loadBalancerName", _POLICY):
        kind = policy.get("policyTypeName")
        if kind == "SSLNegotiationPolicyType" and policy.get("policyName") in names:
            yield policy, "policyAttributes"


RULE = Rule(
    id="tls-classic-balancer",
    title="Classic load balancers speak TLS 1.2",
    severity=Severity.HIGH,
    why="A classic balancer's own policy lets in TLS 1.0, and it cannot redirect plain HTTP.",
    mend="Give each TLS port a policy with Reference-Security-Policy ELBSecurityPolicy-TLS-1-2-2017-01, or better use "
    "a newer kind of balancer, which speaks TLS 1.3.",
    controls=TRANSPORT,
    covers={
        _BALANCER: (
            Guard("listeners[*].lbProtocol", wrong=("http", "tls")),
            Guard("listeners[*].instanceProtocol", wrong=("http", "tcp")),
        ),
        _NEGOTIATION: (
            Guard(""),
            Guard("lbPort", wrong=(8443,)),
            Guard("attributes", wrong=([{"name": _REFERENCE, "value": "ELBSecurityPolicy-2016-08"}],)),
        ),
        _ATTACHED: (
            Guard(""),
            Guard("policyNames", wrong=(["other"],)),
            Guard("loadBalancerPort", wrong=(1,)),
        ),
        _POLICY: (
            Guard(""),
            Guard("policyTypeName", wrong=("PublicKeyPolicyType",)),
            Guard("policyAttributes", wrong=([{"name": _REFERENCE, "value": "ELBSecurityPolicy-2015-05"}],)),
        ),
    },
    judge_stack=judge,
)
