"""MailLinks: the firewall between the fleet's own nodes, in one region."""

import ipaddress
from functools import partial
from typing import TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra_components.network import GroupPorts
from mailinfra_components.options import Table, children, received, tags


class MailLinksArgs(TypedDict):
    """Whom the region's nodes listen to."""

    cloud: str
    """`aws` or `gcp`."""
    region: str
    """The cloud's region."""
    zone: str
    """The residency zone, as tag or label."""
    groups: list[GroupPorts]
    """The firewall by node group; its `fleet` ports are opened here."""
    network_id: pulumi.Input[str]
    """The region's network, from `MailNetwork`."""
    security_groups: pulumi.Input[dict[str, str]]
    """Group name to security group or network tag, from `MailNetwork`."""
    peers: pulumi.Input[list[str]]
    """The public addresses, of both families, of every node of the fleet."""
    room: int
    """The most peers of one family that this firewall must hold (AWS counts them against the rules' quota)."""


class MailLinks(pulumi.ComponentResource):
    """Opens the fleet's own ports (relay, final delivery, mailbox back ends) to the fleet's own addresses.

    Apart from `MailNetwork` because it needs every region's addresses. The address is only the first gate: behind it
    a node asks for a client certificate of the fleet's authority.
    """

    def __init__(self, name: str, args: MailLinksArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:MailLinks", name, {}, opts)
        args = received(args)
        if args["cloud"] == "aws":
            self._aws(name, args)
        else:
            self._gcp(name, args)
        self.register_outputs({})

    def _aws(self, name: str, args: MailLinksArgs) -> None:
        region, marks = args["region"], tags(name, args["zone"])
        security_groups = Table(args["security_groups"])
        for family, cidrs in peers(args).items():
            lists = aws.ec2.ManagedPrefixList(
                f"{name}-peers-ipv{family}",
                region=region,
                name=f"{name}-peers-ipv{family}",
                address_family=f"IPv{family}",
                max_entries=args["room"],
                entries=cidrs.apply(
                    lambda known: [aws.ec2.ManagedPrefixListEntryArgs(cidr=cidr) for cidr in known]
                ),
                tags=marks,
                opts=children(self),
            )
            for group in args["groups"]:
                for port in group["fleet"]:
                    aws.vpc.SecurityGroupIngressRule(
                        f"{name}-{group['group']}-in-{port}-fleet-ipv{family}",
                        region=region,
                        security_group_id=security_groups[group["group"]],
                        description=f"TCP {port} from the fleet",
                        ip_protocol="tcp",
                        from_port=port,
                        to_port=port,
                        prefix_list_id=lists.id,
                        tags=marks,
                        opts=children(self),
                    )

    def _gcp(self, name: str, args: MailLinksArgs) -> None:
        network_tags = Table(args["security_groups"])
        sources = peers(args)
        for group in args["groups"]:
            if not group["fleet"]:
                continue
            for family, cidrs in sources.items():
                gcp.compute.Firewall(
                    f"{name}-{group['group']}-fleet-ipv{family}",
                    name=f"{name}-{group['group']}-fleet-ipv{family}",
                    network=args["network_id"],
                    direction="INGRESS",
                    source_ranges=cidrs,
                    target_tags=[network_tags[group["group"]]],
                    allows=[
                        gcp.compute.FirewallAllowArgs(
                            protocol="tcp", ports=[str(port) for port in group["fleet"]]
                        )
                    ],
                    log_config={"metadata": "INCLUDE_ALL_METADATA"},
                    opts=children(self),
                )


def peers(args: MailLinksArgs) -> dict[int, pulumi.Output[list[str]]]:
    """The fleet's addresses by IP family, as networks."""
    addresses = pulumi.Output.from_input(args["peers"])
    return {family: addresses.apply(partial(of_family, family=family)) for family in (4, 6)}


def of_family(addresses: list[str], family: int) -> list[str]:
    """The addresses of one IP family as host networks, sorted."""
    hosts = {host for host in map(ipaddress.ip_address, addresses) if host.version == family}
    return [f"{host}/{host.max_prefixlen}" for host in sorted(hosts, key=int)]
