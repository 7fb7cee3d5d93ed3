"""BackupVault: a locked bucket for the copies of one region's mail, and who may use it without any stored secret."""

import json
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

from mailinfra.errors import ConfigError, Problem
from mailinfra.fleet import Cloud
from mailinfra.node.backup import vault
from mailinfra_components.buckets import PrivateBucket, gcs_bucket, s3_bucket
from mailinfra_components.documents import Statement, account_administers, document
from mailinfra_components.keys import DAY
from mailinfra_components.nodes import under
from mailinfra_components.options import after, children, received, tags
from mailinfra_components.traces import operators_topic

MISSED_RUNS = 3
"""Runs into the repository that may fail in a row before the operators are told."""
PROVIDER = "aws-nodes"
"""The id of the provider in the fleet's workload identity pool."""
GOOGLE = "accounts.google.com"
STS_ROLE = "assumed-role"


class VaultUser(TypedDict):
    """A node group that uses a vault."""

    cloud: str
    """The cloud of its nodes, `aws` or `gcp`."""
    region: str
    """The region of its nodes."""
    group: str
    """The group's name in its region."""
    identity: pulumi.Input[str]
    """From `MailNodes`: the IAM role's name (AWS) or the service account's e-mail address (GCP)."""
    identity_id: pulumi.Input[str]
    """From `MailNodes`: its unique id."""
    writes: bool
    """Whether it adds to the vault (the store's own group) or only reads (its replica's)."""


class BackupVaultArgs(TypedDict):
    """Where the vault is, whose mail it keeps, for how long, and who uses it."""

    cloud: str
    """The vault's cloud, `aws` or `gcp`."""
    region: str
    """The vault's region, in the cloud's own words."""
    zone: str
    """The residency zone of the mail, as tag or label."""
    account: pulumi.Input[str]
    """The vault's AWS account id or Google Cloud project."""
    store_cloud: str
    """The cloud of the region whose mail is kept here."""
    store_region: str
    """The region whose mail is kept here; objects lie below `<store region>/`."""
    control_bucket: pulumi.Input[str]
    """From `UserDirectory`: the control bucket of the store's region, which is told of the vault."""
    replica_cloud: NotRequired[str]
    """The cloud of the region whose nodes follow the store's, where there is one."""
    replica_region: NotRequired[str]
    """That region."""
    replica_bucket: NotRequired[pulumi.Input[str]]
    """From `UserDirectory`: that region's control bucket, which is told of the vault too."""
    users: list[VaultUser]
    """The node groups that use the vault."""
    rpo_minutes: int
    """Minutes between two runs into the repository."""
    retention_days: int
    """Days that nobody can delete or change what was written."""
    verify_hours: int
    """Hours between two restores of a sample."""
    rotation_days: int
    """Days between two rotations of the vault's keys."""
    deletion_window_days: int
    """Days that a deleted key can be brought back."""
    operators: str
    """The address that is told when nothing is written any more (AWS)."""
    channel: NotRequired[pulumi.Input[str]]
    """From `ProjectTraces`: the notification channel to the operators (GCP)."""
    pool: NotRequired[pulumi.Input[str]]
    """From `AwsFederation`: the pool's name, where nodes at AWS use a vault at Google Cloud."""
    audience: NotRequired[pulumi.Input[str]]
    """From `AwsFederation`: the provider that these nodes name."""
    roles: NotRequired[dict[str, str]]
    """Names of the IAM roles to make for nodes at Google Cloud that use a vault at AWS: `writes` and `reads`."""
    endpoints: NotRequired[dict[str, str]]
    """The API endpoints for the vault, `storage`, `kms` and `sts`; empty or left out for the public ones."""
    protect: NotRequired[bool]
    """Whether Pulumi refuses to delete the bucket and the keys; yes if nothing is said."""


class BackupVault(pulumi.ComponentResource):
    """The vault of one store: a bucket whose objects nobody can delete or change for `retention_days`.

    Two keys of its own, of the vault's KMS: one at rest, one that wraps the repositories' passwords; neither is the
    store's. The store's groups add and read below `<store region>/`, the replica's groups read; none may delete, change
    or shorten a lock. Nodes of the other cloud prove who they are with what their own cloud signs for them: there is no
    key to store. What is older than the retention and one generation goes away by itself, so nobody ever prunes.

    A vault that leaves the stack (its region was taken out, the stack was destroyed) stays in its cloud, with its keys
    and locks: nobody could delete it, and what is in it may be needed yet. A region that comes back gets a new one.
    """

    bucket: pulumi.Output[str]
    """The bucket's name."""
    key: pulumi.Output[str]
    """The key that wraps repository passwords: an AWS KMS key ARN or a Cloud KMS crypto key's resource name."""
    description: pulumi.Output[str]
    """What the store's mailbox nodes are told (JSON)."""

    def __init__(self, name: str, args: BackupVaultArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mailinfra:index:BackupVault", name, {}, opts)
        args = received(args)
        self._args = args
        self._marks = {
            **tags(name, args["zone"], data="backup"),
            "backup-of": args["store_region"],
            "backup-interval-minutes": str(args["rpo_minutes"]),
        }
        self._guarded = args.get("protect", True)
        self._reading: pulumi.Input[dict[str, Any]] = {}
        access, grants = self._aws(name) if args["cloud"] == Cloud.AWS else self._gcp(name)
        self.description = self._described(access)
        store = args["store_cloud"], args["store_region"], args["control_bucket"]
        self._tell(f"{name}-description", *store, self.description, grants)
        if "replica_region" in args:
            # They restore what the store itself cannot.
            replica = args["replica_cloud"], args["replica_region"], args["replica_bucket"]
            self._tell(f"{name}-followed", *replica, self._described(self._reading), grants)
        self.register_outputs({"bucket": self.bucket, "key": self.key, "description": self.description})

    @property
    def _prefix(self) -> str:
        return f"{self._args['store_region']}/"

    @property
    def _locked_days(self) -> int:
        # The last snapshot of a generation needs what the first one wrote.
        return self._args["retention_days"] + vault.GENERATION_DAYS

    @property
    def _expires_days(self) -> int:
        return self._locked_days + 1

    def _users(self, cloud: str, writes: bool) -> list[VaultUser]:
        return [
            user for user in self._args["users"] if user["cloud"] == cloud and bool(user["writes"]) == writes
        ]

    def _described(self, access: pulumi.Input[dict[str, Any]]) -> pulumi.Output[str]:
        return pulumi.Output.all(bucket=self.bucket, key=self.key, access=access).apply(
            lambda known: described(self._args, **known)
        )

    def _tell(
        self,
        name: str,
        cloud: str,
        region: str,
        bucket: pulumi.Input[str],
        content: pulumi.Output[str],
        grants: list[pulumi.Resource],
    ) -> None:
        """Tells a region's mailbox nodes in their control bucket, once they may use what they are told of."""
        key = vault.key(self._args["store_region"], region)
        if cloud == Cloud.AWS:
            aws.s3.BucketObjectv2(
                name,
                region=region,
                bucket=bucket,
                key=key,
                content=content,
                content_type="application/json",
                opts=children(self, depends_on=grants),
            )
        else:
            gcp.storage.BucketObject(
                name,
                bucket=bucket,
                name=key,
                content=content,
                content_type="application/json",
                opts=children(self, depends_on=grants),
            )

    # AWS

    def _aws(self, name: str) -> tuple[pulumi.Input[dict[str, Any]], list[pulumi.Resource]]:
        args, region = self._args, self._args["region"]
        account = pulumi.Output.from_input(args["account"])
        rest = self._aws_key(f"{name}-rest", "copies of mail at rest", account.apply(rest_key_policy))
        wraps = self._aws_key(
            f"{name}-passwords",
            "wraps the passwords of repositories",
            account.apply(lambda known: document(account_administers(known))),
        )
        kept = s3_bucket(
            name,
            self,
            region=region,
            bucket=None,
            key=rest.arn,
            marks=self._marks,
            locked_days=self._locked_days,
            expires_days=self._expires_days,
            protect=self._guarded,
            retain=True,
        )
        self.bucket, self.key = kept.name, wraps.arn
        self._aws_alarm(name, kept, rest, account)
        grants: list[pulumi.Resource] = [*kept.guards]
        role: pulumi.Output[str] | None = None
        for key, writes in (("writes", True), ("reads", False)):
            policy = self._aws_policy(kept, rest, wraps, writes=writes)
            grants += [
                aws.iam.RolePolicy(
                    f"{name}-{key}-{user['region']}-{user['group']}",
                    role=user["identity"],
                    policy=policy,
                    opts=children(self),
                )
                for user in self._users(Cloud.AWS, writes)
            ]
            if users := self._users(Cloud.GCP, writes):
                made = self._aws_role(name, key, users)
                grants.append(
                    aws.iam.RolePolicy(
                        f"{name}-{key}-policy", role=made.id, policy=policy, opts=children(self)
                    )
                )
                role = made.arn if writes else role
                if not writes:
                    self._reading = {"role": made.arn, "audience": self.bucket}
        if args["store_cloud"] == Cloud.AWS or role is None:
            return {}, grants
        return {"role": role, "audience": self.bucket}, grants

    def _aws_key(self, name: str, purpose: str, policy: pulumi.Input[str]) -> aws.kms.Key:
        args = self._args
        return aws.kms.Key(
            name,
            region=args["region"],
            description=f"{name}: {purpose}",
            enable_key_rotation=True,
            rotation_period_in_days=args["rotation_days"],
            deletion_window_in_days=args["deletion_window_days"],
            policy=policy,
            tags=self._marks,
            opts=children(self, protect=self._guarded, retain=True),
        )

    def _aws_policy(
        self, kept: PrivateBucket, rest: aws.kms.Key, wraps: aws.kms.Key, *, writes: bool
    ) -> pulumi.Output[str]:
        return pulumi.Output.all(bucket=kept.arn, rest=rest.arn, wraps=wraps.arn).apply(
            lambda arns: vault_policy(**arns, prefix=self._prefix, region=self._args["region"], writes=writes)
        )

    def _aws_role(self, name: str, key: str, users: list[VaultUser]) -> aws.iam.Role:
        """A role for service accounts of Google Cloud, known by their unique ids."""
        ids = pulumi.Output.all(*(user["identity_id"] for user in users))
        return aws.iam.Role(
            f"{name}-{key}",
            name=self._args.get("roles", {}).get(key),
            assume_role_policy=pulumi.Output.all(ids, self.bucket).apply(
                lambda known: google_trust(known[0], known[1])
            ),
            description=f"{name}: nodes at Google Cloud that use the vault ({key})",
            tags=tags(name, self._args["zone"]),
            opts=children(self),
        )

    def _aws_alarm(
        self, name: str, kept: PrivateBucket, key: aws.kms.Key, account: pulumi.Output[str]
    ) -> None:
        region, marks = self._args["region"], tags(name, self._args["zone"])
        topic = operators_topic(
            name,
            self,
            region=region,
            account=account,
            key=key.arn,
            service="cloudwatch.amazonaws.com",
            operators=self._args["operators"],
            marks=marks,
        )
        metric = aws.s3.BucketMetric(
            f"{name}-requests",
            region=region,
            bucket=kept.name,
            name="all",
            opts=children(self, depends_on=kept.guards),
        )
        aws.cloudwatch.MetricAlarm(
            f"{name}-silent",
            region=region,
            name=f"{name}-silent",
            alarm_description=f"Nothing is written to the vault of {self._args['store_region']}",
            namespace="AWS/S3",
            metric_name="PutRequests",
            dimensions={"BucketName": kept.name, "FilterId": metric.name},
            statistic="Sum",
            period=300,
            evaluation_periods=silent_minutes(self._args["rpo_minutes"]) // 5,
            comparison_operator="LessThanThreshold",
            threshold=1,
            # A bucket that nobody writes to has no data points at all.
            treat_missing_data="breaching",
            alarm_actions=[topic.arn],
            ok_actions=[topic.arn],
            tags=marks,
            opts=children(self),
        )

    # Google Cloud

    def _gcp(self, name: str) -> tuple[pulumi.Input[dict[str, Any]], list[pulumi.Resource]]:
        args = self._args
        if "channel" not in args:
            raise ConfigError([Problem("channel", "nothing", "a notification channel, for a vault at gcp")])
        # No names of our own: see MailKeys.
        ring = gcp.kms.KeyRing(f"{name}-ring", location=args["region"], opts=children(self, retain=True))
        rest = self._gcp_key(f"{name}-rest", ring)
        wraps = self._gcp_key(f"{name}-passwords", ring)
        agent = gcp.kms.CryptoKeyIAMMember(
            f"{name}-rest-buckets",
            crypto_key_id=rest.id,
            role="roles/cloudkms.cryptoKeyEncrypterDecrypter",
            member=gcp.storage.get_project_service_account_output(
                opts=pulumi.InvokeOutputOptions(parent=self)
            ).email_address.apply(lambda email: f"serviceAccount:{email}"),
            opts=children(self, retain=True),
        )
        kept = gcs_bucket(
            name,
            self,
            region=args["region"],
            bucket=None,
            key=after(rest.id, [agent]),
            marks=self._marks,
            locked_days=self._locked_days,
            expires_days=self._expires_days,
            protect=self._guarded,
            retain=True,
        )
        self.bucket, self.key = kept.name, wraps.id
        self._gcp_alarm(name, args["channel"])
        grants = [grant for user in args["users"] for grant in self._gcp_grants(name, user, wraps)]
        if args.get("replica_cloud") == Cloud.AWS:
            self._reading = {"audience": self._needed("audience")}
        if args["store_cloud"] == Cloud.GCP:
            return {}, grants
        return {"audience": self._needed("audience")}, grants

    def _needed(self, key: str) -> pulumi.Input[str]:
        found = self._args.get(key)
        if found is None:
            raise ConfigError(
                [Problem(key, "nothing", "AwsFederation's, for nodes at aws and a vault at gcp")]
            )
        value: pulumi.Input[str] = found  # type: ignore[assignment]  # `pool` and `audience` are texts
        return value

    def _gcp_key(self, name: str, ring: gcp.kms.KeyRing) -> gcp.kms.CryptoKey:
        args = self._args
        return gcp.kms.CryptoKey(
            name,
            key_ring=ring.id,
            purpose="ENCRYPT_DECRYPT",
            rotation_period=f"{args['rotation_days'] * DAY}s",
            destroy_scheduled_duration=f"{args['deletion_window_days'] * DAY}s",
            version_template={"algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION", "protection_level": "HSM"},
            labels=self._marks,
            opts=children(self, protect=self._guarded, retain=True),
        )

    def _gcp_grants(self, name: str, user: VaultUser, wraps: gcp.kms.CryptoKey) -> list[pulumi.Resource]:
        label = f"{name}-{user['region']}-{user['group']}"
        identity = pulumi.Output.from_input(user["identity"])
        if user["cloud"] == Cloud.GCP:
            member = identity.apply(lambda email: f"serviceAccount:{email}")
        else:
            member = pulumi.Output.all(self._needed("pool"), identity).apply(
                lambda known: role_member(known[0], known[1])
            )
        roles = ["objectCreator", "objectViewer"] if user["writes"] else ["objectViewer"]
        made: list[pulumi.Resource] = [
            gcp.storage.BucketIAMMember(
                f"{label}-{role}",
                bucket=self.bucket,
                role=f"roles/storage.{role}",
                member=member,
                condition={"title": role, "expression": under(self.bucket, [self._prefix])},
                opts=children(self),
            )
            for role in roles
        ]
        # Names of objects only. Without it a missing object reads as "forbidden".
        made.append(
            gcp.storage.BucketIAMMember(
                f"{label}-sees",
                bucket=self.bucket,
                role="roles/storage.legacyBucketReader",
                member=member,
                opts=children(self),
            )
        )
        made.append(
            gcp.kms.CryptoKeyIAMMember(
                f"{label}-passwords",
                crypto_key_id=wraps.id,
                role=f"roles/cloudkms.cryptoKey{'Encrypter' if user['writes'] else ''}Decrypter",
                member=member,
                opts=children(self),
            )
        )
        return made

    def _gcp_alarm(self, name: str, channel: pulumi.Input[str]) -> None:
        minutes = silent_minutes(self._args["rpo_minutes"])
        gcp.monitoring.AlertPolicy(
            f"{name}-silent",
            project=self._args["account"],
            display_name=f"{name}: nothing is written",
            combiner="OR",
            conditions=[
                {
                    "display_name": f"No object was written to the vault for {minutes} minutes",
                    "condition_absent": {
                        "filter": self.bucket.apply(writes_to),
                        "duration": f"{minutes * 60}s",
                        "aggregations": [
                            {
                                "alignment_period": "300s",
                                "per_series_aligner": "ALIGN_SUM",
                                "cross_series_reducer": "REDUCE_SUM",
                            }
                        ],
                    },
                }
            ],
            documentation={
                "content": f"The mail of {self._args['store_region']} is not copied into its vault.",
                "mime_type": "text/markdown",
            },
            notification_channels=[channel],
            opts=children(self),
        )


class AwsFederationArgs(TypedDict):
    """Which roles of which AWS account are believed."""

    project: pulumi.Input[str]
    """The Google Cloud project, which must be the provider's."""
    pool: str
    """The pool's id: 4 to 32 lower-case letters, digits and hyphens. Google keeps a deleted pool's id for 30 days,
    and a pool that is made again before that needs another one."""
    account: pulumi.Input[str]
    """The AWS account's id."""
    roles: list[str]
    """The names of the roles that may come in; everybody else of the account is refused."""


class AwsFederation(pulumi.ComponentResource):
    """Lets nodes at AWS use vaults at Google Cloud as who they are: a workload identity pool, one for a fleet.

    Nobody may do anything by it alone: vaults grant to `attribute.aws_role`, a role's name.
    """

    pool: pulumi.Output[str]
    """The pool's name, with the project's number."""
    audience: pulumi.Output[str]
    """What a node names when it exchanges its proof."""

    def __init__(
        self, name: str, args: AwsFederationArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mailinfra:index:AwsFederation", name, {}, opts)
        args = received(args)
        pool = gcp.iam.WorkloadIdentityPool(
            f"{name}-pool",
            project=args["project"],
            workload_identity_pool_id=args["pool"],
            display_name=args["pool"],
            description="Nodes at AWS that use vaults at Google Cloud",
            opts=children(self),
        )
        provider = gcp.iam.WorkloadIdentityPoolProvider(
            f"{name}-aws",
            project=args["project"],
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id=PROVIDER,
            display_name="Nodes at AWS",
            aws={"account_id": args["account"]},
            attribute_mapping={
                "google.subject": "assertion.arn",
                "attribute.aws_role": f"assertion.arn.extract('{STS_ROLE}/{{role}}/')",
            },
            attribute_condition=pulumi.Output.from_input(args["account"]).apply(
                lambda account: only_roles(account, args["roles"])
            ),
            opts=children(self),
        )
        number = gcp.organizations.get_project_output(opts=pulumi.InvokeOutputOptions(parent=self)).number
        # Made here, the names are known before the update, and grants can be judged by then. They are used only when
        # there is somebody to believe.
        self.pool = after(
            number.apply(
                lambda known: f"projects/{known}/locations/global/workloadIdentityPools/{args['pool']}"
            ),
            [provider],
        )
        self.audience = self.pool.apply(lambda known: f"//iam.googleapis.com/{known}/providers/{PROVIDER}")
        self.register_outputs({"pool": self.pool, "audience": self.audience})


def described(args: BackupVaultArgs, bucket: str, key: str, access: dict[str, Any]) -> str:
    """What the store's mailbox nodes are told of their vault (JSON)."""
    endpoints = args.get("endpoints", {})
    return json.dumps(
        {
            "cloud": args["cloud"],
            "region": args["region"],
            "bucket": bucket,
            "key": key,
            "access": access,
            "endpoints": {name: endpoints.get(name, "") for name in ("storage", "kms", "sts")},
            "rpo_minutes": args["rpo_minutes"],
            "retention_days": args["retention_days"],
            "verify_hours": args["verify_hours"],
        }
    )


def silent_minutes(rpo_minutes: int) -> int:
    """Minutes without a write after which the operators are told: some runs, and half an hour at least."""
    return max(30, MISSED_RUNS * rpo_minutes)


def only_roles(account: str, roles: list[str]) -> str:
    """A provider's condition (CEL): a session of one of these roles of this account, and nothing that looks like it."""
    names = ", ".join(json.dumps(role) for role in sorted(roles))
    return (
        f'assertion.arn.startsWith("arn:aws:sts::{account}:{STS_ROLE}/") && attribute.aws_role in [{names}]'
    )


def role_member(pool: str, role: str) -> str:
    """The IAM member that is every session of an AWS role."""
    return f"principalSet://iam.googleapis.com/{pool}/attribute.aws_role/{role}"


def google_trust(ids: list[str], audience: str) -> str:
    """A role's trust in service accounts of Google Cloud, by their unique ids. What IAM calls `aud` is the token's
    `azp`, `oaud` its `aud` (IAM User Guide, "Available keys for AWS OIDC federation")."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Federated": GOOGLE},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    f"{GOOGLE}:aud": ids,
                    f"{GOOGLE}:oaud": audience,
                    f"{GOOGLE}:sub": ids,
                }
            },
        }
    )


def vault_policy(*, bucket: str, rest: str, wraps: str, prefix: str, region: str, writes: bool) -> str:
    """What a group may do in a vault at AWS. Nobody deletes, and nobody says a word about locks."""
    objects = ["s3:PutObject", "s3:GetObject"] if writes else ["s3:GetObject"]
    data_keys = ["kms:GenerateDataKey", "kms:Decrypt"] if writes else ["kms:Decrypt"]
    passwords = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"] if writes else ["kms:Decrypt"]
    statements: list[Statement] = [
        {"Sid": "Objects", "Action": objects, "Resource": [f"{bucket}/{prefix}*"]},
        # Without it a missing object reads as "forbidden". The bucket holds nobody else's copies.
        {"Sid": "See", "Action": "s3:ListBucket", "Resource": bucket},
        {
            "Sid": "AtRest",
            "Action": data_keys,
            "Resource": rest,
            "Condition": {"StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"}},
        },
        {"Sid": "Passwords", "Action": passwords, "Resource": wraps},
    ]
    return document(*({"Effect": "Allow", **statement} for statement in statements))


def rest_key_policy(account: str) -> str:
    """The policy of a vault's key at rest: the account administers it, and CloudWatch sends its alarms under it (Amazon
    SNS Developer Guide, "Enable compatibility between event sources from AWS services and encrypted topics")."""
    return document(
        account_administers(account),
        {
            "Sid": "Alarms",
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": ["kms:GenerateDataKey*", "kms:Decrypt"],
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        },
    )


def writes_to(bucket: str) -> str:
    """A Monitoring filter for objects that were written to a bucket."""
    return (
        'resource.type = "gcs_bucket" AND metric.type = "storage.googleapis.com/api/request_count" AND '
        f'resource.labels.bucket_name = "{bucket}" AND metric.labels.method = "WriteObject" AND '
        'metric.labels.response_code = "OK"'
    )
