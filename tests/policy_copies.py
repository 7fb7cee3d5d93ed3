"""Stores of mail with their copies for the tests of the policy rules."""

import json
from collections.abc import Sequence
from typing import Any

from mailinfra_policy.copies import KEYS, MEDIA
from mailinfra_policy.resource import Provider, Resource
from tests.policy_helpers import resource

MAIL = {"residency-zone": "eu", "managed-by": "platform", "data-class": "mail"}
BACKUP = {
    "residency-zone": "eu",
    "managed-by": "vault-keepers",
    "data-class": "backup",
    "backup-of": "eu",
    "backup-interval-minutes": "15",
}
KEY = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
OTHER_KEY = "arn:aws:kms:eu-west-1:111122223333:key/99999999-2222-3333-4444-555555555555"
GCP_KEY = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/mail"
GCP_OTHER_KEY = "projects/q/locations/europe-west4/keyRings/r/cryptoKeys/copies"
OTHER_PROJECT = Provider("pulumi:providers:gcp", {"project": "example-vault", "region": "europe-west4"})
HOURLY = "cron(0 * * * ? *)"
VAULT = "aws:backup/vault:Vault"
AIR_GAPPED = "aws:backup/logicallyAirGappedVault:LogicallyAirGappedVault"


def nested(path: str, value: Any) -> dict[str, Any]:
    """The inputs with one value at a path of names."""
    for name in reversed(path.split(".")):
        value = {name: value}
    found: dict[str, Any] = value
    return found


def store(token: str, name: str = "mail", **props: Any) -> Resource:
    """A store of mail of a type, in Frankfurt, under the primary key."""
    aws = token.startswith("aws")
    place: dict[str, Any] = {"region": "eu-central-1"} if aws else {"zone": "europe-west3-a"}
    if token.endswith((":RegionDisk", ":Bucket", ":Volume")) and not aws:
        place = {"region": "europe-west3"} if token.endswith(":RegionDisk") else {"location": "europe-west3"}
    if token.endswith("filestore/instance:Instance"):
        place = {"location": "europe-west3-a"}
    key = nested(KEYS[token], KEY if aws else GCP_KEY) if token in KEYS else {}
    return resource(
        token,
        name,
        {**place, **key, ("tags" if aws else "labels"): MAIL, **props},
        outputs={"arn": f"arn:aws:x:eu-central-1:111122223333:{name}"} if aws else {},
    )


def key_policy(administrator: str) -> str:
    """A key policy with one administrator, and users who may not destroy the key."""
    statements = [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::111122223333:role/{administrator}"},
            "Action": "kms:*",
            "Resource": "*",
        },
        {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
            "Action": ["kms:Encrypt", "kms:Decrypt"],
            "Resource": "*",
        },
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def key(name: str, arn: str, administrator: str) -> Resource:
    """A KMS key."""
    return resource("aws:kms/key:Key", name, {"policy": key_policy(administrator)}, outputs={"arn": arn})


def vault(name: str, region: str, key_arn: str, token: str = "") -> list[Resource]:
    """A vault of AWS Backup that is locked."""
    arn = {"arn": f"arn:aws:backup:{region}:111122223333:backup-vault:{name}"}
    if token:
        props = {"name": name, "region": region, "encryptionKeyArn": key_arn}
        return [resource(token, name, {**props, "minRetentionDays": 30, "maxRetentionDays": 60}, outputs=arn)]
    return [
        resource(VAULT, name, {"name": name, "region": region, "kmsKeyArn": key_arn}, outputs=arn),
        resource(
            "aws:backup/vaultLockConfiguration:VaultLockConfiguration",
            f"{name}-lock",
            {"backupVaultName": name, "minRetentionDays": 30, "changeableForDays": 3, "region": region},
        ),
    ]


def plan(of: Resource, target: str, *elsewhere: str, schedule: str = HOURLY) -> list[Resource]:
    """A plan of AWS Backup for one store."""
    rule = {
        "ruleName": "hourly",
        "targetVaultName": target,
        "schedule": schedule,
        "copyActions": [
            {"destinationVaultArn": f"arn:aws:backup:eu-west-1:111122223333:backup-vault:{name}"}
            for name in elsewhere
        ],
    }
    return [
        resource("aws:backup/plan:Plan", "plan", {"region": "eu-central-1", "rules": [rule]}),
        resource(
            "aws:backup/selection:Selection",
            "selection",
            {"planId": "plan-id", "resources": [of.outputs["arn"]]},
        ),
    ]


def gcs_copy(name: str = "restic", **props: Any) -> Resource:
    """A locked bucket in another cloud, declared as a copy by its labels."""
    inputs = {
        "name": name,
        "location": "europe-west4",
        "encryption": {"defaultKmsKeyName": GCP_OTHER_KEY},
        "retentionPolicy": {"retentionPeriod": "2592000", "isLocked": True},
        "labels": BACKUP,
    }
    return resource("gcp:storage/bucket:Bucket", name, {**inputs, **props})


def s3_copy(
    suffix: str = "", name: str = "restic", region: str = "eu-west-1", **props: Any
) -> list[Resource]:
    """A locked bucket of S3, declared as a copy by its tags; `suffix` is that of the types (`V2`)."""
    inputs = {"bucket": name, "region": region, "tags": BACKUP}
    encryption = f"BucketServerSideEncryptionConfiguration{suffix}"
    lock = f"BucketObjectLockConfiguration{suffix}"
    return [
        resource(f"aws:s3/bucket{suffix}:Bucket{suffix}", name, {**inputs, **props}),
        resource(
            f"aws:s3/{encryption[0].lower()}{encryption[1:]}:{encryption}",
            f"{name}-key",
            {
                "bucket": name,
                "rules": [
                    {
                        "applyServerSideEncryptionByDefault": {
                            "sseAlgorithm": "aws:kms",
                            "kmsMasterKeyId": OTHER_KEY,
                        }
                    }
                ],
            },
        ),
        resource(
            f"aws:s3/{lock[0].lower()}{lock[1:]}:{lock}",
            f"{name}-lock",
            {"bucket": name, "rule": {"defaultRetention": {"mode": "COMPLIANCE", "days": 30}}},
        ),
    ]


def replica(of: str = "eu") -> Resource:
    """A replicated mailbox node's disk in another region, declared as a copy."""
    labels = {**BACKUP, "backup-of": of, "backup-interval-minutes": "0"}
    return resource(
        "gcp:compute/disk:Disk",
        "replica",
        {"zone": "europe-west4-a", "labels": labels, "diskEncryptionKey": {"kmsKeySelfLink": GCP_OTHER_KEY}},
    )


def dlm(**schedule: Any) -> Resource:
    """Hourly snapshots of the volumes that hold mail."""
    rule = {"name": "hourly", "createRule": {"interval": 1}, "retainRule": {"count": 48}}
    return resource(
        "aws:dlm/lifecyclePolicy:LifecyclePolicy",
        "snapshots",
        {
            "region": "eu-central-1",
            "state": "ENABLED",
            "policyDetails": {
                "resourceTypes": ["VOLUME"],
                "targetTags": {"data-class": "mail"},
                "schedules": [{**rule, **schedule}],
            },
        },
    )


def schedule(hours: int = 1) -> Resource:
    """A snapshot schedule of Compute Engine."""
    return resource(
        "gcp:compute/resourcePolicy:ResourcePolicy",
        "hourly",
        {
            "name": "hourly",
            "region": "europe-west3",
            "snapshotSchedulePolicy": {
                "schedule": {"hourlySchedule": {"hoursInCycle": hours, "startTime": "00:00"}},
                "snapshotProperties": {"storageLocations": "europe-west3"},
            },
        },
    )


def attached(region: str = "") -> Resource:
    """The schedule on the disk `mail`."""
    kind = f"{region}DiskResourcePolicyAttachment"
    return resource(
        f"gcp:compute/{kind[0].lower()}{kind[1:]}:{kind}", "attached", {"name": "hourly", "disk": "mail-id"}
    )


VOLUME = store("aws:ebs/volume:Volume")
DISK = store("gcp:compute/disk:Disk")
BY_AWS_BACKUP = [
    VOLUME,
    key("primary-key", KEY, "operators"),
    key("copies-key", OTHER_KEY, "keepers"),
    *vault("near", "eu-central-1", OTHER_KEY),
    *vault("far", "eu-west-1", OTHER_KEY),
    *plan(VOLUME, "near", "far"),
]
BY_SNAPSHOTS = [VOLUME, dlm(), gcs_copy()]
BY_SCHEDULE = [DISK, schedule(), attached(), *s3_copy()]
BY_REGION_SCHEDULE = [
    store("gcp:compute/regionDisk:RegionDisk"),
    schedule(),
    attached("Region"),
    *s3_copy("V2"),
]
BY_BACKUP_AND_DR = [
    DISK,
    resource("gcp:compute/disk:Disk", "second", {"zone": "europe-west4-b"}),
    resource(
        "gcp:compute/diskAsyncReplication:DiskAsyncReplication",
        "follow",
        {"primaryDisk": "mail-id", "secondaryDisk": {"disk": "second-id"}},
    ),
    resource(
        "gcp:backupdisasterrecovery/backupVault:BackupVault",
        "safe",
        {
            "location": "europe-west4",
            "backupMinimumEnforcedRetentionDuration": "2592000s",
            "encryptionConfig": {"kmsKeyName": GCP_OTHER_KEY},
        },
        provider=OTHER_PROJECT,
    ),
    resource(
        "gcp:backupdisasterrecovery/backupPlan:BackupPlan",
        "plan",
        {
            "backupVault": "safe-id",
            "location": "europe-west3",
            "backupRules": [{"standardSchedule": {"recurrenceType": "HOURLY", "hourlyFrequency": 1}}],
        },
    ),
    resource(
        "gcp:backupdisasterrecovery/backupPlanAssociation:BackupPlanAssociation",
        "planned",
        {"backupPlan": "plan-id", "resource": "mail-id"},
    ),
]
EFS = store("aws:efs/fileSystem:FileSystem")
BY_EFS = [
    EFS,
    resource(
        "aws:efs/replicationConfiguration:ReplicationConfiguration",
        "follow",
        {"sourceFileSystemId": "mail-id", "destination": {"region": "eu-west-1"}},
    ),
    gcs_copy(),
]
BUCKET = store("aws:s3/bucket:Bucket", bucket="mail")
BY_REPLICATION = [
    BUCKET,
    key("primary-key", KEY, "operators"),
    key("copies-key", OTHER_KEY, "keepers"),
    resource(
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        "mail-key",
        {"bucket": "mail", "rules": [{"applyServerSideEncryptionByDefault": {"kmsMasterKeyId": KEY}}]},
    ),
    *s3_copy(name="follower", tags={"data-class": "backup"}),
    resource(
        "aws:s3/bucketReplicationConfig:BucketReplicationConfig",
        "follow",
        {
            "bucket": "mail",
            "rules": [
                {
                    "status": "Enabled",
                    "destination": {
                        "bucket": "follower",
                        "replicationTime": {"status": "Enabled", "time": {"minutes": 15}},
                    },
                }
            ],
        },
    ),
    *vault("near", "eu-central-1", OTHER_KEY, AIR_GAPPED),
    *plan(BUCKET, "near"),
]
OTHERS = [
    [store(token), replica(), *([gcs_copy()] if token.startswith("aws") else s3_copy())]
    for token in MEDIA
    if token not in {VOLUME.type, DISK.type, EFS.type, BUCKET.type}
]
COPIED: Sequence[Sequence[Resource]] = (
    BY_AWS_BACKUP,
    BY_SNAPSHOTS,
    BY_SCHEDULE,
    BY_REGION_SCHEDULE,
    BY_BACKUP_AND_DR,
    BY_EFS,
    BY_REPLICATION,
    *OTHERS,
)
