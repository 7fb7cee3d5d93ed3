"""The whole plan of a fleet: what every component makes, from a checked `Fleet`. Pure, and cheap to make.

A plan knows everything but what only exists after the fleet was made: public addresses, public keys, name
servers.
"""

from dataclasses import dataclass
from functools import cached_property

from mailinfra import names
from mailinfra.backup.plan import StoreCopies, copies
from mailinfra.fleet import Cloud, DkimKey, Fleet, KeyStage, Region, Role, Size
from mailinfra.network import (
    FirewallRule,
    NodeAddress,
    RegionNetwork,
    inbound,
    may_send_smtp,
    node_address,
    position_of,
    region_network,
)
from mailinfra.node.spec import NodeSpec, SigningKey
from mailinfra.places import PLACES, Place, Places, machine_type
from mailinfra.records import Record, all_mx_hosts, has_role, mta_sts_policy, role_zones, static_records
from mailinfra.routing import SteeringPlan, steering

DATA_DEVICES = {Cloud.AWS: "/dev/sdf", Cloud.GCP: "/dev/disk/by-id/google-data"}
"""The mail volume's device: the name that EBS attaches it by, and the link that GCP makes for device name
`data`."""


@dataclass(frozen=True)
class NodePlan:
    """One node. `snapshot` is what its mail volume is made from, empty for one that began empty."""

    name: str
    fqdn: str
    region: str
    group: str
    number: int
    roles: tuple[Role, ...]
    address: NodeAddress
    data_device: str
    snapshot: str = ""


@dataclass(frozen=True)
class GroupPlan:
    """A node group and its nodes. Sizes in GiB; `data_gib` is 0 where there is no mail volume.

    `service_names` are the names beside their own for which the nodes' certificates must be good.
    """

    name: str
    region: str
    cloud: Cloud
    zone: str
    position: int
    roles: tuple[Role, ...]
    size: Size
    machine_type: str
    disk_gib: int
    data_gib: int
    firewall: tuple[FirewallRule, ...]
    may_send_smtp: bool
    is_issuer: bool
    service_names: tuple[str, ...]
    nodes: tuple[NodePlan, ...]
    keep_replaced: bool = True


@dataclass(frozen=True)
class RegionPlan:
    """A region: its place, network, groups, and the group that issues its certificates."""

    name: str
    cloud: Cloud
    zone: str
    place: Place
    network: RegionNetwork
    groups: tuple[GroupPlan, ...]
    issuer_group: str

    @property
    def nodes(self) -> tuple[NodePlan, ...]:
        """Every node of the region."""
        return tuple(node for group in self.groups for node in group.nodes)

    @property
    def has_submission(self) -> bool:
        """Whether mail is signed here."""
        return any(Role.SUBMISSION in group.roles and group.nodes for group in self.groups)


@dataclass(frozen=True)
class DkimKeyPlan:
    """A DKIM key: one region's key of one generation."""

    region: str
    serial: str
    stage: KeyStage
    selector: str
    bits: int


@dataclass(frozen=True)
class FleetPlan:
    """Everything that follows from a `Fleet`."""

    fleet: Fleet
    regions: tuple[RegionPlan, ...]
    steering: tuple[SteeringPlan, ...]
    records: tuple[Record, ...]
    dkim_keys: tuple[DkimKeyPlan, ...]
    copies: tuple[StoreCopies, ...]
    mx_hosts: tuple[str, ...]
    mta_sts_policy: str

    @cached_property
    def _by_name(self) -> dict[str, RegionPlan]:
        return {region.name: region for region in self.regions}

    def region(self, name: str) -> RegionPlan:
        """The region called `name`; KeyError if there is none."""
        return self._by_name[name]

    @property
    def nodes(self) -> tuple[NodePlan, ...]:
        """Every node of the fleet."""
        return tuple(node for region in self.regions for node in region.nodes)


def plan(fleet: Fleet, places: Places = PLACES) -> FleetPlan:
    """The plan of a fleet that `Fleet.load` accepted. KeyError for a region that `places` does not know."""
    hosts = all_mx_hosts(fleet)
    zone_services = _zone_services(fleet)
    return FleetPlan(
        fleet=fleet,
        regions=tuple(
            _region(fleet, region, places[region.region], hosts, zone_services) for region in fleet.regions
        ),
        steering=steering(fleet, places),
        records=static_records(fleet),
        dkim_keys=dkim_keys(fleet),
        copies=copies(fleet, places),
        mx_hosts=hosts,
        mta_sts_policy=mta_sts_policy(fleet),
    )


def dkim_keys(fleet: Fleet) -> tuple[DkimKeyPlan, ...]:
    """The DKIM keys that exist: one for each generation in each region that signs."""
    return tuple(
        DkimKeyPlan(
            region.region,
            key.serial,
            key.stage,
            names.dkim_selector(fleet, region.region, key.serial),
            fleet.dkim.bits,
        )
        for region in fleet.regions
        if has_role(region, Role.SUBMISSION)
        for key in fleet.dkim.keys
        if key.stage is not KeyStage.RETIRED
    )


def signing_key(fleet: Fleet) -> DkimKey:
    """The generation that signs; a checked fleet has exactly one."""
    return next(key for key in fleet.dkim.keys if key.stage is KeyStage.SIGNING)


def node_spec(
    whole: FleetPlan, node: NodePlan, *, control_bucket: str, ca_key: str = "", signing_reference: str = ""
) -> NodeSpec:
    """What a node is told.

    `control_bucket` is the region's bucket, `ca_key` its CA key's name in KMS (told to the issuer group
    alone), `signing_reference` its signing DKIM key's (told to submission nodes alone). Nothing here changes
    when another region joins or leaves.
    """
    fleet = whole.fleet
    region = whole.region(node.region)
    group = next(item for item in region.groups if item.name == node.group)
    account = fleet.clouds.aws if region.cloud is Cloud.AWS else fleet.clouds.gcp
    signing = None
    if Role.SUBMISSION in node.roles:
        selector = names.dkim_selector(fleet, node.region, signing_key(fleet).serial)
        signing = SigningKey(selector, signing_reference)
    return NodeSpec(
        fleet=fleet.name,
        cloud=region.cloud,
        region=region.name,
        zone=region.zone,
        group=group.name,
        hostname=node.fqdn,
        roles=node.roles,
        domains=fleet.domains,
        residency=fleet.residency,
        control_bucket=control_bucket,
        ca_key=ca_key if group.is_issuer else "",
        service_names=group.service_names,
        egress_hosts=(names.service_host(fleet, "egress", region.zone),),
        signing=signing,
        clients_tls=fleet.tls.clients,
        internet_tls=fleet.tls.internet,
        message_bytes=fleet.limits.message_bytes,
        recipients=fleet.limits.recipients,
        queue_hours=fleet.limits.queue_hours,
        mta_sts_policy=whole.mta_sts_policy if Role.MX in node.roles else "",
        data_device=node.data_device,
        endpoints={
            "kms": account.endpoints.kms.replace("{region}", region.name),
            "storage": account.endpoints.storage.replace("{region}", region.name),
        },
        entitlements={item.name: item.service_names for item in region.groups}
        if group.is_issuer and ca_key
        else {},
    )


def issuer_group(region: Region) -> str:
    """The group that issues the region's certificates: the first with a mailbox role and a node, else the
    first with a node, else the first."""
    alive = [group for group in region.groups if group.count] or list(region.groups)
    return next((group.name for group in alive if Role.MAILBOX in group.roles), alive[0].name)


def _zone_services(fleet: Fleet) -> dict[Role, frozenset[str]]:
    return {role: frozenset(role_zones(fleet, role)) for role in Role}


_SERVICES: tuple[tuple[Role, names.Service], ...] = (
    (Role.SUBMISSION, "smtp"),
    (Role.EGRESS, "egress"),
    (Role.IMAP, "imap"),
    (Role.POP3, "pop3"),
)


def _region(
    fleet: Fleet,
    region: Region,
    place: Place,
    mx_hosts: tuple[str, ...],
    zone_services: dict[Role, frozenset[str]],
) -> RegionPlan:
    network = region_network(region, place)
    issuer = issuer_group(region)
    groups = tuple(
        _group(
            fleet,
            region,
            index,
            place=place,
            network=network,
            issuer=issuer,
            mx_hosts=mx_hosts,
            zone_services=zone_services,
        )
        for index in range(len(region.groups))
    )
    return RegionPlan(region.region, region.cloud, region.zone, place, network, groups, issuer)


def _group(
    fleet: Fleet,
    region: Region,
    index: int,
    *,
    place: Place,
    network: RegionNetwork,
    issuer: str,
    mx_hosts: tuple[str, ...],
    zone_services: dict[Role, frozenset[str]],
) -> GroupPlan:
    group = region.groups[index]
    position = position_of(region.groups, index)
    has_mail = Role.MAILBOX in group.roles
    device = DATA_DEVICES[region.cloud] if has_mail else ""
    services = [
        names.service_host(fleet, service, region.zone)
        for role, service in _SERVICES
        if role in group.roles and region.zone in zone_services[role]
    ]
    if Role.MX in group.roles:
        services += [*mx_hosts, *(names.mta_sts_host(domain) for domain in fleet.domains)]
    return GroupPlan(
        name=group.name,
        region=region.region,
        cloud=region.cloud,
        zone=region.zone,
        position=position,
        roles=group.roles,
        size=group.size,
        machine_type=machine_type(region.cloud, group.size),
        disk_gib=group.disk_gib,
        data_gib=group.data_gib if has_mail else 0,
        firewall=inbound(group.roles),
        may_send_smtp=may_send_smtp(group.roles),
        is_issuer=group.name == issuer,
        service_names=tuple(services),
        nodes=tuple(
            NodePlan(
                name=names.node_name(group.name, number),
                fqdn=names.node_fqdn(fleet, region.region, group.name, number),
                region=region.region,
                group=group.name,
                number=number,
                roles=group.roles,
                address=node_address(network, region.cloud, place, position, number),
                data_device=device,
                snapshot=group.from_snapshot.get(number, ""),
            )
            for number in range(1, group.count + 1)
        ),
        keep_replaced=group.keep_replaced,
    )
