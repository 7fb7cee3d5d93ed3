"""Which AWS types are live, and what the documentation of the others leaves out."""

from collections.abc import Mapping

from mailinfra.sandbox.providers.aws import (
    ec2_addresses,
    ec2_firewall,
    ec2_instances,
    ec2_network,
    iam,
    kms,
    logs,
    route53,
    s3,
    snapshots,
)
from mailinfra.sandbox.providers.base import Adapter
from mailinfra.sandbox.providers.diffs import Rules


def adapters() -> Mapping[str, Adapter]:
    """The live types by token."""
    return {
        "aws:cloudwatch/logGroup:LogGroup": logs.LogGroup(),
        "aws:dlm/lifecyclePolicy:LifecyclePolicy": snapshots.LifecyclePolicy(),
        "aws:ebs/snapshot:Snapshot": snapshots.Snapshot(),
        "aws:ebs/volume:Volume": ec2_instances.Volume(),
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": ec2_firewall.DefaultSecurityGroup(),
        "aws:ec2/eip:Eip": ec2_addresses.Eip(),
        "aws:ec2/eipAssociation:EipAssociation": ec2_addresses.EipAssociation(),
        "aws:ec2/eipDomainName:EipDomainName": ec2_addresses.EipDomainName(),
        "aws:ec2/instance:Instance": ec2_instances.Instance(),
        "aws:ec2/internetGateway:InternetGateway": ec2_network.InternetGateway(),
        "aws:ec2/managedPrefixList:ManagedPrefixList": ec2_firewall.ManagedPrefixList(),
        "aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry": ec2_firewall.ManagedPrefixListEntry(),
        "aws:ec2/route:Route": ec2_network.Route(),
        "aws:ec2/routeTable:RouteTable": ec2_network.RouteTable(),
        "aws:ec2/routeTableAssociation:RouteTableAssociation": ec2_network.RouteTableAssociation(),
        "aws:ec2/securityGroup:SecurityGroup": ec2_firewall.SecurityGroup(),
        "aws:ec2/subnet:Subnet": ec2_network.Subnet(),
        "aws:ec2/volumeAttachment:VolumeAttachment": ec2_instances.VolumeAttachment(),
        "aws:ec2/vpc:Vpc": ec2_network.Vpc(),
        "aws:ec2transitgateway/instanceState:InstanceState": ec2_instances.InstanceState(),
        "aws:iam/instanceProfile:InstanceProfile": iam.InstanceProfile(),
        "aws:iam/policy:Policy": iam.Policy(),
        "aws:iam/role:Role": iam.Role(),
        "aws:iam/rolePolicy:RolePolicy": iam.RolePolicy(),
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment": iam.RolePolicyAttachment(),
        "aws:kms/alias:Alias": kms.Alias(),
        "aws:kms/key:Key": kms.Key(),
        "aws:kms/replicaKey:ReplicaKey": kms.ReplicaKey(),
        "aws:route53/healthCheck:HealthCheck": route53.HealthCheck(),
        "aws:route53/hostedZoneDnsSec:HostedZoneDnsSec": route53.HostedZoneDnsSec(),
        "aws:route53/keySigningKey:KeySigningKey": route53.KeySigningKey(),
        "aws:route53/record:Record": route53.Record(),
        "aws:route53/zone:Zone": route53.Zone(),
        "aws:s3/bucket:Bucket": s3.Bucket(),
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": s3.BucketLifecycleConfiguration(),
        "aws:s3/bucketObject:BucketObject": s3.BucketObject(),
        "aws:s3/bucketObjectv2:BucketObjectv2": s3.BucketObject(),
        "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": s3.BucketObjectLockConfiguration(),
        "aws:s3/bucketOwnershipControls:BucketOwnershipControls": s3.BucketOwnershipControls(),
        "aws:s3/bucketPolicy:BucketPolicy": s3.BucketPolicy(),
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": s3.BucketPublicAccessBlock(),
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": (
            s3.BucketServerSideEncryptionConfiguration()
        ),
        "aws:s3/bucketVersioning:BucketVersioning": s3.BucketVersioning(),
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": ec2_firewall.SecurityGroupRule("egress"),
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": ec2_firewall.SecurityGroupRule(
            "ingress"
        ),
    }


RECORDED_RULES: Mapping[str, Rules] = {
    # `Forces new resource` in the schema of hashicorp/terraform-provider-aws, not in its documentation.
    "aws:sqs/queue:Queue": Rules(
        replaces=frozenset({"name", "namePrefix", "fifoQueue"}), json=frozenset({"policy"})
    ),
    "aws:sns/topic:Topic": Rules(
        replaces=frozenset({"name", "namePrefix", "fifoTopic"}), json=frozenset({"policy"})
    ),
    "aws:dynamodb/table:Table": Rules(replaces=frozenset({"name", "hashKey", "rangeKey"})),
    "aws:rds/instance:Instance": Rules(
        replaces=frozenset({"engine", "kmsKeyId", "storageEncrypted", "username", "availabilityZone"})
    ),
    "aws:efs/fileSystem:FileSystem": Rules(
        replaces=frozenset({"creationToken", "encrypted", "kmsKeyId", "performanceMode"})
    ),
}
