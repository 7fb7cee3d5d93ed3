"""MailFleet: a whole fleet from its declaration."""

from typing import Any, TypedDict, cast

import pulumi
import pulumi_aws as aws

from mailinfra import names
from mailinfra.backup.plan import StoreCopies
from mailinfra.fleet import Cloud, Fleet, Role
from mailinfra.node.bootstrap import render
from mailinfra.placement import mailbox_groups
from mailinfra.places import Place
from mailinfra.plan import GroupPlan, NodePlan, RegionPlan, dkim_keys, node_spec, plan
from mailinfra.trust import anchors
from mailinfra_components.directory import UserDirectory
from mailinfra_components.dkim import DkimKeys
from mailinfra_components.keys import MailKeys
from mailinfra_components.links import MailLinks
from mailinfra_components.network import GroupPorts, MailNetwork
from mailinfra_components.nodes import MailNodes
from mailinfra_components.options import received
from mailinfra_components.records import MailRecords
from mailinfra_components.routing import MxRouting
from mailinfra_components.snapshots import MailSnapshots
from mailinfra_components.traces import MailTraces, ProjectTraces
from mailinfra_components.vaults import AwsFederation, BackupVault, VaultUser


class MailFleetArgs(TypedDict):
    """The fleet."""

    fleet: dict[str, Any]
    """The fleet's declaration: see the configuration reference."""


class MailFleet(pulumi.ComponentResource):
    """One mail domain served by many servers in many places: everything that `mailinfra.Fleet` declares.

    Users are not part of it: they are published into its directory with `mailinfra directory publish`.
    """

    regions: pulumi.Output[dict[str, dict[str, str]]]
    """Region to its `cloud`, `zone`, control `bucket` and `storage_key`."""
    nodes: pulumi.Output[dict[str, dict[str, str]]]
    """Node FQDN to its `region`, `instance`, `ipv4`, `ipv6` and `roles`."""
    name_servers: pulumi.Output[dict[str, list[str]]]
    """Domain to the name servers that the registrar must be told."""
    signers: pulumi.Output[dict[str, list[str]]]
    """Domain to the DS records that the registrar must be told."""
    dkim: pulumi.Output[dict[str, str]]
    """Selector to the signing key's name in its HSM."""
    anchors: pulumi.Output[str]
    """The trust anchors of the regions' authorities, PEM."""

    def __init__(self, name: str, args: MailFleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:MailFleet", name, {}, opts)
        args = received(args)
        self._declared = args["fleet"]
        self._plan = plan(Fleet.load(self._declared))
        fleet, regions = self._plan.fleet, self._plan.regions
        mine = pulumi.ResourceOptions(parent=self)
        keys = {region.name: self._keys(region) for region in regions}
        dkim = self._dkim(keys)
        networks = {region.name: self._network(region) for region in regions}
        # Node by node, so that a node's records wait for its own addresses and not for every region's.
        addresses = cast(
            "dict[str, dict[str, str]]",
            {node.fqdn: networks[node.region].address_of_node[node.name] for node in self._plan.nodes},
        )
        peers = pulumi.Output.all(**addresses).apply(
            lambda known: [node[key] for node in known.values() for key in ("ipv4", "ipv6")]
        )
        for region in regions:
            self._links(region, networks[region.name], peers)
        authorities = pulumi.Output.all(**{region: made.ca_public_key for region, made in keys.items()})
        self.anchors = authorities.apply(lambda known: anchors(fleet, known))
        public_keys = merged([made.public_keys for made in dkim.values()])
        self.dkim = merged([made.references for made in dkim.values()])
        routing = {
            item.zone: MxRouting(
                names.gcp_name(fleet, "mx", item.label),
                {"fleet": self._declared, "label": item.label, "addresses": addresses, "ca": authorities},
                mine,
            )
            for item in self._plan.steering
        }
        records = MailRecords(
            names.gcp_name(fleet, "dns"),
            {
                "fleet": self._declared,
                "addresses": addresses,
                "dkim": public_keys,
                "ca": authorities,
                "name_servers": pulumi.Output.all(
                    **{zone: made.name_servers for zone, made in routing.items()}
                ),
                "signers": pulumi.Output.all(**{zone: made.signers for zone, made in routing.items()}),
            },
            mine,
        )
        alarms = {
            region.name: self._traces(region, keys[region.name], networks[region.name]).alarms
            for region in regions
        }
        vaults = [(copies, copies.vault) for copies in self._plan.copies if copies.vault is not None]
        project: ProjectTraces | None = None
        if Cloud.GCP in {*(region.cloud for region in regions), *(place.cloud for _, place in vaults)}:
            project = ProjectTraces(
                names.gcp_name(fleet, "project"),
                {
                    "project": fleet.clouds.gcp.project,
                    "operators": self._operators,
                    "snapshots": any(
                        self._plan.region(copies.region).cloud is Cloud.GCP for copies in self._plan.copies
                    ),
                },
                mine,
            )
        directories = {region.name: self._directory(region, keys[region.name]) for region in regions}
        nodes: dict[str, MailNodes] = {}
        for region in regions:
            disks: dict[str, tuple[pulumi.Output[str], str]] = {}
            for group in region.groups:
                made = nodes[f"{region.name}/{group.name}"] = self._nodes(
                    region,
                    group,
                    keys[region.name],
                    dkim.get(region.name),
                    networks[region.name],
                    directories[region.name],
                    records,
                )
                disks |= made.disks
            if disks:
                self._snapshots(region, disks, alarms[region.name])
        instances = {group: made.ids for group, made in nodes.items()}
        users = {copies.region: self._vault_users(copies, nodes) for copies, _ in vaults}
        federation = self._federation(vaults, users)
        for copies, place in vaults:
            buckets = {name: made.bucket for name, made in directories.items()}
            self._vault(copies, place, users[copies.region], buckets, project, federation)
        self.name_servers, self.signers = records.name_servers, records.signers
        self.regions = pulumi.Output.all(
            **{
                region.name: pulumi.Output.all(
                    cloud=region.cloud.value,
                    zone=region.zone,
                    bucket=directories[region.name].bucket,
                    storage_key=keys[region.name].storage_key,
                )
                for region in regions
            }
        )
        self.nodes = pulumi.Output.all(addresses=addresses, instances=pulumi.Output.all(**instances)).apply(
            lambda known: {
                node.fqdn: {
                    "region": node.region,
                    "instance": known["instances"][f"{node.region}/{node.group}"][node.name],
                    "roles": ",".join(node.roles),
                    **known["addresses"][node.fqdn],
                }
                for node in self._plan.nodes
            }
        )
        self.register_outputs(
            {
                "regions": self.regions,
                "nodes": self.nodes,
                "name_servers": self.name_servers,
                "signers": self.signers,
                "dkim": self.dkim,
                "anchors": self.anchors,
            }
        )

    def _resource(self, region: RegionPlan, *parts: str) -> str:
        return names.gcp_name(self._plan.fleet, region.name, *parts)

    def _keys(self, region: RegionPlan) -> MailKeys:
        fleet = self._plan.fleet
        return MailKeys(
            self._resource(region),
            {
                "cloud": region.cloud.value,
                "region": region.name,
                "zone": region.zone,
                "rotation_days": fleet.keys.rotation_days,
                "deletion_window_days": fleet.keys.deletion_window_days,
            },
            pulumi.ResourceOptions(parent=self),
        )

    def _dkim(self, keys: dict[str, MailKeys]) -> dict[str, DkimKeys]:
        """The DKIM keys of each region that signs."""
        made: dict[str, DkimKeys] = {}
        for region in self._plan.regions:
            generations = [key for key in dkim_keys(self._plan.fleet) if key.region == region.name]
            if generations:
                made[region.name] = DkimKeys(
                    self._resource(region, "dkim"),
                    {
                        "cloud": region.cloud.value,
                        "region": region.name,
                        "zone": region.zone,
                        "generations": [
                            {"serial": key.serial, "selector": key.selector} for key in generations
                        ],
                        "bits": self._plan.fleet.dkim.bits,
                        "key_ring": keys[region.name].key_ring,
                        "deletion_window_days": self._plan.fleet.keys.deletion_window_days,
                    },
                    pulumi.ResourceOptions(parent=self),
                )
        return made

    def _network(self, region: RegionPlan) -> MailNetwork:
        return MailNetwork(
            self._resource(region, "net"),
            {
                "cloud": region.cloud.value,
                "region": region.name,
                "zone": region.zone,
                "cidr": region.network.cidr,
                "subnets": [
                    {
                        "name": subnet.zone_letter or "all",
                        "availability_zone": f"{region.name}{subnet.zone_letter or ''}",
                        "cidr": subnet.cidr,
                    }
                    for subnet in region.network.subnets
                ],
                "addresses": [
                    {
                        "node": node.name,
                        "subnet": region.network.subnets[node.address.subnet].zone_letter or "all",
                        "private_ipv4": node.address.private_ipv4,
                        "ipv6_index": node.address.ipv6_index,
                    }
                    for node in region.nodes
                ],
                "groups": [ports(group) for group in region.groups],
            },
            pulumi.ResourceOptions(parent=self),
        )

    def _links(self, region: RegionPlan, network: MailNetwork, peers: pulumi.Output[list[str]]) -> None:
        MailLinks(
            self._resource(region, "links"),
            {
                "cloud": region.cloud.value,
                "region": region.name,
                "zone": region.zone,
                "groups": [ports(group) for group in region.groups],
                "network_id": network.network_id,
                "security_groups": network.security_groups,
                "peers": peers,
                "room": room(len(self._plan.nodes)),
            },
            pulumi.ResourceOptions(parent=self),
        )

    @property
    def _operators(self) -> str:
        """Who gets alarms."""
        return self._plan.fleet.traces.operators or f"operators@{self._plan.fleet.primary_domain}"

    def _account(self, cloud: Cloud) -> pulumi.Output[str]:
        """The AWS account's id or the Google Cloud project."""
        if cloud is Cloud.GCP:
            return pulumi.Output.from_input(self._plan.fleet.clouds.gcp.project)
        return aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(parent=self)).account_id

    def _traces(self, region: RegionPlan, keys: MailKeys, network: MailNetwork) -> MailTraces:
        fleet, account = self._plan.fleet, self._account(region.cloud)
        return MailTraces(
            self._resource(region, "traces"),
            {
                "cloud": region.cloud.value,
                "region": region.name,
                "zone": region.zone,
                "account": account,
                "bucket": account.apply(lambda known: names.bucket(fleet, region.name, "traces", known)),
                "storage_key": keys.storage_key,
                "retention_days": fleet.traces.retention_days,
                "rotation_days": fleet.keys.rotation_days,
                "deletion_window_days": fleet.keys.deletion_window_days,
                "network_id": network.network_id,
                "operators": self._operators,
            },
            pulumi.ResourceOptions(parent=self),
        )

    def _snapshots(
        self,
        region: RegionPlan,
        disks: dict[str, tuple[pulumi.Output[str], str]],
        alarms: pulumi.Output[str],
    ) -> None:
        args: dict[str, Any] = {
            "cloud": region.cloud.value,
            "region": region.name,
            "zone": region.zone,
            "days": self._plan.fleet.backup.snapshot_days,
        }
        if region.cloud is Cloud.AWS:
            args |= {"account": self._account(region.cloud), "alarms": alarms}
        else:
            args["disks"] = [
                {"name": name, "disk": disk, "availability_zone": zone}
                for name, (disk, zone) in disks.items()
            ]
        MailSnapshots(
            self._resource(region, "snapshots"),
            args,  # type: ignore[arg-type]  # what differs between the clouds is added above
            pulumi.ResourceOptions(parent=self),
        )

    def _directory(self, region: RegionPlan, keys: MailKeys) -> UserDirectory:
        fleet, account = self._plan.fleet, self._account(region.cloud)
        return UserDirectory(
            self._resource(region, "directory"),
            {
                "cloud": region.cloud.value,
                "region": region.name,
                "zone": region.zone,
                "bucket": account.apply(lambda known: names.control_bucket(fleet, region.name, known)),
                "storage_key": keys.storage_key,
                "anchors": self.anchors,
            },
            pulumi.ResourceOptions(parent=self),
        )

    def _nodes(
        self,
        region: RegionPlan,
        group: GroupPlan,
        keys: MailKeys,
        dkim: DkimKeys | None,
        network: MailNetwork,
        directory: UserDirectory,
        records: MailRecords,
    ) -> MailNodes:
        fleet = self._plan.fleet
        signing = next(
            (
                key.selector
                for key in dkim_keys(fleet)
                if key.region == region.name and key.stage == "signing"
            ),
            None,
        )
        # From the region's own keys: a node's start does not wait for the other regions' HSMs.
        reference = (
            dkim.references.apply(lambda known: known[signing])
            if dkim is not None and signing is not None and Role.SUBMISSION in group.roles
            else None
        )
        issuer = keys.ca_key if group.is_issuer else None

        def script(node: NodePlan) -> pulumi.Output[str]:
            return pulumi.Output.all(bucket=directory.bucket, ca=issuer or "", signing=reference or "").apply(
                lambda known: render(
                    node_spec(
                        self._plan,
                        node,
                        control_bucket=known["bucket"],
                        ca_key=known["ca"],
                        signing_reference=known["signing"],
                    )
                )
            )

        args: dict[str, Any] = {
            "cloud": region.cloud.value,
            "region": region.name,
            "zone": region.zone,
            "group": group.name,
            "roles": [role.value for role in group.roles],
            "machine_type": group.machine_type,
            "disk_gib": group.disk_gib,
            "data_gib": group.data_gib if Role.MAILBOX in group.roles else 0,
            "nodes": [
                {
                    "name": node.name,
                    "fqdn": node.fqdn,
                    "availability_zone": node.address.availability_zone,
                    "subnet": region.network.subnets[node.address.subnet].zone_letter or "all",
                    "script": script(node),
                    **({"snapshot": node.snapshot} if node.snapshot else {}),
                }
                for node in group.nodes
            ],
            "identity": identity(fleet, region, group),
            "subnet_ids": network.subnet_ids,
            "security_groups": network.security_groups,
            "addresses": {node.name: network.address_of_node[node.name] for node in group.nodes},
            "allocations": {node.name: network.allocation_of_node[node.name] for node in group.nodes},
            "storage_key": keys.storage_key,
            "bucket": directory.bucket,
            "protect": fleet.protect,
            "replica_of": [store.region for store in self._plan.copies if store.replica == region.name],
            "snapshots": self._resource(region, "snapshots"),
            "keep_replaced": group.keep_replaced,
        }
        if reference is not None:
            args["dkim_key"] = reference
        if issuer is not None:
            args["ca_key"] = issuer
        # AWS sets a reverse name only where the forward one already resolves.
        forward = [record for node in group.nodes for record in records.of_name[node.fqdn]]
        return MailNodes(
            self._resource(region, group.name),
            args,  # type: ignore[arg-type]  # optional keys are added above
            pulumi.ResourceOptions(parent=self, depends_on=forward),
        )

    def _vault_users(self, copies: StoreCopies, nodes: dict[str, MailNodes]) -> list[VaultUser]:
        """The groups of a store, which write into its vault, and those of its replica, which read there."""
        fleet = self._plan.fleet
        return [
            {
                "cloud": region.cloud.value,
                "region": region.region,
                "group": group.name,
                "identity": nodes[f"{region.region}/{group.name}"].identity,
                "identity_id": nodes[f"{region.region}/{group.name}"].identity_id,
                "writes": region.region == copies.region,
            }
            for region in fleet.regions
            if region.region in (copies.region, copies.replica)
            for group in mailbox_groups(region)
        ]

    def _federation(
        self, vaults: list[tuple[StoreCopies, Place]], users: dict[str, list[VaultUser]]
    ) -> AwsFederation | None:
        """The way of nodes at AWS into vaults at Google Cloud, if any has to go it."""
        fleet = self._plan.fleet
        roles = {
            names.iam_role_name(fleet, user["region"], user["group"])
            for copies, place in vaults
            if place.cloud is Cloud.GCP
            for user in users[copies.region]
            if user["cloud"] == Cloud.AWS
        }
        if not roles:
            return None
        return AwsFederation(
            names.gcp_name(fleet, "federation"),
            {
                "project": fleet.clouds.gcp.project,
                "pool": names.identity_pool(fleet),
                "account": self._account(Cloud.AWS),
                "roles": sorted(roles),
            },
            pulumi.ResourceOptions(parent=self),
        )

    def _vault(
        self,
        copies: StoreCopies,
        place: Place,
        users: list[VaultUser],
        control_buckets: dict[str, pulumi.Output[str]],
        project: ProjectTraces | None,
        federation: AwsFederation | None,
    ) -> BackupVault:
        fleet, account = self._plan.fleet, self._account(place.cloud)
        endpoints = (fleet.clouds.aws if place.cloud is Cloud.AWS else fleet.clouds.gcp).endpoints
        args: dict[str, Any] = {
            "cloud": place.cloud.value,
            "region": place.region,
            "zone": copies.zone,
            "account": account,
            "store_cloud": fleet.region(copies.region).cloud.value,
            "store_region": copies.region,
            "control_bucket": control_buckets[copies.region],
            "users": users,
            "rpo_minutes": fleet.backup.rpo_minutes,
            "retention_days": fleet.backup.retention_days,
            "verify_hours": fleet.backup.verify_hours,
            "rotation_days": fleet.keys.rotation_days,
            "deletion_window_days": fleet.keys.deletion_window_days,
            "operators": self._operators,
            "roles": {
                "writes": names.vault_role(fleet, copies.region, copies.region),
                "reads": names.vault_role(fleet, copies.replica, copies.region),
            },
            "endpoints": {
                name: url.replace("{region}", place.region) for name, url in endpoints.model_dump().items()
            },
            "protect": fleet.protect,
        }
        if place.cloud is Cloud.GCP and project is not None:
            args["channel"] = project.channel
        if copies.replica:
            args["replica_cloud"] = fleet.region(copies.replica).cloud.value
            args["replica_region"] = copies.replica
            args["replica_bucket"] = control_buckets[copies.replica]
        if federation is not None:
            args["pool"], args["audience"] = federation.pool, federation.audience
        return BackupVault(
            names.gcp_name(fleet, copies.region, "vault"),
            args,  # type: ignore[arg-type]  # optional keys are added above
            pulumi.ResourceOptions(parent=self),
        )


def identity(fleet: Fleet, region: RegionPlan, group: GroupPlan) -> str:
    """The name under which the group's nodes run: an IAM role's, or a service account's id."""
    if region.cloud is Cloud.AWS:
        return names.iam_role_name(fleet, region.name, group.name)
    return names.gcp_service_account_id(fleet, region.name, group.name)


def ports(group: GroupPlan) -> GroupPorts:
    """The TCP ports of a node group, by who may reach them."""

    def of(source: str) -> list[int]:
        return [rule.port for rule in group.firewall if rule.source == source and rule.port is not None]

    return {
        "group": group.name,
        "roles": [role.value for role in group.roles],
        "world": of("world"),
        "fleet": of("fleet"),
        "sends_mail": group.may_send_smtp,
    }


def room(nodes: int) -> int:
    """Entries that the firewall's address lists must hold: grown in steps, since growing one is an update."""
    return max(16, 1 << (nodes - 1).bit_length())


def merged(tables: list[pulumi.Output[dict[str, str]]]) -> pulumi.Output[dict[str, str]]:
    """Several tables as one."""
    return pulumi.Output.all(*tables).apply(
        lambda known: {key: value for table in known for key, value in table.items()}
    )
