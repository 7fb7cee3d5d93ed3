"""Caches are reached over TLS only."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_cache import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

GROUP = resource(
    "aws:elasticache/replicationGroup:ReplicationGroup",
    "group",
    {"transitEncryptionEnabled": True, "transitEncryptionMode": "required"},
)
ALONE = resource(
    "aws:elasticache/cluster:Cluster", "alone", {"engine": "memcached", "transitEncryptionEnabled": True}
)
MEMBER = resource("aws:elasticache/cluster:Cluster", "member", {"replicationGroupId": "group"})
MEMORY = resource("aws:memorydb/cluster:Cluster", "memory", {"tlsEnabled": True})
WIDE = resource("aws:memorydb/multiRegionCluster:MultiRegionCluster", "wide", {"tlsEnabled": True})
DAX = resource("aws:dax/cluster:Cluster", "dax", {"clusterEndpointEncryptionType": "TLS"})
API = resource("aws:appsync/apiCache:ApiCache", "api", {"transitEncryptionEnabled": True})
REDIS = resource("gcp:redis/instance:Instance", "redis", {"transitEncryptionMode": "SERVER_AUTHENTICATION"})
MANY = resource(
    "gcp:redis/cluster:Cluster",
    "many",
    {"transitEncryptionMode": "TRANSIT_ENCRYPTION_MODE_SERVER_AUTHENTICATION"},
)
VALKEY = resource(
    "gcp:memorystore/instance:Instance", "valkey", {"transitEncryptionMode": "SERVER_AUTHENTICATION"}
)
GOOD = ([GROUP], [ALONE], [MEMBER], [MEMORY, WIDE], [DAX], [API], [REDIS, MANY], [VALKEY])

NEVER = ("gcp:memcache/instance:Instance",)


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (GROUP, {"transitEncryptionEnabled": None}, "transitEncryptionEnabled"),
        (GROUP, {"transitEncryptionMode": "preferred"}, "transitEncryptionMode"),
        (ALONE, {"transitEncryptionEnabled": False}, "transitEncryptionEnabled"),
        (ALONE, {"transitEncryptionEnabled": 1}, "transitEncryptionEnabled"),
        (MEMORY, {"tlsEnabled": False}, "tlsEnabled"),
        (DAX, {"clusterEndpointEncryptionType": None}, "clusterEndpointEncryptionType"),
        (REDIS, {"transitEncryptionMode": "SERVER_AUTHENTICATIONS"}, "transitEncryptionMode"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_memcached_of_google_has_no_tls() -> None:
    assert places(RULE, [resource("gcp:memcache/instance:Instance", "old")]) == [("old", "")]


def test_settings_make_no_difference_to_what_is_on_or_off() -> None:
    assert found(RULE, [MEMORY], settings(tls={"services": "1.3"})) == []


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [changed(REDIS, transitEncryptionMode=UNKNOWN)])
    assert item.finding.unknown
