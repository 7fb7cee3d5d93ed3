"""Stores of mail and databases are not deleted by one wrong update."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mailinfra_policy.config import Config
from mailinfra_policy.expect import one_of, unknown
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import PROTECT, Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN


@dataclass(frozen=True)
class Lock:
    """An input that keeps a store from being deleted: the value it must have, and what nothing there means."""

    path: str
    value: Any = True
    default: Any = None


_DELETION = (Lock("deletionProtection"),)
_ENABLED = (Lock("deletionProtectionEnabled"),)
_KEPT = (Lock("forceDestroy", False, False),)
_FINAL = Lock("skipFinalSnapshot", False, False)
_BY_DEFAULT = (Lock("deletionProtection", True, True),)

LOCKS: Mapping[str, tuple[Lock, ...]] = {
    "aws:rds/instance:Instance": (*_DELETION, _FINAL),
    "aws:rds/cluster:Cluster": (*_DELETION, _FINAL),
    "aws:rds/globalCluster:GlobalCluster": (*_DELETION, *_KEPT),
    "aws:docdb/cluster:Cluster": (*_DELETION, _FINAL),
    "aws:docdb/globalCluster:GlobalCluster": _DELETION,
    "aws:neptune/cluster:Cluster": (*_DELETION, _FINAL),
    "aws:neptune/globalCluster:GlobalCluster": _DELETION,
    "aws:neptunegraph/graph:Graph": (Lock("deletionProtection", True, True),),
    "aws:redshift/cluster:Cluster": (_FINAL,),
    "aws:dynamodb/table:Table": _ENABLED,
    "aws:dynamodb/tableReplica:TableReplica": _ENABLED,
    "aws:dsql/cluster:Cluster": (*_ENABLED, *_KEPT),
    "aws:qldb/ledger:Ledger": _BY_DEFAULT,
    "aws:cognito/userPool:UserPool": (Lock("deletionProtection", "ACTIVE", "INACTIVE"),),
    "aws:backup/vault:Vault": _KEPT,
    "aws:s3/bucket:Bucket": _KEPT,
    "aws:s3/bucketV2:BucketV2": _KEPT,
    "aws:s3/directoryBucket:DirectoryBucket": _KEPT,
    "aws:s3tables/tableBucket:TableBucket": _KEPT,
    "gcp:sql/databaseInstance:DatabaseInstance": (*_BY_DEFAULT, Lock("settings.deletionProtectionEnabled")),
    "gcp:spanner/database:Database": (*_BY_DEFAULT, Lock("enableDropProtection")),
    "gcp:spanner/instance:Instance": _KEPT,
    "gcp:alloydb/cluster:Cluster": _BY_DEFAULT,
    "gcp:bigtable/instance:Instance": (*_BY_DEFAULT, *_KEPT),
    "gcp:bigtable/table:Table": (Lock("deletionProtection", "PROTECTED"),),
    "gcp:bigquery/table:Table": _BY_DEFAULT,
    "gcp:firestore/database:Database": (Lock("deleteProtectionState", "DELETE_PROTECTION_ENABLED"),),
    "gcp:filestore/instance:Instance": _ENABLED,
    "gcp:memorystore/instance:Instance": (Lock("deletionProtectionEnabled", True, True),),
    "gcp:redis/cluster:Cluster": (Lock("deletionProtectionEnabled", True, True),),
    "gcp:secretmanager/secret:Secret": _DELETION,
    "gcp:secretmanager/regionalSecret:RegionalSecret": _DELETION,
    "gcp:storage/bucket:Bucket": _KEPT,
}
"""The stores that a cloud or a provider can lock."""

UNLOCKED = frozenset(
    {
        "aws:ebs/volume:Volume",
        "aws:efs/fileSystem:FileSystem",
        "aws:fsx/lustreFileSystem:LustreFileSystem",
        "aws:fsx/ontapFileSystem:OntapFileSystem",
        "aws:fsx/openZfsFileSystem:OpenZfsFileSystem",
        "aws:fsx/windowsFileSystem:WindowsFileSystem",
        "gcp:compute/disk:Disk",
        "gcp:compute/regionDisk:RegionDisk",
        "gcp:lustre/instance:Instance",
        "gcp:netapp/volume:Volume",
    }
)
"""Stores that only Pulumi's own `protect` option keeps."""


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """A store is locked unless its data class says that it holds nothing to lose; what cannot be is protected."""
    data = resource.tag(context.config.tags.data)
    kept = _kept(data, context.config)
    if resource.type in UNLOCKED:
        if data is UNKNOWN:
            yield unknown(resource, _TAGS[resource.cloud], "a data class that is known")
        elif data is not None and kept and not resource.protect:
            yield Finding(resource, "", "neither locked nor protected", "the resource option protect=True")
        return
    if kept:
        for lock in LOCKS[resource.type]:
            yield from one_of(resource, lock.path, (lock.value,), default=lock.default)


_TAGS = {"aws": "tags", "gcp": "labels"}


def _kept(data: Any, config: Config) -> bool:
    """A store of unknown or no class may hold anything."""
    return data is None or data is UNKNOWN or data in config.backups.stores


def _mail(resource: Resource, value: object) -> bool:
    return resource.tag("data-class") in (None, "mail")


def _holds_mail(resource: Resource, _: object) -> bool:
    return bool(resource.tag("data-class") == "mail")


def _guard(lock: Lock) -> Guard:
    wrong = (not lock.value,) if isinstance(lock.value, bool) else ("", f"{lock.value}X", lock.value.lower())
    return Guard(lock.path, wrong=wrong, needed=lock.default != lock.value, when=_mail)


RULE = Rule(
    id="exposure-deletion-protection",
    title="Stores cannot be deleted by one wrong update",
    severity=Severity.HIGH,
    why="A renamed resource or a stolen session deletes a store in a second, and a restore takes hours.",
    mend="Turn deletion protection on and forced deletion off; disks that have no such switch get protect=True.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(b)"),
        Control(Framework.GDPR, "Art. 32(1)(c)"),
        Control(Framework.SOC2, "A1.2"),
        Control(Framework.ISO27001, "A.8.10"),
        Control(Framework.ISO27001, "A.8.13"),
    ),
    covers={
        **{token: tuple(_guard(lock) for lock in locks) for token, locks in LOCKS.items()},
        **dict.fromkeys(sorted(UNLOCKED), (Guard(PROTECT, when=_holds_mail),)),
    },
    judge=judge,
)
