"""Caches: encryption in transit, required."""

from collections.abc import Iterator

from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Rule, Severity
from mailinfra_policy.tls import TRANSPORT, Must, Table, guarded, judged_by

TABLE: Table = {
    "aws:elasticache/replicationGroup:ReplicationGroup": (
        Must("transitEncryptionEnabled", (True,)),
        Must("transitEncryptionMode", ("required",), default="required", wrong=("preferred",)),
    ),
    "aws:elasticache/cluster:Cluster": (
        # A member of a replication group takes the group's setting.
        Must(
            "transitEncryptionEnabled", (True,), when=lambda resource: not resource.get("replicationGroupId")
        ),
    ),
    "aws:memorydb/cluster:Cluster": (Must("tlsEnabled", (True,), default=True),),
    "aws:memorydb/multiRegionCluster:MultiRegionCluster": (Must("tlsEnabled", (True,), default=True),),
    "aws:dax/cluster:Cluster": (Must("clusterEndpointEncryptionType", ("TLS",), wrong=("NONE",)),),
    "aws:appsync/apiCache:ApiCache": (Must("transitEncryptionEnabled", (True,)),),
    "gcp:redis/instance:Instance": (
        Must("transitEncryptionMode", ("SERVER_AUTHENTICATION",), wrong=("DISABLED",)),
    ),
    "gcp:redis/cluster:Cluster": (
        Must(
            "transitEncryptionMode",
            ("TRANSIT_ENCRYPTION_MODE_SERVER_AUTHENTICATION",),
            wrong=("TRANSIT_ENCRYPTION_MODE_DISABLED",),
        ),
    ),
    "gcp:memorystore/instance:Instance": (
        Must("transitEncryptionMode", ("SERVER_AUTHENTICATION",), wrong=("TRANSIT_ENCRYPTION_DISABLED",)),
    ),
}
NEVER = "gcp:memcache/instance:Instance"
"""Memorystore for Memcached has no encryption in transit at all."""
_table = judged_by(TABLE)


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """The table, and what never speaks TLS."""
    if resource.type == NEVER:
        yield Finding(
            resource, "", "a cache that has no TLS", "a cache with encryption in transit (Redis, Valkey)"
        )
    yield from _table(resource, context)


RULE = Rule(
    id="tls-cache",
    title="Caches are reached over TLS only",
    severity=Severity.HIGH,
    why="A cache holds sessions and look-ups in clear; on the wire they are as readable as in memory.",
    mend="Set encryption in transit to required.",
    controls=TRANSPORT,
    covers={**guarded(TABLE), NEVER: ()},
    judge=judge,
)
