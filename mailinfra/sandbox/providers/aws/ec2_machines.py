"""From EC2's instances to the sandbox's machines: what moto knows of an instance, as the machine that it is.

EC2's state in moto is the one truth; a machine's definition is computed from it whenever something changes
that a machine can feel (its rules, its address, its volumes, its role), and handed to the supervisor if it
differs.
"""

import threading
from collections.abc import Iterable
from typing import Any

from mailinfra.places import PLACES
from mailinfra.sandbox.aws.moto_server import ACCOUNT
from mailinfra.sandbox.model import FirewallRule, MachineSpec, Protocol
from mailinfra.sandbox.providers.aws.iam import role_of_profile
from mailinfra.sandbox.providers.values import Object

SMTP = 25
_ALIVE = ["pending", "running", "stopping", "stopped"]
_PROTOCOLS: dict[str, Protocol] = {
    "-1": "all",
    "tcp": "tcp",
    "6": "tcp",
    "udp": "udp",
    "17": "udp",
    "icmp": "icmp",
    "1": "icmp",
    "icmpv6": "icmpv6",
    "58": "icmpv6",
}


class Machines:
    """The machines of one plugin's EC2. `booted` is False where the sandbox has no machines: then nothing happens."""

    def __init__(self, cloud: Any) -> None:
        self._cloud = cloud
        self._sent: dict[str, MachineSpec] = {}
        self._lock = threading.RLock()
        self._booted: bool | None = None

    @property
    def booted(self) -> bool:
        """Whether the sandbox boots machines at all."""
        if self._booted is None:
            self._booted = bool(self._cloud.control.call("status")["machines_booted"])
        return self._booted

    def create(self, region: str, instance: str) -> None:
        """Boot an instance's machine; returns while it boots."""
        if not self.booted:
            return
        with self._lock:
            spec = self._specs(region, [instance])[instance]
            self._cloud.control.call("machines.create", spec=spec.to_json())
            self._sent[instance] = spec
            # Others may let its group in.
            self.sync(region)

    def sync(self, region: str) -> None:
        """Bring the machines of a region up to date with EC2."""
        if not self.booted:
            return
        with self._lock:
            known = {status["id"] for status in self._cloud.control.call("machines.list")}
            for instance, spec in self._specs(region).items():
                if instance in known and self._sent.get(instance) != spec:
                    self._cloud.control.call("machines.update", spec=spec.to_json())
                    self._sent[instance] = spec

    def restart(self, region: str, instance: str) -> None:
        """Stop and start an instance: its disk stays, its user-data is the new one."""
        if self.booted:
            with self._lock:
                self.sync(region)
                self._cloud.control.call("machines.restart", id=instance)

    def stop(self, instance: str) -> None:
        """Power an instance's machine off and leave it off; one that is not there is off."""
        if self.booted and self.exists(instance):
            self._cloud.control.call("machines.stop", id=instance)

    def start(self, region: str, instance: str) -> None:
        """Start an instance's machine if it is off, with the volumes that it has by now."""
        if self.booted:
            with self._lock:
                self.sync(region)
                self._cloud.control.call("machines.start", id=instance)

    def delete(self, region: str, instance: str) -> None:
        """Power an instance's machine off and remove it with its disk."""
        if self.booted:
            self._cloud.control.call("machines.delete", id=instance)
            with self._lock:
                self._sent.pop(instance, None)

    def exists(self, instance: str) -> bool:
        """Whether there is a machine (always true where none are booted)."""
        if not self.booted:
            return True
        return any(status["id"] == instance for status in self._cloud.control.call("machines.list"))

    def _specs(self, region: str, only: Iterable[str] | None = None) -> dict[str, MachineSpec]:
        api = self._cloud.client("ec2", region)
        groups = {
            group["GroupId"]: group for group in _all(api, "describe_security_groups", "SecurityGroups")
        }
        lists = {
            entry["PrefixListId"]: [
                item["Cidr"]
                for item in _all(
                    api, "get_managed_prefix_list_entries", "Entries", PrefixListId=entry["PrefixListId"]
                )
            ]
            for entry in api.describe_managed_prefix_lists(
                Filters=[{"Name": "owner-id", "Values": [ACCOUNT]}]
            )["PrefixLists"]
        }
        filters = [{"Name": "instance-state-name", "Values": _ALIVE}]
        instances = [
            instance
            for reservation in _all(api, "describe_instances", "Reservations", Filters=filters)
            for instance in reservation["Instances"]
        ]
        wanted = None if only is None else set(only)
        sizes = {
            volume["VolumeId"]: volume["Size"] << 30 for volume in _all(api, "describe_volumes", "Volumes")
        }
        return {
            instance["InstanceId"]: self._spec(api, region, instance, groups, lists, instances, sizes)
            for instance in instances
            if wanted is None or instance["InstanceId"] in wanted
        }

    def _spec(
        self,
        api: Any,
        region: str,
        instance: Object,
        groups: dict[str, Object],
        lists: dict[str, list[str]],
        instances: list[Object],
        sizes: dict[str, int],
    ) -> MachineSpec:
        identifier = instance["InstanceId"]
        data = api.describe_instance_attribute(InstanceId=identifier, Attribute="userData")["UserData"]
        members: dict[str, list[str]] = {}
        for other in instances:
            for group in other.get("SecurityGroups", []):
                members.setdefault(group["GroupId"], []).extend(addresses(other))
        own = [groups[group["GroupId"]] for group in instance.get("SecurityGroups", [])]
        place = PLACES.get(region)
        attached = {
            mapping["DeviceName"]: mapping["Ebs"]["VolumeId"]
            for mapping in instance.get("BlockDeviceMappings", [])
        }
        root = attached.pop(instance.get("RootDeviceName"), None)
        return MachineSpec(
            id=identifier,
            kind="aws",
            hostname=f"ip-{instance['PrivateIpAddress'].replace('.', '-')}",
            region=region,
            country=place.country if place else "ZZ",
            private_ipv4=instance["PrivateIpAddress"],
            public_ipv4=elastic_address(api, identifier),
            ipv6=next(iter(ipv6_addresses(instance)), None),
            user_data=data.get("Value", ""),
            metadata=self._metadata(region, instance),
            firewall=firewall(own, lists, members),
            egress_port_25=any(sends_smtp(group, lists) for group in own),
            volumes={volume: device for device, volume in attached.items()},
            volume_bytes={volume: sizes[volume] for volume in attached.values()},
            disk_limit=sizes[root] if root else None,
        )

    def _metadata(self, region: str, instance: Object) -> Object:
        data: Object = {
            "account_id": ACCOUNT,
            "availability_zone": instance["Placement"]["AvailabilityZone"],
            "image_id": instance["ImageId"],
            "instance_type": instance["InstanceType"],
            "instance_metadata_tags": (instance.get("MetadataOptions") or {}).get("InstanceMetadataTags")
            == "enabled",
            "tags": {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])},
        }
        if profile := instance.get("IamInstanceProfile"):
            data["instance_profile_arn"] = profile["Arn"]
            data["instance_profile_id"] = profile.get("Id", "")
            data["role"] = role_of_profile(self._cloud.client("iam", region), profile["Arn"])
        return data


def _all(api: Any, operation: str, key: str, **arguments: Any) -> list[Any]:
    found: list[Any] = []
    for page in api.get_paginator(operation).paginate(**arguments):
        found.extend(page.get(key, []))
    return found


def ipv6_addresses(instance: Object) -> list[str]:
    """An instance's IPv6 addresses."""
    return [
        entry["Ipv6Address"]
        for card in instance.get("NetworkInterfaces", [])
        for entry in card.get("Ipv6Addresses", [])
    ]


def addresses(instance: Object) -> list[str]:
    """An instance's addresses inside its network, as CIDRs."""
    four = [f"{instance['PrivateIpAddress']}/32"] if instance.get("PrivateIpAddress") else []
    return four + [f"{address}/128" for address in ipv6_addresses(instance)]


def elastic_address(api: Any, instance: str) -> str | None:
    """The elastic address that is associated with an instance."""
    filters = [{"Name": "instance-id", "Values": [instance]}]
    found = api.describe_addresses(Filters=filters)["Addresses"]
    return next((entry["PublicIp"] for entry in found), None)


def firewall(
    groups: list[Object], lists: dict[str, list[str]], members: dict[str, list[str]]
) -> tuple[FirewallRule, ...]:
    """What security groups let in, each rule's sources resolved to CIDRs.

    `lists` has the entries of prefix lists, `members` the addresses of the instances in each security group.
    """
    rules = []
    for group in groups:
        for permission in group.get("IpPermissions", []):
            sources = _sources(permission, lists, members)
            if sources:
                rules.append(FirewallRule(_protocol(permission), _ports(permission), tuple(sorted(sources))))
    return tuple(sorted(set(rules), key=lambda rule: (rule.protocol, rule.ports or (0, 0), rule.sources)))


def _sources(permission: Object, lists: dict[str, list[str]], members: dict[str, list[str]]) -> set[str]:
    found = {entry["CidrIp"] for entry in permission.get("IpRanges", [])}
    found |= {entry["CidrIpv6"] for entry in permission.get("Ipv6Ranges", [])}
    for entry in permission.get("PrefixListIds", []):
        found |= set(lists.get(entry["PrefixListId"], []))
    for entry in permission.get("UserIdGroupPairs", []):
        found |= set(members.get(entry.get("GroupId", ""), []))
    return found


def _protocol(permission: Object) -> Protocol:
    return _PROTOCOLS.get(str(permission["IpProtocol"]).lower(), "all")


def _ports(permission: Object) -> tuple[int, int] | None:
    first, last = permission.get("FromPort"), permission.get("ToPort")
    if _protocol(permission) not in {"tcp", "udp"} or first is None or last is None or first == -1:
        return None
    return int(first), int(last)


def sends_smtp(group: Object, lists: dict[str, list[str]]) -> bool:
    """Whether a security group lets TCP port 25 out to anywhere (EC2's own block of it counts as lifted)."""
    for permission in group.get("IpPermissionsEgress", []):
        ports = _ports(permission)
        if _protocol(permission) in {"all", "tcp"} and (ports is None or ports[0] <= SMTP <= ports[1]):
            wide = _sources(permission, lists, {}) & {"0.0.0.0/0", "::/0"}
            if wide:
                return True
    return False
