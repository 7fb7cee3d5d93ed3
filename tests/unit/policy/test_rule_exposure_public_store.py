"""No store is public."""

import json
from typing import Any

import pytest

from mailinfra_policy.grants import KEY_GRANTS, RING_GRANTS, STORE_GRANTS, STORE_POLICIES, WIDE_GRANTS
from mailinfra_policy.mutants import put
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.exposure_public_store import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

NEVER = {"aws:ecrpublic/repository:Repository"}
ROLE = {"AWS": "arn:aws:iam::111122223333:role/mail"}
BLOCK = dict.fromkeys(
    ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True
)


def policy(**statement: Any) -> str:
    return json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", **statement}]})


def granted(token: str, member: str = "serviceAccount:mail@example-mail.iam.gserviceaccount.com") -> Resource:
    props: dict[str, Any] = {"role": "roles/x", "member": member}
    if token.endswith("Binding"):
        props = {"role": "roles/x", "members": [member]}
    elif token.endswith("Policy"):
        props = {"policyData": json.dumps({"bindings": [{"role": "roles/x", "members": [member]}]})}
    return resource(token, "grant", props)


def with_policy(token: str, path: str) -> Resource:
    props: dict[str, Any] = {}
    put(props, path, policy(Principal=ROLE))
    return resource(token, "store", props)


BUCKET = resource("aws:s3/bucket:Bucket", "mail", {"acl": "private"})
GCS = resource(
    "gcp:storage/bucket:Bucket",
    "mail",
    {"publicAccessPrevention": "enforced", "uniformBucketLevelAccess": True},
)
SQL = resource(
    "gcp:sql/databaseInstance:DatabaseInstance",
    "db",
    {
        "settings": {
            "ipConfiguration": {"ipv4Enabled": False, "authorizedNetworks": [{"value": "10.0.0.0/8"}]}
        }
    },
)
POLICY = resource("aws:s3/bucketPolicy:BucketPolicy", "mail", {"policy": policy(Principal=ROLE)})
DATABASE = resource("aws:rds/instance:Instance", "db", {"publiclyAccessible": False})
PUBLICLY = (
    "rds/instance:Instance",
    "rds/cluster:Cluster",
    "rds/clusterInstance:ClusterInstance",
    "rds/shardGroup:ShardGroup",
    "neptune/clusterInstance:ClusterInstance",
    "redshift/cluster:Cluster",
    "redshiftserverless/workgroup:Workgroup",
    "dms/replicationInstance:ReplicationInstance",
    "mq/broker:Broker",
    "timestreaminfluxdb/dbInstance:DbInstance",
    "timestreaminfluxdb/dbCluster:DbCluster",
    "lightsail/database:Database",
)
SNAPSHOTS = ("snapshot:Snapshot", "snapshotCopy:SnapshotCopy", "clusterSnapshot:ClusterSnapshot",
             "clusterSnapshotCopy:ClusterSnapshotCopy")  # fmt: skip
REST = {
    "aws:msk/cluster:Cluster": {
        "brokerNodeGroupInfo": {"connectivityInfo": {"publicAccess": {"type": "DISABLED"}}}
    },
    "aws:ec2/amiLaunchPermission:AmiLaunchPermission": {"accountId": "111122223333"},
    "aws:ec2/snapshotCreateVolumePermission:SnapshotCreateVolumePermission": {"accountId": "111122223333"},
    "aws:ec2/imageBlockPublicAccess:ImageBlockPublicAccess": {"state": "block-new-sharing"},
    "aws:ebs/snapshotBlockPublicAccess:SnapshotBlockPublicAccess": {"state": "block-all-sharing"},
    "aws:s3/bucketAcl:BucketAcl": {"acl": "log-delivery-write"},
    "aws:s3/bucketAclV2:BucketAclV2": {
        "accessControlPolicy": {
            "grants": [{"grantee": {"uri": "http://acs.amazonaws.com/groups/s3/LogDelivery"}}]
        }
    },
    "aws:s3/bucketObject:BucketObject": {"acl": "private"},
    "aws:s3/bucketObjectv2:BucketObjectv2": {},
    "aws:s3/objectCopy:ObjectCopy": {},
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": BLOCK,
    "aws:s3/accountPublicAccessBlock:AccountPublicAccessBlock": BLOCK,
    "aws:s3/accessPoint:AccessPoint": {"publicAccessBlockConfiguration": BLOCK},
    "aws:lambda/functionUrl:FunctionUrl": {"authorizationType": "AWS_IAM"},
    "aws:lambda/permission:Permission": {"principal": "events.amazonaws.com"},
    "aws:opensearch/serverlessSecurityPolicy:ServerlessSecurityPolicy": {
        "type": "network",
        "policy": '[{"Rules": [], "AllowFromPublic": false, "SourceVPCEs": ["vpce-1"]}]',
    },
    "gcp:storage/bucketACL:BucketACL": {"predefinedAcl": "private"},
    "gcp:storage/objectACL:ObjectACL": {"roleEntities": ["READER:user-a@example.test"]},
    "gcp:storage/defaultObjectACL:DefaultObjectACL": {"roleEntities": ["OWNER:project-owners-1"]},
    "gcp:storage/bucketAccessControl:BucketAccessControl": {"entity": "user-a@example.test"},
    "gcp:storage/objectAccessControl:ObjectAccessControl": {"entity": "group-a@example.test"},
    "gcp:storage/defaultObjectAccessControl:DefaultObjectAccessControl": {"entity": "user-a@example.test"},
    "gcp:bigquery/dataset:Dataset": {
        "accesses": [{"specialGroup": "projectOwners"}, {"userByEmail": "a@b.test"}]
    },
    "gcp:bigquery/datasetAccess:DatasetAccess": {"iamMember": "user:a@example.test"},
    "gcp:alloydb/instance:Instance": {"networkConfig": {"enablePublicIp": False}},
    "cloudflare:index/r2ManagedDomain:R2ManagedDomain": {"enabled": False},
    "cloudflare:index/r2CustomDomain:R2CustomDomain": {"enabled": False},
}
GOOD = (
    [BUCKET, GCS, SQL],
    [resource("aws:s3/bucketV2:BucketV2", "old", {})],
    [resource(f"aws:{token}", "store", {"publiclyAccessible": False}) for token in PUBLICLY],
    [resource(f"aws:rds/{token}", "copy", {"sharedAccounts": ["111122223333"]}) for token in SNAPSHOTS],
    [resource(token, "store", props) for token, props in REST.items()],
    [
        with_policy(token, path)
        for token, (path,) in STORE_POLICIES.items()
        if token != "aws:s3/bucket:Bucket"
    ],
    [granted(token) for token in (*STORE_GRANTS, *WIDE_GRANTS, *KEY_GRANTS, *RING_GRANTS)],
)


@pytest.mark.parametrize("acl", ["public-read", "public-read-write", "authenticated-read", "PRIVATE", ""])
def test_acls(acl: str) -> None:
    assert places(RULE, [changed(BUCKET, acl=acl)]) == [("mail", "acl")]


@pytest.mark.parametrize(
    ("statement", "right"),
    [
        ({"Principal": "*"}, False),
        ({"Principal": {"AWS": "*"}, "Action": "s3:GetObject"}, False),
        ({"Principal": "*", "Effect": "Deny"}, True),
        ({"Principal": "*", "Condition": {"StringEquals": {"aws:SourceVpce": "vpce-1"}}}, True),
        ({"Principal": "*", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}, True),
        ({"Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}}, False),
        ({"Principal": "*", "Condition": {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}}, False),
        ({"Principal": {"Service": "sns.amazonaws.com"}}, True),
        ({"NotPrincipal": ROLE}, False),
    ],
)
def test_policies(statement: dict[str, Any], right: bool) -> None:
    assert (found(RULE, [changed(POLICY, policy=policy(**statement))]) == []) is right


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"publicAccessPrevention": None}, "publicAccessPrevention"),
        ({"publicAccessPrevention": "inherited"}, "publicAccessPrevention"),
        ({"uniformBucketLevelAccess": None}, "uniformBucketLevelAccess"),
        ({"uniformBucketLevelAccess": "true"}, "uniformBucketLevelAccess"),
    ],
)
def test_buckets_of_google_cloud(changes: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(GCS, **changes)]) == [("mail", path)]


@pytest.mark.parametrize("member", ["allUsers", "allAuthenticatedUsers", "AllUsers", "everyone"])
def test_members(member: str) -> None:
    assert places(RULE, [granted(STORE_GRANTS[0], member)]) == [("grant", "member")]


def test_a_database_with_a_public_address_is_public_by_default() -> None:
    assert places(RULE, [changed(SQL, settings={})]) == [("db", "settings.ipConfiguration.ipv4Enabled")]
    networks = [{"value": "10.0.0.0/8"}, {"value": "0.0.0.0/0"}]
    wide = {"ipConfiguration": {"ipv4Enabled": False, "authorizedNetworks": networks}}
    assert places(RULE, [changed(SQL, settings=wide)]) == [
        ("db", "settings.ipConfiguration.authorizedNetworks[1].value")
    ]


@pytest.mark.parametrize("accounts", [["all"], ["111122223333", "all"], ["*"]])
def test_snapshots(accounts: list[str]) -> None:
    snapshot = resource("aws:rds/snapshot:Snapshot", "copy", {"sharedAccounts": accounts})
    assert places(RULE, [snapshot]) == [("copy", f"sharedAccounts[{len(accounts) - 1}]")]


def test_an_r2_bucket_has_no_public_name() -> None:
    for token in ("r2ManagedDomain:R2ManagedDomain", "r2CustomDomain:R2CustomDomain"):
        assert places(RULE, [resource(f"cloudflare:index/{token}", "r2", {"enabled": True})]) == [
            ("r2", "enabled")
        ]


def test_an_encryption_policy_of_opensearch_has_no_network() -> None:
    token = "aws:opensearch/serverlessSecurityPolicy:ServerlessSecurityPolicy"
    assert found(RULE, [resource(token, "it", {"type": "encryption", "policy": '{"Rules": []}'})]) == []


@pytest.mark.parametrize(
    ("of", "path"), [(BUCKET, "acl"), (POLICY, "policy"), (DATABASE, "publiclyAccessible")]
)
def test_unknown_is_undecided(of: Resource, path: str) -> None:
    (item,) = found(RULE, [changed(of, **{path: UNKNOWN})])
    assert (item.finding.path, item.finding.unknown) == (path, True)
