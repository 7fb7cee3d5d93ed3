"""Where each type says which KMS key encrypts what it stores.

Sources: the inputs of pulumi-aws 7.51, pulumi-gcp 10.2 and pulumi-cloudflare 6.23, and the clouds' pages on encryption
at rest. A type that keeps no content of its own, or that inherits its key (an EBS snapshot, a BigQuery job's table), is
not here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

AWS_KEYS = (
    "aws:kms/key:Key",
    "aws:kms/alias:Alias",
    "aws:kms/replicaKey:ReplicaKey",
    "aws:kms/externalKey:ExternalKey",
    "aws:kms/replicaExternalKey:ReplicaExternalKey",
)
"""The types that are, or name, a customer-managed key of AWS KMS."""
GCP_KEYS = (
    "gcp:kms/cryptoKey:CryptoKey",
    "gcp:kms/cryptoKeyVersion:CryptoKeyVersion",
    "gcp:kms/keyHandle:KeyHandle",
    "gcp:netapp/kmsconfig:Kmsconfig",
)
"""The types that are, or name, a customer-managed key of Cloud KMS."""

_AWS_ID = r"(?:mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_AWS_ALIAS = r"alias/(?!aws/)[A-Za-z0-9/_-]+"
_AWS = re.compile(
    rf"{_AWS_ID}|{_AWS_ALIAS}|arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{{12}}:(?:key/{_AWS_ID}|{_AWS_ALIAS})"
)
_GCP = re.compile(
    r"(?:(?:https:)?//cloudkms\.googleapis\.com/(?:v1/)?)?projects/[^/]+/locations/[^/]+/"
    r"(?:keyRings/[^/]+/cryptoKeys/[^/]+(?:/cryptoKeyVersions/\d+)?|kmsConfigs/[^/]+)"
)


def names_own_key(cloud: str, text: str) -> bool:
    """Whether a text names a key that is no cloud's own: an AWS key id, ARN or alias outside `alias/aws/`, a Cloud KMS
    resource name."""
    return bool((_AWS if cloud == "aws" else _GCP).fullmatch(text))


@dataclass(frozen=True)
class AtRest:
    """One store within a type.

    `at` is the object that describes the store (empty: the resource itself; with `[*]`: each of a list), `needed`
    whether it must be there; `keys` are the inputs below it of which one names the key; `switches` the inputs below it
    that must have one of some values for the key to be used; `unless` inputs below it with which the store is not its
    own (a disk that exists already). `inherits`: without a key it takes one that is judged elsewhere.
    """

    keys: tuple[str, ...]
    at: str = ""
    needed: bool = False
    switches: Mapping[str, Sequence[Any]] | None = None
    unless: tuple[str, ...] = ()
    inherits: bool = False


def _key(*keys: str, **more: Any) -> tuple[AtRest, ...]:
    return (AtRest(keys, **more),)


_ON = {"encrypted": (True,)}
_STORAGE = {"storageEncrypted": (True,)}
_KMS = {"encryptionType": ("KMS", "KMS_DSSE")}
_PERFORMANCE = AtRest(("performanceInsightsKmsKeyId",), inherits=True)
_MASTER = AtRest(("masterUserSecretKmsKeyId",), inherits=True)
_SPEC = _key("encryptionSpec.kmsKeyName")
_CMEK = _key("cmekSettings.kmsKeyName")

STORES: Mapping[str, tuple[AtRest, ...]] = {
    # Disks and their copies
    "aws:ebs/volume:Volume": _key("kmsKeyId", switches=_ON),
    "aws:ebs/snapshotCopy:SnapshotCopy": _key("kmsKeyId", switches=_ON),
    "aws:ebs/snapshotImport:SnapshotImport": _key("kmsKeyId", switches=_ON),
    "aws:ebs/defaultKmsKey:DefaultKmsKey": _key("keyArn"),
    "aws:ec2/amiCopy:AmiCopy": _key("kmsKeyId", switches=_ON),
    "aws:ec2/instance:Instance": (
        AtRest(
            ("rootBlockDevice.kmsKeyId",),
            switches={"rootBlockDevice.encrypted": (True,)},
            unless=("launchTemplate",),
        ),
        AtRest(("kmsKeyId",), "ebsBlockDevices[*]", switches=_ON),
    ),
    "aws:ec2/spotInstanceRequest:SpotInstanceRequest": (
        AtRest(
            ("rootBlockDevice.kmsKeyId",),
            switches={"rootBlockDevice.encrypted": (True,)},
            unless=("launchTemplate",),
        ),
        AtRest(("kmsKeyId",), "ebsBlockDevices[*]", switches=_ON),
    ),
    "aws:ec2/launchTemplate:LaunchTemplate": _key(
        "kmsKeyId", at="blockDeviceMappings[*].ebs", needed=True, switches={"encrypted": (True, "true")}
    ),
    "aws:ec2/spotFleetRequest:SpotFleetRequest": (
        AtRest(("kmsKeyId",), "launchSpecifications[*].rootBlockDevices[*]", switches=_ON),
        AtRest(("kmsKeyId",), "launchSpecifications[*].ebsBlockDevices[*]", switches=_ON),
    ),
    "aws:imagebuilder/imageRecipe:ImageRecipe": _key(
        "kmsKeyId", at="blockDeviceMappings[*].ebs", switches={"encrypted": (True, "true")}
    ),
    "aws:imagebuilder/containerRecipe:ContainerRecipe": _key("kmsKeyId"),
    "aws:imagebuilder/component:Component": _key("kmsKeyId"),
    "aws:imagebuilder/distributionConfiguration:DistributionConfiguration": _key(
        "kmsKeyId", at="distributions[*].amiDistributionConfiguration"
    ),
    "aws:dlm/lifecyclePolicy:LifecyclePolicy": (
        AtRest(("cmkArn",), "policyDetails.schedules[*].crossRegionCopyRules[*]", switches=_ON),
        AtRest(
            ("cmkArn",), "policyDetails.action.crossRegionCopies[*].encryptionConfiguration", switches=_ON
        ),
    ),
    "aws:drs/replicationConfigurationTemplate:ReplicationConfigurationTemplate": _key(
        "ebsEncryptionKeyArn", switches={"ebsEncryption": ("CUSTOM",)}
    ),
    "aws:workspaces/workspace:Workspace": _key(
        "volumeEncryptionKey",
        switches={"rootVolumeEncryptionEnabled": (True,), "userVolumeEncryptionEnabled": (True,)},
    ),
    "gcp:compute/disk:Disk": _key("diskEncryptionKey.kmsKeySelfLink"),
    "gcp:compute/regionDisk:RegionDisk": _key("diskEncryptionKey.kmsKeyName"),
    "gcp:compute/instance:Instance": _key("bootDisk.kmsKeySelfLink", unless=("bootDisk.source",)),
    "gcp:compute/instanceTemplate:InstanceTemplate": _key(
        "diskEncryptionKey.kmsKeySelfLink", at="disks[*]", unless=("source",)
    ),
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate": _key(
        "diskEncryptionKey.kmsKeySelfLink", at="disks[*]", unless=("source",)
    ),
    "gcp:compute/image:Image": _key("imageEncryptionKey.kmsKeySelfLink"),
    "gcp:compute/machineImage:MachineImage": _key("machineImageEncryptionKey.kmsKeyName"),
    "gcp:compute/snapshot:Snapshot": _key("snapshotEncryptionKey.kmsKeySelfLink"),
    "gcp:workbench/instance:Instance": (
        AtRest(("kmsKey",), "gceSetup.bootDisk", switches={"diskEncryption": ("CMEK",)}),
        AtRest(("kmsKey",), "gceSetup.dataDisks", switches={"diskEncryption": ("CMEK",)}),
    ),
    "gcp:workstations/workstationConfig:WorkstationConfig": _key("encryptionKey.kmsKey"),
    # File systems
    "aws:efs/fileSystem:FileSystem": _key("kmsKeyId", switches=_ON),
    "aws:efs/replicationConfiguration:ReplicationConfiguration": _key(
        "kmsKeyId", at="destination", unless=("fileSystemId",)
    ),
    "aws:fsx/lustreFileSystem:LustreFileSystem": _key("kmsKeyId"),
    "aws:fsx/ontapFileSystem:OntapFileSystem": _key("kmsKeyId"),
    "aws:fsx/openZfsFileSystem:OpenZfsFileSystem": _key("kmsKeyId"),
    "aws:fsx/windowsFileSystem:WindowsFileSystem": _key("kmsKeyId"),
    "aws:fsx/fileCache:FileCache": _key("kmsKeyId"),
    "aws:storagegateway/cachesIscsiVolume:CachesIscsiVolume": _key(
        "kmsKey", switches={"kmsEncrypted": (True,)}
    ),
    "aws:storagegateway/storedIscsiVolume:StoredIscsiVolume": _key(
        "kmsKey", switches={"kmsEncrypted": (True,)}
    ),
    "aws:storagegateway/nfsFileShare:NfsFileShare": _key("kmsKeyArn", switches={"kmsEncrypted": (True,)}),
    "aws:storagegateway/smbFileShare:SmbFileShare": _key("kmsKeyArn", switches={"kmsEncrypted": (True,)}),
    "gcp:filestore/instance:Instance": _key("kmsKeyName"),
    "gcp:lustre/instance:Instance": _key("kmsKey"),
    "gcp:netapp/storagePool:StoragePool": _key("kmsConfig"),
    "gcp:netapp/backupVault:BackupVault": _key("kmsConfig"),
    # Buckets of objects (S3 buckets: rule keys-bucket-default)
    "aws:s3/bucketObject:BucketObject": _key("kmsKeyId", inherits=True),
    "aws:s3/bucketObjectv2:BucketObjectv2": _key("kmsKeyId", inherits=True),
    "aws:s3/objectCopy:ObjectCopy": _key("kmsKeyId", inherits=True),
    "aws:s3/bucketReplicationConfig:BucketReplicationConfig": _key(
        "destination.encryptionConfiguration.replicaKmsKeyId", at="rules[*]"
    ),
    "aws:s3/inventory:Inventory": _key("keyId", at="destination.bucket.encryption.sseKms", needed=True),
    "aws:s3/vectorsVectorBucket:VectorsVectorBucket": _key(
        "kmsKeyArn", at="encryptionConfigurations[*]", needed=True, switches={"sseType": ("aws:kms",)}
    ),
    "aws:s3tables/tableBucket:TableBucket": _key(
        "encryptionConfiguration.kmsKeyArn", switches={"encryptionConfiguration.sseAlgorithm": ("aws:kms",)}
    ),
    "aws:s3tables/table:Table": _key("encryptionConfiguration.kmsKeyArn", inherits=True),
    "gcp:storage/bucket:Bucket": _key("encryption.defaultKmsKeyName"),
    "gcp:storage/bucketObject:BucketObject": _key("kmsKeyName", inherits=True),
    # Databases
    "aws:rds/instance:Instance": (AtRest(("kmsKeyId",), switches=_STORAGE), _PERFORMANCE, _MASTER),
    "aws:rds/cluster:Cluster": (AtRest(("kmsKeyId",), switches=_STORAGE), _PERFORMANCE, _MASTER),
    "aws:rds/clusterInstance:ClusterInstance": (_PERFORMANCE,),
    "aws:rds/snapshotCopy:SnapshotCopy": _key("kmsKeyId"),
    "aws:rds/clusterSnapshotCopy:ClusterSnapshotCopy": _key("kmsKeyId"),
    "aws:rds/exportTask:ExportTask": _key("kmsKeyId"),
    "aws:rds/clusterActivityStream:ClusterActivityStream": _key("kmsKeyId"),
    "aws:rds/instanceAutomatedBackupsReplication:InstanceAutomatedBackupsReplication": _key("kmsKeyId"),
    "aws:rds/integration:Integration": _key("kmsKeyId"),
    "aws:docdb/cluster:Cluster": _key("kmsKeyId", switches=_STORAGE),
    "aws:docdb/elasticCluster:ElasticCluster": _key("kmsKeyId"),
    "aws:docdb/clusterInstance:ClusterInstance": (_PERFORMANCE,),
    "aws:neptune/cluster:Cluster": _key("kmsKeyArn", switches=_STORAGE),
    "aws:neptunegraph/graph:Graph": _key("kmsKeyIdentifier"),
    "aws:dsql/cluster:Cluster": _key("kmsEncryptionKey"),
    "aws:dynamodb/table:Table": (
        AtRest(("serverSideEncryption.kmsKeyArn",), switches={"serverSideEncryption.enabled": (True,)}),
        AtRest(("kmsKeyArn",), "replicas[*]"),
    ),
    "aws:dynamodb/tableReplica:TableReplica": _key("kmsKeyArn"),
    "aws:dynamodb/tableExport:TableExport": _key("s3SseKmsKeyId", switches={"s3SseAlgorithm": ("KMS",)}),
    "aws:keyspaces/table:Table": _key(
        "encryptionSpecification.kmsKeyIdentifier",
        switches={"encryptionSpecification.type": ("CUSTOMER_MANAGED_KMS_KEY",)},
    ),
    "aws:qldb/ledger:Ledger": _key("kmsKey"),
    "aws:redshift/cluster:Cluster": (
        AtRest(("kmsKeyId",), switches={"encrypted": (True, "true")}),
        AtRest(("masterPasswordSecretKmsKeyId",), inherits=True),
    ),
    "aws:redshift/snapshotCopyGrant:SnapshotCopyGrant": _key("kmsKeyId"),
    "aws:redshiftserverless/namespace:Namespace": (
        AtRest(("kmsKeyId",)),
        AtRest(("adminPasswordSecretKmsKeyId",), inherits=True),
    ),
    "aws:timestreamwrite/database:Database": _key("kmsKeyId"),
    "aws:dms/replicationInstance:ReplicationInstance": _key("kmsKeyArn"),
    "aws:dms/replicationConfig:ReplicationConfig": _key("computeConfig.kmsKeyId"),
    "aws:dms/endpoint:Endpoint": _key("kmsKeyArn"),
    "gcp:sql/databaseInstance:DatabaseInstance": _key("encryptionKeyName"),
    "gcp:spanner/database:Database": _key("encryptionConfig.kmsKeyName", "encryptionConfig.kmsKeyNames[*]"),
    "gcp:spanner/backupSchedule:BackupSchedule": _key(
        "encryptionConfig.kmsKeyName", "encryptionConfig.kmsKeyNames[*]"
    ),
    "gcp:alloydb/cluster:Cluster": (
        AtRest(("encryptionConfig.kmsKeyName",)),
        AtRest(("encryptionConfig.kmsKeyName",), "automatedBackupPolicy"),
        AtRest(("encryptionConfig.kmsKeyName",), "continuousBackupConfig"),
    ),
    "gcp:alloydb/backup:Backup": _key("encryptionConfig.kmsKeyName"),
    "gcp:bigtable/instance:Instance": _key("kmsKeyName", at="clusters[*]", needed=True),
    "gcp:firestore/database:Database": _key("cmekConfig.kmsKeyName"),
    "gcp:bigquery/dataset:Dataset": _key("defaultEncryptionConfiguration.kmsKeyName"),
    "gcp:bigquery/table:Table": _key("encryptionConfiguration.kmsKeyName", inherits=True),
    "gcp:bigquery/connection:Connection": _key("kmsKeyName"),
    "gcp:bigquery/dataTransferConfig:DataTransferConfig": _key("encryptionConfiguration.kmsKeyName"),
    "gcp:healthcare/dataset:Dataset": _key("encryptionSpec.kmsKeyName"),
    # Caches and searches
    "aws:elasticache/replicationGroup:ReplicationGroup": _key(
        "kmsKeyId", switches={"atRestEncryptionEnabled": (True, "true")}
    ),
    "aws:elasticache/serverlessCache:ServerlessCache": _key("kmsKeyId"),
    "aws:memorydb/cluster:Cluster": _key("kmsKeyArn"),
    "aws:memorydb/snapshot:Snapshot": _key("kmsKeyArn"),
    "aws:opensearch/domain:Domain": _key(
        "encryptAtRest.kmsKeyId", switches={"encryptAtRest.enabled": (True,)}
    ),
    "aws:elasticsearch/domain:Domain": _key(
        "encryptAtRest.kmsKeyId", switches={"encryptAtRest.enabled": (True,)}
    ),
    "aws:opensearchingest/pipeline:Pipeline": _key("encryptionAtRestOptions.kmsKeyArn"),
    "aws:kendra/index:Index": _key("serverSideEncryptionConfiguration.kmsKeyId"),
    "gcp:redis/instance:Instance": _key("customerManagedKey"),
    "gcp:redis/cluster:Cluster": _key("kmsKey"),
    "gcp:memorystore/instance:Instance": _key("kmsKey"),
    "gcp:discoveryengine/dataStore:DataStore": _key("kmsKeyName"),
    "gcp:discoveryengine/searchEngine:SearchEngine": _key("kmsKeyName"),
    # Queues, topics, streams
    "aws:sns/topic:Topic": _key("kmsMasterKeyId"),
    "aws:sqs/queue:Queue": _key("kmsMasterKeyId"),
    "aws:kinesis/stream:Stream": _key("kmsKeyId", switches={"encryptionType": ("KMS",)}),
    "aws:kinesis/videoStream:VideoStream": _key("kmsKeyId"),
    "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": (
        AtRest(
            ("keyArn",),
            "serverSideEncryption",
            needed=True,
            switches={"enabled": (True,), "keyType": ("CUSTOMER_MANAGED_CMK",)},
        ),
        AtRest(("kmsKeyArn",), "extendedS3Configuration"),
    ),
    "aws:msk/cluster:Cluster": _key("encryptionInfo.encryptionAtRestKmsKeyArn"),
    "aws:mq/broker:Broker": _key(
        "encryptionOptions.kmsKeyId", switches={"encryptionOptions.useAwsOwnedKey": (False,)}
    ),
    "aws:cloudwatch/eventBus:EventBus": _key("kmsKeyIdentifier"),
    "aws:cloudwatch/eventArchive:EventArchive": _key("kmsKeyIdentifier"),
    "aws:cloudwatch/eventConnection:EventConnection": _key("kmsKeyIdentifier"),
    "aws:pipes/pipe:Pipe": _key("kmsKeyIdentifier"),
    "aws:scheduler/schedule:Schedule": _key("kmsKeyArn"),
    "aws:appflow/flow:Flow": _key("kmsArn"),
    "aws:sfn/stateMachine:StateMachine": _key(
        "encryptionConfiguration.kmsKeyId",
        switches={"encryptionConfiguration.type": ("CUSTOMER_MANAGED_KMS_KEY",)},
    ),
    "gcp:pubsub/topic:Topic": _key("kmsKeyName"),
    "gcp:managedkafka/cluster:Cluster": _key("gcpConfig.kmsKey"),
    "gcp:datastream/stream:Stream": _key("customerManagedEncryptionKey"),
    "gcp:dataflow/job:Job": _key("kmsKeyName"),
    "gcp:dataflow/flexTemplateJob:FlexTemplateJob": _key("kmsKeyName"),
    # Logs and trails
    "aws:cloudwatch/logGroup:LogGroup": _key("kmsKeyId"),
    "aws:cloudtrail/trail:Trail": _key("kmsKeyId"),
    "aws:cloudtrail/eventDataStore:EventDataStore": _key("kmsKeyId"),
    "aws:cfg/deliveryChannel:DeliveryChannel": _key("s3KmsKeyArn"),
    "aws:guardduty/publishingDestination:PublishingDestination": _key("kmsKeyArn"),
    "aws:macie2/classificationExportConfiguration:ClassificationExportConfiguration": _key(
        "s3Destination.kmsKeyArn"
    ),
    "aws:securitylake/dataLake:DataLake": _key(
        "kmsKeyId", at="configuration.encryptionConfigurations[*]", needed=True
    ),
    "aws:xray/encryptionConfig:EncryptionConfig": _key("keyId", switches={"type": ("KMS",)}),
    "aws:amp/workspace:Workspace": _key("kmsKeyArn"),
    "aws:grafana/workspace:Workspace": _key("kmsKeyId"),
    "gcp:logging/projectBucketConfig:ProjectBucketConfig": _CMEK,
    "gcp:logging/folderBucketConfig:FolderBucketConfig": _CMEK,
    "gcp:logging/organizationBucketConfig:OrganizationBucketConfig": _CMEK,
    "gcp:logging/billingAccountBucketConfig:BillingAccountBucketConfig": _CMEK,
    "gcp:logging/folderSettings:FolderSettings": _key("kmsKeyName"),
    "gcp:logging/organizationSettings:OrganizationSettings": _key("kmsKeyName"),
    "gcp:observability/bucket:Bucket": _key("cmekSettings.kmsKey"),
    # Backups
    "aws:backup/vault:Vault": _key("kmsKeyArn"),
    "aws:backup/logicallyAirGappedVault:LogicallyAirGappedVault": _key("encryptionKeyArn"),
    "gcp:backupdisasterrecovery/backupVault:BackupVault": _key("encryptionConfig.kmsKeyName"),
    "gcp:gkebackup/backupPlan:BackupPlan": _key("backupConfig.encryptionKey.gcpKmsEncryptionKey"),
    # Secrets and parameters
    "aws:secretsmanager/secret:Secret": (AtRest(("kmsKeyId",)), AtRest(("kmsKeyId",), "replicas[*]")),
    "aws:ssm/parameter:Parameter": _key("keyId", switches={"type": ("SecureString",)}),
    "aws:ssm/resourceDataSync:ResourceDataSync": _key("s3Destination.kmsKeyArn"),
    "gcp:secretmanager/secret:Secret": (
        AtRest(("customerManagedEncryption.kmsKeyName",), "replication.auto"),
        AtRest(("customerManagedEncryption.kmsKeyName",), "replication.userManaged.replicas[*]"),
    ),
    "gcp:secretmanager/regionalSecret:RegionalSecret": _key("customerManagedEncryption.kmsKeyName"),
    "gcp:parametermanager/parameter:Parameter": _key("kmsKey"),
    "gcp:parametermanager/regionalParameter:RegionalParameter": _key("kmsKey"),
    # Mail
    "aws:workmail/organization:Organization": _key("kmsKeyArn"),
    "aws:mailmanager/archive:Archive": _key("kmsKeyArn"),
    "aws:mailmanager/ruleSet:RuleSet": _key("s3SseKmsKeyId", at="rules[*].actions[*].writeToS3"),
    "aws:ses/receiptRule:ReceiptRule": _key("kmsKeyArn", at="s3Actions[*]"),
    # Programs, images and what they keep
    "aws:ecr/repository:Repository": _key(
        "kmsKey", at="encryptionConfigurations[*]", needed=True, switches=_KMS
    ),
    "aws:ecr/repositoryCreationTemplate:RepositoryCreationTemplate": _key(
        "kmsKey", at="encryptionConfigurations[*]", needed=True, switches=_KMS
    ),
    "aws:codeartifact/domain:Domain": _key("encryptionKey"),
    "aws:codebuild/project:Project": _key("encryptionKey"),
    "aws:codecommit/repository:Repository": _key("kmsKeyId"),
    "aws:lambda/function:Function": _key("kmsKeyArn"),
    "aws:apprunner/service:Service": _key("encryptionConfiguration.kmsKey"),
    "aws:eks/cluster:Cluster": _key("encryptionConfig.provider.keyArn"),
    "aws:ecs/cluster:Cluster": _key("configuration.managedStorageConfiguration.kmsKeyId"),
    "aws:emrserverless/application:Application": _key(
        "encryptionKeyArn", at="monitoringConfiguration.managedPersistenceMonitoringConfiguration"
    ),
    "aws:athena/workgroup:Workgroup": _key(
        "kmsKeyArn",
        at="configuration.resultConfiguration.encryptionConfiguration",
        needed=True,
        switches={"encryptionOption": ("SSE_KMS", "CSE_KMS")},
    ),
    "aws:glue/securityConfiguration:SecurityConfiguration": (
        AtRest(
            ("kmsKeyArn",),
            "encryptionConfiguration.cloudwatchEncryption",
            needed=True,
            switches={"cloudwatchEncryptionMode": ("SSE-KMS",)},
        ),
        AtRest(
            ("kmsKeyArn",),
            "encryptionConfiguration.s3Encryption",
            needed=True,
            switches={"s3EncryptionMode": ("SSE-KMS",)},
        ),
    ),
    "aws:glue/dataCatalogEncryptionSettings:DataCatalogEncryptionSettings": _key(
        "sseAwsKmsKeyId",
        at="dataCatalogEncryptionSettings.encryptionAtRest",
        switches={"catalogEncryptionMode": ("SSE-KMS", "SSE-KMS-WITH-SERVICE-ROLE")},
    ),
    "aws:mwaa/environment:Environment": _key("kmsKey"),
    "aws:sagemaker/domain:Domain": _key("kmsKeyId"),
    "aws:sagemaker/notebookInstance:NotebookInstance": _key("kmsKeyId"),
    "aws:networkfirewall/firewall:Firewall": _key(
        "encryptionConfiguration.keyId", switches={"encryptionConfiguration.type": ("CUSTOMER_KMS",)}
    ),
    "gcp:artifactregistry/repository:Repository": _key("kmsKeyName"),
    "gcp:container/cluster:Cluster": (
        AtRest(("databaseEncryption.keyName",), switches={"databaseEncryption.state": ("ENCRYPTED",)}),
        AtRest(("bootDiskKmsKey",), "nodeConfig"),
        AtRest(("nodeConfig.bootDiskKmsKey",), "nodePools[*]"),
    ),
    "gcp:container/nodePool:NodePool": _key("nodeConfig.bootDiskKmsKey"),
    "gcp:cloudfunctions/function:Function": _key("kmsKeyName"),
    "gcp:cloudfunctionsv2/function:Function": _key("kmsKeyName"),
    "gcp:cloudrunv2/service:Service": _key("template.encryptionKey"),
    "gcp:cloudrunv2/job:Job": _key("template.template.encryptionKey"),
    "gcp:cloudrunv2/workerPool:WorkerPool": _key("template.encryptionKey"),
    "gcp:composer/environment:Environment": _key("config.encryptionConfig.kmsKeyName"),
    "gcp:dataproc/cluster:Cluster": _key("clusterConfig.encryptionConfig.kmsKeyName"),
    "gcp:dataproc/metastoreService:MetastoreService": _key("encryptionConfig.kmsKey"),
    "gcp:dataform/repository:Repository": _key("kmsKeyName"),
    "gcp:certificateauthority/caPool:CaPool": _key("encryptionSpec.cloudKmsKey"),
    "gcp:securesourcemanager/instance:Instance": _key("kmsKey"),
    "gcp:looker/instance:Instance": _key("encryptionConfig.kmsKeyName"),
    "gcp:vertex/aiDataset:AiDataset": _SPEC,
    "gcp:vertex/aiIndex:AiIndex": _SPEC,
    "gcp:vertex/aiEndpoint:AiEndpoint": _SPEC,
    "gcp:vertex/aiFeatureStore:AiFeatureStore": _SPEC,
    "gcp:vertex/aiMetadataStore:AiMetadataStore": _SPEC,
    "gcp:vertex/aiTensorboard:AiTensorboard": _SPEC,
}
"""The stores of each type."""

KEYLESS = frozenset(
    {
        "aws:cloudsearch/domain:Domain",
        "aws:dax/cluster:Cluster",
        "aws:ec2/launchConfiguration:LaunchConfiguration",
        "aws:glacier/vault:Vault",
        "aws:lightsail/bucket:Bucket",
        "aws:lightsail/database:Database",
        "aws:lightsail/disk:Disk",
        "aws:lightsail/instance:Instance",
        "gcp:firebase/databaseInstance:DatabaseInstance",
        "gcp:memcache/instance:Instance",
        "gcp:sourcerepo/repository:Repository",
        "cloudflare:index/d1Database:D1Database",
        "cloudflare:index/image:Image",
        "cloudflare:index/queue:Queue",
        "cloudflare:index/r2Bucket:R2Bucket",
        "cloudflare:index/secretsStore:SecretsStore",
        "cloudflare:index/stream:Stream",
        "cloudflare:index/workersKvNamespace:WorkersKvNamespace",
    }
)
"""Types that keep content under a key that only the provider holds: none of their inputs names a key."""
