"""MailNetwork: one region's network, its subnets, its nodes' fixed addresses, and the firewall towards the world."""

import ipaddress
from typing import TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra_components.options import children, received, tags

WORLD = ("0.0.0.0/0", "::/0")
"""Every address of both families."""
OUTBOUND = (("udp", 53), ("tcp", 53), ("tcp", 80), ("tcp", 443), ("udp", 123))
"""What every node may reach: name servers, package mirrors, the clouds' APIs, time."""
MAIL_LINKS = (993, 995, 2525, 2526, 2527)
"""The ports on which fleet nodes reach one another."""


class Subnet(TypedDict):
    """One subnet."""

    name: str
    """Its name in the region: `a`, `b`, … on AWS; GCP has one for the whole region."""
    availability_zone: str
    """The availability zone (AWS) that it lies in."""
    cidr: str
    """Its IPv4 network."""


class FixedAddress(TypedDict):
    """A node's fixed addresses."""

    node: str
    """The node's name in the region."""
    subnet: str
    """The subnet's name."""
    private_ipv4: str
    """Its address inside the network."""
    ipv6_index: int
    """Its place in the subnet's IPv6 network (AWS; GCP gives IPv6 addresses out itself)."""


class GroupPorts(TypedDict):
    """The TCP ports that one node group opens."""

    group: str
    """The node group."""
    roles: list[str]
    """What its nodes do: named on the firewall, where policies ask for it."""
    world: list[int]
    """Open to the world."""
    fleet: list[int]
    """Open to the fleet's own addresses only (opened by `MailLinks`)."""
    sends_mail: bool
    """Whether it may reach port 25 of the world."""


class MailNetworkArgs(TypedDict):
    """The region's part of the address plan."""

    cloud: str
    """`aws` or `gcp`."""
    region: str
    """The cloud's region."""
    zone: str
    """The residency zone, as tag or label."""
    cidr: str
    """The region's private IPv4 network."""
    subnets: list[Subnet]
    """The subnets."""
    addresses: list[FixedAddress]
    """The nodes' addresses."""
    groups: list[GroupPorts]
    """The firewall by node group."""


class MailNetwork(pulumi.ComponentResource):
    """A region's network: IPv4 and IPv6, no default rules, no way to administer a node from outside.

    Nodes are reached on the ports of their roles only, from the world or (see `MailLinks`) from the fleet's own
    addresses. There is no bastion and no SSH: a node is replaced, not repaired by hand.
    """

    network_id: pulumi.Output[str]
    """The VPC's id, or the VPC network's self link."""
    subnet_ids: pulumi.Output[dict[str, str]]
    """Subnet name to id (AWS) or self link (GCP)."""
    addresses: pulumi.Output[dict[str, dict[str, str]]]
    """Node name to `private_ipv4`, `ipv4` and `ipv6`."""
    allocations: pulumi.Output[dict[str, str]]
    """Node name to the fixed IPv4 address's allocation id (AWS) or name (GCP)."""
    security_groups: pulumi.Output[dict[str, str]]
    """Group name to security group id (AWS) or network tag (GCP)."""

    def __init__(self, name: str, args: MailNetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:MailNetwork", name, {}, opts)
        args = received(args)
        # Beside `addresses` and `allocations`: one entry of those is known when all of them are.
        self.address_of_node: dict[str, pulumi.Output[dict[str, str]]] = {}
        self.allocation_of_node: dict[str, pulumi.Output[str]] = {}
        if args["cloud"] == "aws":
            self._aws(name, args)
        else:
            self._gcp(name, args)
        self.addresses = pulumi.Output.all(**self.address_of_node)
        self.allocations = pulumi.Output.all(**self.allocation_of_node)
        self.register_outputs(
            {
                "network_id": self.network_id,
                "subnet_ids": self.subnet_ids,
                "addresses": self.addresses,
                "allocations": self.allocations,
                "security_groups": self.security_groups,
            }
        )

    def _aws(self, name: str, args: MailNetworkArgs) -> None:
        region, marks = args["region"], tags(name, args["zone"])
        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            region=region,
            cidr_block=args["cidr"],
            assign_generated_ipv6_cidr_block=True,
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags={**marks, "Name": name},
            opts=children(self),
        )
        # Takes the VPC's default group over and empties it: nothing can be reached by forgetting a group.
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default", region=region, vpc_id=vpc.id, tags=marks, opts=children(self)
        )
        gateway = aws.ec2.InternetGateway(
            f"{name}-gateway", region=region, vpc_id=vpc.id, tags=marks, opts=children(self)
        )
        routes = aws.ec2.RouteTable(
            f"{name}-routes", region=region, vpc_id=vpc.id, tags=marks, opts=children(self)
        )
        for family, block in (("ipv4", "destination_cidr_block"), ("ipv6", "destination_ipv6_cidr_block")):
            aws.ec2.Route(
                f"{name}-route-{family}",
                region=region,
                route_table_id=routes.id,
                gateway_id=gateway.id,
                **{block: WORLD[0] if family == "ipv4" else WORLD[1]},
                opts=children(self),
            )
        subnets: dict[str, aws.ec2.Subnet] = {}
        for number, subnet in enumerate(args["subnets"]):
            made = aws.ec2.Subnet(
                f"{name}-subnet-{subnet['name']}",
                region=region,
                vpc_id=vpc.id,
                availability_zone=subnet["availability_zone"],
                cidr_block=subnet["cidr"],
                ipv6_cidr_block=nth_subnet(vpc.ipv6_cidr_block, number),
                assign_ipv6_address_on_creation=False,
                map_public_ip_on_launch=False,
                tags={**marks, "Name": f"{name}-{subnet['name']}"},
                opts=children(self),
            )
            aws.ec2.RouteTableAssociation(
                f"{name}-routes-{subnet['name']}",
                region=region,
                subnet_id=made.id,
                route_table_id=routes.id,
                opts=children(self),
            )
            subnets[subnet["name"]] = made
        groups = {group["group"]: self._security_group(name, args, group, vpc) for group in args["groups"]}
        for fixed in args["addresses"]:
            public = aws.ec2.Eip(
                f"{name}-{fixed['node']}-ipv4",
                region=region,
                domain="vpc",
                tags={**marks, "Name": f"{name}-{fixed['node']}"},
                opts=children(self, depends_on=[gateway]),
            )
            self.address_of_node[fixed["node"]] = pulumi.Output.all(
                private_ipv4=fixed["private_ipv4"],
                ipv4=public.public_ip,
                ipv6=nth_host(subnets[fixed["subnet"]].ipv6_cidr_block, int(fixed["ipv6_index"])),
            )
            self.allocation_of_node[fixed["node"]] = public.allocation_id
        self.network_id = vpc.id
        self.subnet_ids = pulumi.Output.all(**{key: subnet.id for key, subnet in subnets.items()})
        self.security_groups = pulumi.Output.all(**{key: group.id for key, group in groups.items()})

    def _security_group(
        self, name: str, args: MailNetworkArgs, group: GroupPorts, vpc: aws.ec2.Vpc
    ) -> aws.ec2.SecurityGroup:
        region, marks, label = args["region"], tags(name, args["zone"]), f"{name}-{group['group']}"
        made = aws.ec2.SecurityGroup(
            f"{label}-firewall",
            region=region,
            vpc_id=vpc.id,
            description=f"Nodes of {label}",
            tags={**marks, "Name": label, "roles": " ".join(group["roles"])},
            opts=children(self),
        )
        for family, source in zip(("ipv4", "ipv6"), WORLD, strict=True):
            for port in group["world"]:
                aws.vpc.SecurityGroupIngressRule(
                    f"{label}-in-{port}-{family}",
                    region=region,
                    security_group_id=made.id,
                    description=f"TCP {port} from the world",
                    ip_protocol="tcp",
                    from_port=port,
                    to_port=port,
                    **{f"cidr_{family}": source},
                    tags=marks,
                    opts=children(self),
                )
            for protocol, port in outbound(group):
                aws.vpc.SecurityGroupEgressRule(
                    f"{label}-out-{protocol}-{port}-{family}",
                    region=region,
                    security_group_id=made.id,
                    description=f"{protocol.upper()} {port} to the world",
                    ip_protocol=protocol,
                    from_port=port,
                    to_port=port,
                    **{f"cidr_{family}": source},
                    tags=marks,
                    opts=children(self),
                )
        return made

    def _gcp(self, name: str, args: MailNetworkArgs) -> None:
        region, labels = args["region"], tags(name, args["zone"])
        network = gcp.compute.Network(
            f"{name}-network",
            name=name,
            auto_create_subnetworks=False,
            routing_mode="REGIONAL",
            description=f"{name}: mail nodes",
            opts=children(self),
        )
        subnets: dict[str, gcp.compute.Subnetwork] = {}
        for subnet in args["subnets"]:
            subnets[subnet["name"]] = gcp.compute.Subnetwork(
                f"{name}-subnet-{subnet['name']}",
                name=f"{name}-{subnet['name']}",
                region=region,
                network=network.id,
                ip_cidr_range=subnet["cidr"],
                stack_type="IPV4_IPV6",
                ipv6_access_type="EXTERNAL",
                private_ip_google_access=True,
                log_config={"aggregation_interval": "INTERVAL_10_MIN", "flow_sampling": 0.5},
                opts=children(self),
            )
        for group in args["groups"]:
            self._gcp_firewall(name, group, network)
        self._gcp_addresses(name, args, subnets, labels)
        self.network_id = network.id
        self.subnet_ids = pulumi.Output.all(**{key: subnet.id for key, subnet in subnets.items()})
        self.security_groups = pulumi.Output.from_input(
            {group["group"]: f"{name}-{group['group']}" for group in args["groups"]}
        )

    def _gcp_firewall(self, name: str, group: GroupPorts, network: gcp.compute.Network) -> None:
        label = f"{name}-{group['group']}"
        for family, source in zip(("ipv4", "ipv6"), WORLD, strict=True):
            if group["world"]:
                gcp.compute.Firewall(
                    f"{label}-in-{family}",
                    name=f"{label}-in-{family}",
                    network=network.id,
                    direction="INGRESS",
                    source_ranges=[source],
                    target_tags=[roles_tag(group["roles"])],
                    allows=[{"protocol": "tcp", "ports": [str(port) for port in group["world"]]}],
                    log_config={"metadata": "INCLUDE_ALL_METADATA"},
                    opts=children(self),
                )
            ports = outbound(group)
            gcp.compute.Firewall(
                f"{label}-out-{family}",
                name=f"{label}-out-{family}",
                network=network.id,
                direction="EGRESS",
                priority=1000,
                destination_ranges=[source],
                target_tags=[label],
                allows=[
                    {"protocol": protocol, "ports": [str(port) for kind, port in ports if kind == protocol]}
                    for protocol in ("tcp", "udp")
                ],
                opts=children(self),
            )
            # GCP lets everything out by an implied rule; this one comes before it and after ours.
            gcp.compute.Firewall(
                f"{label}-out-none-{family}",
                name=f"{label}-out-none-{family}",
                network=network.id,
                direction="EGRESS",
                priority=65_000,
                destination_ranges=[source],
                target_tags=[label],
                denies=[{"protocol": "all"}],
                opts=children(self),
            )

    def _gcp_addresses(
        self,
        name: str,
        args: MailNetworkArgs,
        subnets: dict[str, gcp.compute.Subnetwork],
        labels: dict[str, str],
    ) -> None:
        for fixed in args["addresses"]:
            public = gcp.compute.Address(
                f"{name}-{fixed['node']}-ipv4",
                name=f"{name}-{fixed['node']}-ipv4",
                region=args["region"],
                address_type="EXTERNAL",
                network_tier="PREMIUM",
                labels=labels,
                opts=children(self),
            )
            six = gcp.compute.Address(
                f"{name}-{fixed['node']}-ipv6",
                name=f"{name}-{fixed['node']}-ipv6",
                region=args["region"],
                address_type="EXTERNAL",
                ip_version="IPV6",
                ipv6_endpoint_type="VM",
                network_tier="PREMIUM",
                subnetwork=subnets[fixed["subnet"]].id,
                labels=labels,
                opts=children(self),
            )
            self.address_of_node[fixed["node"]] = pulumi.Output.all(
                private_ipv4=fixed["private_ipv4"],
                ipv4=public.address,
                ipv6=six.address.apply(first_of_range),
            )
            self.allocation_of_node[fixed["node"]] = public.name


def roles_tag(roles: list[str]) -> str:
    """The network tag (GCP) of nodes with these roles. Firewalls have no labels there: their target tells the roles."""
    return "-".join(["roles", *roles])


def outbound(group: GroupPorts) -> list[tuple[str, int]]:
    """What the nodes of a group may reach, as (protocol, port)."""
    links = [("tcp", port) for port in MAIL_LINKS]
    return [*OUTBOUND, *links, *([("tcp", 25)] if group["sends_mail"] else [])]


def nth_subnet(block: pulumi.Output[str], number: int) -> pulumi.Output[str]:
    """The `number`-th (from 0) /64 of an IPv6 block."""

    def pick(text: str) -> str:
        network = ipaddress.IPv6Network(text)
        return str(ipaddress.IPv6Network((int(network.network_address) + (number << 64), 64)))

    return block.apply(pick)


def nth_host(block: pulumi.Output[str], number: int) -> pulumi.Output[str]:
    """The `number`-th address of an IPv6 block."""
    return block.apply(lambda text: str(ipaddress.IPv6Network(text)[number]))


def first_of_range(address: str) -> str:
    """The address itself of a reserved IPv6 range (GCP reserves a /96 for a VM and names it by its first address)."""
    return str(ipaddress.ip_address(address.split("/", maxsplit=1)[0]))
