"""What a resource will be called in its cloud: ids, ARNs, links, addresses, as far as they follow from its inputs.

A program makes policy documents, sinks and grants out of these. Where they are known, the rules see what the documents
say; where the format is not in the tables here, the value stays what it is: not known before the update. Random parts
are digits of the URN's hash, so that they are the same at each run.

Formats: https://docs.aws.amazon.com/service-authorization/latest/reference/ and
https://cloud.google.com/apis/design/resource_names.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any

from mailinfra.sandbox.providers.base import unique
from mailinfra.sandbox.providers.values import UNKNOWN

ACCOUNT = "000000000000"
"""Stands for the account's number: AWS gives this one to nobody."""

Identity = tuple[str, dict[str, Any]]
"""The id, or the wire's mark for what is not known, and the outputs that follow from the inputs."""

# Where an ARN has the account but no region, or neither.
_GLOBAL = frozenset({"iam"})

# Token to (service, what follows the account, the id): `{name}` is the name, `{hex}` are 17 hex digits.
_AWS: Mapping[str, tuple[str, str, str]] = {
    "aws:acm/certificate:Certificate": ("acm", "certificate/{uuid}", "{arn}"),
    "aws:backup/plan:Plan": ("backup", "backup-plan:{uuid}", "{uuid}"),
    "aws:backup/vault:Vault": ("backup", "backup-vault:{name}", "{name}"),
    "aws:cloudtrail/trail:Trail": ("cloudtrail", "trail/{name}", "{arn}"),
    "aws:cloudwatch/logGroup:LogGroup": ("logs", "log-group:{name}", "{name}"),
    "aws:cloudwatch/metricAlarm:MetricAlarm": ("cloudwatch", "alarm:{name}", "{name}"),
    "aws:dynamodb/table:Table": ("dynamodb", "table/{name}", "{name}"),
    "aws:ebs/snapshot:Snapshot": ("ec2", "snapshot/{id}", "snap-{hex}"),
    "aws:ebs/volume:Volume": ("ec2", "volume/{id}", "vol-{hex}"),
    "aws:ec2/eip:Eip": ("ec2", "elastic-ip/{id}", "eipalloc-{hex}"),
    "aws:ec2/instance:Instance": ("ec2", "instance/{id}", "i-{hex}"),
    "aws:ec2/internetGateway:InternetGateway": ("ec2", "internet-gateway/{id}", "igw-{hex}"),
    "aws:ec2/launchTemplate:LaunchTemplate": ("ec2", "launch-template/{id}", "lt-{hex}"),
    "aws:ec2/managedPrefixList:ManagedPrefixList": ("ec2", "prefix-list/{id}", "pl-{hex}"),
    "aws:ec2/routeTable:RouteTable": ("ec2", "route-table/{id}", "rtb-{hex}"),
    "aws:ec2/securityGroup:SecurityGroup": ("ec2", "security-group/{id}", "sg-{hex}"),
    "aws:ec2/subnet:Subnet": ("ec2", "subnet/{id}", "subnet-{hex}"),
    "aws:ec2/vpc:Vpc": ("ec2", "vpc/{id}", "vpc-{hex}"),
    "aws:ecr/repository:Repository": ("ecr", "repository/{name}", "{name}"),
    "aws:efs/fileSystem:FileSystem": ("elasticfilesystem", "file-system/{id}", "fs-{hex}"),
    "aws:iam/group:Group": ("iam", "group{path}{name}", "{name}"),
    "aws:iam/instanceProfile:InstanceProfile": ("iam", "instance-profile{path}{name}", "{name}"),
    "aws:iam/policy:Policy": ("iam", "policy{path}{name}", "{arn}"),
    "aws:iam/role:Role": ("iam", "role{path}{name}", "{name}"),
    "aws:iam/user:User": ("iam", "user{path}{name}", "{name}"),
    "aws:kinesis/stream:Stream": ("kinesis", "stream/{name}", "{arn}"),
    "aws:kms/alias:Alias": ("kms", "{name}", "{name}"),
    "aws:kms/externalKey:ExternalKey": ("kms", "key/{uuid}", "{uuid}"),
    "aws:kms/key:Key": ("kms", "key/{uuid}", "{uuid}"),
    "aws:kms/replicaKey:ReplicaKey": ("kms", "key/{uuid}", "{uuid}"),
    "aws:lambda/function:Function": ("lambda", "function:{name}", "{name}"),
    "aws:lb/loadBalancer:LoadBalancer": ("elasticloadbalancing", "loadbalancer/app/{name}/{hex}", "{arn}"),
    "aws:lb/targetGroup:TargetGroup": ("elasticloadbalancing", "targetgroup/{name}/{hex}", "{arn}"),
    "aws:rds/cluster:Cluster": ("rds", "cluster:{name}", "{name}"),
    "aws:rds/instance:Instance": ("rds", "db:{name}", "{name}"),
    "aws:secretsmanager/secret:Secret": ("secretsmanager", "secret:{name}-{hex}", "{arn}"),
    "aws:sns/topic:Topic": ("sns", "{name}", "{arn}"),
    "aws:sqs/queue:Queue": ("sqs", "{name}", "https://sqs.{region}.amazonaws.com/{account}/{name}"),
    "aws:ssm/parameter:Parameter": ("ssm", "parameter/{name}", "{name}"),
}
_BUCKETS = frozenset({"aws:s3/bucket:Bucket", "aws:s3/bucketV2:BucketV2"})
# The input that names a resource where it is not `name`.
_NAMED_BY = {
    "aws:rds/cluster:Cluster": "clusterIdentifier",
    "aws:rds/instance:Instance": "identifier",
    "gcp:secretmanager/secret:Secret": "secretId",
    "gcp:serviceaccount/account:Account": "accountId",
    "gcp:bigquery/dataset:Dataset": "datasetId",
    "gcp:logging/projectBucketConfig:ProjectBucketConfig": "bucketId",
}

# Token to the id below the project: `{name}`, `{location}`.
_GCP: Mapping[str, str] = {
    "gcp:bigquery/dataset:Dataset": "datasets/{name}",
    "gcp:dns/managedZone:ManagedZone": "managedZones/{name}",
    "gcp:kms/keyRing:KeyRing": "locations/{location}/keyRings/{name}",
    "gcp:logging/projectBucketConfig:ProjectBucketConfig": "locations/{location}/buckets/{name}",
    "gcp:logging/projectSink:ProjectSink": "sinks/{name}",
    "gcp:organizations/iAMCustomRole:IAMCustomRole": "roles/{name}",
    "gcp:pubsub/subscription:Subscription": "subscriptions/{name}",
    "gcp:pubsub/topic:Topic": "topics/{name}",
    "gcp:secretmanager/secret:Secret": "secrets/{name}",
}
_ADDRESSES = frozenset({"gcp:compute/address:Address", "gcp:compute/globalAddress:GlobalAddress"})
_COMPUTE = "https://www.googleapis.com/compute/v1/"


def identity(
    token: str, urn: str, inputs: Mapping[str, Any], setting: Callable[[str], Any]
) -> Identity | None:
    """Id and outputs of a resource; None where nothing is known of the type.

    `inputs` as on the wire, completed; `setting` gives the provider's own setting of a name (`project`, `region`).
    What is unknown in the inputs is unknown in what is made of it.
    """
    if token in _BUCKETS:
        return _bucket(inputs, setting)
    if token in _AWS:
        return _aws(token, urn, inputs, setting)
    if token.startswith("gcp:"):
        return _gcp(token, urn, inputs, setting)
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else UNKNOWN


def _done(identifier: str, outputs: Mapping[str, str]) -> Identity:
    known = {key: value for key, value in outputs.items() if UNKNOWN not in value}
    return (UNKNOWN if UNKNOWN in identifier else identifier), known


def _name(token: str, inputs: Mapping[str, Any]) -> str:
    return _text(inputs.get(_NAMED_BY.get(token, "name")))


def _bucket(inputs: Mapping[str, Any], setting: Callable[[str], Any]) -> Identity:
    name = _text(inputs.get("bucket"))
    region = _text(inputs.get("region") or setting("region"))
    return _done(
        name,
        {
            "arn": f"arn:aws:s3:::{name}",
            "bucket": name,
            "bucketDomainName": f"{name}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{name}.s3.{region}.amazonaws.com",
        },
    )


def _aws(token: str, urn: str, inputs: Mapping[str, Any], setting: Callable[[str], Any]) -> Identity:
    service, tail, form = _AWS[token]
    region = "" if service in _GLOBAL else _text(inputs.get("region") or setting("region"))
    parts = {
        "account": ACCOUNT,
        "hex": unique(urn, 17),
        "name": _name(token, inputs),
        "path": _text(inputs.get("path", "/")),
        "region": region,
        "uuid": str(uuid.UUID(unique(urn, 32))),
    }
    identifier = "" if form == "{arn}" else form.format(**parts)
    arn = f"arn:aws:{service}:{region}:{ACCOUNT}:{tail.format(**parts, id=identifier)}"
    identifier = identifier or arn
    outputs = {"arn": arn, "name": parts["name"]}
    if token in {"aws:kms/key:Key", "aws:kms/externalKey:ExternalKey", "aws:kms/replicaKey:ReplicaKey"}:
        outputs["keyId"] = identifier
    if token == "aws:ec2/eip:Eip":  # noqa: S105
        outputs["publicIp"] = _address("44.192.0.0/10", urn)
    if inputs.get("assignGeneratedIpv6CidrBlock") is True:
        outputs["ipv6CidrBlock"] = f"{_address('2600:1f14::/36', urn, 56)}/56"
    if service == "sqs":
        outputs["url"] = identifier
    return _done(identifier, outputs)


def _gcp(token: str, urn: str, inputs: Mapping[str, Any], setting: Callable[[str], Any]) -> Identity | None:
    name = _name(token, inputs)
    project = f"projects/{_text(inputs.get('project') or setting('project'))}"
    if token == "gcp:kms/cryptoKey:CryptoKey":  # noqa: S105
        return _done(f"{_text(inputs.get('keyRing'))}/cryptoKeys/{name}", {"name": name})
    if token == "gcp:serviceaccount/account:Account":  # noqa: S105
        email = f"{name}@{project.removeprefix('projects/')}.iam.gserviceaccount.com"
        full = f"{project}/serviceAccounts/{email}"
        return _done(full, {"name": full, "email": email, "member": f"serviceAccount:{email}"})
    if token == "gcp:storage/bucket:Bucket":  # noqa: S105
        link = f"https://www.googleapis.com/storage/v1/b/{name}"
        return _done(name, {"name": name, "url": f"gs://{name}", "selfLink": link})
    if token == "gcp:sql/databaseInstance:DatabaseInstance":  # noqa: S105
        link = f"https://sqladmin.googleapis.com/sql/v1beta4/{project}/instances/{name}"
        return _done(name, {"name": name, "selfLink": link})
    if token in _GCP:
        location = _text(inputs.get("location") or setting("region"))
        full = f"{project}/{_GCP[token].format(name=name, location=location)}"
        long = {"gcp:secretmanager/secret:Secret", "gcp:logging/projectBucketConfig:ProjectBucketConfig"}
        return _done(full, {"name": full if token in long else name})
    if token.startswith("gcp:compute/") and inputs.get("name"):
        full = f"{project}/{_place(inputs, setting, token)}/{_collection(token)}/{name}"
        outputs = {"name": name, "selfLink": _COMPUTE + full}
        if (
            token in _ADDRESSES
            and inputs.get("addressType", "EXTERNAL") == "EXTERNAL"
            and "address" not in inputs
        ):
            six = inputs.get("ipVersion") == "IPV6"
            outputs["address"] = _address("2600:1900:4000::/64" if six else "34.64.0.0/10", urn)
        return _done(full, outputs)
    return None


def _address(network: str, urn: str, length: int | None = None) -> str:
    """The fixed address (or the first one of a network of some prefix length) that a cloud will give: one of its own.
    Which one decides nothing, that it is one does."""
    block = ip_network(network)
    step = 1 << (block.max_prefixlen - (length or block.max_prefixlen))
    return str(block[int(unique(urn, 12), 16) * step % block.num_addresses])


def _place(inputs: Mapping[str, Any], setting: Callable[[str], Any], token: str) -> str:
    kind = token.rpartition(":")[2]
    if "zone" in inputs:
        return f"zones/{_text(inputs['zone']).rpartition('/')[2]}"
    if (
        "region" in inputs
        or kind.startswith("Region")
        or kind in {"Address", "Subnetwork", "Router", "ForwardingRule"}
    ):
        return f"regions/{_text(inputs.get('region') or setting('region')).rpartition('/')[2]}"
    if kind in {"Instance", "Disk"}:
        return f"zones/{_text(setting('zone')).rpartition('/')[2]}"
    return "global"


def _collection(token: str) -> str:
    kind = re.sub("^(Region|Global|Managed(?=SslCertificate))", "", token.rpartition(":")[2])
    kind = {"SSLPolicy": "sslPolicy", "SSLCertificate": "sslCertificate", "URLMap": "urlMap"}.get(kind, kind)
    kind = kind[0].lower() + kind[1:]
    if kind.endswith("y"):
        return f"{kind[:-1]}ies"
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"
