"""No store is public: buckets, snapshots, images, databases, queues, topics, repositories."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mailinfra_policy.expect import holds, unknown
from mailinfra_policy.grants import (
    IDENTITIES,
    KEY_GRANTS,
    RING_GRANTS,
    STORE_GRANTS,
    STORE_POLICIES,
    WIDE_GRANTS,
    bindings,
    guarded_paths,
    opens_to_everyone,
    told,
)
from mailinfra_policy.openings import world
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, Value, document, show


@dataclass(frozen=True)
class Closed:
    """An input that must not make a store public: what fits, in words, what nothing there means, what is wrong."""

    path: str
    fits: Callable[[Any], bool]
    allowed: str
    default: Value
    wrong: tuple[Any, ...]


def _not(path: str) -> Closed:
    return Closed(path, lambda value: value is False, "false", False, (True, "false"))


def _yes(path: str, default: bool) -> Closed:
    return Closed(path, lambda value: value is True, "true", default, (False, "true"))


def _among(path: str, *allowed: str, default: str, wrong: tuple[str, ...]) -> Closed:
    return Closed(path, lambda value: value in allowed, " or ".join(map(show, allowed)), default, wrong)


def _like(path: str, pattern: str, allowed: str, *wrong: str) -> Closed:
    compiled = re.compile(pattern)
    return Closed(
        path,
        lambda value: value is _NONE or (isinstance(value, str) and compiled.fullmatch(value) is not None),
        allowed,
        _NONE,
        wrong,
    )


_NONE = object()
"""Nothing there, which is right."""
_ACL = _among(
    "acl",
    "private",
    "bucket-owner-full-control",
    "bucket-owner-read",
    "log-delivery-write",
    default="private",
    wrong=("public-read", "public-read-write", "authenticated-read", "Private"),
)
_LOGS = re.escape("http://acs.amazonaws.com/groups/s3/LogDelivery")
_ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
_ACCOUNTS = _like("sharedAccounts[*]", r"\d{12}", "account ids", "all")
_BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
_ENTITY = r"(?:user-[^@\s]+@[^@\s]+|group-[^@\s]+@[^@\s]+|project-(?:owners|editors|viewers)-.+)"
_ENTITIES = _like(
    "roleEntities[*]", rf"(?:OWNER|READER|WRITER):{_ENTITY}", "named entities", "READER:allUsers"
)
_ONE = _like("entity", _ENTITY, "a named entity", "allUsers", "allAuthenticatedUsers", "domain-example.test")
_PREDEFINED = _among(
    "predefinedAcl",
    "private",
    "bucketOwnerFullControl",
    "bucketOwnerRead",
    "projectPrivate",
    default="private",
    wrong=("publicRead", "publicReadWrite", "authenticatedRead"),
)
_SPECIAL = r"projectOwners|projectWriters|projectReaders"
_MEMBER = re.compile(
    r"(?:user|group|serviceAccount|domain|projectOwner|projectEditor|projectViewer):\S+"
    r"|(?:deleted:)?principal(?:Set)?://\S+|deleted:(?:user|group|serviceAccount):\S+"
)
_NOT_PUBLIC = (_not("publiclyAccessible"),)

TABLE: Mapping[str, tuple[Closed, ...]] = {
    "aws:rds/instance:Instance": _NOT_PUBLIC,
    "aws:rds/cluster:Cluster": _NOT_PUBLIC,
    "aws:rds/clusterInstance:ClusterInstance": _NOT_PUBLIC,
    "aws:rds/shardGroup:ShardGroup": _NOT_PUBLIC,
    "aws:rds/snapshot:Snapshot": (_ACCOUNTS,),
    "aws:rds/snapshotCopy:SnapshotCopy": (_ACCOUNTS,),
    "aws:rds/clusterSnapshot:ClusterSnapshot": (_ACCOUNTS,),
    "aws:rds/clusterSnapshotCopy:ClusterSnapshotCopy": (_ACCOUNTS,),
    "aws:neptune/clusterInstance:ClusterInstance": _NOT_PUBLIC,
    "aws:redshift/cluster:Cluster": _NOT_PUBLIC,
    "aws:redshiftserverless/workgroup:Workgroup": _NOT_PUBLIC,
    "aws:dms/replicationInstance:ReplicationInstance": _NOT_PUBLIC,
    "aws:mq/broker:Broker": _NOT_PUBLIC,
    "aws:timestreaminfluxdb/dbInstance:DbInstance": _NOT_PUBLIC,
    "aws:timestreaminfluxdb/dbCluster:DbCluster": _NOT_PUBLIC,
    "aws:lightsail/database:Database": _NOT_PUBLIC,
    "aws:msk/cluster:Cluster": (
        _among(
            "brokerNodeGroupInfo.connectivityInfo.publicAccess.type",
            "DISABLED",
            default="DISABLED",
            wrong=("SERVICE_PROVIDED_EIPS",),
        ),
    ),
    "aws:ec2/amiLaunchPermission:AmiLaunchPermission": (
        Closed("group", lambda value: value is _NONE, "nothing", _NONE, ("all",)),
    ),
    "aws:ec2/snapshotCreateVolumePermission:SnapshotCreateVolumePermission": (
        _like("accountId", r"\d{12}", "an account id", "all"),
    ),
    "aws:ec2/imageBlockPublicAccess:ImageBlockPublicAccess": (
        _among("state", "block-new-sharing", default="", wrong=("unblocked",)),
    ),
    "aws:ebs/snapshotBlockPublicAccess:SnapshotBlockPublicAccess": (
        _among("state", "block-all-sharing", "block-new-sharing", default="", wrong=("unblocked",)),
    ),
    "aws:s3/bucket:Bucket": (_ACL, _like("grants[*].uri", _LOGS, "the log delivery group", _ALL_USERS)),
    "aws:s3/bucketV2:BucketV2": (_ACL, _like("grants[*].uri", _LOGS, "the log delivery group", _ALL_USERS)),
    **{
        token: (
            _ACL,
            _like("accessControlPolicy.grants[*].grantee.uri", _LOGS, "the log delivery group", _ALL_USERS),
        )
        for token in ("aws:s3/bucketAcl:BucketAcl", "aws:s3/bucketAclV2:BucketAclV2")
    },
    "aws:s3/bucketObject:BucketObject": (_ACL,),
    "aws:s3/bucketObjectv2:BucketObjectv2": (_ACL,),
    "aws:s3/objectCopy:ObjectCopy": (
        _ACL,
        _like("grants[*].uri", _LOGS, "the log delivery group", _ALL_USERS),
    ),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": tuple(_yes(name, False) for name in _BLOCKS),
    "aws:s3/accountPublicAccessBlock:AccountPublicAccessBlock": tuple(_yes(name, False) for name in _BLOCKS),
    "aws:s3/accessPoint:AccessPoint": tuple(
        _yes(f"publicAccessBlockConfiguration.{name}", True) for name in _BLOCKS
    ),
    "aws:lambda/functionUrl:FunctionUrl": (
        _among("authorizationType", "AWS_IAM", default="NONE", wrong=("NONE", "aws_iam")),
    ),
    "aws:lambda/permission:Permission": (
        _like("principal", r"[^*]+", "an account, a role or a service", "*"),
    ),
    "gcp:storage/bucket:Bucket": (
        _among("publicAccessPrevention", "enforced", default="inherited", wrong=("inherited", "Enforced")),
        _yes("uniformBucketLevelAccess", False),
    ),
    "gcp:storage/bucketACL:BucketACL": (_PREDEFINED, _ENTITIES),
    "gcp:storage/objectACL:ObjectACL": (_PREDEFINED, _ENTITIES),
    "gcp:storage/defaultObjectACL:DefaultObjectACL": (_ENTITIES,),
    "gcp:storage/bucketAccessControl:BucketAccessControl": (_ONE,),
    "gcp:storage/objectAccessControl:ObjectAccessControl": (_ONE,),
    "gcp:storage/defaultObjectAccessControl:DefaultObjectAccessControl": (_ONE,),
    "gcp:bigquery/dataset:Dataset": (
        _like("accesses[*].specialGroup", _SPECIAL, "a group of the project", "allAuthenticatedUsers"),
        _like("accesses[*].iamMember", _MEMBER.pattern, "a named member", "allUsers"),
    ),
    "gcp:bigquery/datasetAccess:DatasetAccess": (
        _like("specialGroup", _SPECIAL, "a group of the project", "allAuthenticatedUsers"),
        _like("iamMember", _MEMBER.pattern, "a named member", "allUsers"),
    ),
    "gcp:sql/databaseInstance:DatabaseInstance": (
        Closed(
            "settings.ipConfiguration.ipv4Enabled",
            lambda value: value is False,
            "false",
            True,
            (True, "false"),
        ),
    ),
    "gcp:alloydb/instance:Instance": (_not("networkConfig.enablePublicIp"),),
    "cloudflare:index/r2ManagedDomain:R2ManagedDomain": (_not("enabled"),),
    "cloudflare:index/r2CustomDomain:R2CustomDomain": (_not("enabled"),),
}
"""The inputs that decide whether a store is public."""

_NETWORKS = {
    "gcp:sql/databaseInstance:DatabaseInstance": "settings.ipConfiguration.authorizedNetworks[*].value"
}
_PUBLIC = "aws:ecrpublic/repository:Repository"
_SERVERLESS = "aws:opensearch/serverlessSecurityPolicy:ServerlessSecurityPolicy"
_GRANTS = (*STORE_GRANTS, *WIDE_GRANTS, *KEY_GRANTS, *RING_GRANTS)


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """No input, policy, member or network lets everyone in."""
    for closed in TABLE.get(resource.type, ()):
        yield from holds(resource, closed.path, closed.fits, closed.allowed, default=closed.default)
    yield from told(
        resource, STORE_POLICIES, opens_to_everyone, "principals by name, or a condition on whose they are"
    )
    if resource.type == _PUBLIC:
        yield Finding(resource, "", "a public repository", "a private repository")
    elif resource.type == _SERVERLESS:
        yield from _serverless(resource)
    elif resource.type in _GRANTS:
        yield from _members(resource, context)
    for path, value in resource.each(_NETWORKS.get(resource.type, "none[*]")):
        wide = world((value,), context.config.exposure)
        if wide is UNKNOWN:
            yield unknown(resource, path, "a known network")
        elif wide:
            yield Finding(resource, path, show(value), "a known network")


def _members(resource: Resource, context: Context) -> Iterator[Finding]:
    allowed = "members by name"
    for member in bindings(resource):
        if isinstance(member.name, str) and _MEMBER.fullmatch(member.name):
            continue
        if member.name is UNKNOWN:
            if not context.stack.referred(resource, member.path, *IDENTITIES):
                yield unknown(resource, member.path, allowed)
        else:
            yield Finding(resource, member.path, show(member.name), allowed)


def _serverless(resource: Resource) -> Iterator[Finding]:
    """A network policy is a list of rules, each with `AllowFromPublic`."""
    allowed = "AllowFromPublic: false in each rule of a network policy"
    data = document(resource.get("policy"))
    if data is UNKNOWN or resource.get("type") is UNKNOWN:
        yield unknown(resource, "policy", allowed)
    elif resource.get("type") == "network":
        rules = data if isinstance(data, list) else [data]
        if not all(isinstance(rule, Mapping) and rule.get("AllowFromPublic") is False for rule in rules):
            yield Finding(resource, "policy", show(data), allowed)


_OPEN = json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]})


def _guards(token: str) -> tuple[Guard, ...]:
    found = [
        Guard(item.path, wrong=item.wrong, needed=item.default is not _NONE and not item.fits(item.default))
        for item in TABLE.get(token, ())
    ]
    found += [Guard(path, wrong=(_OPEN, "no policy"), needed=False) for path in STORE_POLICIES.get(token, ())]
    if path := _NETWORKS.get(token):
        found.append(Guard(path, wrong=("0.0.0.0/0", "0.0.0.0/1"), needed=False))
    return tuple(found)


def _member(token: str) -> tuple[Guard, ...]:
    path, _ = guarded_paths(token)
    who: tuple[str, ...] = ("allUsers", "allAuthenticatedUsers")
    if path == "policyData":
        who = tuple(json.dumps({"bindings": [{"role": "roles/x", "members": [name]}]}) for name in who)
    return (Guard(path, wrong=who, needed=path == "member"),)


RULE = Rule(
    id="exposure-public-store",
    title="No store is public",
    severity=Severity.CRITICAL,
    why="What is public is copied within hours, and mail that was copied cannot be called back.",
    mend="Block public access, name those who may read, and give databases private addresses only.",
    controls=(
        Control(Framework.GDPR, "Art. 25(2)"),
        Control(Framework.GDPR, "Art. 32(1)(b)"),
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.SOC2, "CC6.6"),
        Control(Framework.ISO27001, "A.8.3"),
        Control(Framework.ISO27001, "A.8.12"),
    ),
    covers={
        **{
            token: _guards(token)
            for token in (*TABLE, *(item for item in STORE_POLICIES if item not in TABLE))
        },
        **{token: _member(token) for token in _GRANTS},
        _SERVERLESS: (Guard("policy", wrong=('[{"AllowFromPublic": true}]', "[{}]"), needed=False),),
        _PUBLIC: (),
    },
    judge=judge,
)
