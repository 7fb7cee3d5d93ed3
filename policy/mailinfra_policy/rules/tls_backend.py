"""Behind load balancers, proxies and tunnels: TLS to the servers, certificates checked."""

from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Rule, Severity
from mailinfra_policy.tls import TRANSPORT, Must, Table, guarded, judged_by


def _network(resource: Resource) -> bool:
    """Not a Lambda function, which is called without a protocol."""
    return bool(resource.get("targetType") != "lambda")


def _lattice(resource: Resource) -> bool:
    return bool(resource.get("type") != "LAMBDA")


_TARGETS = (
    # TCP and its like pass on what the client sent: the node speaks TLS itself.
    Must(
        "protocol",
        ("HTTPS", "TLS", "TCP", "UDP", "TCP_UDP", "QUIC", "TCP_QUIC", "GENEVE"),
        when=_network,
        wrong=("HTTP",),
    ),
)
_BACKENDS = (
    Must(
        "protocol",
        ("HTTPS", "HTTP2", "SSL", "TCP", "UDP", "UNSPECIFIED"),
        default="HTTP",
        wrong=("HTTP", "H2C", "GRPC"),
    ),
)
_TUNNEL = (
    Must("noTlsVerify", (False,), default=False, under="config.originRequest"),
    Must("noTlsVerify", (False,), default=False, under="config.ingresses[*].originRequest"),
)

TABLE: Table = {
    "aws:lb/targetGroup:TargetGroup": _TARGETS,
    "aws:alb/targetGroup:TargetGroup": _TARGETS,
    "aws:vpclattice/targetGroup:TargetGroup": (
        Must("config.protocol", ("HTTPS", "TCP"), when=_lattice, wrong=("HTTP",)),
    ),
    "gcp:compute/backendService:BackendService": _BACKENDS,
    "gcp:compute/regionBackendService:RegionBackendService": _BACKENDS,
    "cloudflare:index/loadBalancerMonitor:LoadBalancerMonitor": (
        Must("allowInsecure", (False,), default=False),
    ),
    "cloudflare:index/healthcheck:Healthcheck": (
        Must("allowInsecure", (False,), default=False, under="httpConfig"),
    ),
    "cloudflare:index/zeroTrustTunnelCloudflaredConfig:ZeroTrustTunnelCloudflaredConfig": _TUNNEL,
    "cloudflare:index/tunnelConfig:TunnelConfig": _TUNNEL,
}

RULE = Rule(
    id="tls-backend",
    title="Load balancers, proxies and tunnels reach their servers over TLS",
    severity=Severity.HIGH,
    why="TLS that ends at the balancer leaves the way from there to the server in plain text.",
    mend="Use HTTPS, TLS or pass-through TCP towards the servers, and check their certificates.",
    controls=TRANSPORT,
    covers=guarded(TABLE),
    judge=judged_by(TABLE),
)
