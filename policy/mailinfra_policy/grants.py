"""Who is given what: the policy documents and IAM bindings that types carry, read in one way.

`documents` reads AWS policies with their paths, `bindings` the members that Google's IAM types name, whatever they are
attached to. Sources: the inputs of pulumi-aws 7.51 and pulumi-gcp 10.2,
https://cloud.google.com/iam/docs/principal-identifiers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mailinfra_policy import policies, values
from mailinfra_policy.expect import unknown
from mailinfra_policy.policies import Condition, Statement
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Finding
from mailinfra_policy.values import UNKNOWN, Unknown, Value, show

IDENTITY_POLICIES: Mapping[str, tuple[str, ...]] = {
    "aws:iam/policy:Policy": ("policy",),
    "aws:iam/rolePolicy:RolePolicy": ("policy",),
    "aws:iam/userPolicy:UserPolicy": ("policy",),
    "aws:iam/groupPolicy:GroupPolicy": ("policy",),
    "aws:iam/role:Role": ("inlinePolicies[*].policy",),
    "aws:ssoadmin/permissionSetInlinePolicy:PermissionSetInlinePolicy": ("inlinePolicy",),
}
"""The types that say what an identity of AWS may do, with where."""

KEY_POLICIES: Mapping[str, tuple[str, ...]] = {
    "aws:kms/key:Key": ("policy",),
    "aws:kms/keyPolicy:KeyPolicy": ("policy",),
    "aws:kms/replicaKey:ReplicaKey": ("policy",),
    "aws:kms/externalKey:ExternalKey": ("policy",),
    "aws:kms/replicaExternalKey:ReplicaExternalKey": ("policy",),
}
"""The types that say who may use a KMS key."""

STORE_POLICIES: Mapping[str, tuple[str, ...]] = {
    "aws:backup/vaultPolicy:VaultPolicy": ("policy",),
    "aws:cloudsearch/domainServiceAccessPolicy:DomainServiceAccessPolicy": ("accessPolicy",),
    "aws:cloudwatch/eventBusPolicy:EventBusPolicy": ("policy",),
    "aws:cloudwatch/logDestinationPolicy:LogDestinationPolicy": ("accessPolicy",),
    "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": ("policyDocument",),
    "aws:codeartifact/domainPermissions:DomainPermissions": ("policyDocument",),
    "aws:codeartifact/repositoryPermissionsPolicy:RepositoryPermissionsPolicy": ("policyDocument",),
    "aws:dsql/clusterPolicy:ClusterPolicy": ("policy",),
    "aws:dynamodb/resourcePolicy:ResourcePolicy": ("policy",),
    "aws:ecr/registryPolicy:RegistryPolicy": ("policy",),
    "aws:ecr/repositoryPolicy:RepositoryPolicy": ("policy",),
    "aws:efs/fileSystemPolicy:FileSystemPolicy": ("policy",),
    "aws:elasticsearch/domain:Domain": ("accessPolicies",),
    "aws:elasticsearch/domainPolicy:DomainPolicy": ("accessPolicies",),
    "aws:glacier/vault:Vault": ("accessPolicy",),
    "aws:glacier/vaultLock:VaultLock": ("policy",),
    "aws:glue/resourcePolicy:ResourcePolicy": ("policy",),
    "aws:kinesis/resourcePolicy:ResourcePolicy": ("policy",),
    "aws:lambda/resourcePolicy:ResourcePolicy": ("policy",),
    "aws:mediastore/containerPolicy:ContainerPolicy": ("policy",),
    "aws:msk/clusterPolicy:ClusterPolicy": ("policy",),
    "aws:opensearch/domain:Domain": ("accessPolicies",),
    "aws:opensearch/domainPolicy:DomainPolicy": ("accessPolicies",),
    "aws:redshift/resourcePolicy:ResourcePolicy": ("policy",),
    "aws:redshiftserverless/resourcePolicy:ResourcePolicy": ("policy",),
    "aws:s3/accessPoint:AccessPoint": ("policy",),
    "aws:s3/bucket:Bucket": ("policy",),
    "aws:s3/bucketPolicy:BucketPolicy": ("policy",),
    "aws:s3/bucketV2:BucketV2": ("policy",),
    "aws:s3/vectorsVectorBucketPolicy:VectorsVectorBucketPolicy": ("policy",),
    "aws:s3control/accessPointPolicy:AccessPointPolicy": ("policy",),
    "aws:s3control/bucketPolicy:BucketPolicy": ("policy",),
    "aws:s3control/multiRegionAccessPointPolicy:MultiRegionAccessPointPolicy": ("details.policy",),
    "aws:s3control/objectLambdaAccessPointPolicy:ObjectLambdaAccessPointPolicy": ("policy",),
    "aws:s3tables/tableBucketPolicy:TableBucketPolicy": ("resourcePolicy",),
    "aws:s3tables/tablePolicy:TablePolicy": ("resourcePolicy",),
    "aws:secretsmanager/secret:Secret": ("policy",),
    "aws:secretsmanager/secretPolicy:SecretPolicy": ("policy",),
    "aws:ses/identityPolicy:IdentityPolicy": ("policy",),
    "aws:sesv2/emailIdentityPolicy:EmailIdentityPolicy": ("policy",),
    "aws:sns/topic:Topic": ("policy",),
    "aws:sns/topicPolicy:TopicPolicy": ("policy",),
    "aws:sqs/queue:Queue": ("policy",),
    "aws:sqs/queuePolicy:QueuePolicy": ("policy",),
}
"""The types that say who may reach a store (or send as a mail identity)."""


@dataclass(frozen=True)
class Document:
    """The statements of one policy and where it stands; `error` says why it is no policy, where it is none."""

    path: str
    statements: tuple[Statement, ...]
    error: str = ""


def documents(resource: Resource, table: Mapping[str, tuple[str, ...]]) -> Iterator[Document]:
    """The policy documents of a resource: those that are there, or not known (one statement, all unknown)."""
    for template in table.get(resource.type, ()):
        for path, value in resource.each(template):
            if value in (None, ""):
                continue
            try:
                yield Document(path, tuple(policies.statements(value)))
            except policies.PolicyError as error:
                yield Document(path, (), str(error))


def unreadable(resource: Resource, document: Document) -> Iterator[Finding]:
    """What is no policy cannot be shown to be right."""
    if document.error:
        yield Finding(resource, document.path, document.error, "a policy document")


def told(
    resource: Resource,
    table: Mapping[str, tuple[str, ...]],
    wrong: Callable[[Statement], policies.Answer],
    allowed: str,
) -> Iterator[Finding]:
    """Every statement of the resource's policies that is wrong, or of which that is not known."""
    for document in documents(resource, table):
        yield from unreadable(resource, document)
        for statement in document.statements:
            answer = wrong(statement)
            if isinstance(answer, Unknown):
                yield unknown(resource, document.path, allowed)
            elif answer:
                yield Finding(resource, document.path, f"{statement.path}: {_shown(statement)}", allowed)


def _shown(statement: Statement) -> str:
    who = show(list(statement.principals.patterns)) if statement.principals else "its identity"
    return f"{who} may {show(list(statement.actions.patterns))} on {show(list(statement.resources.patterns))}"


_NARROWING = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:resourceaccount",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceorgid",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "kms:calleraccount",
        "s3:dataaccesspointaccount",
    }
)
_EQUAL = frozenset({"stringequals", "stringlike", "arnequals", "arnlike"})


def narrows(condition: Condition) -> policies.Answer:
    """Whether a condition lets only named accounts, organisations, networks or senders through."""
    if condition.key == "*":
        return UNKNOWN
    if condition.key not in _NARROWING:
        return False
    if condition.operator not in _EQUAL or condition.quantifier == "forallvalues" or condition.if_exists:
        return False
    return policies.all_of(
        UNKNOWN if isinstance(value, Unknown) else not re.fullmatch(r"[*?]*|arn:[*?:]*", value)
        for value in condition.values
    )


def opens_to_everyone(statement: Statement) -> policies.Answer:
    """Whether a statement of a resource's policy allows everyone, or every account by a pattern, something."""
    if statement.principals is None:
        return False
    names = statement.principals
    wide: policies.Answer = policies.any_of(
        (statement.everyone, any(wildcard(pattern) for pattern in names.patterns) and not names.excluded)
    )
    narrow = (
        UNKNOWN
        if isinstance(statement.conditions, Unknown)
        else policies.any_of(narrows(condition) for condition in statement.conditions)
    )
    return policies.all_of((statement.allows, wide, policies.negated(narrow)))


def wildcard(principal: str) -> bool:
    """Whether a principal such as `AWS:arn:aws:iam::*:root` is a pattern."""
    return "*" in principal or "?" in principal


# Google -------------------------------------------------------------------------------------------------------------


def families(*names: str) -> tuple[str, ...]:
    """The three types (member, binding, policy) of each family: `storage/bucketIAM:BucketIAM`."""
    return tuple(f"gcp:{_add(name, kind)}" for name in names for kind in ("Member", "Binding", "Policy"))


def _add(name: str, kind: str) -> str:
    module, cls = name.split(":")
    return f"{module}{kind}:{cls}{kind}"


KEY_GRANTS = families("kms/cryptoKeyIAM:CryptoKeyIAM")
RING_GRANTS = families("kms/keyRingIAM:KeyRingIAM", "kms/ekmConnectionIam:EkmConnectionIam")
WIDE_GRANTS = families("projects/iAM:IAM", "folder/iAM:IAM", "organizations/iAM:IAM")
"""Grants on a whole project, folder or organisation."""
STORE_GRANTS = families(
    "artifactregistry/repositoryIam:RepositoryIam",
    "bigquery/datasetIam:DatasetIam",
    "bigquery/iam:Iam",
    "bigtable/instanceIam:InstanceIam",
    "bigtable/tableIam:TableIam",
    "cloudtasks/queueIam:QueueIam",
    "compute/diskIam:DiskIam",
    "compute/imageIam:ImageIam",
    "compute/instanceIAM:InstanceIAM",
    "compute/machineImageIam:MachineImageIam",
    "compute/regionDiskIam:RegionDiskIam",
    "compute/snapshotIam:SnapshotIam",
    "dataproc/clusterIAM:ClusterIAM",
    "dns/dnsManagedZoneIam:DnsManagedZoneIam",
    "healthcare/datasetIam:DatasetIam",
    "logging/logViewIam:LogViewIam",
    "pubsub/subscriptionIAM:SubscriptionIAM",
    "pubsub/topicIAM:TopicIAM",
    "secretmanager/regionalSecretIam:RegionalSecretIam",
    "secretmanager/secretIam:SecretIam",
    "serviceaccount/iAM:IAM",
    "sourcerepo/repositoryIam:RepositoryIam",
    "spanner/databaseIAM:DatabaseIAM",
    "spanner/instanceIAM:InstanceIAM",
    "storage/bucketIAM:BucketIAM",
    "storage/managedFolderIam:ManagedFolderIam",
)


@dataclass(frozen=True)
class Member:
    """One member of a Google IAM binding: whom (or `UNKNOWN`), where it says so, the role (or `UNKNOWN`) and where."""

    path: str
    name: Value
    role_path: str
    role: Value


def bindings(resource: Resource) -> Iterator[Member]:
    """The members of a resource that grants roles of Google's IAM, whichever of the three kinds it is.

    Raises ValueError where `policyData` is no policy: the rule then fails on it.
    """
    kind = resource.type.rsplit(":", 1)[1]
    if not kind.endswith("Policy"):
        for path, name in resource.each("members[*]" if kind.endswith("Binding") else "member"):
            yield Member(path, name, "role", resource.get("role"))
        return
    data = values.document(resource.get("policyData"))
    if data is UNKNOWN:
        yield Member("policyData", UNKNOWN, "policyData", UNKNOWN)
        return
    found = data.get("bindings", []) if isinstance(data, Mapping) else None
    if found is UNKNOWN:
        yield Member("policyData", UNKNOWN, "policyData", UNKNOWN)
        return
    if not isinstance(found, list):
        raise ValueError("policyData is no IAM policy")
    for binding in found:
        known = isinstance(binding, Mapping)
        members = binding.get("members", []) if known else UNKNOWN
        for name in members if isinstance(members, list) else [UNKNOWN]:
            yield Member("policyData", name, "policyData", binding.get("role") if known else UNKNOWN)


def guarded_paths(token: str) -> tuple[str, str]:
    """Where the three kinds say the members and the role: for guards."""
    if token.endswith("Policy"):
        return "policyData", "policyData"
    return ("members[*]" if token.endswith("Binding") else "member"), "role"


NAMED = re.compile(
    r"(?:user|group|serviceAccount):[^@:*\s]+@[^@\s*]+|principal://\S+|principalSet://\S*[^/*\s]"
)
"""A member that is someone in particular: a user, a group, a service account, a principal, a narrow set of them.

Not `allUsers`, `allAuthenticatedUsers`, `domain:…`, `projectOwner:…`, `projectEditor:…`, `projectViewer:…`.
"""
IDENTITIES = (
    "gcp:serviceaccount/account:Account",
    "gcp:projects/serviceIdentity:ServiceIdentity",
    "gcp:logging/projectSink:ProjectSink",
    "gcp:logging/folderSink:FolderSink",
    "gcp:logging/organizationSink:OrganizationSink",
    "gcp:logging/billingAccountSink:BillingAccountSink",
)
"""The types whose outputs are members: a member made from one of them is somebody in particular."""
SERVICE_ACCOUNT = re.compile(r"serviceAccount:[^@:*\s]+@[^@\s*]+")
