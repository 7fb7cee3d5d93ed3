"""Content networks: TLS 1.3 to viewers, no plain text to viewers or origins."""

from mailinfra_policy.rule import Rule, Severity
from mailinfra_policy.tls import CLOUDFRONT, TRANSPORT, Must, Table, guarded, judged_by

_BEHAVIOURS = ("https-only", "redirect-to-https")
_ORIGIN = ("https-only",)
# CloudFront can be told of nothing newer than 1.2 towards an origin.
_ORIGIN_TLS = ("TLSv1.2",)


def _cloudfront(behaviours: str, origin: str) -> tuple[Must, ...]:
    return (
        # With CloudFront's own certificate the floor is TLS 1.0 whatever is asked for.
        Must("viewerCertificate.cloudfrontDefaultCertificate", (False,), default=False),
        Must("viewerCertificate.minimumProtocolVersion", CLOUDFRONT, wrong=("TLSv1", "TLSv1_2016")),
        Must("defaultCacheBehavior.viewerProtocolPolicy", _BEHAVIOURS, wrong=("allow-all",)),
        Must("viewerProtocolPolicy", _BEHAVIOURS, under=behaviours, wrong=("allow-all",)),
        Must("originProtocolPolicy", _ORIGIN, under=origin, wrong=("http-only", "match-viewer")),
        Must("originSslProtocols[*]", _ORIGIN_TLS, under=origin, wrong=("SSLv3", "TLSv1", "TLSv1.1")),
    )


TABLE: Table = {
    "aws:cloudfront/distribution:Distribution": _cloudfront(
        "orderedCacheBehaviors[*]", "origins[*].customOriginConfig"
    ),
    "aws:cloudfront/multitenantDistribution:MultitenantDistribution": _cloudfront(
        "cacheBehaviors[*]", "origins[*].customOriginConfigs[*]"
    ),
    "aws:cloudfront/vpcOrigin:VpcOrigin": (
        Must("vpcOriginEndpointConfig.originProtocolPolicy", _ORIGIN, wrong=("http-only", "match-viewer")),
        Must(
            "vpcOriginEndpointConfig.originSslProtocols.items[*]",
            _ORIGIN_TLS,
            wrong=("SSLv3", "TLSv1", "TLSv1.1"),
        ),
    ),
    "aws:lightsail/distribution:Distribution": (
        Must("origin.protocolPolicy", _ORIGIN, wrong=("http-only",)),
    ),
    "gcp:networkservices/edgeCacheOrigin:EdgeCacheOrigin": (
        Must("protocol", ("HTTPS", "HTTP2"), default="HTTP2", wrong=("HTTP",)),
    ),
    "gcp:networkservices/edgeCacheService:EdgeCacheService": (Must("requireTls", (True,), default=False),),
}

RULE = Rule(
    id="tls-cdn",
    title="Content networks speak TLS 1.3 to viewers and TLS to origins",
    severity=Severity.HIGH,
    why="A content network that takes plain text or old TLS from viewers, or fetches in plain text, gives away what "
    "the servers protect.",
    mend="Use a certificate of your own with minimumProtocolVersion TLSv1.3_2025, redirect viewers to HTTPS and fetch "
    "with https-only over TLSv1.2.",
    controls=TRANSPORT,
    covers=guarded(TABLE),
    judge=judged_by(TABLE),
)
