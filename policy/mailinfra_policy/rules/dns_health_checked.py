"""Answers that are chosen come from what is alive, and are forgotten soon."""

from collections.abc import Iterator

from mailinfra_policy.expect import is_true, present, within
from mailinfra_policy.maildns import CLOUDDNS, ROUTE53, RecordSet, dns
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, Value, show

_CHECK = "aws:route53/healthCheck:HealthCheck"
_BALANCER = "cloudflare:index/loadBalancer:LoadBalancer"
_POOL = "cloudflare:index/loadBalancerPool:LoadBalancerPool"
_STEERED = frozenset({"A", "AAAA", "CNAME", "MX"})


def judge_stack(context: Context) -> Iterator[Finding]:
    """Each set that is chosen among others, or has a health check; and the checks themselves."""
    limit = context.config.dns.checked_ttl
    groups: dict[tuple[Value, Value, Value], list[RecordSet]] = {}
    for item in dns(context).sets:
        if item.policy is UNKNOWN or item.kind is UNKNOWN:
            yield Finding(item.resource, "", str(UNKNOWN), "a type and policy that are known", unknown=True)
        elif item.kind in _STEERED and item.resource.type == ROUTE53:
            yield from _route53(item, limit)
            if item.policy == "weighted" and isinstance(item.ttl, int) and isinstance(item.owner, str):
                zone = show(item.resource.get("zoneId"))
                groups.setdefault((item.owner, item.kind, zone), []).append(item)
        elif item.kind in _STEERED and item.resource.type == CLOUDDNS and item.policy:
            yield from _clouddns(item.resource)
            yield from within(item.resource, "ttl", 0, limit, "seconds")
    for sets in groups.values():
        for item in sets[1:]:
            if item.ttl != sets[0].ttl:
                yield Finding(
                    item.resource, "ttl", show(item.ttl), f"{sets[0].ttl}, as the rest of its group"
                )
    for check in context.stack.of(_CHECK):
        for path in ("disabled", "invertHealthcheck"):
            value = check.get(path)
            if value not in (None, False):
                yield Finding(check, path, show(value), "false", unknown=value is UNKNOWN)
    for balancer in context.stack.of(_BALANCER):
        if balancer.get("proxied") is not True:
            yield from within(balancer, "ttl", 0, limit, "seconds", default=30)
    for pool in context.stack.of(_POOL):
        yield from present(pool, "monitor", "a monitor")


def _route53(item: RecordSet, limit: int) -> Iterator[Finding]:
    resource = item.resource
    if item.alias is not None:
        if item.policy:
            yield from is_true(resource, "aliases[0].evaluateTargetHealth")
        return
    if item.policy:
        yield from present(resource, "healthCheckId", "a health check")
    if item.policy or resource.get("healthCheckId") is not None:
        yield from within(resource, "ttl", 0, limit, "seconds")


def _clouddns(resource: Resource) -> Iterator[Finding]:
    """External addresses need the set's own check; load balancers have theirs; plain rrdatas have none."""
    policy = resource.get("routingPolicy")
    if policy is UNKNOWN:
        yield Finding(resource, "routingPolicy", str(UNKNOWN), "a policy that is known", unknown=True)
        return
    balancers = False
    for branch in ("geos", "wrrs", "primaryBackup.backupGeos"):
        for path, _ in resource.each(f"routingPolicy.{branch}[*]"):
            if resource.get(f"{path}.rrdatas"):
                yield Finding(
                    resource, f"{path}.rrdatas", show(resource.get(f"{path}.rrdatas")), "healthCheckedTargets"
                )
            found = resource.get(f"{path}.healthCheckedTargets.internalLoadBalancers")
            balancers = balancers or (found is not UNKNOWN and bool(found))
    if not balancers:
        yield from present(resource, "routingPolicy.healthCheck", "a health check")


def _chosen(resource: Resource, _value: Value) -> bool:
    paths = (
        "weightedRoutingPolicies",
        "geolocationRoutingPolicies",
        "latencyRoutingPolicies",
        "failoverRoutingPolicies",
    )
    return resource.get("type") in _STEERED and any(resource.get(path) for path in paths)


def _plain(resource: Resource, value: Value) -> bool:
    return _chosen(resource, value) and not resource.get("aliases")


def _alias(resource: Resource, value: Value) -> bool:
    return _chosen(resource, value) and bool(resource.get("aliases"))


def _policy(resource: Resource, _value: Value) -> bool:
    return resource.get("type") in _STEERED and resource.get("routingPolicy") is not None


RULE = Rule(
    id="dns-health-checked",
    title="Steered answers are health-checked and short-lived",
    severity=Severity.HIGH,
    why="A weighted or geographic set without a health check goes on sending mail to a dead node; with a long TTL "
    "senders remember it long after.",
    mend="Give each set of the group a health check (aliases: evaluateTargetHealth) and one TTL of at most 60 seconds.",
    controls=(
        Control(Framework.SOC2, "A1.2"),
        Control(Framework.ISO27001, "A.8.14"),
        Control(Framework.GDPR, "Art. 32(1)(b)"),
    ),
    covers={
        ROUTE53: (
            Guard("healthCheckId", wrong=("",), opaque=True, when=_plain),
            Guard("ttl", wrong=(61, 3600), when=_plain),
            Guard("aliases[0].evaluateTargetHealth", wrong=(False,), when=_alias),
        ),
        CLOUDDNS: (
            Guard("routingPolicy.healthCheck", wrong=("",), opaque=True, when=_policy),
            Guard("ttl", wrong=(61, 3600), when=_policy),
        ),
        _CHECK: (
            Guard("disabled", wrong=(True,), needed=False),
            Guard("invertHealthcheck", wrong=(True,), needed=False),
        ),
        _BALANCER: (
            Guard("ttl", wrong=(61,), needed=False, when=lambda balancer, _: not balancer.get("proxied")),
        ),
        _POOL: (Guard("monitor", wrong=("",), opaque=True),),
    },
    judge_stack=judge_stack,
)
