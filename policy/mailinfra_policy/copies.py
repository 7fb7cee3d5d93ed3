"""Which stores of mail a stack has, and what copies of them.

A store is a disk, file system, bucket or database whose data-class tag is one of `backups.stores`. Its copies are what
the clouds' own services make of it (AWS Backup, Data Lifecycle Manager, EFS and S3 replication; snapshot schedules,
asynchronous disks, Backup and DR), and what a program declares by tags: every resource of a store's type with the tag
`backup-of` is a copy of what that tag names, made as often as `backup-interval-minutes` says:

    aws.s3.Bucket("restic", tags={"backup-of": "eu", "backup-interval-minutes": "15", "data-class": "backup", …})
    gcp.compute.Disk("replica", labels={"backup-of": "eu-central-1", "backup-interval-minutes": "0", …})

A copy whose own data class is in `backups.stores` (a mailbox node's disk that is also another's replica) is a store as
well, and needs copies of its own. A single snapshot is no copy: it ages.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mailinfra_policy.config import Config
from mailinfra_policy.location import Site, site
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context
from mailinfra_policy.stores import regions, spots
from mailinfra_policy.values import UNKNOWN, Unknown, Value, get
from mailinfra_policy.zones import zone_of

MEDIA: Mapping[str, str] = {
    "aws:ebs/volume:Volume": "disk",
    "aws:efs/fileSystem:FileSystem": "file system",
    "aws:fsx/lustreFileSystem:LustreFileSystem": "file system",
    "aws:fsx/ontapFileSystem:OntapFileSystem": "file system",
    "aws:fsx/openZfsFileSystem:OpenZfsFileSystem": "file system",
    "aws:fsx/windowsFileSystem:WindowsFileSystem": "file system",
    "aws:s3/bucket:Bucket": "objects",
    "aws:s3/bucketV2:BucketV2": "objects",
    "aws:rds/instance:Instance": "database",
    "aws:rds/cluster:Cluster": "database",
    "aws:docdb/cluster:Cluster": "database",
    "aws:dynamodb/table:Table": "database",
    "gcp:compute/disk:Disk": "disk",
    "gcp:compute/regionDisk:RegionDisk": "disk",
    "gcp:filestore/instance:Instance": "file system",
    "gcp:netapp/volume:Volume": "file system",
    "gcp:storage/bucket:Bucket": "objects",
}
"""The types that can be a store of mail or a copy of one, and on what kind of medium each keeps it."""
KEYS: Mapping[str, str] = {
    "aws:ebs/volume:Volume": "kmsKeyId",
    "aws:efs/fileSystem:FileSystem": "kmsKeyId",
    "aws:fsx/lustreFileSystem:LustreFileSystem": "kmsKeyId",
    "aws:fsx/ontapFileSystem:OntapFileSystem": "kmsKeyId",
    "aws:fsx/openZfsFileSystem:OpenZfsFileSystem": "kmsKeyId",
    "aws:fsx/windowsFileSystem:WindowsFileSystem": "kmsKeyId",
    "aws:rds/instance:Instance": "kmsKeyId",
    "aws:rds/cluster:Cluster": "kmsKeyId",
    "aws:docdb/cluster:Cluster": "kmsKeyId",
    "aws:dynamodb/table:Table": "serverSideEncryption.kmsKeyArn",
    "aws:backup/vault:Vault": "kmsKeyArn",
    "aws:backup/logicallyAirGappedVault:LogicallyAirGappedVault": "encryptionKeyArn",
    "gcp:compute/disk:Disk": "diskEncryptionKey.kmsKeySelfLink",
    "gcp:compute/regionDisk:RegionDisk": "diskEncryptionKey.kmsKeyName",
    "gcp:filestore/instance:Instance": "kmsKeyName",
    "gcp:storage/bucket:Bucket": "encryption.defaultKmsKeyName",
    "gcp:backupdisasterrecovery/backupVault:BackupVault": "encryptionConfig.kmsKeyName",
}
"""Where a store or vessel names its key; a bucket of S3 has it in a resource of its own."""
S3_BUCKETS = ("aws:s3/bucket:Bucket", "aws:s3/bucketV2:BucketV2")
S3_ENCRYPTION = (
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2",
)
S3_KEY = "rules[0].applyServerSideEncryptionByDefault.kmsMasterKeyId"
VAULTS = ("aws:backup/vault:Vault", "aws:backup/logicallyAirGappedVault:LogicallyAirGappedVault")
GCP_VAULT = "gcp:backupdisasterrecovery/backupVault:BackupVault"
BUCKETS = (*S3_BUCKETS, "gcp:storage/bucket:Bucket")
VESSELS = (*VAULTS, GCP_VAULT, *BUCKETS)
"""The types that hold copies and can be locked."""
PLAN = "aws:backup/plan:Plan"
SELECTION = "aws:backup/selection:Selection"
DLM = "aws:dlm/lifecyclePolicy:LifecyclePolicy"
SCHEDULE = "gcp:compute/resourcePolicy:ResourcePolicy"
ATTACHMENTS = (
    "gcp:compute/diskResourcePolicyAttachment:DiskResourcePolicyAttachment",
    "gcp:compute/regionDiskResourcePolicyAttachment:RegionDiskResourcePolicyAttachment",
)
GCP_PLAN = "gcp:backupdisasterrecovery/backupPlan:BackupPlan"
ASSOCIATION = "gcp:backupdisasterrecovery/backupPlanAssociation:BackupPlanAssociation"
ASYNC = "gcp:compute/diskAsyncReplication:DiskAsyncReplication"
EFS_REPLICA = "aws:efs/replicationConfiguration:ReplicationConfiguration"
S3_REPLICA = "aws:s3/bucketReplicationConfig:BucketReplicationConfig"
DAY = 1440
UNSCHEDULED = 10**9
"""Minutes: how often something is copied that has no schedule."""

Minutes = int | Unknown


@dataclass(frozen=True)
class Copy:
    """One copy of a store: what declares it, on what medium, where, how often (minutes between two, at most).

    `path` is where its schedule stands. `vessel` is the vault or bucket that holds it, None where it has none, or one
    that is not of this stack.
    """

    resource: Resource
    medium: str
    cloud: str
    places: tuple[Site | None, ...]
    interval: Minutes
    path: str
    vessel: Resource | None = None

    @property
    def identity(self) -> tuple[str, str, tuple[Site | None, ...]]:
        """Two copies on the same medium in the same vessel and place are one."""
        return self.medium, self.vessel.urn if self.vessel else "", self.places


def stores(context: Context) -> list[Resource]:
    """The stores of mail. One whose class is not known yet is one."""
    wanted, config = context.config.backups, context.config
    found = []
    for resource in context.stack.of(*MEDIA):
        data = resource.tag(config.tags.data)
        if data is UNKNOWN or data in wanted.stores:
            found.append(resource)
    return found


def copies(store: Resource, context: Context) -> list[Copy]:
    """The copies of a store, itself left out."""
    stack, config = context.stack, context.config
    found = [
        *_tagged(store, stack, config),
        *_aws_backup(store, stack),
        *_dlm(store, stack),
        *_efs(store, stack),
        *_s3(store, stack),
        *_schedules(store, stack),
        *_asynchronous(store, stack),
        *_backup_and_dr(store, stack),
    ]
    unique: dict[object, Copy] = {}
    for copy in found:
        older = unique.get(copy.identity)
        if older is None or (
            isinstance(copy.interval, int)
            and (not isinstance(older.interval, int) or copy.interval < older.interval)
        ):
            unique[copy.identity] = copy
    return list(unique.values())


def away(copy: Copy, store: Resource, context: Context) -> bool:
    """Whether a copy lies in another cloud or region than its store, in the store's residency zone."""
    zone = zone_of(store, context.stack, context.config).zone
    here = frozenset(
        region for spot in spots(store, context.stack) if spot.site for region in spot.site.regions
    )
    return (
        zone is not None
        and bool(copy.places)
        and all(place is not None and place.within(zone) for place in copy.places)
        and (
            copy.cloud != store.cloud
            or all(place is not None and not here & place.regions for place in copy.places)
        )
    )


def enough(store: Resource, found: list[Copy], context: Context) -> str:
    """What a store's copies fall short of; empty where they suffice."""
    wanted = context.config.backups
    media = {MEDIA[store.type], *(copy.medium for copy in found)}
    distant = sum(away(copy, store, context) for copy in found)
    if 1 + len(found) >= wanted.copies and len(media) >= wanted.media and distant:
        return ""
    copied, kinds = 1 + len(found), len(media)
    return (
        f"{copied} {'copy' if copied == 1 else 'copies'} on {kinds} {'kind' if kinds == 1 else 'kinds'} of media "
        f"({', '.join(sorted(media))}), "
        f"{distant} of them in another cloud or region of the same zone"
    )


def key_paths(resource: Resource, stack: Stack) -> tuple[Resource, str]:
    """The resource and input that name a store's or vessel's key."""
    if resource.type in S3_BUCKETS:
        for configuration in stack.referring(resource, "bucket", *S3_ENCRYPTION):
            return configuration, S3_KEY
        return (
            resource,
            "serverSideEncryptionConfiguration.rule.applyServerSideEncryptionByDefault.kmsMasterKeyId",
        )
    return resource, KEYS.get(resource.type, "")


def holds_copies(resource: Resource, stack: Stack) -> bool:
    """For guards: whether a bucket (or the bucket that a setting belongs to) holds copies, by the usual tag's name or
    as the end of a replication."""
    buckets = [resource] if resource.type in BUCKETS else stack.referred(resource, "bucket", *S3_BUCKETS)
    ends = {
        bucket
        for replica in stack.of(S3_REPLICA)
        for path, _ in replica.each("rules[*]")
        for bucket in stack.referred(replica, f"{path}.destination.bucket", *S3_BUCKETS)
    }
    return any(bucket.tag("backup-of") is not None or bucket in ends for bucket in buckets)


def tells(resource: Resource, stack: Stack) -> bool:
    """For guards: whether a store in a schedule's region has as many copies as the config asks by default. Where it
    has not, the store is blamed, and nothing more is said of one of its copies."""
    context, here = Context(stack, Config()), regions(resource, stack)
    wanted = context.config.backups
    for store in stores(context):
        if store.cloud == resource.cloud and here & regions(store, stack):
            found = copies(store, context)
            media = {MEDIA[store.type], *(copy.medium for copy in found)}
            if 1 + len(found) >= wanted.copies and len(media) >= wanted.media:
                return True
    return False


def _places(resource: Resource, stack: Stack) -> tuple[Site | None, ...]:
    return tuple(dict.fromkeys(spot.site for spot in spots(resource, stack)))


def _tagged(store: Resource, stack: Stack, config: Config) -> Iterator[Copy]:
    zone = zone_of(store, stack, config).name
    regions = {region for place in _places(store, stack) if place for region in place.regions}
    names = {store.name, zone, *regions, store.tag("Name"), store.tag("mailinfra-name"), store.get("name")}
    tag = config.backups.interval_tag
    for other in stack.of(*MEDIA):
        of = other.tag(config.backups.of_tag)
        if (
            other.urn == store.urn
            or not isinstance(of, str)
            or not {of, *re.split(r"[ _]+", of)} & {name for name in names if isinstance(name, str)}
        ):
            continue
        said = other.tag(tag)
        interval = int(said) if isinstance(said, str) and said.isascii() and said.isdigit() else UNSCHEDULED
        base = "tags" if other.cloud == "aws" else "labels"
        yield Copy(
            other,
            MEDIA[other.type],
            other.cloud,
            _places(other, stack),
            UNKNOWN if said is UNKNOWN else interval,
            f"{base}.{tag}",
            other if other.type in BUCKETS else None,
        )


def _aws_backup(store: Resource, stack: Stack) -> Iterator[Copy]:
    if store.cloud != "aws":
        return
    for selection in stack.of(SELECTION):
        if not _selected(store, selection, stack):
            continue
        for plan in stack.referred(selection, "planId", PLAN):
            here = _places(plan, stack)
            for path, rule in plan.each("rules[*]"):
                every = minutes(get(rule, "schedule"))
                schedule = f"{path}.schedule"
                for target in ("targetVaultName", "targetLogicallyAirGappedBackupVaultArn"):
                    if get(rule, target) is not None:
                        vaults = stack.referred(plan, f"{path}.{target}", *VAULTS)
                        vault = next((item for item in vaults if _places(item, stack) == here), None)
                        yield Copy(plan, "vault", "aws", here, every, schedule, vault)
                for at, _ in plan.each(f"{path}.copyActions[*]"):
                    yield _copied(plan, at, here, every, schedule, stack)


def _copied(
    plan: Resource, at: str, here: tuple[Site | None, ...], every: Minutes, schedule: str, stack: Stack
) -> Copy:
    path = f"{at}.destinationVaultArn"
    vaults = stack.referred(plan, path, *VAULTS)
    value = plan.get(path)
    if value is UNKNOWN:
        vaults = [vault for vault in vaults if _places(vault, stack) != here]
    if vaults:
        return Copy(plan, "vault", "aws", _places(vaults[0], stack), every, schedule, vaults[0])
    place = site(value) if isinstance(value, str) else None
    return Copy(plan, "vault", "aws", (place,), every, schedule)


def _selected(store: Resource, selection: Resource, stack: Stack) -> bool:
    if store in stack.referred(selection, "notResources", store.type):
        return False
    for path, tag in selection.each("selectionTags[*]"):
        if tag is not UNKNOWN and selection.get(f"{path}.type") == "STRINGEQUALS":
            key, value = get(tag, "key"), get(tag, "value")
            if isinstance(key, str) and isinstance(value, str) and store.tag(key) == value:
                return True
    conditions = [
        (get(value, "key"), get(value, "value"))
        for _, value in selection.each("conditions[*].stringEquals[*]")
    ]
    if not all(
        isinstance(key, str)
        and isinstance(value, str)
        and store.tag(key.removeprefix("aws:ResourceTag/")) == value
        for key, value in conditions
    ):
        return False
    if store in stack.referred(selection, "resources", store.type):
        return True
    resources = selection.get("resources")
    patterns = resources if isinstance(resources, list) else []
    arn = store.outputs.get("arn")
    return any(
        isinstance(pattern, str)
        and (pattern == "*" or ("*" in pattern and isinstance(arn, str) and fnmatchcase(arn, pattern)))
        for pattern in patterns
    )


def _dlm(store: Resource, stack: Stack) -> Iterator[Copy]:
    if store.type != "aws:ebs/volume:Volume":
        return
    here = _places(store, stack)
    for policy in stack.of(DLM):
        wanted = policy.get("policyDetails.targetTags")
        if (
            policy.get("state") not in (None, "ENABLED")
            or policy.get("policyDetails.resourceTypes") != ["VOLUME"]
            or not isinstance(wanted, Mapping)
            or not any(isinstance(value, str) and store.tag(key) == value for key, value in wanted.items())
            or _places(policy, stack)[0] not in here
        ):
            continue
        for path, _ in policy.each("policyDetails.schedules[*]"):
            every, at = _dlm_interval(policy, path)
            yield Copy(policy, "snapshots", "aws", here, every, at)
            for rule, _ in policy.each(f"{path}.crossRegionCopyRules[*]"):
                target = policy.get(f"{rule}.targetRegion") or policy.get(f"{rule}.target")
                place = site(target) if isinstance(target, str) else None
                yield Copy(policy, "snapshots", "aws", (place,), every, at)


def _dlm_interval(policy: Resource, path: str) -> tuple[Minutes, str]:
    cron = policy.get(f"{path}.createRule.cronExpression")
    if cron is not None:
        return minutes(cron), f"{path}.createRule.cronExpression"
    at = f"{path}.createRule.interval"
    hours = policy.get(at)
    if hours is UNKNOWN:
        return UNKNOWN, at
    return (hours * 60 if isinstance(hours, int) and not isinstance(hours, bool) else UNSCHEDULED), at


def _efs(store: Resource, stack: Stack) -> Iterator[Copy]:
    for replica in stack.referring(store, "sourceFileSystemId", EFS_REPLICA):
        target = replica.get("destination.region") or replica.get("destination.availabilityZoneName")
        place = site(target) if isinstance(target, str) else None
        # "RPO of 15 minutes for most file systems": Amazon EFS User Guide, "Replicating EFS file systems".
        yield Copy(replica, "file system", "aws", (place,), 15, "destination")


def _s3(store: Resource, stack: Stack) -> Iterator[Copy]:
    for replica in stack.referring(store, "bucket", S3_REPLICA):
        for path, rule in replica.each("rules[*]"):
            if rule is UNKNOWN or get(rule, "status") != "Enabled":
                continue
            at = f"{path}.destination.replicationTime"
            promised = (
                replica.get(f"{at}.time.minutes") if replica.get(f"{at}.status") == "Enabled" else UNSCHEDULED
            )
            every = promised if isinstance(promised, int) or promised is UNKNOWN else UNSCHEDULED
            for bucket in stack.referred(replica, f"{path}.destination.bucket", *S3_BUCKETS):
                yield Copy(replica, "objects", "aws", _places(bucket, stack), every, at, bucket)


def _schedules(store: Resource, stack: Stack) -> Iterator[Copy]:
    if store.type not in ("gcp:compute/disk:Disk", "gcp:compute/regionDisk:RegionDisk"):
        return
    policies = stack.referred(store, "resourcePolicies", SCHEDULE) if store.get("resourcePolicies") else []
    for attachment in stack.referring(store, "disk", *ATTACHMENTS):
        policies += stack.referred(attachment, "name", SCHEDULE)
    for policy in dict.fromkeys(policies):
        base = "snapshotSchedulePolicy.schedule"
        if policy.get(base) is None:
            continue
        location = policy.get("snapshotSchedulePolicy.snapshotProperties.storageLocations")
        location = location[0] if isinstance(location, list) and location else location
        place = site(location) if isinstance(location, str) else None
        # Without a location Compute Engine takes the multi-region nearest to the disk: it is not told here.
        every, at = _gcp_interval(policy, base)
        yield Copy(policy, "snapshots", "gcp", (place,), every, at)


def _gcp_interval(policy: Resource, base: str) -> tuple[Minutes, str]:
    for name, inner, unit in (
        ("hourlySchedule", "hoursInCycle", 60),
        ("dailySchedule", "daysInCycle", DAY),
    ):
        at = f"{base}.{name}.{inner}"
        value = policy.get(at)
        if value is UNKNOWN:
            return UNKNOWN, at
        if policy.get(f"{base}.{name}") is not None:
            return (value * unit if isinstance(value, int) else UNSCHEDULED), at
    return 7 * DAY, f"{base}.weeklySchedule"


def _asynchronous(store: Resource, stack: Stack) -> Iterator[Copy]:
    for replication in stack.referring(store, "primaryDisk", ASYNC):
        for disk in stack.referred(replication, "secondaryDisk.disk", "gcp:compute/disk:Disk"):
            if disk.urn != store.urn:
                # "The RPO is generally one minute": Compute Engine, "About Asynchronous Replication".
                yield Copy(replication, "disk", "gcp", _places(disk, stack), 1, "secondaryDisk")


def _backup_and_dr(store: Resource, stack: Stack) -> Iterator[Copy]:
    for association in stack.referring(store, "resource", ASSOCIATION):
        for plan in stack.referred(association, "backupPlan", GCP_PLAN):
            vault = next(iter(stack.referred(plan, "backupVault", GCP_VAULT)), None)
            places = _places(vault, stack) if vault else (None,)
            for path, _ in plan.each("backupRules[*]"):
                at = f"{path}.standardSchedule"
                kind, hours = plan.get(f"{at}.recurrenceType"), plan.get(f"{at}.hourlyFrequency")
                every: Minutes = DAY if kind == "DAILY" else UNSCHEDULED
                if kind == "HOURLY":
                    every = (
                        hours * 60 if isinstance(hours, int) else UNKNOWN if hours is UNKNOWN else UNSCHEDULED
                    )
                yield Copy(plan, "vault", "gcp", places, UNKNOWN if kind is UNKNOWN else every, at, vault)


def minutes(schedule: Value) -> Minutes:
    """The longest time between two runs of `rate(…)` or `cron(…)` (EventBridge's grammar), in minutes.

    A cron that does not run every day counts as a week; what cannot be read as never.
    """
    if isinstance(schedule, Unknown):
        return schedule
    if not isinstance(schedule, str):
        return UNSCHEDULED
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", schedule.strip())
    if rate:
        return int(rate[1]) * {"minute": 1, "hour": 60, "day": DAY}[rate[2]]
    cron = re.fullmatch(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+)(?: (\S+))?\)", schedule.strip())
    if not cron:
        return UNSCHEDULED
    at, hours = _field(cron[1], 60), _field(cron[2], 24)
    if not at or not hours:
        return UNSCHEDULED
    if any(field not in ("*", "?", None) for field in cron.groups()[2:]):
        return 7 * DAY
    times = sorted(60 * hour + minute for hour in hours for minute in at)
    return max(later - sooner for sooner, later in zip(times, [*times[1:], times[0] + DAY], strict=True))


def _field(text: str, size: int) -> set[int]:
    """The values of one field of a cron; empty where it cannot be read."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\*|\d+)(?:-(\d+))?(?:/(\d+))?", part)
        if match is None:
            return set()
        start = 0 if match[1] == "*" else int(match[1])
        end = int(match[2]) if match[2] else size - 1 if match[1] == "*" or match[3] else start
        found.update(range(start, end + 1, int(match[3] or 1) or size))
    return found if all(value < size for value in found) else set()
