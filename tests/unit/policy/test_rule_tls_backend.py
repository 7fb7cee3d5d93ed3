"""Load balancers, proxies and tunnels reach their servers over TLS."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_backend import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

TARGETS = resource("aws:lb/targetGroup:TargetGroup", "targets", {"port": 443, "protocol": "HTTPS"})
PASSED = resource("aws:alb/targetGroup:TargetGroup", "passed", {"port": 993, "protocol": "TCP"})
LAMBDA = resource("aws:lb/targetGroup:TargetGroup", "lambda", {"targetType": "lambda"})
LATTICE = resource(
    "aws:vpclattice/targetGroup:TargetGroup", "lattice", {"type": "IP", "config": {"protocol": "HTTPS"}}
)
CALLED = resource("aws:vpclattice/targetGroup:TargetGroup", "called", {"type": "LAMBDA"})
SERVICE = resource("gcp:compute/backendService:BackendService", "service", {"protocol": "HTTP2"})
REGIONAL = resource("gcp:compute/regionBackendService:RegionBackendService", "regional", {"protocol": "TCP"})
MONITOR = resource("cloudflare:index/loadBalancerMonitor:LoadBalancerMonitor", "monitor", {"type": "https"})
CHECK = resource(
    "cloudflare:index/healthcheck:Healthcheck", "check", {"httpConfig": {"allowInsecure": False}}
)
INGRESSES = {
    "config": {"ingresses": [{"service": "https://o.test", "originRequest": {"noTlsVerify": False}}]}
}
TUNNEL = resource(
    "cloudflare:index/zeroTrustTunnelCloudflaredConfig:ZeroTrustTunnelCloudflaredConfig", "tunnel", INGRESSES
)
TUNNEL_OLD = resource("cloudflare:index/tunnelConfig:TunnelConfig", "old", INGRESSES)
GOOD = (
    [TARGETS, PASSED, LAMBDA],
    [LATTICE, CALLED],
    [SERVICE, REGIONAL],
    [MONITOR, CHECK],
    [TUNNEL, TUNNEL_OLD],
)


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (TARGETS, {"protocol": "HTTP"}, "protocol"),
        (TARGETS, {"protocol": None}, "protocol"),
        (PASSED, {"protocol": "tcp"}, "protocol"),
        (LATTICE, {"config": {"protocol": "HTTP"}}, "config.protocol"),
        (SERVICE, {"protocol": None}, "protocol"),
        (REGIONAL, {"protocol": "HTTP"}, "protocol"),
        (MONITOR, {"allowInsecure": True}, "allowInsecure"),
        (CHECK, {"httpConfig": {"allowInsecure": True}}, "httpConfig.allowInsecure"),
        (TUNNEL, {"config": {"originRequest": {"noTlsVerify": True}}}, "config.originRequest.noTlsVerify"),
        (
            TUNNEL,
            {"config": {"ingresses": [{"originRequest": {"noTlsVerify": True}}]}},
            "config.ingresses[0].originRequest.noTlsVerify",
        ),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [changed(SERVICE, protocol=UNKNOWN)], settings())
    assert item.finding.unknown
