"""Elastic addresses, what they point at, and their reverse DNS."""

from typing import Any

from mailinfra.places import PLACES
from mailinfra.sandbox.providers.aws.adapter import arn, is_gone, region_of, tag_outputs
from mailinfra.sandbox.providers.aws.ec2 import Ec2Adapter, given
from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object

PTR_TAG = "sandbox:ptr"
"""Tag of an elastic address that holds its reverse name, which moto has no place for."""


def locate(call: Call, network: str) -> None:
    """Tell the sandbox's GeoIP where a network of the resource's region is."""
    place = PLACES.get(region_of(call))
    if place is not None:
        call.cloud.control.call(
            "dns.set_location",
            network=network,
            country=place.country,
            latitude=place.latitude,
            longitude=place.longitude,
        )


class Eip(Ec2Adapter):
    """Associations are resources of their own (`EipAssociation`); `instance` and `networkInterface` are refused.

    https://www.pulumi.com/registry/packages/aws/api-docs/ec2/eip/
    """

    kind = "elastic-ip"
    rules = Rules(
        replaces=frozenset({"address", "domain", "networkBorderGroup", "publicIpv4Pool", "ipamPoolId"})
    )
    computed = frozenset(
        {
            "address",
            "domain",
            "instance",
            "ipamPoolId",
            "networkBorderGroup",
            "networkInterface",
            "publicIpv4Pool",
        }
    )

    def check(self, call: Call) -> list[Failure]:
        return [
            Failure(name, "found a value; allowed in the sandbox: a resource aws.ec2.EipAssociation instead")
            for name in ("instance", "networkInterface", "associateWithPrivateIp")
            if call.inputs.get(name)
        ]

    def make(self, api: Any, call: Call) -> str:
        answer = api.allocate_address(
            Domain="vpc", **given(call, Address="address"), **self.tag_specifications(call)
        )
        return str(answer["AllocationId"])

    def set_up(self, api: Any, call: Call) -> None:
        address = _address(api, call.id)
        locate(call, f"{address['PublicIp']}/32")

    def change(self, api: Any, call: Call) -> None:
        self.set_up(api, call)
        self.change_tags(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        address = _address(api, call.id)
        four = address["PublicIp"]
        return {
            "allocationId": call.id,
            "arn": arn(call, "ec2", f"elastic-ip/{call.id}"),
            "associationId": address.get("AssociationId") or None,
            "domain": address["Domain"],
            "instance": address.get("InstanceId") or None,
            "networkInterface": address.get("NetworkInterfaceId") or None,
            "privateIp": address.get("PrivateIpAddress") or None,
            "publicDns": f"ec2-{four.replace('.', '-')}.{region_of(call)}.compute.amazonaws.com",
            "publicIp": four,
            "publicIpv4Pool": address.get("PublicIpv4Pool", "amazon"),
            "networkBorderGroup": address.get("NetworkBorderGroup", region_of(call)),
            **tag_outputs(address.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        four = _address(api, call.id)["PublicIp"]
        call.cloud.control.call("dns.set_location", network=f"{four}/32", country=None)
        api.release_address(AllocationId=call.id)


def _address(api: Any, allocation: str) -> Object:
    found: Object = api.describe_addresses(AllocationIds=[allocation])["Addresses"][0]
    return found


class EipAssociation(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ec2/eipassociation/"""

    rules = Rules(
        replaces=frozenset(
            {
                "allocationId",
                "allowReassociation",
                "instanceId",
                "networkInterfaceId",
                "privateIpAddress",
                "publicIp",
            }
        )
    )
    computed = frozenset({"allocationId", "instanceId", "networkInterfaceId", "privateIpAddress", "publicIp"})

    def make(self, api: Any, call: Call) -> str:
        answer = api.associate_address(
            **given(
                call,
                AllocationId="allocationId",
                InstanceId="instanceId",
                NetworkInterfaceId="networkInterfaceId",
                PrivateIpAddress="privateIpAddress",
                PublicIp="publicIp",
            ),
            AllowReassociation=call.inputs.get("allowReassociation", True),
        )
        return str(answer["AssociationId"])

    def set_up(self, api: Any, call: Call) -> None:
        call.cloud.machines.sync(region_of(call))

    def find(self, api: Any, call: Call) -> Object | None:
        filters = [{"Name": "association-id", "Values": [call.id]}]
        found = api.describe_addresses(Filters=filters)["Addresses"]
        if not found:
            return None
        address = found[0]
        return {
            "allocationId": address["AllocationId"],
            "instanceId": address.get("InstanceId") or None,
            "networkInterfaceId": address.get("NetworkInterfaceId") or None,
            "privateIpAddress": address.get("PrivateIpAddress") or None,
            "publicIp": address["PublicIp"],
        }

    def remove(self, api: Any, call: Call) -> None:
        try:
            api.disassociate_address(AssociationId=call.id)
        except Exception as error:
            if not is_gone(error):
                raise
        call.cloud.machines.sync(region_of(call))


class EipDomainName(Ec2Adapter):
    """The reverse DNS of an elastic address.

    https://www.pulumi.com/registry/packages/aws/api-docs/ec2/eipdomainname/
    """

    rules = Rules(replaces=frozenset({"allocationId"}))
    volatile = frozenset({"ptrRecord"})

    def make(self, api: Any, call: Call) -> str:
        self._set(api, call)
        return str(call.inputs["allocationId"])

    def change(self, api: Any, call: Call) -> None:
        self._set(api, call)

    @staticmethod
    def _set(api: Any, call: Call) -> None:
        allocation, name = str(call.inputs["allocationId"]), str(call.inputs["domainName"])
        if "." not in name.strip("."):
            raise ProviderError(f"EipDomainName.domainName: found {name!r}; allowed: a fully qualified name")
        address = _address(api, allocation)["PublicIp"]
        call.cloud.control.call("dns.set_ptr", address=address, name=name)
        api.create_tags(Resources=[allocation], Tags=[{"Key": PTR_TAG, "Value": name}])

    def find(self, api: Any, call: Call) -> Object | None:
        tags = {tag["Key"]: tag["Value"] for tag in _address(api, call.id).get("Tags", [])}
        name = tags.get(PTR_TAG)
        if name is None:
            return None
        return {"allocationId": call.id, "domainName": name, "ptrRecord": f"{name.rstrip('.')}."}

    def remove(self, api: Any, call: Call) -> None:
        address = _address(api, call.id)["PublicIp"]
        call.cloud.control.call("dns.delete_ptr", address=address)
        api.delete_tags(Resources=[call.id], Tags=[{"Key": PTR_TAG}])
