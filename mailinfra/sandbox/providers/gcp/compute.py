"""Compute Engine's types. Which changes replace: the schemas of the Terraform provider that pulumi-gcp is made of
(https://github.com/hashicorp/terraform-provider-google, google/services/compute/resource_compute_*.go).
"""

import hashlib
import ipaddress

from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.diffs import Change, Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.gcp.common import LABELLED, DaemonAdapter, labels, nested, setting
from mailinfra.sandbox.providers.values import Object

_LINKED = frozenset({"selfLink", "creationTimestamp", "project"})


def _fingerprint(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


class Network(DaemonAdapter):
    """`gcp.compute.Network`."""

    kind = "network"
    shown = _LINKED - {"creationTimestamp"}
    rules = Rules(
        replaces=frozenset(
            {
                "name",
                "autoCreateSubnetworks",
                "description",
                "internalIpv6Range",
                "networkProfile",
                "params",
                "project",
            }
        )
    )

    def full_name(self, call: Call) -> str:
        return f"projects/{setting(call, 'project')}/global/networks/{call.inputs['name']}"

    def outputs(self, call: Call, answer: Object) -> Object:
        number = answer["outputs"]["number"]
        return super().outputs(call, answer) | {"networkId": number, "numericId": number, "gatewayIpv4": ""}


class Subnetwork(DaemonAdapter):
    """`gcp.compute.Subnetwork`."""

    kind = "subnetwork"
    shown = _LINKED | {"region", "gatewayAddress", "externalIpv6Prefix", "ipv6CidrRange"}
    computed = frozenset({"externalIpv6Prefix"})
    volatile = frozenset({"externalIpv6Prefix", "ipv6CidrRange"})
    rules = Rules(
        keeps=frozenset({"ipCollection", "ipv6AccessType"}),
        replaces=frozenset(
            {
                "name",
                "network",
                "description",
                "externalIpv6Prefix",
                "internalIpv6Prefix",
                "params",
                "region",
                "reservedInternalRange",
                "resolveSubnetMask",
                "project",
            }
        ),
    )

    def full_name(self, call: Call) -> str:
        region = setting(call, "region")
        return f"projects/{setting(call, 'project')}/regions/{region}/subnetworks/{call.inputs['name']}"

    def replaced_by(self, call: Call, changes: list[Change]) -> frozenset[str]:
        old, new = call.old_inputs.get("ipCidrRange"), call.inputs.get("ipCidrRange")
        try:
            shrunk = bool(old and new) and not _within(str(old), str(new))
        except ValueError:
            shrunk = False  # unknown as yet
        return frozenset({"ipCidrRange"}) if shrunk else frozenset()

    def outputs(self, call: Call, answer: Object) -> Object:
        return super().outputs(call, answer) | {
            "subnetworkId": int(answer["outputs"]["number"]) % 2**53,
            "fingerprint": _fingerprint(answer["inputs"]),
        }


def _within(inner: str, outer: str) -> bool:
    first, second = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return (
        first.version == second.version
        and first.network_address in second
        and first.broadcast_address in second
    )


class Firewall(DaemonAdapter):
    """`gcp.compute.Firewall`."""

    kind = "firewall"
    shown = _LINKED
    rules = Rules(
        replaces=frozenset({"name", "direction", "params", "project"}),
        unordered=frozenset(
            {
                "allows",
                "denies",
                "sourceRanges",
                "destinationRanges",
                "sourceTags",
                "targetTags",
                "sourceServiceAccounts",
                "targetServiceAccounts",
            }
        ),
    )

    def full_name(self, call: Call) -> str:
        return f"projects/{setting(call, 'project')}/global/firewalls/{call.inputs['name']}"


class Address(DaemonAdapter):
    """`gcp.compute.Address`."""

    kind = "address"
    shown = _LINKED | {"address", "region", "prefixLength", "subnetwork"}
    computed = frozenset({"address", "prefixLength"})
    volatile = LABELLED
    rules = Rules(
        replaces=frozenset(
            {
                "name",
                "address",
                "addressType",
                "description",
                "ipCollection",
                "ipVersion",
                "ipv6EndpointType",
                "network",
                "networkTier",
                "prefixLength",
                "purpose",
                "region",
                "subnetwork",
                "project",
            }
        )
    )

    def full_name(self, call: Call) -> str:
        region = setting(call, "region")
        return f"projects/{setting(call, 'project')}/regions/{region}/addresses/{call.inputs['name']}"

    def outputs(self, call: Call, answer: Object) -> Object:
        found = super().outputs(call, answer) | labels(call)
        if "subnetwork" in call.inputs:
            found.pop("subnetwork", None)
        return found | {"addressId": int(answer["outputs"]["number"]) % 2**53, "users": []}


class Disk(DaemonAdapter):
    """`gcp.compute.Disk`."""

    kind = "disk"
    shown = _LINKED | {"size", "zone"}
    computed = frozenset({"size"})
    volatile = LABELLED
    rules = Rules(
        replaces=frozenset(
            {
                "name",
                "architecture",
                "asyncPrimaryDisk",
                "description",
                "diskEncryptionKey",
                "enableConfidentialCompute",
                "guestOsFeatures",
                "image",
                "licenses",
                "params",
                "physicalBlockSizeBytes",
                "snapshot",
                "sourceDisk",
                "sourceImageEncryptionKey",
                "sourceInstantSnapshot",
                "sourceSnapshotEncryptionKey",
                "sourceStorageObject",
                "storagePool",
                "type",
                "zone",
                "project",
            }
        )
    )

    def full_name(self, call: Call) -> str:
        return (
            f"projects/{setting(call, 'project')}/zones/{setting(call, 'zone')}/disks/{call.inputs['name']}"
        )

    def replaced_by(self, call: Call, changes: list[Change]) -> frozenset[str]:
        old, new = call.state.get("size"), call.inputs.get("size")
        smaller = isinstance(old, int) and isinstance(new, int) and new < old
        return frozenset({"size"}) if smaller else frozenset()

    def outputs(self, call: Call, answer: Object) -> Object:
        return super().outputs(call, answer) | labels(call) | {"diskId": answer["outputs"]["number"]}


class AttachedDisk(DaemonAdapter):
    """`gcp.compute.AttachedDisk`."""

    kind = "attachedDisk"
    shown = frozenset({"deviceName"})
    computed = frozenset({"deviceName"})
    rules = Rules(
        replaces=frozenset({"disk", "instance", "project", "zone", "deviceName", "mode", "interface"})
    )

    def full_name(self, call: Call) -> str:
        instance: str = call.inputs["instance"]
        if "projects/" in instance:
            instance = instance[instance.find("projects/") :]
        else:
            instance = (
                f"projects/{setting(call, 'project')}/zones/{setting(call, 'zone')}/instances/{instance}"
            )
        return f"{instance}/{call.inputs['disk'].rsplit('/', 1)[-1]}"

    def outputs(self, call: Call, answer: Object) -> Object:
        _, project, _, zone, *_ = answer["outputs"]["instance"].split("/")
        return super().outputs(call, answer) | {"project": project, "zone": zone}


class Snapshot(DaemonAdapter):
    """`gcp.compute.Snapshot`."""

    kind = "snapshot"
    shown = _LINKED | {"diskSizeGb", "storageLocations"}
    computed = frozenset({"storageLocations", "snapshotType"})
    volatile = LABELLED | {"labelFingerprint"}
    rules = Rules(
        replaces=frozenset(
            {
                "name",
                "sourceDisk",
                "zone",
                "description",
                "chainName",
                "guestFlush",
                "params",
                "project",
                "snapshotEncryptionKey",
                "snapshotType",
                "sourceDiskEncryptionKey",
                "sourceInstantSnapshot",
                "storageLocations",
            }
        )
    )

    def full_name(self, call: Call) -> str:
        return f"projects/{setting(call, 'project')}/global/snapshots/{call.inputs['name']}"

    def outputs(self, call: Call, answer: Object) -> Object:
        return (
            super().outputs(call, answer)
            | labels(call)
            | {
                "snapshotId": int(answer["outputs"]["number"]) % 2**53,
                "labelFingerprint": _fingerprint(answer["inputs"].get("labels")),
            }
        )


class ResourcePolicy(DaemonAdapter):
    """`gcp.compute.ResourcePolicy`: snapshot schedules, which the daemon runs."""

    kind = "resourcePolicy"
    shown = frozenset({"selfLink", "project", "region"})
    rules = Rules(
        replaces=frozenset(
            {
                "name",
                "description",
                "groupPlacementPolicy",
                "instanceSchedulePolicy",
                "project",
                "region",
                "workloadPolicy",
            }
        )
    )

    def full_name(self, call: Call) -> str:
        region = setting(call, "region")
        return f"projects/{setting(call, 'project')}/regions/{region}/resourcePolicies/{call.inputs['name']}"

    def replaced_by(self, call: Call, changes: list[Change]) -> frozenset[str]:
        # Only the schedule itself is changed in place (resourcePolicies.patch).
        path = "snapshotSchedulePolicy"
        return nested(changes, frozenset({f"{path}.retentionPolicy", f"{path}.snapshotProperties"}))


class DiskResourcePolicyAttachment(DaemonAdapter):
    """`gcp.compute.DiskResourcePolicyAttachment`."""

    kind = "diskPolicy"
    shown = frozenset({"project", "zone"})
    rules = Rules(replaces=frozenset({"name", "disk", "project", "zone"}))

    def full_name(self, call: Call) -> str:
        disk = str(call.inputs["disk"]).rsplit("/", 1)[-1]
        place = f"projects/{setting(call, 'project')}/zones/{setting(call, 'zone')}"
        return f"{place}/disks/{disk}/{call.inputs['name']}"


class HealthCheck(DaemonAdapter):
    """`gcp.compute.HealthCheck`."""

    kind = "healthCheck"
    shown = _LINKED | {"type"}
    volatile = frozenset({"type"})
    rules = Rules(replaces=frozenset({"name", "project"}))

    def full_name(self, call: Call) -> str:
        return f"projects/{setting(call, 'project')}/global/healthChecks/{call.inputs['name']}"


_REPLACES_INSTANCE = frozenset(
    {
        "advancedMachineFeatures.enableUefiNetworking",
        "attachedDisks.forceAttach",
        "bootDisk.deviceName",
        "bootDisk.diskEncryptionKeyRaw",
        "bootDisk.diskEncryptionKeyRsa",
        "bootDisk.diskEncryptionServiceAccount",
        "bootDisk.forceAttach",
        "bootDisk.guestOsFeatures",
        "bootDisk.initializeParams.architecture",
        "bootDisk.initializeParams.enableConfidentialCompute",
        "bootDisk.initializeParams.image",
        "bootDisk.initializeParams.provisionedIops",
        "bootDisk.initializeParams.provisionedThroughput",
        "bootDisk.initializeParams.replicaZones",
        "bootDisk.initializeParams.resourceManagerTags",
        "bootDisk.initializeParams.resourcePolicies",
        "bootDisk.initializeParams.snapshot",
        "bootDisk.initializeParams.sourceImageEncryptionKey",
        "bootDisk.initializeParams.sourceSnapshotEncryptionKey",
        "bootDisk.initializeParams.storagePool",
        "bootDisk.initializeParams.type",
        "bootDisk.kmsKeySelfLink",
        "bootDisk.mode",
        "bootDisk.source",
        "networkInterfaces.networkAttachment",
        "networkInterfaces.nicType",
        "networkInterfaces.queueCount",
        "networkInterfaces.vlan",
        "scheduling.localSsdRecoveryTimeout",
        "scheduling.maxRunDuration",
        "scheduling.onInstanceStopAction",
        "scheduling.preemptible",
        "scheduling.provisioningModel",
        "scheduling.terminationTime",
        # Beyond the real provider, which moves a stopped server: a machine's own addresses are fixed at its birth.
        "networkInterfaces.ipv6AccessConfigs.externalIpv6",
        "networkInterfaces.ipv6AccessConfigs.externalIpv6PrefixLength",
        "networkInterfaces.ipv6AccessConfigs.name",
        "networkInterfaces.network",
        "networkInterfaces.networkIp",
        "networkInterfaces.subnetwork",
    }
)
_STOPS = ("machineType", "minCpuPlatform", "serviceAccount", "enableDisplay", "shieldedInstanceConfig")


class Instance(DaemonAdapter):
    """`gcp.compute.Instance`: a machine that boots."""

    kind = "instance"
    shown = _LINKED | {"zone", "instanceId", "networkInterfaces"}
    volatile = LABELLED | {"metadataFingerprint", "tagsFingerprint", "labelFingerprint"}
    rules = Rules(
        unordered=frozenset({"tags"}),
        replaces=frozenset(
            {
                "name",
                "networkPerformanceConfig",
                "guestAccelerators",
                "params",
                "project",
                "scratchDisks",
                "confidentialInstanceConfig",
                "zone",
                "hostname",
                "reservationAffinity",
                "keyRevocationActionType",
                "instanceEncryptionKey",
                "workloadIdentityConfig",
            }
        ),
    )

    def full_name(self, call: Call) -> str:
        zone = setting(call, "zone")
        return f"projects/{setting(call, 'project')}/zones/{zone}/instances/{call.inputs['name']}"

    def replaced_by(self, call: Call, changes: list[Change]) -> frozenset[str]:
        found = set(nested(changes, _REPLACES_INSTANCE))
        old, new = call.old_inputs, call.inputs
        cards = old.get("networkInterfaces"), new.get("networkInterfaces")
        if (
            isinstance(cards[0], list)
            and isinstance(cards[1], list)
            and _shapes(cards[0]) != _shapes(cards[1])
        ):
            found.add("networkInterfaces")
        # The script may move between its two places without a new server.
        if old.get("metadataStartupScript") != new.get("metadataStartupScript") and _script(old) != _script(
            new
        ):
            found.add("metadataStartupScript")
        return frozenset(found)

    def update(self, call: Call) -> Object:
        if call.changed(*_STOPS) and not call.inputs.get("allowStoppingForUpdate"):
            raise ProviderError(
                "Changing the machine_type, min_cpu_platform, service_account, enable_display, "
                "shielded_instance_config, scheduling.node_affinities, scheduling.max_run_duration or "
                "network_interface.[#d].(network/subnetwork/subnetwork_project) or advanced_machine_features on a "
                "started instance requires stopping it. To acknowledge this, please set allowStoppingForUpdate to "
                "true in your config."
            )
        return super().update(call)

    def outputs(self, call: Call, answer: Object) -> Object:
        inputs = answer["inputs"]
        return (
            super().outputs(call, answer)
            | labels(call)
            | {
                "currentStatus": "RUNNING",
                "cpuPlatform": "Intel Broadwell",
                "metadataFingerprint": _fingerprint(inputs.get("metadata")),
                "tagsFingerprint": _fingerprint(sorted(inputs.get("tags", ()))),
                "labelFingerprint": _fingerprint(inputs.get("labels")),
            }
        )


def _shapes(cards: list[Object]) -> list[int]:
    """How many external IPv6 addresses each network card has."""
    return [len(card.get("ipv6AccessConfigs", ())) for card in cards]


def _script(inputs: Object) -> object:
    return inputs.get("metadataStartupScript") or inputs.get("metadata", {}).get("startup-script")


ADAPTERS = {
    "gcp:compute/network:Network": Network(),
    "gcp:compute/subnetwork:Subnetwork": Subnetwork(),
    "gcp:compute/firewall:Firewall": Firewall(),
    "gcp:compute/address:Address": Address(),
    "gcp:compute/disk:Disk": Disk(),
    "gcp:compute/attachedDisk:AttachedDisk": AttachedDisk(),
    "gcp:compute/diskResourcePolicyAttachment:DiskResourcePolicyAttachment": DiskResourcePolicyAttachment(),
    "gcp:compute/resourcePolicy:ResourcePolicy": ResourcePolicy(),
    "gcp:compute/snapshot:Snapshot": Snapshot(),
    "gcp:compute/healthCheck:HealthCheck": HealthCheck(),
    "gcp:compute/instance:Instance": Instance(),
}
