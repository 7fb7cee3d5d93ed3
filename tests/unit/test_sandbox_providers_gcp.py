from pathlib import Path
from typing import Any, ClassVar

import pytest

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.base import Call, SandboxProvider
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.gcp import cloud
from mailinfra.sandbox.providers.gcp.api import GoogleApi
from mailinfra.sandbox.providers.gcp.cloud import fit
from mailinfra.sandbox.providers.gcp.common import settled
from mailinfra.sandbox.providers.gcp.iam import ADAPTERS as IAM
from mailinfra.sandbox.providers.gcp.storage import BucketObject
from mailinfra.sandbox.providers.values import Object

INSTANCE: Object = {
    "name": "edge-1",
    "machineType": "e2-small",
    "zone": "europe-west3-a",
    "bootDisk": {"initializeParams": {"image": "debian-12", "size": 10}, "autoDelete": True},
    "networkInterfaces": [
        {
            "subnetwork": "sub",
            "networkIp": "203.0.113.70",
            "accessConfigs": [{"natIp": "198.51.100.200"}],
            "ipv6AccessConfigs": [{"networkTier": "PREMIUM", "externalIpv6": "2001:db8:8000::1:0:0"}],
        }
    ],
    "metadata": {"startup-script": "true"},
    "serviceAccount": {"email": "a@b", "scopes": []},
    "tags": ["a", "b"],
    "labels": {"k": "v"},
}


@pytest.fixture(scope="module")
def provider() -> SandboxProvider:
    paths = Paths.of("unit")
    # Only the cache of schemas is used; nothing is asked of a daemon.
    return SandboxProvider(cloud(Paths(paths.name, Path("/nonexistent"), paths.cache)))


def _diff(
    provider: SandboxProvider, token: str, old: Object, new: Object, state: Object | None = None
) -> Any:
    urn = f"urn:pulumi:test::case::{token}::r"
    return provider.diff(urn, "id", old, state or old, new)


def _with(path: str, value: Any) -> Object:
    """The instance with another value at a path."""
    import copy

    changed = copy.deepcopy(INSTANCE)
    node: Any = changed
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if part.isdigit() else node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("machineType", "e2-medium"),
        ("metadata", {"startup-script": "false"}),
        ("labels", {"k": "w"}),
        ("serviceAccount", {"email": "c@d", "scopes": []}),
        ("networkInterfaces.0.accessConfigs", [{"natIp": "198.51.100.201"}]),
        ("networkInterfaces.0.accessConfigs", []),
        ("bootDisk.autoDelete", False),
        ("allowStoppingForUpdate", True),
        ("metadataStartupScript", "true"),
    ],
)
def test_what_google_changes_in_place(provider: SandboxProvider, path: str, value: Any) -> None:
    found = _diff(provider, "gcp:compute/instance:Instance", INSTANCE, _with(path, value))
    assert found.changes
    assert found.replaces == frozenset()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("zone", "europe-west3-b"),
        ("name", "edge-2"),
        ("hostname", "edge-1.example.test"),
        ("bootDisk.initializeParams.image", "debian-13"),
        ("bootDisk.kmsKeySelfLink", "key"),
        ("networkInterfaces.0.subnetwork", "other"),
        ("networkInterfaces.0.networkIp", "203.0.113.71"),
        ("networkInterfaces.0.nicType", "GVNIC"),
        ("networkInterfaces.0.ipv6AccessConfigs", None),
        ("networkInterfaces.0.ipv6AccessConfigs.0.externalIpv6", "2001:db8:8000::2:0:0"),
        ("metadataStartupScript", "another"),
    ],
)
def test_what_google_replaces(provider: SandboxProvider, path: str, value: Any) -> None:
    assert _diff(provider, "gcp:compute/instance:Instance", INSTANCE, _with(path, value)).replaces


def test_the_order_of_tags_means_nothing(provider: SandboxProvider) -> None:
    found = _diff(provider, "gcp:compute/instance:Instance", INSTANCE, _with("tags", ["b", "a"]))
    assert found.changes == []


@pytest.mark.parametrize(
    ("token", "old", "new", "replaces"),
    [
        (
            "compute/subnetwork:Subnetwork",
            {"ipCidrRange": "10.0.0.0/24"},
            {"ipCidrRange": "10.0.0.0/20"},
            False,
        ),
        (
            "compute/subnetwork:Subnetwork",
            {"ipCidrRange": "10.0.0.0/24"},
            {"ipCidrRange": "10.0.0.0/25"},
            True,
        ),
        ("compute/disk:Disk", {"size": 10}, {"size": 20}, False),
        ("compute/disk:Disk", {"size": 20}, {"size": 10}, True),
        ("compute/address:Address", {"description": "a"}, {"description": "b"}, True),
        ("compute/address:Address", {"labels": {"a": "b"}}, {}, False),
        ("compute/firewall:Firewall", {"priority": 1}, {"priority": 2}, False),
        ("compute/firewall:Firewall", {"direction": "INGRESS"}, {"direction": "EGRESS"}, True),
        ("kms/cryptoKey:CryptoKey", {"rotationPeriod": "1s"}, {"rotationPeriod": "2s"}, False),
        (
            "kms/cryptoKey:CryptoKey",
            {"versionTemplate": {"algorithm": "a", "protectionLevel": "HSM"}},
            {"versionTemplate": {"algorithm": "b", "protectionLevel": "HSM"}},
            False,
        ),
        (
            "kms/cryptoKey:CryptoKey",
            {"versionTemplate": {"algorithm": "a", "protectionLevel": "HSM"}},
            {"versionTemplate": {"algorithm": "a", "protectionLevel": "SOFTWARE"}},
            True,
        ),
        (
            "storage/bucket:Bucket",
            {"retentionPolicy": {"retentionPeriod": "1", "isLocked": True}},
            {"retentionPolicy": {"retentionPeriod": "1"}},
            True,
        ),
        (
            "storage/bucket:Bucket",
            {"versioning": {"enabled": True}},
            {"versioning": {"enabled": False}},
            False,
        ),
        ("storage/bucketObject:BucketObject", {"content": "a"}, {"content": "b"}, False),
        ("storage/bucketObject:BucketObject", {"contentType": "a"}, {"contentType": "b"}, True),
        ("dns/recordSet:RecordSet", {"rrdatas": ["a"]}, {"rrdatas": ["b"]}, False),
        ("dns/recordSet:RecordSet", {"name": "a."}, {"name": "b."}, True),
        (
            "dns/recordSet:RecordSet",
            {"routingPolicy": {"healthCheck": "a"}},
            {"routingPolicy": {"healthCheck": "b"}},
            True,
        ),
        ("serviceaccount/account:Account", {"displayName": "a"}, {"displayName": "b"}, False),
        ("logging/projectSink:ProjectSink", {"name": "a"}, {"name": "b"}, True),
        ("iam/workloadIdentityPool:WorkloadIdentityPool", {"description": "a"}, {"description": "b"}, False),
        (
            "iam/workloadIdentityPool:WorkloadIdentityPool",
            {"workloadIdentityPoolId": "mail-a"},
            {"workloadIdentityPoolId": "mail-b"},
            True,
        ),
        # A region that joins makes the condition longer, and must not take the way in from the others.
        (
            "iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider",
            {"attributeCondition": "a"},
            {"attributeCondition": "b"},
            False,
        ),
        (
            "iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider",
            {"aws": {"accountId": "1"}},
            {"aws": {"accountId": "2"}},
            False,
        ),
    ],
)
def test_other_types(provider: SandboxProvider, token: str, old: Object, new: Object, replaces: bool) -> None:
    found = _diff(provider, f"gcp:{token}", old, new)
    assert found.changes
    assert bool(found.replaces) is replaces


def test_every_live_type_and_function_is_one_of_the_sdk(provider: SandboxProvider) -> None:
    classes = provider.sdk.classes()
    assert provider.live_types() <= classes.keys()
    for token in provider.live_types():
        schema = provider.sdk.schema(token)
        adapter = provider.adapter(token)
        rules = adapter.rules.replaces | adapter.rules.keeps | adapter.rules.unordered
        assert rules <= schema.inputs.keys(), token
        assert adapter.computed | adapter.volatile <= schema.outputs, token
    for token in provider.cloud.functions:
        provider.sdk.function(token)
    for token, recorded in provider.cloud.recorded_rules.items():
        assert recorded.replaces <= provider.sdk.schema(token).inputs.keys(), token


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sandbox-edge-1a2b3c4", "sandbox-edge-1a2b3c4"),
        ("My Bucket_x-1a2b3c4", "my-bucket-x-1a2b3c4"),
        ("9lives-1a2b3c4", "r9lives-1a2b3c4"),
        ("x" * 80 + "-1a2b3c4", "x" * 55 + "-1a2b3c4"),
    ],
)
def test_names_are_made_fit(name: str, wanted: str) -> None:
    assert fit(name) == wanted
    assert len(fit(name)) <= 63


def _call(inputs: Object, state: Object) -> Call:
    return Call(cloud=None, urn="", token="gcp:x/y:Y", name="r", inputs=inputs, state=state)


def test_a_read_tells_drift_from_completion() -> None:
    inputs: Object = {"cards": [{"subnet": "s"}], "size": 10}
    completed: Object = {"cards": [{"subnet": "s", "ip": "203.0.113.1"}], "size": 10, "link": "l"}
    assert settled(_call(inputs, completed), completed) == {"link": "l"}
    drifted: Object = {"cards": [{"subnet": "t", "ip": "203.0.113.1"}], "size": 10}
    assert settled(_call(inputs, completed), drifted) == {"cards": drifted["cards"]}
    assert settled(_call(inputs, {}), completed) == completed, "an import takes everything"


@pytest.mark.parametrize(
    ("policy", "removed", "error"),
    [("DELETE", True, False), ("ABANDON", False, False), ("PREVENT", False, True)],
)
def test_deletion_policy(policy: str, removed: bool, error: bool) -> None:
    gone = []

    class Kept(BucketObject):
        def remove(self, call: Call) -> None:
            gone.append(call.name)

    call = _call({}, {"deletionPolicy": policy})
    if error:
        with pytest.raises(ProviderError, match="deletionPolicy"):
            Kept().delete(call)
    else:
        Kept().delete(call)
    assert bool(gone) is removed


def test_a_sandbox_that_is_down_is_said_so() -> None:
    with pytest.raises(ProviderError, match="is the sandbox up"):
        GoogleApi("http://127.0.0.1:9", "token").call("GET", "/")


def test_a_malformed_key_is_named() -> None:
    adapter = IAM["gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember"]

    class Bare:
        api = GoogleApi("http://127.0.0.1:9", "token")
        config: ClassVar[Object] = {"project": "p"}

    call = Call(
        cloud=Bare(),
        urn="",
        token="t",
        name="r",
        inputs={"cryptoKeyId": "nonsense", "role": "r", "member": "user:m"},
    )
    with pytest.raises(ProviderError, match="cryptoKeyId: found 'nonsense'; allowed: projects/"):
        adapter.create(call)
