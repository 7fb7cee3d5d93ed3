"""MailSnapshots: hourly snapshots of one region's mail volumes, made and expired by the cloud itself."""

import json
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra_components.documents import document
from mailinfra_components.options import children, received, tags

TAG = "mailinfra-snapshots"
"""The tag by which the volumes are found, and by which the service may delete what it made."""
START = "00:00"
"""The schedule's first hour, UTC."""


class Disk(TypedDict):
    """A mail disk at Google Cloud."""

    name: str
    """Its name among the region's disks."""
    disk: pulumi.Input[str]
    """The disk's name in the cloud."""
    availability_zone: str
    """Where it is."""


class MailSnapshotsArgs(TypedDict):
    """What snapshots are made of, how long they are kept, and who is told of failures."""

    cloud: str
    """`aws` or `gcp`."""
    region: str
    """The cloud's region; the snapshots never leave it."""
    zone: str
    """The residency zone, as tag or label."""
    days: int
    """Days that a snapshot is kept."""
    account: NotRequired[pulumi.Input[str]]
    """The AWS account's id (AWS)."""
    alarms: NotRequired[pulumi.Input[str]]
    """Who is told when snapshots fail: `MailTraces.alarms` (AWS; at Google Cloud `ProjectTraces` tells)."""
    disks: NotRequired[list[Disk]]
    """The mail disks (GCP; on AWS volumes are found by the tag `mailinfra-snapshots`, which is this one's name)."""


class MailSnapshots(pulumi.ComponentResource):
    """One region's second copy of its mail: snapshots on a schedule, from which a volume is made in seconds.

    AWS: a policy of Data Lifecycle Manager; its role may make snapshots of this region's mail volumes and delete what
    it made, nothing else. GCP: a resource policy on each disk. A snapshot is encrypted under its volume's own key, and
    lies in the region of its volume, so nothing leaves the residency zone. It holds what the volume held at one moment,
    as after a power cut: no program is asked to flush. No node may make or delete one. Snapshots do not outlive their
    key, and who may administer the account may delete them: that is what the vault is for.
    """

    policy: pulumi.Output[str]
    """The policy's id (AWS) or name (GCP)."""

    def __init__(
        self, name: str, args: MailSnapshotsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mailinfra:index:MailSnapshots", name, {}, opts)
        args = received(args)
        if args["cloud"] == "aws":
            self._aws(name, args)
        else:
            self._gcp(name, args)
        self.register_outputs({"policy": self.policy})

    def _aws(self, name: str, args: MailSnapshotsArgs) -> None:
        region, marks = args["region"], tags(name, args["zone"], data="mail")
        account = pulumi.Output.from_input(args["account"])
        role = aws.iam.Role(
            f"{name}-role",
            assume_role_policy=account.apply(trust),
            description=f"{name}: snapshots of the mail volumes",
            tags=tags(name, args["zone"]),
            opts=children(self),
        )
        granted = aws.iam.RolePolicy(
            f"{name}-rights",
            role=role.id,
            policy=account.apply(lambda known: rights(region, known, name)),
            opts=children(self),
        )
        schedule: Any = {
            "name": "hourly",
            "create_rule": {"interval": 1, "interval_unit": "HOURS", "times": START},
            "retain_rule": {"interval": args["days"], "interval_unit": "DAYS"},
            "copy_tags": True,
        }
        policy = aws.dlm.LifecyclePolicy(
            f"{name}-hourly",
            region=region,
            description=f"{name} hourly",
            execution_role_arn=role.arn,
            state="ENABLED",
            policy_details={
                "policy_type": "EBS_SNAPSHOT_MANAGEMENT",
                "resource_types": ["VOLUME"],
                "target_tags": {TAG: name},
                "schedules": [schedule],
            },
            tags=marks,
            opts=children(self, depends_on=[granted]),
        )
        for kind, what, pattern in (
            (
                "failed",
                "A snapshot of a volume failed",
                {
                    "source": ["aws.ec2"],
                    "detail-type": ["EBS Snapshot Notification"],
                    "detail": {"event": ["createSnapshot"], "result": ["failed"]},
                },
            ),
            (
                "ended",
                "The policy that makes snapshots does not run any more",
                {
                    "source": ["aws.dlm"],
                    "detail-type": ["DLM Policy State Change"],
                    "detail": {"state": ["ERROR"]},
                },
            ),
        ):
            rule = aws.cloudwatch.EventRule(
                f"{name}-{kind}",
                region=region,
                description=what,
                event_pattern=json.dumps(pattern),
                tags=tags(name, args["zone"]),
                opts=children(self),
            )
            aws.cloudwatch.EventTarget(
                f"{name}-{kind}-alarm",
                region=region,
                rule=rule.name,
                arn=args["alarms"],
                opts=children(self),
            )
        self.policy = policy.id

    def _gcp(self, name: str, args: MailSnapshotsArgs) -> None:
        region = args["region"]
        policy = gcp.compute.ResourcePolicy(
            f"{name}-hourly",
            region=region,
            description=f"{name}: hourly",
            snapshot_schedule_policy={
                "schedule": {"hourly_schedule": {"hours_in_cycle": 1, "start_time": START}},
                "retention_policy": {
                    "max_retention_days": args["days"],
                    # A disk that is lost takes nothing with it, but for what is old.
                    "on_source_disk_delete": "APPLY_RETENTION_POLICY",
                },
                "snapshot_properties": {
                    "labels": tags(name, args["zone"], data="mail"),
                    # Without it Compute Engine takes a multi-region, which may be larger than the zone.
                    "storage_locations": region,
                    "guest_flush": False,
                },
            },
            opts=children(self),
        )
        for disk in args.get("disks", []):
            gcp.compute.DiskResourcePolicyAttachment(
                f"{name}-{disk['name']}",
                name=policy.name,
                disk=disk["disk"],
                zone=disk["availability_zone"],
                # A disk has one schedule at a time.
                opts=children(self, delete_before_replace=True),
            )
        self.policy = policy.name


def trust(account: str) -> str:
    """Data Lifecycle Manager acts under the role, for this account only (EBS User Guide, "Control access to Amazon
    Data Lifecycle Manager using IAM")."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "dlm.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        }
    )


def rights(region: str, account: str, name: str) -> str:
    """What the role may: look, make snapshots of the volumes with our tag, and delete snapshots with it, which every
    snapshot copies from its volume (EBS User Guide, "AWSDataLifecycleManagerServiceRole", which may more)."""
    ours = {"StringEquals": {f"aws:ResourceTag/{TAG}": name}}
    volumes, snapshots = f"arn:aws:ec2:{region}:{account}:volume/*", f"arn:aws:ec2:{region}::snapshot/*"
    here = {"StringEquals": {"aws:RequestedRegion": region}}
    statements: list[dict[str, Any]] = [
        {
            "Sid": "Look",
            "Action": ["ec2:DescribeInstances", "ec2:DescribeVolumes", "ec2:DescribeSnapshots"],
            "Resource": "*",
            "Condition": here,
        },
        {"Sid": "Volumes", "Action": "ec2:CreateSnapshot", "Resource": volumes, "Condition": ours},
        {"Sid": "Make", "Action": "ec2:CreateSnapshot", "Resource": snapshots},
        {"Sid": "Mark", "Action": "ec2:CreateTags", "Resource": snapshots},
        {"Sid": "Expire", "Action": "ec2:DeleteSnapshot", "Resource": snapshots, "Condition": ours},
    ]
    return document(*({"Effect": "Allow", **statement} for statement in statements))
