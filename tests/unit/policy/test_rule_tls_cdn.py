"""Content networks speak TLS 1.3 to viewers and TLS to origins."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_cdn import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

ORIGIN = {
    "originProtocolPolicy": "https-only",
    "originSslProtocols": ["TLSv1.2"],
    "httpPort": 80,
    "httpsPort": 443,
}
CERTIFICATE = {
    "acmCertificateArn": "arn:aws:acm:us-east-1:1:certificate/1",
    "minimumProtocolVersion": "TLSv1.3_2025",
}
WEB = resource(
    "aws:cloudfront/distribution:Distribution",
    "web",
    {
        "viewerCertificate": CERTIFICATE,
        "defaultCacheBehavior": {"viewerProtocolPolicy": "redirect-to-https"},
        "orderedCacheBehaviors": [{"viewerProtocolPolicy": "https-only", "pathPattern": "/x"}],
        "origins": [
            {"domainName": "b.s3.amazonaws.com"},
            {"domainName": "o.test", "customOriginConfig": ORIGIN},
        ],
    },
)
TENANTS = resource(
    "aws:cloudfront/multitenantDistribution:MultitenantDistribution",
    "tenants",
    {
        "viewerCertificate": CERTIFICATE,
        "defaultCacheBehavior": {"viewerProtocolPolicy": "https-only"},
        "cacheBehaviors": [{"viewerProtocolPolicy": "https-only"}],
        "origins": [{"domainName": "o.test", "customOriginConfigs": [ORIGIN]}],
    },
)
INSIDE = resource(
    "aws:cloudfront/vpcOrigin:VpcOrigin",
    "inside",
    {
        "vpcOriginEndpointConfig": {
            "originProtocolPolicy": "https-only",
            "originSslProtocols": {"items": ["TLSv1.2"], "quantity": 1},
        }
    },
)
SMALL = resource(
    "aws:lightsail/distribution:Distribution", "small", {"origin": {"protocolPolicy": "https-only"}}
)
MEDIA = resource("gcp:networkservices/edgeCacheService:EdgeCacheService", "media", {"requireTls": True})
SOURCE = resource("gcp:networkservices/edgeCacheOrigin:EdgeCacheOrigin", "source", {"protocol": "HTTPS"})
GOOD = ([WEB], [TENANTS], [INSIDE], [SMALL], [MEDIA, SOURCE])


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (
            WEB,
            {
                "viewerCertificate": {
                    "cloudfrontDefaultCertificate": True,
                    "minimumProtocolVersion": "TLSv1.3_2025",
                }
            },
            "viewerCertificate.cloudfrontDefaultCertificate",
        ),
        (WEB, {"viewerCertificate": None}, "viewerCertificate.minimumProtocolVersion"),
        (
            WEB,
            {"viewerCertificate": {"minimumProtocolVersion": "TLSv1.3_2025x"}},
            "viewerCertificate.minimumProtocolVersion",
        ),
        (
            WEB,
            {"viewerCertificate": {"minimumProtocolVersion": "TLSv1.2_2021"}},
            "viewerCertificate.minimumProtocolVersion",
        ),
        (
            WEB,
            {"defaultCacheBehavior": {"viewerProtocolPolicy": "allow-all"}},
            "defaultCacheBehavior.viewerProtocolPolicy",
        ),
        (
            WEB,
            {"orderedCacheBehaviors": [{"viewerProtocolPolicy": "allow-all"}]},
            "orderedCacheBehaviors[0].viewerProtocolPolicy",
        ),
        (
            WEB,
            {"origins": [{"customOriginConfig": {**ORIGIN, "originProtocolPolicy": "http-only"}}]},
            "origins[0].customOriginConfig.originProtocolPolicy",
        ),
        (
            WEB,
            {"origins": [{"customOriginConfig": {**ORIGIN, "originSslProtocols": ["TLSv1.2", "TLSv1"]}}]},
            "origins[0].customOriginConfig.originSslProtocols[1]",
        ),
        (MEDIA, {"requireTls": None}, "requireTls"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_the_floor_is_configurable() -> None:
    older = changed(WEB, viewerCertificate={"minimumProtocolVersion": "TLSv1.2_2021"})
    assert found(RULE, [older], settings(tls={"public": "1.2"})) == []
    oldest = changed(WEB, viewerCertificate={"minimumProtocolVersion": "TLSv1.1_2016"})
    assert len(found(RULE, [oldest], settings(tls={"public": "1.2"}))) == 1


def test_an_unknown_origin_is_found() -> None:
    items = found(RULE, [changed(WEB, origins=UNKNOWN)])
    assert items and all(item.finding.unknown for item in items)
