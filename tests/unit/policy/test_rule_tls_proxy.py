"""Google's load balancers speak TLS 1.3."""

from typing import Any

import pytest

from mailinfra_policy.rules.tls_proxy import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

PROPS = {"name": "modern", "minTlsVersion": "TLS_1_3", "profile": "RESTRICTED"}
LINK = "projects/p/global/sslPolicies/modern"
POLICY = resource("gcp:compute/sSLPolicy:SSLPolicy", "modern", PROPS, outputs={"selfLink": LINK})
REGIONAL = resource(
    "gcp:compute/regionSslPolicy:RegionSslPolicy", "regional", PROPS, outputs={"selfLink": "regional"}
)
HTTPS = resource("gcp:compute/targetHttpsProxy:TargetHttpsProxy", "https", {"sslPolicy": LINK})
REGIONAL_HTTPS = resource(
    "gcp:compute/regionTargetHttpsProxy:RegionTargetHttpsProxy", "rhttps", {"sslPolicy": "regional"}
)
SSL = resource("gcp:compute/targetSSLProxy:TargetSSLProxy", "ssl", {"sslPolicy": LINK})
MEDIA = resource("gcp:networkservices/edgeCacheService:EdgeCacheService", "media", {"sslPolicy": LINK})
TO_HTTPS = {"httpsRedirect": True, "stripQuery": False}
MAP = resource("gcp:compute/uRLMap:URLMap", "map", {"defaultUrlRedirect": TO_HTTPS})
HTTP = resource("gcp:compute/targetHttpProxy:TargetHttpProxy", "http", {"urlMap": "map-id"})
REGIONAL_HTTP = resource(
    "gcp:compute/regionTargetHttpProxy:RegionTargetHttpProxy", "rhttp", {"urlMap": "map-id"}
)
INSPECTED = resource(
    "gcp:networksecurity/tlsInspectionPolicy:TlsInspectionPolicy", "inspected", {"minTlsVersion": "TLS_1_3"}
)
GOOD = ([POLICY, HTTPS, SSL, MEDIA], [REGIONAL, REGIONAL_HTTPS], [MAP, HTTP, REGIONAL_HTTP], [INSPECTED])


@pytest.mark.parametrize(
    ("props", "path"),
    [
        ({"minTlsVersion": None}, "minTlsVersion"),
        ({"minTlsVersion": "TLS_1_2"}, "minTlsVersion"),
        ({"minTlsVersion": "TLS_1_3x"}, "minTlsVersion"),
        ({"minTlsVersion": "tls_1_3"}, "minTlsVersion"),
        ({"profile": None}, "profile"),
        ({"profile": "CUSTOM"}, "profile"),
    ],
)
def test_a_policy_below_the_floor_is_named(props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(POLICY, **props)]) == [("modern", path)]


def test_the_floor_is_configurable() -> None:
    assert found(RULE, [changed(POLICY, minTlsVersion="TLS_1_2")], settings(tls={"public": "1.2"})) == []
    assert len(found(RULE, [changed(POLICY, minTlsVersion="TLS_1_1")], settings(tls={"public": "1.2"}))) == 1


def test_a_proxy_without_a_policy_or_with_a_strangers_is_named() -> None:
    assert places(RULE, [POLICY, changed(HTTPS, sslPolicy=None)]) == [("https", "sslPolicy")]
    assert places(RULE, [HTTPS]) == [("https", "sslPolicy")]


@pytest.mark.parametrize(
    "props",
    [
        {"defaultUrlRedirect": {"httpsRedirect": False}},
        {"defaultUrlRedirect": None, "defaultService": "s"},
        {"pathMatchers": [{"name": "x", "defaultService": "s"}]},
        {
            "pathMatchers": [
                {"defaultUrlRedirect": TO_HTTPS, "pathRules": [{"paths": ["/x"], "service": "s"}]}
            ]
        },
        {"pathMatchers": [{"defaultUrlRedirect": TO_HTTPS, "routeRules": [{"service": "s"}]}]},
    ],
)
def test_an_http_proxy_that_serves_is_named(props: dict[str, Any]) -> None:
    assert places(RULE, [changed(MAP, **props), HTTP]) == [("http", "urlMap")]


def test_a_map_of_redirects_is_fine() -> None:
    rules = [{"paths": ["/x"], "urlRedirect": TO_HTTPS}]
    matched = changed(MAP, pathMatchers=[{"defaultUrlRedirect": TO_HTTPS, "pathRules": rules}])
    assert found(RULE, [matched, HTTP]) == []


def test_unknown_is_found() -> None:
    for stack in (
        [changed(POLICY, minTlsVersion=UNKNOWN)],
        [changed(HTTPS, sslPolicy=UNKNOWN)],
        [changed(HTTP, urlMap=UNKNOWN)],
        [changed(MAP, defaultUrlRedirect=UNKNOWN), HTTP],
        [changed(MAP, pathMatchers=UNKNOWN), HTTP],
        [changed(MAP, pathMatchers=[UNKNOWN]), HTTP],
    ):
        (item,) = found(RULE, stack)
        assert item.finding.unknown
