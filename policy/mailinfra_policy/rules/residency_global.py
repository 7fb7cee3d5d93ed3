"""What cannot be tied to a region holds data only under a jurisdiction, or by an exception."""

from collections.abc import Iterator

from mailinfra_policy.expect import unknown
from mailinfra_policy.location import site
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, show
from mailinfra_policy.zones import allowed, unzoned, zone_of

JURISDICTION = (
    "cloudflare:index/d1Database:D1Database",
    "cloudflare:index/queue:Queue",
    "cloudflare:index/r2Bucket:R2Bucket",
    "cloudflare:index/r2BucketSippy:R2BucketSippy",
    "cloudflare:index/workersKvNamespace:WorkersKvNamespace",
)
"""Types that are global unless they name a jurisdiction. A location is a hint that binds nobody."""

PLACELESS = {
    "aws:cloudfront/keyValueStore:KeyValueStore": "copied to every edge of the network",
    "aws:cloudfront/keyvaluestoreKey:KeyvaluestoreKey": "copied to every edge of the network",
    "aws:cloudfront/keyvaluestoreKeysExclusive:KeyvaluestoreKeysExclusive": "copied to every edge of the network",
    "aws:ecrpublic/repository:Repository": "given to everybody, everywhere",
    "cloudflare:index/aiSearchInstance:AiSearchInstance": "an index in Cloudflare's whole network",
    "cloudflare:index/emailRoutingAddress:EmailRoutingAddress": "mail that passes through any of Cloudflare's places",
    "cloudflare:index/image:Image": "kept in Cloudflare's whole network",
    "cloudflare:index/pipelineSink:PipelineSink": "written by Cloudflare's whole network",
    "cloudflare:index/pipelineStream:PipelineStream": "kept in Cloudflare's whole network",
    "cloudflare:index/secretsStore:SecretsStore": "kept in Cloudflare's whole network",
    "cloudflare:index/secretsStoreSecret:SecretsStoreSecret": "kept in Cloudflare's whole network",
    "cloudflare:index/stream:Stream": "kept in Cloudflare's whole network",
    "cloudflare:index/streamLiveInput:StreamLiveInput": "kept in Cloudflare's whole network",
    "cloudflare:index/workersKv:WorkersKv": "copied to every place of Cloudflare that asks",
    "cloudflare:index/zeroTrustDlpDataset:ZeroTrustDlpDataset": "kept in Cloudflare's whole network",
    "cloudflare:index/zoneCacheReserve:ZoneCacheReserve": "kept where Cloudflare chooses",
    "gcp:cloudidentity/group:Group": "a directory without a place",
    "gcp:compute/machineImage:MachineImage": "kept in the multi-region nearest to its instance",
    "gcp:diagflow/agent:Agent": "kept in Google's global location",
    "gcp:identityplatform/tenant:Tenant": "a directory without a place",
    "gcp:parametermanager/parameter:Parameter": "copied to every region (a regionalParameter is not)",
    "gcp:parametermanager/parameterVersion:ParameterVersion": "copied to every region (a regionalParameter is not)",
    "gcp:runtimeconfig/variable:Variable": "kept where Google chooses",
    "gcp:sourcerepo/repository:Repository": "kept where Google chooses",
}
"""Types that hold content and take no place at all, and what becomes of it."""


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """A zone that may be anywhere, or a jurisdiction inside the zone."""
    belonging = zone_of(resource, context.stack, context.config)
    if belonging.zone is not None and belonging.zone.anywhere:
        return
    if resource.type in PLACELESS:
        wanted = "a service with regions, a zone that is `anywhere`, or an exception"
        yield Finding(resource, "", PLACELESS[resource.type], wanted)
        return
    if belonging.zone is None:
        yield unzoned(resource, belonging, context.config)
        return
    value, wanted = (
        resource.get("jurisdiction"),
        f"a jurisdiction inside {allowed(belonging.name, belonging.zone)}",
    )
    if value is UNKNOWN:
        yield unknown(resource, "jurisdiction", wanted)
        return
    # Only these two are jurisdictions; what else reads like a place is none here.
    place = site(value) if value in {"eu", "fedramp"} else None
    if place is None or not place.within(belonging.zone):
        yield Finding(resource, "jurisdiction", f"{show(value)}{f': {place}' if place else ''}", wanted)


RULE = Rule(
    id="residency-global",
    title="Global services hold data only under a jurisdiction",
    severity=Severity.HIGH,
    why="A service without regions keeps its content wherever it has a machine.",
    mend="Name a jurisdiction that lies in the zone, use a service with regions, or accept it as an exception; what is "
    "published anyway belongs to a zone that is `anywhere`.",
    controls=(
        Control(Framework.GDPR, "Art. 44"),
        Control(Framework.SOC2, "C1.1"),
        Control(Framework.ISO27001, "A.5.23"),
        Control(Framework.ISO27001, "A.5.34"),
    ),
    covers={
        **dict.fromkeys(PLACELESS, ()),
        **{token: (Guard("jurisdiction", wrong=("eu-west-1", "US", "default")),) for token in JURISDICTION},
    },
    judge=judge,
)
