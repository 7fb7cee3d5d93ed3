"""Google Cloud's load balancers: TLS policies with a floor of 1.3; plain HTTP only to redirect."""

from collections.abc import Iterator

from mailinfra_policy import expect
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Guard, Rule, Severity
from mailinfra_policy.tls import GCP_POLICY, TRANSPORT, Must, Table, guarded, judged_by
from mailinfra_policy.values import UNKNOWN, show

POLICIES = ("gcp:compute/sSLPolicy:SSLPolicy", "gcp:compute/regionSslPolicy:RegionSslPolicy")
_MAPS = ("gcp:compute/uRLMap:URLMap", "gcp:compute/regionUrlMap:RegionUrlMap")
_TLS = (
    "gcp:compute/targetHttpsProxy:TargetHttpsProxy",
    "gcp:compute/regionTargetHttpsProxy:RegionTargetHttpsProxy",
    "gcp:compute/targetSSLProxy:TargetSSLProxy",
    "gcp:networkservices/edgeCacheService:EdgeCacheService",
)
_HTTP = (
    "gcp:compute/targetHttpProxy:TargetHttpProxy",
    "gcp:compute/regionTargetHttpProxy:RegionTargetHttpProxy",
)
_POLICY = (
    Must("minTlsVersion", GCP_POLICY, default="TLS_1_0", wrong=("TLS_1_0", "TLS_1_1")),
    # Google takes a floor of 1.3 with RESTRICTED only. CUSTOM may hold any cipher.
    Must(
        "profile",
        ("RESTRICTED", "MODERN", "FIPS_202205"),
        default="COMPATIBLE",
        wrong=("COMPATIBLE", "CUSTOM"),
    ),
)
TABLE: Table = {
    **dict.fromkeys(POLICIES, _POLICY),
    "gcp:networksecurity/tlsInspectionPolicy:TlsInspectionPolicy": (
        Must("minTlsVersion", GCP_POLICY, wrong=("TLS_1_0", "TLS_1_1")),
    ),
}
_table = judged_by(TABLE)


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """A policy has its floor; a proxy has such a policy of this stack; an HTTP proxy's map redirects everything."""
    yield from _table(resource, context)
    if resource.type in _TLS:
        yield from _refers(resource, context, "sslPolicy", POLICIES, "an SSL policy of this stack")
    elif resource.type in _HTTP:
        allowed = "a URL map of this stack that only redirects to HTTPS"
        yield from _refers(resource, context, "urlMap", _MAPS, allowed)
        for url_map in context.stack.referred(resource, "urlMap", *_MAPS):
            yield from _redirects(resource, url_map, allowed)


def _refers(
    resource: Resource, context: Context, path: str, types: tuple[str, ...], allowed: str
) -> Iterator[Finding]:
    value = resource.get(path)
    if value is None or not context.stack.referred(resource, path, *types):
        if value is UNKNOWN:
            yield expect.unknown(resource, path, allowed)
        else:
            yield Finding(resource, path, show(value), allowed)


def _redirects(proxy: Resource, url_map: Resource, allowed: str) -> Iterator[Finding]:
    """Whatever the map does with a request is a redirect to HTTPS."""
    places = ["defaultUrlRedirect"]
    for path, matcher in url_map.each("pathMatchers[*]"):
        if matcher is UNKNOWN or "pathMatchers[*]" in path:
            yield expect.unknown(proxy, "urlMap", allowed)
            return
        places.append(f"{path}.defaultUrlRedirect")
        places += [f"{at}.urlRedirect" for at, _ in url_map.each(f"{path}.pathRules[*]")]
        places += [f"{at}.urlRedirect" for at, _ in url_map.each(f"{path}.routeRules[*]")]
    for place in places:
        value = url_map.get(f"{place}.httpsRedirect")
        if value is UNKNOWN:
            yield expect.unknown(proxy, "urlMap", allowed)
        elif value is not True:
            yield Finding(proxy, "urlMap", f"{url_map.name} without {place}.httpsRedirect", allowed)


RULE = Rule(
    id="tls-proxy",
    title="Google's load balancers speak TLS 1.3",
    severity=Severity.HIGH,
    why="A proxy without an SSL policy has Google's COMPATIBLE one, which lets in TLS 1.0.",
    mend="Give each proxy an SSLPolicy with minTlsVersion TLS_1_3 and profile RESTRICTED; "
    "let HTTP proxies only redirect.",
    controls=TRANSPORT,
    covers={
        **guarded(TABLE),
        **dict.fromkeys(_TLS, (Guard("sslPolicy", wrong=("projects/p/global/sslPolicies/other",)),)),
        **dict.fromkeys(_HTTP, (Guard("urlMap", wrong=("projects/p/global/urlMaps/other",)),)),
    },
    judge=judge,
)
