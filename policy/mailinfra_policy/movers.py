"""Which types send content to another place: copies, replicas, exports, sinks, logs."""

from collections.abc import Mapping
from dataclasses import dataclass

from mailinfra_policy.table import paths, rows, token


@dataclass(frozen=True)
class Mover:
    """Where a type sends content: inputs that name a `place`, inputs that refer to the `target` that receives it, and
    the `owners` that it belongs to (their zone is its own). `tags` as in `mailinfra_policy.stores.Store`."""

    places: tuple[str, ...]
    targets: tuple[str, ...]
    owners: tuple[str, ...] = ()
    tags: str = ""


# A line is a module and its types. After a type: `!` it has no tags, `#x` the input with its tags where this is not
# `tags` or `labels` `@x` an input that names a place, `>x` one that refers to what receives the content, `<x` one that
# refers to what it belongs to.
_AWS = """
appflow Flow >destinationFlowConfigs[*].destinationConnectorProperties.s3.bucketName
backup Plan >rules[*].copyActions[*].destinationVaultArn ReportPlan >reportDeliveryChannel.s3BucketName
bcmdata Export @export.destinationConfigurations[*].s3Destinations[*].s3Region
bedrockmodel InvocationLoggingConfiguration! >loggingConfig.s3Config.bucketName
  >loggingConfig.cloudwatchConfig.logGroupName
cfg DeliveryChannel! >s3BucketName
cloudfront Distribution >loggingConfig.bucket RealtimeLogConfig! >endpoint.kinesisStreamConfig.streamArn
cloudtrail Trail >s3BucketName >cloudWatchLogsGroupArn
cloudwatch LogDestination >targetArn LogDeliveryDestination
  >deliveryDestinationConfiguration.destinationResourceArn LogSubscriptionFilter! <logGroup >destinationArn
  MetricStream >firehoseArn
codepipeline Pipeline @artifactStores[*].region >artifactStores[*].location
connect InstanceStorageConfig! <instanceId >storageConfig.s3Config.bucketName
  >storageConfig.kinesisStreamConfig.streamArn >storageConfig.kinesisFirehoseConfig.firehoseArn
cur ReportDefinition @s3Region
datasync Task >destinationLocationArn
directoryservice ServiceRegion <directoryId @regionName
dlm LifecyclePolicy @policyDetails.schedules[*].crossRegionCopyRules[*].targetRegion
  @policyDetails.schedules[*].crossRegionCopyRules[*].target
dms S3Endpoint >bucketName
dsql Cluster @multiRegionProperties.witnessRegion >multiRegionProperties.clusters[*] ClusterPeering!
  <identifier @witnessRegion >clusters[*]
dynamodb Table @replicas[*].regionName GlobalTable! @replicas[*].regionName TableExport! <tableArn >s3Bucket
  KinesisStreamingDestination! <tableName >streamArn
ec2 FlowLog >logDestination
ecr ReplicationConfiguration! @replicationConfiguration.rules[*].destinations[*].region
efs ReplicationConfiguration! <sourceFileSystemId @destination.region @destination.availabilityZoneName
guardduty PublishingDestination <detectorId >destinationArn
imagebuilder DistributionConfiguration @distributions[*].region
ivs RecordingConfiguration >destinationConfiguration.s3.bucketName
keyspaces Keyspace @replicationSpecification.regionLists[*]
kinesis FirehoseDeliveryStream >extendedS3Configuration.bucketArn
  >extendedS3Configuration.s3BackupConfiguration.bucketArn >opensearchConfiguration.domainArn
  >opensearchConfiguration.s3Configuration.bucketArn
  >opensearchserverlessConfiguration.s3Configuration.bucketArn >elasticsearchConfiguration.domainArn
  >redshiftConfiguration.s3Configuration.bucketArn >httpEndpointConfiguration.s3Configuration.bucketArn
  >splunkConfiguration.s3Configuration.bucketArn >snowflakeConfiguration.s3Configuration.bucketArn
  >icebergConfiguration.s3Configuration.bucketArn
macie2 ClassificationExportConfiguration! >s3Destination.bucketName
mailmanager RuleSet >rules[*].actions[*].writeToS3.s3Bucket
msk Replicator >kafkaClusters[*].amazonMskCluster.mskClusterArn
observabilityadmin CentralizationRuleForOrganization @rule.destination.region
  @rule.destination.destinationLogsConfiguration.backupConfiguration.region
pipes Pipe >target
qldb Stream >kinesisConfiguration.streamArn
rds ExportTask! <sourceArn >s3BucketName Integration >targetArn
redshift SnapshotCopy! <clusterIdentifier @destinationRegion Logging! <clusterIdentifier >bucketName
  Integration >targetArn
route53 QueryLog! <zoneId >cloudwatchLogGroupArn ResolverQueryLogConfig >destinationArn
s3 Bucket >replicationConfiguration.rules[*].destination.bucket >logging.targetBucket BucketV2
  >replicationConfigurations[*].rules[*].destinations[*].bucket >loggings[*].targetBucket
  BucketReplicationConfig! <bucket >rules[*].destination.bucket Inventory! <bucket
  >destination.bucket.bucketArn AnalyticsConfiguration! <bucket
  >storageClassAnalysis.dataExport.destination.s3BucketDestination.bucketArn BucketLogging! <bucket
  >targetBucket BucketLoggingV2! <bucket >targetBucket
s3control MultiRegionAccessPoint! >details.regions[*].bucket
s3tables TableBucketReplication! <tableBucketArn >rule.destinations[*].destinationTableBucketArn
  TableReplication! <tableArn >rule.destinations[*].destinationTableBucketArn
secretsmanager Secret @replicas[*].region
securitylake DataLake @configuration.region @configuration.replicationConfiguration.regions[*]
ses ReceiptRule! >s3Actions[*].bucketName EventDestination! >kinesisDestination.streamArn
sesv2 ConfigurationSetEventDestination! >eventDestination.kinesisFirehoseDestination.deliveryStreamArn
ssm ResourceDataSync! @s3Destination.region
ssmincidents ReplicationSet @regions[*].name
timestreamquery ScheduledQuery >errorReportConfiguration.s3Configuration.bucketName
wafv2 WebAclLoggingConfiguration! <resourceArn >logDestinationConfigs[*]
"""

_GCP = """
alloydb Cluster @automatedBackupPolicy.location
backupdisasterrecovery BackupPlan! >backupVault
bigquery DataTransferConfig! >destinationDatasetId Job >extract.destinationUris[*]
  >copy.destinationTable.datasetId >query.destinationTable.datasetId >load.destinationTable.datasetId
cloudasset ProjectFeed! >feedOutputConfig.pubsubDestination.topic FolderFeed!
  >feedOutputConfig.pubsubDestination.topic OrganizationFeed! >feedOutputConfig.pubsubDestination.topic
compute DiskAsyncReplication! <primaryDisk >secondaryDisk.disk
  ResourcePolicy#snapshotSchedulePolicy.snapshotProperties.labels
  @snapshotSchedulePolicy.snapshotProperties.storageLocations
container Cluster#resourceLabels >resourceUsageExportConfig.bigqueryDestination.datasetId
datastream Stream >destinationConfig.destinationConnectionProfile
logging FolderSettings! @storageLocation OrganizationSettings! @storageLocation
logging ProjectSink! >destination FolderSink! >destination OrganizationSink! >destination
  BillingAccountSink! >destination LinkedDataset! <bucket >bucket
netapp VolumeReplication >destinationVolumeParameters.storagePool
pubsub Subscription >cloudStorageConfig.bucket
securitycenter ProjectSccBigQueryExport! >dataset V2ProjectSccBigQueryExport! >dataset
spanner InstanceConfig @replicas[*].location
sql DatabaseInstance#settings.userLabels @settings.backupConfiguration.location
storage Bucket >logging.logBucket TransferJob! >transferSpec.gcsDataSink.bucketName InsightsReportConfig!
  >objectMetadataReportOptions.storageDestinationOptions.bucket
"""

_CLOUDFLARE = """
index LogpushJob! >destinationConf
"""


def _movers(cloud: str, text: str, tags: str) -> Mapping[str, Mover]:
    return {
        token(cloud, module, name): Mover(
            paths(marks, "@"),
            paths(marks, ">"),
            paths(marks, "<"),
            "" if any(mark.sign == "!" for mark in marks) else next(iter(paths(marks, "#")), tags),
        )
        for module, name, marks in rows(text)
    }


MOVERS: Mapping[str, Mover] = {
    **_movers("aws", _AWS, "tags"),
    **_movers("gcp", _GCP, "labels"),
    **_movers("cloudflare", _CLOUDFLARE, ""),
}
"""Every type of the three clouds that sends content somewhere, by its token."""
