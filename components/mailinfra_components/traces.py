"""MailTraces: who did what in a region, kept where nobody can change it, and an alarm where keys are touched."""

import json
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra_components.buckets import gcs_bucket, s3_bucket
from mailinfra_components.documents import Statement, account_administers, document
from mailinfra_components.keys import DAY
from mailinfra_components.options import children, received, tags

KEY_EVENTS = (
    "DisableKey",
    "DisableKeyRotation",
    "ScheduleKeyDeletion",
    "PutKeyPolicy",
    "DeleteImportedKeyMaterial",
)
"""What must not happen to a key unseen (AWS KMS API)."""
KEY_METHODS = ("DestroyCryptoKeyVersion", "UpdateCryptoKeyVersion", "UpdateCryptoKey", "SetIamPolicy")
"""The same in Cloud KMS."""
SNAPSHOT_FAILURES = (
    'resource.type="gce_disk" AND protoPayload.methodName="ScheduledSnapshots" AND severity>"INFO"'
)
"""Scheduled snapshots that failed (Compute Engine, "Monitor scheduled snapshots")."""
WRITERS = ("cloudtrail.amazonaws.com", "delivery.logs.amazonaws.com")
"""The services that write traces."""
TRAIL_EVENTS: list[Any] = [
    {"name": "Management", "field_selectors": [{"field": "eventCategory", "equals": ["Management"]}]},
    {
        "name": "Objects",
        "field_selectors": [
            {"field": "eventCategory", "equals": ["Data"]},
            {"field": "resources.type", "equals": ["AWS::S3::Object"]},
        ],
    },
]
"""Every call that manages, and every look at an object."""


class MailTracesArgs(TypedDict):
    """What is traced, where it is kept and who is told."""

    cloud: str
    """`aws` or `gcp`."""
    region: str
    """The cloud's region."""
    zone: str
    """The residency zone, as tag or label."""
    account: pulumi.Input[str]
    """The AWS account's id or the Google Cloud project."""
    bucket: pulumi.Input[str]
    """The name of the bucket for the traces, unique in the whole cloud."""
    storage_key: pulumi.Input[str]
    """The region's key at rest, from `MailKeys` (GCP; on AWS the traces have a key of their own)."""
    retention_days: int
    """How long a trace cannot be deleted."""
    rotation_days: int
    """Days between two rotations of the traces' key."""
    deletion_window_days: int
    """Days that the deleted key can still be brought back."""
    network_id: NotRequired[pulumi.Input[str]]
    """The VPC whose connections are logged too (AWS; at Google Cloud a subnet says so itself)."""
    operators: str
    """The address that alarms are sent to (AWS; at Google Cloud `ProjectTraces` sends them)."""


class MailTraces(pulumi.ComponentResource):
    """One region's audit log and the alarms on its keys.

    AWS: a CloudTrail trail with validation into a bucket under Object Lock, and an EventBridge rule on what is done to
    keys, to an SNS topic. GCP: a sink of the region's audit logs into a bucket with a locked retention policy; what is
    logged at all, and alarms, are the project's: `ProjectTraces`. Traces stay in the region that they speak of.
    """

    bucket: pulumi.Output[str]
    """The bucket with the traces."""
    alarms: pulumi.Output[str]
    """The topic that tells the operators (AWS); empty at Google Cloud, where `ProjectTraces` has a channel."""

    def __init__(self, name: str, args: MailTracesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:MailTraces", name, {}, opts)
        args = received(args)
        if args["cloud"] == "aws":
            self._aws(name, args)
        else:
            self._gcp(name, args)
        self.register_outputs({"bucket": self.bucket, "alarms": self.alarms})

    def _aws(self, name: str, args: MailTracesArgs) -> None:
        region, account = args["region"], pulumi.Output.from_input(args["account"])
        marks = tags(name, args["zone"], data="audit")
        key = aws.kms.Key(
            f"{name}-key",
            region=region,
            description=f"{name}: traces and alarms",
            enable_key_rotation=True,
            rotation_period_in_days=args["rotation_days"],
            deletion_window_in_days=args["deletion_window_days"],
            policy=account.apply(key_policy),
            tags=marks,
            opts=children(self),
        )
        kept = s3_bucket(
            name,
            self,
            region=region,
            bucket=args["bucket"],
            key=key.arn,
            marks=marks,
            locked_days=args["retention_days"],
            statements=trail_statements,
        )
        aws.cloudtrail.Trail(
            f"{name}-trail",
            region=region,
            s3_bucket_name=kept.name,
            kms_key_id=key.arn,
            enable_logging=True,
            enable_log_file_validation=True,
            include_global_service_events=True,
            # One trail for each region: what happens in a zone is not written down in another one.
            is_multi_region_trail=False,
            advanced_event_selectors=TRAIL_EVENTS,
            tags=marks,
            opts=children(self, depends_on=kept.guards),
        )
        if network := args.get("network_id"):
            aws.ec2.FlowLog(
                f"{name}-connections",
                region=region,
                vpc_id=network,
                traffic_type="ALL",
                log_destination_type="s3",
                log_destination=kept.arn,
                tags=marks,
                opts=children(self, depends_on=kept.guards),
            )
        topic = operators_topic(
            name,
            self,
            region=region,
            account=account,
            key=key.arn,
            service="events.amazonaws.com",
            operators=args["operators"],
            marks=marks,
        )
        rule = aws.cloudwatch.EventRule(
            f"{name}-keys",
            region=region,
            description="Something is done to a key that may make data unreadable",
            event_pattern=json.dumps(
                {
                    "source": ["aws.kms"],
                    "detail-type": ["AWS API Call via CloudTrail"],
                    "detail": {"eventSource": ["kms.amazonaws.com"], "eventName": [*KEY_EVENTS]},
                }
            ),
            tags=marks,
            opts=children(self),
        )
        aws.cloudwatch.EventTarget(
            f"{name}-keys-alarm", region=region, rule=rule.name, arn=topic.arn, opts=children(self)
        )
        self.bucket, self.alarms = kept.name, topic.arn

    def _gcp(self, name: str, args: MailTracesArgs) -> None:
        project, region = args["account"], args["region"]
        kept = gcs_bucket(
            name,
            self,
            region=region,
            bucket=args["bucket"],
            key=args["storage_key"],
            marks=tags(name, args["zone"], data="audit"),
            locked_days=args["retention_days"],
        )
        sink = gcp.logging.ProjectSink(
            f"{name}-sink",
            name=name,
            project=project,
            destination=kept.name.apply(lambda bucket: f"storage.googleapis.com/{bucket}"),
            filter=f'logName:"cloudaudit.googleapis.com" AND {in_region(region)}',
            unique_writer_identity=True,
            opts=children(self),
        )
        gcp.storage.BucketIAMMember(
            f"{name}-writer",
            bucket=kept.name,
            role="roles/storage.objectCreator",
            member=sink.writer_identity,
            opts=children(self),
        )
        self.bucket, self.alarms = kept.name, pulumi.Output.from_input("")


class ProjectTracesArgs(TypedDict):
    """What a Google Cloud project traces as a whole."""

    project: pulumi.Input[str]
    """The Google Cloud project."""
    operators: str
    """The address that alarms are sent to."""
    snapshots: NotRequired[bool]
    """Whether disks of the project have snapshots on a schedule, which can fail; yes if nothing is said."""


class ProjectTraces(pulumi.ComponentResource):
    """What a Google Cloud project has only once: every read and write of data is logged, and an alarm on its
    keys and on snapshots of disks that failed."""

    channel: pulumi.Output[str]
    """The notification channel to the operators."""

    def __init__(
        self, name: str, args: ProjectTracesArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mailinfra:index:ProjectTraces", name, {}, opts)
        project = args["project"]
        gcp.projects.IAMAuditConfig(
            f"{name}-calls",
            project=project,
            service="allServices",
            audit_log_configs=[{"log_type": kind} for kind in ("ADMIN_READ", "DATA_READ", "DATA_WRITE")],
            opts=children(self),
        )
        channel = gcp.monitoring.NotificationChannel(
            f"{name}-operators",
            project=project,
            display_name=f"{name}: operators",
            type="email",
            labels={"email_address": args["operators"]},
            opts=children(self),
        )
        methods = " OR ".join(f'protoPayload.methodName:"{method}"' for method in KEY_METHODS)
        gcp.monitoring.AlertPolicy(
            f"{name}-keys",
            project=project,
            display_name=f"{name}: something is done to a key",
            combiner="OR",
            conditions=[
                {
                    "display_name": "A key is destroyed, disabled or given to others",
                    "condition_matched_log": {
                        "filter": f'protoPayload.serviceName="cloudkms.googleapis.com" AND ({methods})'
                    },
                }
            ],
            alert_strategy={
                "notification_rate_limit": {"period": "300s"},
                "auto_close": f"{7 * DAY}s",
            },
            notification_channels=[channel.id],
            opts=children(self),
        )
        if args.get("snapshots", True):
            gcp.monitoring.AlertPolicy(
                f"{name}-snapshots",
                project=project,
                display_name=f"{name}: a scheduled snapshot failed",
                combiner="OR",
                conditions=[
                    {
                        "display_name": "Compute Engine could not make or delete a snapshot",
                        "condition_matched_log": {"filter": SNAPSHOT_FAILURES},
                    }
                ],
                alert_strategy={
                    "notification_rate_limit": {"period": "3600s"},
                    "auto_close": f"{7 * DAY}s",
                },
                notification_channels=[channel.id],
                opts=children(self),
            )
        self.channel = channel.id
        self.register_outputs({"channel": self.channel})


def in_region(region: str) -> str:
    """A Logging filter for what happened in a region: resources say it as `location`, `region` or `zone`."""
    return (
        f'(resource.labels.location="{region}" OR resource.labels.region="{region}" OR '
        f'resource.labels.zone:"{region}-" OR protoPayload.resourceLocation.currentLocations="{region}")'
    )


def key_policy(account: str) -> str:
    """The policy of the traces' key: the account administers it, the services that write traces and EventBridge
    encrypt under it, for this account only (CloudTrail User Guide, "Configure AWS KMS key policies for CloudTrail")."""
    services = {"Service": [*WRITERS, "events.amazonaws.com"]}
    return document(
        account_administers(account),
        {
            "Sid": "Traces",
            "Effect": "Allow",
            "Principal": services,
            "Action": ["kms:GenerateDataKey*", "kms:Decrypt", "kms:DescribeKey"],
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        },
    )


def trail_statements(arn: str) -> list[Statement]:
    """What CloudTrail and VPC flow logs need of their bucket (CloudTrail User Guide, "Amazon S3 bucket policy for
    CloudTrail"; VPC User Guide, "Publish flow logs to Amazon S3"). The key's policy says for which account they may
    write at all."""
    trail = {"Effect": "Allow", "Principal": {"Service": [*WRITERS]}}
    return [
        {"Sid": "TrailLooks", **trail, "Action": "s3:GetBucketAcl", "Resource": arn},
        {
            "Sid": "TrailWrites",
            **trail,
            "Action": "s3:PutObject",
            "Resource": f"{arn}/AWSLogs/*",
            "Condition": {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}},
        },
    ]


def operators_topic(
    name: str,
    parent: pulumi.Resource,
    *,
    region: str,
    account: pulumi.Output[str],
    key: pulumi.Input[str],
    service: str,
    operators: str,
    marks: dict[str, str],
) -> aws.sns.Topic:
    """The topic by which an AWS service tells the operators, in mail; `key` encrypts what it says."""
    topic = aws.sns.Topic(
        f"{name}-alarms", region=region, kms_master_key_id=key, tags=marks, opts=children(parent)
    )
    aws.sns.TopicPolicy(
        f"{name}-alarms-policy",
        region=region,
        arn=topic.arn,
        policy=pulumi.Output.all(topic.arn, account).apply(
            lambda known: topic_policy(known[0], known[1], service)
        ),
        opts=children(parent),
    )
    aws.sns.TopicSubscription(
        f"{name}-operators",
        region=region,
        topic=topic.arn,
        protocol="email",
        endpoint=operators,
        opts=children(parent),
    )
    return topic


def topic_policy(arn: str, account: str, service: str) -> str:
    """The alarms' topic: a service of this account publishes, and nobody without TLS."""
    return document(
        {
            "Sid": "Alarms",
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sns:Publish",
            "Resource": arn,
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        },
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sns:Publish",
            "Resource": arn,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    )
