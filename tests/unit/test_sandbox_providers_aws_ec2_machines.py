"""Instances as machines: the firewall from security groups, and when the supervisor is told."""

from typing import Any

from mailinfra.sandbox.model import FirewallRule
from mailinfra.sandbox.providers.aws.ec2_machines import Machines, firewall, sends_smtp


def permission(protocol: str = "tcp", first: int = 25, last: int = 25, **sources: Any) -> dict[str, Any]:
    return {"IpProtocol": protocol, "FromPort": first, "ToPort": last, **sources}


def test_sources_of_every_kind():
    group = {
        "IpPermissions": [
            permission(IpRanges=[{"CidrIp": "0.0.0.0/0"}], Ipv6Ranges=[{"CidrIpv6": "::/0"}]),
            permission(first=2525, last=2526, PrefixListIds=[{"PrefixListId": "pl-1"}]),
            permission(first=993, last=993, UserIdGroupPairs=[{"GroupId": "sg-2"}]),
            permission("-1", -1, -1, IpRanges=[{"CidrIp": "203.0.113.0/27"}]),
            permission("icmpv6", -1, -1, Ipv6Ranges=[{"CidrIpv6": "::/0"}]),
            permission(first=1, last=1, PrefixListIds=[{"PrefixListId": "pl-empty"}]),
        ]
    }
    lists = {"pl-1": ["198.51.100.7/32", "2001:db8::1/128"], "pl-empty": []}
    members = {"sg-2": ["203.0.113.5/32"]}
    assert set(firewall([group], lists, members)) == {
        FirewallRule("tcp", (25, 25), ("0.0.0.0/0", "::/0")),
        FirewallRule("tcp", (2525, 2526), ("198.51.100.7/32", "2001:db8::1/128")),
        FirewallRule("tcp", (993, 993), ("203.0.113.5/32",)),
        FirewallRule("all", None, ("203.0.113.0/27",)),
        FirewallRule("icmpv6", None, ("::/0",)),
    }


def test_the_same_rules_in_another_order_are_the_same_firewall():
    one = {
        "IpPermissions": [
            permission(IpRanges=[{"CidrIp": "0.0.0.0/0"}]),
            permission("udp", 53, 53, IpRanges=[{"CidrIp": "0.0.0.0/0"}]),
        ]
    }
    two = {"IpPermissions": list(reversed(one["IpPermissions"]))}
    assert firewall([one], {}, {}) == firewall([two], {}, {}) == firewall([one, two], {}, {})


def test_who_may_send_mail_out():
    world = [{"CidrIp": "0.0.0.0/0"}]
    assert sends_smtp({"IpPermissionsEgress": [permission(IpRanges=world)]}, {})
    assert sends_smtp(
        {"IpPermissionsEgress": [permission("-1", -1, -1, Ipv6Ranges=[{"CidrIpv6": "::/0"}])]}, {}
    )
    assert sends_smtp({"IpPermissionsEgress": [permission("tcp", 20, 30, IpRanges=world)]}, {})
    assert not sends_smtp({"IpPermissionsEgress": [permission("tcp", 443, 443, IpRanges=world)]}, {})
    assert not sends_smtp({"IpPermissionsEgress": [permission("udp", 25, 25, IpRanges=world)]}, {})
    assert not sends_smtp({"IpPermissionsEgress": [permission(IpRanges=[{"CidrIp": "203.0.113.0/27"}])]}, {})
    assert not sends_smtp({}, {})


class FakeEc2:
    """EC2 with one instance, as boto3 answers."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.address: str | None = None

    def get_paginator(self, operation: str) -> Any:
        pages = {
            "describe_security_groups": {
                "SecurityGroups": [{"GroupId": "sg-1", "IpPermissions": self.rules}]
            },
            "describe_instances": {"Reservations": [{"Instances": [INSTANCE]}]},
            "describe_volumes": {
                "Volumes": [{"VolumeId": "vol-root", "Size": 20}, {"VolumeId": "vol-mail", "Size": 10}]
            },
        }

        class Paginator:
            def paginate(self, **arguments: Any) -> list[Any]:
                return [pages[operation]]

        return Paginator()

    def describe_managed_prefix_lists(self, **arguments: Any) -> Any:
        return {"PrefixLists": []}

    def describe_instance_attribute(self, **arguments: Any) -> Any:
        return {"UserData": {"Value": "IyEvYmluL3No"}}

    def describe_addresses(self, **arguments: Any) -> Any:
        return {"Addresses": [{"PublicIp": self.address}] if self.address else []}


INSTANCE = {
    "InstanceId": "i-1",
    "ImageId": "ami-1",
    "InstanceType": "t3.small",
    "PrivateIpAddress": "203.0.113.5",
    "Placement": {"AvailabilityZone": "eu-central-1a"},
    "SecurityGroups": [{"GroupId": "sg-1"}],
    "RootDeviceName": "/dev/xvda",
    "BlockDeviceMappings": [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": "vol-root"}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeId": "vol-mail"}},
    ],
    "NetworkInterfaces": [{"Ipv6Addresses": [{"Ipv6Address": "2001:db8::5"}]}],
    "MetadataOptions": {"InstanceMetadataTags": "enabled"},
    "Tags": [{"Key": "Name", "Value": "mx-1"}],
}


class FakeCloud:
    """A cloud whose daemon notes what it is told."""

    def __init__(self, booted: bool = True) -> None:
        self.ec2 = FakeEc2()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.booted = booted
        self.control = self

    def client(self, service: str, region: str) -> Any:
        return self.ec2

    def call(self, method: str, /, **params: Any) -> Any:
        if method == "status":
            return {"machines_booted": self.booted}
        if method == "machines.list":
            return [{"id": "i-1"}] if any(name == "machines.create" for name, _ in self.calls) else []
        self.calls.append((method, params))
        return None


def test_an_instance_becomes_a_machine_and_follows_its_changes():
    cloud = FakeCloud()
    machines = Machines(cloud)
    machines.create("eu-central-1", "i-1")
    ((method, params),) = cloud.calls
    spec = params["spec"]
    assert method == "machines.create"
    assert (spec["id"], spec["kind"], spec["country"], spec["private_ipv4"]) == (
        "i-1",
        "aws",
        "DE",
        "203.0.113.5",
    )
    assert (spec["ipv6"], spec["public_ipv4"], spec["user_data"]) == ("2001:db8::5", None, "IyEvYmluL3No")
    assert spec["volumes"] == {"vol-mail": "/dev/sdf"}
    assert (spec["volume_bytes"], spec["disk_limit"]) == ({"vol-mail": 10 << 30}, 20 << 30)
    assert spec["metadata"]["tags"] == {"Name": "mx-1"} and spec["metadata"]["instance_metadata_tags"]
    assert spec["firewall"] == () and not spec["egress_port_25"]

    machines.sync("eu-central-1")
    assert len(cloud.calls) == 1, "nothing changed, so nothing is told"
    cloud.ec2.rules = [permission(IpRanges=[{"CidrIp": "0.0.0.0/0"}])]
    cloud.ec2.address = "198.51.100.7"
    machines.sync("eu-central-1")
    method, params = cloud.calls[-1]
    assert method == "machines.update"
    assert params["spec"]["firewall"][0]["ports"] == (25, 25)
    assert params["spec"]["public_ipv4"] == "198.51.100.7"
    machines.restart("eu-central-1", "i-1")
    machines.delete("eu-central-1", "i-1")
    assert [name for name, _ in cloud.calls[-2:]] == ["machines.restart", "machines.delete"]


def test_without_machines_instances_are_recorded():
    cloud = FakeCloud(booted=False)
    machines = Machines(cloud)
    machines.create("eu-central-1", "i-1")
    machines.sync("eu-central-1")
    machines.restart("eu-central-1", "i-1")
    machines.delete("eu-central-1", "i-1")
    assert cloud.calls == [] and machines.exists("i-1")
