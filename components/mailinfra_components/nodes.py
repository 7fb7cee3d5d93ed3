"""MailNodes: the servers of one node group in one region."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra.fleet import Cloud
from mailinfra.node.bootstrap import compressed
from mailinfra.places import MACHINE_IMAGES
from mailinfra_components.network import roles_tag
from mailinfra_components.options import Table, children, pick, received, tags


class Node(TypedDict):
    """One server."""

    name: str
    """Its name in the region."""
    fqdn: str
    """Its full name: host name, forward and reverse DNS."""
    availability_zone: str
    """The availability zone that it lies in."""
    subnet: str
    """The subnet's name."""
    script: pulumi.Input[str]
    """Its bootstrap script, from `mailinfra.node.bootstrap.render`."""
    snapshot: NotRequired[str]
    """The snapshot that its mail volume is made from; none for a volume that begins empty."""


class MailNodesArgs(TypedDict):
    """A node group's servers and what they may do."""

    cloud: str
    """`aws` or `gcp`."""
    region: str
    """The cloud's region."""
    zone: str
    """The residency zone, as tag or label."""
    group: str
    """The group's name in the region."""
    roles: list[str]
    """The roles (`mx`, `submission`, `egress`, `imap`, `pop3`, `mailbox`)."""
    machine_type: str
    """The cloud's machine type."""
    disk_gib: int
    """The system disk, GiB."""
    data_gib: int
    """The mail volume of each node, GiB; 0 for none."""
    nodes: list[Node]
    """The servers."""
    identity: str
    """The name of the IAM role (AWS) or the service account's id (GCP) that the group's nodes run as."""
    subnet_ids: pulumi.Input[dict[str, str]]
    """From `MailNetwork`."""
    security_groups: pulumi.Input[dict[str, str]]
    """From `MailNetwork`."""
    addresses: pulumi.Input[dict[str, dict[str, str]]]
    """From `MailNetwork`."""
    allocations: pulumi.Input[dict[str, str]]
    """From `MailNetwork`."""
    storage_key: pulumi.Input[str]
    """From `MailKeys`: encrypts the disks."""
    bucket: pulumi.Input[str]
    """From `UserDirectory`: the control bucket's name."""
    dkim_key: NotRequired[pulumi.Input[str]]
    """From `DkimKeys`: the key that the group may sign with; none when it does not sign."""
    ca_key: NotRequired[pulumi.Input[str]]
    """From `MailKeys`: only for the region's issuer group."""
    protect: NotRequired[bool]
    """Whether Pulumi refuses to delete the mail volumes; yes if nothing is said."""
    replica_of: NotRequired[list[str]]
    """The regions whose mail the group's nodes keep replicas of, beside their own."""
    snapshots: NotRequired[str]
    """The name of the region's `MailSnapshots`, which find the volumes by it (AWS)."""
    keep_replaced: NotRequired[bool]
    """Whether a volume stays that another one, made from a snapshot, has replaced; yes if nothing is said."""


@dataclass(frozen=True)
class MailVolume:
    """A mail volume: its name as a resource and at GCP, and the snapshot that it is made from, if any."""

    name: str
    cloud_name: str
    snapshot: str


class MailNodes(pulumi.ComponentResource):
    """The nodes of one group: stock Debian 12, configured from their user-data alone.

    Fixed addresses, reverse names, disks under the region's key, an identity that can read its part of the control
    bucket and use its keys and nothing else, no way in for administrators. A changed script makes a node
    what it now should be: disks, and with them queues, stay. AWS: the server is stopped and started, and runs it at its
    boot, as at every one. GCP: the running server finds it within a minute and a half; only what it changes restarts.

    A node's `snapshot` restores its mail volume. The volume made from it is another resource than the one before: a
    replacement would have to delete what is protected, and on GCP before the new one is there, for both would have
    one name. So the old one stays as it is, protected and detached, until `keep_replaced` is off and it was
    unprotected by hand; and the server is not replaced, for its queue may hold what could not be delivered to the
    lost volume. AWS: the server is stopped, its attachment moves, and it is started again. GCP: the disk is exchanged
    under the running server, which then has to be restarted by hand (`gcloud compute instances reset`), since no
    property of an instance that may change does that.
    """

    ids: pulumi.Output[dict[str, str]]
    """Node name to the cloud's instance id."""
    volumes: pulumi.Output[dict[str, str]]
    """Mail volumes by their nodes' names, one made from a snapshot with the snapshot's mark behind: the volume's id, on
    GCP the disk's name."""
    identity: pulumi.Output[str]
    """Whom the nodes run as: the IAM role's name (AWS) or the service account's e-mail address (GCP)."""
    identity_id: pulumi.Output[str]
    """Its unique id, which no later role or account of the same name has."""

    def __init__(self, name: str, args: MailNodesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:MailNodes", name, {}, opts)
        args = received(args)
        self.disks: dict[str, tuple[pulumi.Output[str], str]] = {}
        """The same with each one's availability zone, for those who declare in this process."""
        ids = self._aws(name, args) if args["cloud"] == Cloud.AWS else self._gcp(name, args)
        self.ids = pulumi.Output.all(**ids)
        self.volumes = pulumi.Output.all(**{key: volume for key, (volume, _) in self.disks.items()})
        self.register_outputs(
            {
                "ids": self.ids,
                "volumes": self.volumes,
                "identity": self.identity,
                "identity_id": self.identity_id,
            }
        )

    def _aws(self, name: str, args: MailNodesArgs) -> dict[str, pulumi.Output[str]]:
        region, marks = args["region"], tags(name, args["zone"])
        profile = self._aws_identity(name, args)
        wanted = MACHINE_IMAGES[Cloud.AWS]
        image = aws.ec2.get_ami_output(
            region=region,
            owners=[wanted.owner],
            most_recent=True,
            filters=[{"name": "name", "values": [wanted.name_filter]}],
            opts=pulumi.InvokeOutputOptions(parent=self),
        )
        addresses, allocations = Table(args["addresses"]), Table(args["allocations"])
        subnets, security_groups = Table(args["subnet_ids"]), Table(args["security_groups"])
        ids: dict[str, pulumi.Output[str]] = {}
        for node in args["nodes"]:
            label = f"{name}-{node['name']}"
            mine = addresses[node["name"]]
            instance = aws.ec2.Instance(
                label,
                region=region,
                ami=image.id,
                instance_type=args["machine_type"],
                subnet_id=subnets[node["subnet"]],
                private_ip=pick(mine, "private_ipv4"),
                ipv6_addresses=[pick(mine, "ipv6")],
                vpc_security_group_ids=[security_groups[args["group"]]],
                iam_instance_profile=profile.name,
                metadata_options={
                    "http_endpoint": "enabled",
                    "http_tokens": "required",
                    "http_put_response_hop_limit": 1,
                    "instance_metadata_tags": "enabled",
                },
                root_block_device={
                    "volume_type": "gp3",
                    "volume_size": args["disk_gib"],
                    "encrypted": True,
                    "kms_key_id": args["storage_key"],
                    "delete_on_termination": True,
                    "tags": tags(name, args["zone"], data="queue"),
                },
                user_data_base64=pulumi.Output.from_input(node["script"]).apply(user_data),
                user_data_replace_on_change=False,
                maintenance_options={"auto_recovery": "default"},
                monitoring=True,
                tags={**marks, "Name": node["fqdn"]},
                # A newer image does not replace a server that holds a queue; apt keeps it up to date.
                opts=children(self, ignore_changes=["ami"], delete_before_replace=True),
            )
            association = aws.ec2.EipAssociation(
                f"{label}-address",
                region=region,
                allocation_id=allocations[node["name"]],
                instance_id=instance.id,
                opts=children(self),
            )
            aws.ec2.EipDomainName(
                f"{label}-reverse",
                region=region,
                allocation_id=association.allocation_id,
                domain_name=node["fqdn"],
                opts=children(self),
            )
            if args["data_gib"]:
                self._aws_volume(label, args, node, instance)
            ids[node["name"]] = instance.id
        return ids

    def _aws_volume(self, label: str, args: MailNodesArgs, node: Node, instance: aws.ec2.Instance) -> None:
        wanted = mail_volumes(label, args, node)
        made = [
            aws.ebs.Volume(
                volume.name,
                region=args["region"],
                availability_zone=node["availability_zone"],
                type="gp3",
                size=args["data_gib"],
                snapshot_id=volume.snapshot or None,
                encrypted=True,
                kms_key_id=args["storage_key"],
                tags={**volume_tags(label, args), "Name": volume.name},
                opts=children(self, protect=args.get("protect", True)),
            )
            for volume in wanted
        ]
        self._know(node, wanted, [volume.id for volume in made])
        attached = aws.ec2.VolumeAttachment(
            f"{label}-mail-attached",
            region=args["region"],
            device_name="/dev/sdf",
            volume_id=made[0].id,
            instance_id=instance.id,
            stop_instance_before_detaching=True,
            opts=children(self, delete_before_replace=True),
        )
        if snapshot := node.get("snapshot"):
            # Named by the snapshot: one more restore starts the server once more.
            aws.ec2transitgateway.InstanceState(
                f"{label}-started-{short(snapshot)}",
                region=args["region"],
                instance_id=instance.id,
                state="running",
                opts=children(self, depends_on=[attached]),
            )

    def _know(self, node: Node, wanted: list[MailVolume], made: list[pulumi.Output[str]]) -> None:
        # By what each is made from, not by its turn: what belongs to a volume stays with it when it is replaced.
        for volume, name in zip(wanted, made, strict=True):
            mark = f"-{short(volume.snapshot)}" if volume.snapshot else ""
            self.disks[f"{node['name']}{mark}"] = name, node["availability_zone"]

    def _aws_identity(self, name: str, args: MailNodesArgs) -> aws.iam.InstanceProfile:
        marks = tags(name, args["zone"])
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
            ],
        }
        role = aws.iam.Role(
            f"{name}-role",
            name=args["identity"],
            assume_role_policy=json.dumps(trust),
            description=f"Mail nodes of {name}",
            tags=marks,
            opts=children(self),
        )
        self.identity, self.identity_id = role.name, role.unique_id
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            role=role.id,
            policy=pulumi.Output.all(
                bucket=args["bucket"],
                storage_key=args["storage_key"],
                dkim_key=args.get("dkim_key") or "",
                ca_key=args.get("ca_key") or "",
            ).apply(lambda known: json.dumps(aws_policy(args, **known))),
            opts=children(self),
        )
        return aws.iam.InstanceProfile(
            f"{name}-profile",
            name=args["identity"],
            role=role.name,
            tags=marks,
            opts=children(self, depends_on=[policy]),
        )

    def _gcp(self, name: str, args: MailNodesArgs) -> dict[str, pulumi.Output[str]]:
        labels = tags(name, args["zone"])
        account, grants = self._gcp_identity(name, args)
        wanted = MACHINE_IMAGES[Cloud.GCP]
        image = gcp.compute.get_image_output(
            family=wanted.family, project=wanted.project, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        addresses, subnets = Table(args["addresses"]), Table(args["subnet_ids"])
        network_tags = Table(args["security_groups"])
        ids: dict[str, pulumi.Output[str]] = {}
        for node in args["nodes"]:
            label = f"{name}-{node['name']}"
            disks: list[gcp.compute.InstanceAttachedDiskArgs] = []
            if args["data_gib"]:
                wanted_disks = mail_volumes(label, args, node)
                made = [
                    gcp.compute.Disk(
                        volume.name,
                        name=volume.cloud_name,
                        zone=node["availability_zone"],
                        type="pd-balanced",
                        size=args["data_gib"],
                        snapshot=volume.snapshot or None,
                        disk_encryption_key={"kms_key_self_link": args["storage_key"]},
                        labels=volume_tags(label, args),
                        opts=children(self, protect=args.get("protect", True)),
                    )
                    for volume in wanted_disks
                ]
                self._know(node, wanted_disks, [volume.name for volume in made])
                disks = [
                    gcp.compute.InstanceAttachedDiskArgs(
                        source=made[0].id, device_name="data", mode="READ_WRITE"
                    )
                ]
            mine = addresses[node["name"]]
            instance = gcp.compute.Instance(
                label,
                name=label,
                zone=node["availability_zone"],
                machine_type=args["machine_type"],
                hostname=node["fqdn"],
                boot_disk={
                    "initialize_params": {
                        "image": image.self_link,
                        "size": args["disk_gib"],
                        "type": "pd-balanced",
                    },
                    "kms_key_self_link": args["storage_key"],
                },
                attached_disks=disks,
                network_interfaces=[
                    {
                        "subnetwork": subnets[node["subnet"]],
                        "stack_type": "IPV4_IPV6",
                        "network_ip": pick(mine, "private_ipv4"),
                        "access_configs": [
                            {
                                "nat_ip": pick(mine, "ipv4"),
                                "network_tier": "PREMIUM",
                                "public_ptr_domain_name": f"{node['fqdn']}.",
                            }
                        ],
                        "ipv6_access_configs": [
                            {
                                "name": "external-ipv6",
                                "network_tier": "PREMIUM",
                                "external_ipv6": pick(mine, "ipv6"),
                                "external_ipv6_prefix_length": "96",
                                "public_ptr_domain_name": f"{node['fqdn']}.",
                            }
                        ],
                    }
                ],
                service_account={"email": account.email, "scopes": ["cloud-platform"]},
                metadata={
                    "startup-script": node["script"],
                    "block-project-ssh-keys": "TRUE",
                    "enable-oslogin": "TRUE",
                    "serial-port-enable": "FALSE",
                },
                shielded_instance_config={
                    "enable_secure_boot": True,
                    "enable_vtpm": True,
                    "enable_integrity_monitoring": True,
                },
                scheduling={"automatic_restart": True, "on_host_maintenance": "MIGRATE"},
                tags=[network_tags[args["group"]], roles_tag(args["roles"])],
                labels=labels,
                allow_stopping_for_update=True,
                opts=children(
                    self,
                    depends_on=grants,
                    ignore_changes=["bootDisk.initializeParams.image"],
                    delete_before_replace=True,
                ),
            )
            ids[node["name"]] = instance.instance_id
        return ids

    def _gcp_identity(
        self, name: str, args: MailNodesArgs
    ) -> tuple[gcp.serviceaccount.Account, list[pulumi.Resource]]:
        account = gcp.serviceaccount.Account(
            f"{name}-account",
            account_id=args["identity"],
            display_name=f"Mail nodes of {name}",
            opts=children(self),
        )
        self.identity, self.identity_id = account.email, account.unique_id
        member = account.email.apply(lambda email: f"serviceAccount:{email}")
        grants: list[pulumi.Resource] = []
        for key, role, prefixes in bucket_grants(args):
            condition = under(args["bucket"], prefixes)
            grants.append(
                gcp.storage.BucketIAMMember(
                    f"{name}-bucket-{key}",
                    bucket=args["bucket"],
                    role=f"roles/storage.{role}",
                    member=member,
                    condition={"title": key, "expression": condition},
                    opts=children(self),
                )
            )
        # Names of objects only. Without it a missing object reads as "forbidden".
        grants.append(
            gcp.storage.BucketIAMMember(
                f"{name}-bucket-sees",
                bucket=args["bucket"],
                role="roles/storage.legacyBucketReader",
                member=member,
                opts=children(self),
            )
        )
        for key, used in (("dkim", args.get("dkim_key")), ("ca", args.get("ca_key"))):
            if used is not None:
                grants.append(
                    gcp.kms.CryptoKeyIAMMember(
                        f"{name}-{key}-key",
                        crypto_key_id=pulumi.Output.from_input(used).apply(
                            lambda version: version.split("/cryptoKeyVersions/")[0]
                        ),
                        role="roles/cloudkms.signer",
                        member=member,
                        opts=children(self),
                    )
                )
        return account, grants


def mail_volumes(label: str, args: MailNodesArgs, node: Node) -> list[MailVolume]:
    """A node's mail volumes: the one in use, then the one that it has replaced, as long as that is kept."""
    first = MailVolume(f"{label}-mail", f"{label}-mail", "")
    if not (snapshot := node.get("snapshot")):
        return [first]
    # No longer than the first one's name is: Compute Engine allows 63 characters.
    restored = MailVolume(f"{label}-mail-{short(snapshot)}", f"{label}-{short(snapshot)}", snapshot)
    return [restored, first] if args.get("keep_replaced", True) else [restored]


def short(snapshot: str) -> str:
    """Four letters or digits that stand for a snapshot in names."""
    return hashlib.sha256(snapshot.encode()).hexdigest()[:4]


def volume_tags(label: str, args: MailNodesArgs) -> dict[str, str]:
    """A mail volume's tags or labels: its own, whose replicas are on it, and who makes its snapshots."""
    found = tags(label, args["zone"], data="mail")
    if replicas := args.get("replica_of"):
        # A label at Google has no spaces. The replica is a moment behind, never an interval.
        between = " " if args["cloud"] == Cloud.AWS else "_"
        found |= {"backup-of": between.join(replicas), "backup-interval-minutes": "0"}
    if snapshots := args.get("snapshots"):
        found["mailinfra-snapshots"] = snapshots
    return found


def user_data(script: str) -> str:
    """A bootstrap script as AWS user-data: a boothook in gzip, which cloud-init undoes, in base64. ValueError above
    16 KiB."""
    return base64.b64encode(compressed(script)).decode()


ACCOUNT_ROLES = frozenset({"submission", "imap", "pop3", "mailbox"})
"""Roles that check users' credentials, and so read the accounts of their own residency zone."""


def readable(args: MailNodesArgs) -> list[str]:
    """The objects (prefixes) in the control bucket that the group's nodes may read."""
    accounts = ["directory/accounts"] if ACCOUNT_ROLES & set(args["roles"]) else []
    return ["trust/", "node/", "directory/routes", *accounts, f"certs/{args['group']}/"]


def readable_copies(args: MailNodesArgs) -> list[str]:
    """Where the control bucket says which vaults the group may use, and what operators ask it to restore: read by
    those who hold mail, and nobody else."""
    return ["backup/", "restore/requests/"] if "mailbox" in args["roles"] else []


def reported_copies(args: MailNodesArgs) -> list[str]:
    """Where the group says how its backups and restores are doing: below its own name, never where requests are."""
    group = args["group"]
    return [f"backup/status/{group}/", f"restore/status/{group}/"] if "mailbox" in args["roles"] else []


def bucket_grants(args: MailNodesArgs) -> list[tuple[str, str, list[str]]]:
    """What a group may do in a Cloud Storage bucket: (key, role, object prefixes)."""
    grants = [
        ("reads", "objectViewer", readable(args)),
        ("enrols", "objectUser", [f"enrol/{args['group']}/"]),
    ]
    if copies := readable_copies(args):
        # A grant of its own: a changed condition would replace the one for what every node reads.
        grants.append(("copies", "objectViewer", copies))
        grants.append(("reports", "objectUser", reported_copies(args)))
    if "ca_key" in args:
        grants.append(("issues", "objectUser", ["enrol/", "certs/"]))
    return grants


def under(bucket: pulumi.Input[str], prefixes: list[str]) -> pulumi.Output[str]:
    """An IAM condition (CEL) that holds for the bucket's objects under any of the prefixes."""
    return pulumi.Output.from_input(bucket).apply(
        lambda name: " || ".join(
            f'resource.name.startsWith("projects/_/buckets/{name}/objects/{prefix}")' for prefix in prefixes
        )
    )


def aws_policy(
    args: MailNodesArgs, bucket: str, storage_key: str, dkim_key: str, ca_key: str
) -> dict[str, Any]:
    """The IAM policy of a group's nodes: its part of the control bucket and its keys, nothing else."""
    arn, region = f"arn:aws:s3:::{bucket}", args["region"]

    def objects(*prefixes: str) -> list[str]:
        return [f"{arn}/{prefix}*" for prefix in prefixes]

    def signs(key: str, algorithm: str) -> dict[str, Any]:
        return {
            "Action": "kms:Sign",
            "Resource": key,
            "Condition": {"StringEquals": {"kms:SigningAlgorithm": algorithm, "kms:MessageType": "DIGEST"}},
        }

    statements: list[dict[str, Any]] = [
        {
            "Sid": "Read",
            "Action": "s3:GetObject",
            "Resource": objects(*readable(args), *readable_copies(args)),
        },
        {
            "Sid": "Enrol",
            "Action": ["s3:PutObject", "s3:GetObject"],
            "Resource": objects(f"enrol/{args['group']}/", *reported_copies(args)),
        },
        # Without it a missing object reads as "forbidden".
        {"Sid": "See", "Action": "s3:ListBucket", "Resource": arn},
        {
            "Sid": "Decrypt",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": storage_key,
            "Condition": {"StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"}},
        },
    ]
    if dkim_key:
        statements.append({"Sid": "SignMail", **signs(dkim_key, "RSASSA_PKCS1_V1_5_SHA_256")})
    if ca_key:
        statements += [
            {"Sid": "SignCertificates", **signs(ca_key, "ECDSA_SHA_256")},
            {"Sid": "Requests", "Action": "s3:GetObject", "Resource": objects("enrol/", "certs/")},
            {"Sid": "Issue", "Action": "s3:PutObject", "Resource": objects("certs/")},
        ]
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", **statement} for statement in statements],
    }
