"""VPCs, subnets, gateways and routes."""

from typing import Any

from mailinfra.sandbox.aws.moto_server import ACCOUNT
from mailinfra.sandbox.providers.aws.adapter import arn, tag_outputs
from mailinfra.sandbox.providers.aws.ec2 import Ec2Adapter, given
from mailinfra.sandbox.providers.base import Call
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import Object

_BOUND = {"associating", "associated"}


class Vpc(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ec2/vpc/"""

    kind = "vpc"
    rules = Rules(
        replaces=frozenset(
            {"cidrBlock", "ipv4IpamPoolId", "ipv4NetmaskLength", "ipv6CidrBlockNetworkBorderGroup"}
        )
    )
    computed = frozenset(
        {
            "cidrBlock",
            "enableDnsHostnames",
            "enableDnsSupport",
            "ipv6CidrBlock",
            "enableNetworkAddressUsageMetrics",
        }
    )

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_vpc(
            **given(
                call,
                CidrBlock="cidrBlock",
                InstanceTenancy="instanceTenancy",
                AmazonProvidedIpv6CidrBlock="assignGeneratedIpv6CidrBlock",
            ),
            **self.tag_specifications(call),
        )
        return str(answer["Vpc"]["VpcId"])

    def set_up(self, api: Any, call: Call) -> None:
        for argument, name in (
            ("EnableDnsSupport", "enableDnsSupport"),
            ("EnableDnsHostnames", "enableDnsHostnames"),
        ):
            if name in call.inputs and call.changed(name):
                api.modify_vpc_attribute(VpcId=call.id, **{argument: {"Value": call.inputs[name]}})

    def change(self, api: Any, call: Call) -> None:
        if call.changed("assignGeneratedIpv6CidrBlock"):
            if call.inputs.get("assignGeneratedIpv6CidrBlock"):
                api.associate_vpc_cidr_block(VpcId=call.id, AmazonProvidedIpv6CidrBlock=True)
            elif association := call.state.get("ipv6AssociationId"):
                api.disassociate_vpc_cidr_block(AssociationId=association)
        self.set_up(api, call)
        self.change_tags(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        vpc = api.describe_vpcs(VpcIds=[call.id])["Vpcs"][0]
        by_vpc = [{"Name": "vpc-id", "Values": [call.id]}]
        groups = api.describe_security_groups(
            Filters=[*by_vpc, {"Name": "group-name", "Values": ["default"]}]
        )
        tables = api.describe_route_tables(
            Filters=[*by_vpc, {"Name": "association.main", "Values": ["true"]}]
        )
        lists = api.describe_network_acls(Filters=[*by_vpc, {"Name": "default", "Values": ["true"]}])
        six = _ipv6_blocks(api, call.id)
        main = next((table["RouteTableId"] for table in tables["RouteTables"]), None)
        attributes = {
            name: api.describe_vpc_attribute(VpcId=call.id, Attribute=name)[name[0].upper() + name[1:]][
                "Value"
            ]
            for name in ("enableDnsSupport", "enableDnsHostnames")
        }
        return {
            "arn": arn(call, "ec2", f"vpc/{call.id}"),
            "assignGeneratedIpv6CidrBlock": bool(six),
            "cidrBlock": vpc["CidrBlock"],
            "defaultNetworkAclId": next((entry["NetworkAclId"] for entry in lists["NetworkAcls"]), None),
            "defaultRouteTableId": main,
            "defaultSecurityGroupId": next((group["GroupId"] for group in groups["SecurityGroups"]), None),
            "dhcpOptionsId": vpc.get("DhcpOptionsId"),
            "instanceTenancy": vpc.get("InstanceTenancy"),
            "ipv6AssociationId": six[0]["AssociationId"] if six else None,
            "ipv6CidrBlock": six[0]["Ipv6CidrBlock"] if six else None,
            "mainRouteTableId": main,
            "ownerId": vpc.get("OwnerId", ACCOUNT),
            **attributes,
            **tag_outputs(vpc.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        api.delete_vpc(VpcId=call.id)


def _ipv6_blocks(api: Any, vpc: str) -> list[Object]:
    found = api.describe_vpcs(VpcIds=[vpc])["Vpcs"][0].get("Ipv6CidrBlockAssociationSet", [])
    return [entry for entry in found if entry["Ipv6CidrBlockState"]["State"] in _BOUND]


class Subnet(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ec2/subnet/"""

    kind = "subnet"
    rules = Rules(
        replaces=frozenset({"vpcId", "cidrBlock", "availabilityZone", "availabilityZoneId", "ipv6Native"})
    )
    computed = frozenset(
        {"availabilityZone", "availabilityZoneId", "cidrBlock", "privateDnsHostnameTypeOnLaunch"}
    )

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_subnet(
            **given(
                call,
                VpcId="vpcId",
                CidrBlock="cidrBlock",
                Ipv6CidrBlock="ipv6CidrBlock",
                AvailabilityZone="availabilityZone",
                AvailabilityZoneId="availabilityZoneId",
            ),
            **self.tag_specifications(call),
        )
        return str(answer["Subnet"]["SubnetId"])

    def set_up(self, api: Any, call: Call) -> None:
        for argument, name in (
            ("MapPublicIpOnLaunch", "mapPublicIpOnLaunch"),
            ("AssignIpv6AddressOnCreation", "assignIpv6AddressOnCreation"),
        ):
            if name in call.inputs and call.changed(name):
                api.modify_subnet_attribute(SubnetId=call.id, **{argument: {"Value": call.inputs[name]}})

    def change(self, api: Any, call: Call) -> None:
        if call.changed("ipv6CidrBlock"):
            if association := call.state.get("ipv6CidrBlockAssociationId"):
                api.disassociate_subnet_cidr_block(AssociationId=association)
            if block := call.inputs.get("ipv6CidrBlock"):
                api.associate_subnet_cidr_block(SubnetId=call.id, Ipv6CidrBlock=block)
        self.set_up(api, call)
        self.change_tags(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        subnet = api.describe_subnets(SubnetIds=[call.id])["Subnets"][0]
        six = [
            entry
            for entry in subnet.get("Ipv6CidrBlockAssociationSet", [])
            if entry["Ipv6CidrBlockState"]["State"] in _BOUND
        ]
        return {
            "arn": arn(call, "ec2", f"subnet/{call.id}"),
            "assignIpv6AddressOnCreation": subnet.get("AssignIpv6AddressOnCreation"),
            "availabilityZone": subnet["AvailabilityZone"],
            "availabilityZoneId": subnet.get("AvailabilityZoneId"),
            "cidrBlock": subnet["CidrBlock"],
            "ipv6CidrBlock": six[0]["Ipv6CidrBlock"] if six else None,
            "ipv6CidrBlockAssociationId": six[0]["AssociationId"] if six else None,
            "mapPublicIpOnLaunch": subnet.get("MapPublicIpOnLaunch"),
            "ownerId": subnet.get("OwnerId", ACCOUNT),
            "vpcId": subnet["VpcId"],
            **tag_outputs(subnet.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        api.delete_subnet(SubnetId=call.id)


class InternetGateway(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ec2/internetgateway/"""

    kind = "internet-gateway"
    computed = frozenset({"vpcId"})

    def make(self, api: Any, call: Call) -> str:
        answer = api.create_internet_gateway(**self.tag_specifications(call))
        return str(answer["InternetGateway"]["InternetGatewayId"])

    def set_up(self, api: Any, call: Call) -> None:
        attached = self._attached(api, call.id)
        wanted = call.inputs.get("vpcId")
        if attached and attached != wanted:
            api.detach_internet_gateway(InternetGatewayId=call.id, VpcId=attached)
        if wanted and attached != wanted:
            api.attach_internet_gateway(InternetGatewayId=call.id, VpcId=wanted)

    def change(self, api: Any, call: Call) -> None:
        self.set_up(api, call)
        self.change_tags(api, call)

    @staticmethod
    def _attached(api: Any, identifier: str) -> str | None:
        gateway = api.describe_internet_gateways(InternetGatewayIds=[identifier])["InternetGateways"][0]
        return next((entry["VpcId"] for entry in gateway["Attachments"]), None)

    def find(self, api: Any, call: Call) -> Object | None:
        gateway = api.describe_internet_gateways(InternetGatewayIds=[call.id])["InternetGateways"][0]
        return {
            "arn": arn(call, "ec2", f"internet-gateway/{call.id}"),
            "ownerId": gateway.get("OwnerId", ACCOUNT),
            "vpcId": next((entry["VpcId"] for entry in gateway["Attachments"]), None),
            **tag_outputs(gateway.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        if attached := self._attached(api, call.id):
            api.detach_internet_gateway(InternetGatewayId=call.id, VpcId=attached)
        api.delete_internet_gateway(InternetGatewayId=call.id)


class RouteTable(Ec2Adapter):
    """Routes are live as resources of their own (`Route`); the table's inline `routes` are refused.

    https://www.pulumi.com/registry/packages/aws/api-docs/ec2/routetable/
    """

    kind = "route-table"
    rules = Rules(replaces=frozenset({"vpcId"}))

    def make(self, api: Any, call: Call) -> str:
        if call.inputs.get("routes"):
            raise ProviderError(
                "RouteTable.routes: the sandbox takes routes as `aws.ec2.Route` resources only"
            )
        answer = api.create_route_table(VpcId=call.inputs["vpcId"], **self.tag_specifications(call))
        return str(answer["RouteTable"]["RouteTableId"])

    def change(self, api: Any, call: Call) -> None:
        self.change_tags(api, call)

    def find(self, api: Any, call: Call) -> Object | None:
        table = api.describe_route_tables(RouteTableIds=[call.id])["RouteTables"][0]
        return {
            "arn": arn(call, "ec2", f"route-table/{call.id}"),
            "ownerId": table.get("OwnerId", ACCOUNT),
            "vpcId": table["VpcId"],
            **tag_outputs(table.get("Tags")),
        }

    def remove(self, api: Any, call: Call) -> None:
        api.delete_route_table(RouteTableId=call.id)


_TARGETS = {
    "gatewayId": "GatewayId",
    "natGatewayId": "NatGatewayId",
    "networkInterfaceId": "NetworkInterfaceId",
    "egressOnlyGatewayId": "EgressOnlyInternetGatewayId",
    "transitGatewayId": "TransitGatewayId",
    "vpcPeeringConnectionId": "VpcPeeringConnectionId",
    "vpcEndpointId": "VpcEndpointId",
}
_DESTINATIONS = {
    "destinationCidrBlock": "DestinationCidrBlock",
    "destinationIpv6CidrBlock": "DestinationIpv6CidrBlock",
    "destinationPrefixListId": "DestinationPrefixListId",
}


class Route(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ec2/route/"""

    rules = Rules(replaces=frozenset({"routeTableId", *_DESTINATIONS}))

    def make(self, api: Any, call: Call) -> str:
        if self._route(api, call) is not None:
            destination = next(iter(self._destination(call).values()))
            raise ProviderError(f"CreateRoute: RouteAlreadyExists: the route to {destination} exists")
        api.create_route(
            RouteTableId=call.inputs["routeTableId"],
            **self._destination(call),
            **given(call, **{argument: name for name, argument in _TARGETS.items()}),
        )
        return f"r-{call.inputs['routeTableId']}{hash_of(next(iter(self._destination(call).values())))}"

    def change(self, api: Any, call: Call) -> None:
        api.replace_route(
            RouteTableId=call.inputs["routeTableId"],
            **self._destination(call),
            **given(call, **{argument: name for name, argument in _TARGETS.items()}),
        )

    @staticmethod
    def _destination(call: Call) -> dict[str, str]:
        source = call.inputs or call.state
        found = {argument: source[name] for name, argument in _DESTINATIONS.items() if source.get(name)}
        if len(found) != 1:
            raise ProviderError(
                f"Route: found {len(found)} destinations; allowed: one of {', '.join(_DESTINATIONS)}"
            )
        return found

    def _route(self, api: Any, call: Call) -> Any:
        table_id = (call.inputs or call.state).get("routeTableId")
        table = api.describe_route_tables(RouteTableIds=[table_id])["RouteTables"][0]
        ((argument, value),) = self._destination(call).items()
        return next((route for route in table["Routes"] if route.get(argument) == value), None)

    def find(self, api: Any, call: Call) -> Object | None:
        route = self._route(api, call)
        if route is None:
            return None
        targets = {name: route.get(argument) for name, argument in _TARGETS.items() if route.get(argument)}
        source = call.inputs or call.state
        return {
            "routeTableId": source["routeTableId"],
            "origin": route.get("Origin", "CreateRoute"),
            "state": route.get("State", "active"),
            **{name: source.get(name) for name in _DESTINATIONS},
            **targets,
        }

    def remove(self, api: Any, call: Call) -> None:
        api.delete_route(RouteTableId=call.state["routeTableId"], **self._destination(call))


def hash_of(text: str) -> str:
    """Digits that stand for a text in an id, as the real provider has them."""
    import zlib

    return str(zlib.crc32(text.encode()))


class RouteTableAssociation(Ec2Adapter):
    """https://www.pulumi.com/registry/packages/aws/api-docs/ec2/routetableassociation/"""

    rules = Rules(replaces=frozenset({"subnetId", "gatewayId"}))

    def make(self, api: Any, call: Call) -> str:
        if not call.inputs.get("subnetId"):
            raise ProviderError("RouteTableAssociation.gatewayId: the sandbox associates subnets only")
        answer = api.associate_route_table(
            SubnetId=call.inputs["subnetId"], RouteTableId=call.inputs["routeTableId"]
        )
        return str(answer["AssociationId"])

    def change(self, api: Any, call: Call) -> None:
        if call.changed("routeTableId"):
            api.replace_route_table_association(
                AssociationId=call.id, RouteTableId=call.inputs["routeTableId"]
            )

    def find(self, api: Any, call: Call) -> Object | None:
        subnet = (call.inputs or call.state).get("subnetId")
        filters = [{"Name": "association.subnet-id", "Values": [subnet]}]
        tables = api.describe_route_tables(Filters=filters)["RouteTables"]
        return {"routeTableId": tables[0]["RouteTableId"], "subnetId": subnet} if tables else None

    def remove(self, api: Any, call: Call) -> None:
        subnet = call.state.get("subnetId")
        filters = [{"Name": "association.subnet-id", "Values": [subnet]}]
        # Replacing an association gives it a new id in EC2; the subnet stays.
        for table in api.describe_route_tables(Filters=filters)["RouteTables"]:
            for entry in table["Associations"]:
                if entry.get("SubnetId") == subnet:
                    api.disassociate_route_table(AssociationId=entry["RouteTableAssociationId"])
