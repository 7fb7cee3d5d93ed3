"""Which types hold content, and where a resource of such a type says that it lies.

Content is what someone may want to know the country of: files, disks and their copies, databases, directories,
messages, logs, keys and secrets, backups, indexes, caches, models. Not in the tables: what only describes (networks,
roles, policies), what is published to everybody by design (DNS zones, CDN configuration), and code without data.
Types that cannot be tied to a place at all are `mailinfra_policy.rules.residency_global`'s business.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mailinfra_policy.location import Site, inside, site_of
from mailinfra_policy.movers import MOVERS, Mover
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.table import paths, rows, token
from mailinfra_policy.values import UNKNOWN, Value, show


@dataclass(frozen=True)
class Store:
    """How a type that holds content says where it lies, and to which zone it belongs.

    `places` are the inputs that name its place, `exact` one that names it better when it is there, `more` further
    inputs that each name a place of it; `nets` refer to a subnet whose availability zone counts. `owners` refer to
    what it belongs to: its zone is theirs, and where it has no `places`, its place is. `tags` is the input that holds
    its tags or labels, `""` if it can carry none. Where no input says it, the `provider`'s input of that name does,
    or else the cloud's own `default`.
    """

    places: tuple[str, ...] = ()
    exact: str = ""
    more: tuple[str, ...] = ()
    nets: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    tags: str = ""
    provider: str = ""
    default: str = ""


@dataclass(frozen=True)
class Spot:
    """One place of a resource: the input that names it (`""`: not an input), what stands there, and what it stands for
    (None: no place that there is)."""

    path: str
    text: str
    site: Site | None = None
    unknown: bool = False


# A line is a module and its types. After a type: `!` it has no tags; `@x` an input with an availability zone (or other
# place) besides its region; `~x` a subnet; `<x` the input that names what it belongs to. Its region is its own `region`
# input, or else its provider's.
_AWS = """
acmpca CertificateAuthority
agentregistry Registry
amp Workspace
amplify App
appconfig HostedConfigurationVersion!<applicationId
appfabric AppBundle
appstream Stack ImageBuilder
appsync ApiCache!<apiId
athena Workgroup Database!<bucket
auditmanager Assessment
backup Vault LogicallyAirGappedVault
bedrock AgentAgent AgentKnowledgeBase CustomModel AgentcoreMemory
cfg Recorder!
chime SdkvoiceVoiceProfileDomain
cloud9 EnvironmentEC2~subnetId
cloudhsmv2 Cluster Hsm!@availabilityZone~subnetId<clusterId
cloudsearch Domain!
cloudtrail EventDataStore Trail
cloudwatch LogGroup LogStream!<logGroupName EventBus EventArchive!<eventSourceArn
codeartifact Domain Repository
codebuild ReportGroup
codecommit Repository
codegurureviewer RepositoryAssociation
codeguruprofiler ProfilingGroup
cognito UserPool IdentityPool User!<userPoolId
comprehend DocumentClassifier EntityRecognizer
connect Instance User
customerprofiles Domain Profile!<domainName
dataexchange DataSet
datazone Domain
dax Cluster@availabilityZones[*]
detective Graph
directoryservice Directory
directoryservicedata User!<directoryId
dms ReplicationInstance@availabilityZone ReplicationConfig
docdb Cluster@availabilityZones[*] ClusterInstance@availabilityZone ClusterSnapshot!<dbClusterIdentifier
  ElasticCluster
dsql Cluster
dynamodb Table TableItem!<tableName TableReplica<globalTableArn
ebs Snapshot SnapshotCopy SnapshotImport Volume@availabilityZone VolumeCopy
ec2 Ami AmiCopy AmiFromInstance Instance@availabilityZone~subnetId
  SpotInstanceRequest@availabilityZone~subnetId SpotFleetRequest
ecr Repository
efs FileSystem@availabilityZoneName
eks Cluster NodeGroup
elasticache Cluster@availabilityZone@preferredAvailabilityZones[*]
  ReplicationGroup@preferredCacheClusterAzs[*] ServerlessCache
elasticbeanstalk ApplicationVersion
elasticsearch Domain
emr Cluster Studio
emrserverless Application
finspace KxEnvironment KxDatabase KxVolume@availabilityZones[*]
fsx Backup FileCache LustreFileSystem OntapFileSystem OntapStorageVirtualMachine OntapVolume
  OpenZfsFileSystem OpenZfsSnapshot OpenZfsVolume WindowsFileSystem
gamelift Build Script
glacier Vault
glue Catalog CatalogDatabase CatalogTable!<databaseName Registry Schema MLTransform
grafana Workspace
guardduty Detector
identitystore User! Group!
imagebuilder Image
kendra Index Faq DataSource Thesaurus
keyspaces Keyspace Table
kinesis Stream VideoStream FirehoseDeliveryStream AnalyticsApplication
kinesisanalyticsv2 Application ApplicationSnapshot!<applicationName
kms Key ExternalKey ReplicaKey ReplicaExternalKey CustomKeyStore!
lambda LayerVersion!
lightsail Bucket Database@availabilityZone Disk@availabilityZone Instance@availabilityZone
location Tracker GeofenceCollection
m2 Environment
mailmanager Archive
mediastore Container
memorydb Cluster Snapshot
mq Broker
msk Cluster ServerlessCluster Topic!<clusterArn
mwaa Environment
neptune Cluster@availabilityZones[*] ClusterInstance@availabilityZone ClusterSnapshot!<dbClusterIdentifier
neptunegraph Graph
odb AutonomousDatabase CloudVmCluster CloudExadataInfrastructure@availabilityZone@availabilityZoneId
  CloudAutonomousVmCluster
opensearch Domain ServerlessCollection Package!
opensearchingest Pipeline
paymentcryptography Key
pinpoint App
qbusiness Application
qldb Ledger
quicksight DataSet
rds Cluster@availabilityZones[*] Instance@availabilityZone ClusterInstance@availabilityZone ClusterSnapshot
  ClusterSnapshotCopy@destinationRegion Snapshot SnapshotCopy@destinationRegion
  InstanceAutomatedBackupsReplication!<sourceDbInstanceArn CustomDbEngineVersion ShardGroup
  ClusterActivityStream!<resourceArn
redshift Cluster@availabilityZone ClusterSnapshot
redshiftserverless Namespace Snapshot!<namespaceName Workgroup
rekognition Collection Project
s3 Bucket BucketV2 BucketObject<bucket BucketObjectv2<bucket ObjectCopy<bucket DirectoryBucket@location.name
  VectorsVectorBucket VectorsIndex FilesFileSystem
s3control Bucket
s3tables TableBucket Table<tableBucketArn
sagemaker Domain FeatureGroup Model ModelPackageGroup NotebookInstance~subnetId MlflowTrackingServer
  MlflowApp Image Hub Space LabelingJob TrainingJob ModelCard
secretsmanager Secret SecretVersion!<secretId
sesv2 ContactList
sfn StateMachine Activity
sns Topic
sqs Queue
ssm Parameter
ssmcontacts Contact
storagegateway NfsFileShare SmbFileShare CachesIscsiVolume StoredIscsiVolume TapePool
swf Domain
synthetics Canary
timestreaminfluxdb DbCluster DbInstance
timestreamwrite Database Table
transcribe LanguageModel Vocabulary MedicalVocabulary
transfer Server
workmail Organization User!<organizationId
workspaces Directory Workspace Pool
workspacesweb Portal
"""

# After a type: `!` no labels, `#x` the input with its labels where this is not `labels`; `@x` the input that names its
# place (`?`: or else the provider's region or zone, `=US`: or else that), `^x` one that says it better, `&x` a further
# one; `<x` the input that names what it belongs to, and lies with where it has no place of its own.
_GCP = """
activedirectory Domain@locations[*]
alloydb Backup@location Cluster@location Instance<cluster
apigee Instance!@location Organization!@analyticsRegion
apihub ApiHubInstance@location
appengine Application!@locationId
artifactregistry Repository@location?
backupdisasterrecovery BackupVault@location ManagementServer!@location
biglake Catalog!@location
bigquery Connection!@location=US DataTransferConfig!@location=US Dataset@location=US Job@location=US
  Table<datasetId
bigqueryanalyticshub DataExchange!@location Listing!@location
bigtable Instance@clusters[*].zone Table!<instanceName
certificateauthority Authority@location CaPool@location
chronicle DataTable!@location ReferenceList!@location
cloudtasks Queue!@location
colab Runtime!@location
composer Environment@region?
compute Disk@zone? RegionDisk@region?&replicaZones[*] Image@storageLocations[*] Snapshot@storageLocations[*]
  InstantSnapshot@zone? RegionInstantSnapshot@region? Instance@zone? InstanceFromMachineImage@zone?
  InstanceFromTemplate@zone? StoragePool@zone?
container Cluster#resourceLabels@location?&nodeLocations[*] NodePool!@location?<cluster&nodeLocations[*]
  Registry!@location=US
databasemigrationservice MigrationJob@location?
dataflow Job@region? FlexTemplateJob@region?
dataform Repository@region?
datafusion Instance@region?
dataplex Lake@location
dataproc Cluster@region? MetastoreService@location?
datastream Stream@location ConnectionProfile@location
diagflow CxAgent!@location
discoveryengine DataStore!@location UserStore!@location SearchEngine!@location
edgecontainer Cluster@location
essentialcontacts DocumentAiProcessor!@location DocumentAiWarehouseLocation!@location
eventarc MessageBus@location Channel@location Pipeline@location
filestore Instance@location? Backup@location Snapshot@location
firebase DatabaseInstance!@region StorageDefaultBucket!@location DataConnectService@location
firestore Database!@locationId Document!<database
gemini CodeRepositoryIndex@location
gkebackup BackupPlan@location RestorePlan@location
healthcare Dataset!@location FhirStore<dataset DicomStore<dataset Hl7Store<dataset ConsentStore<dataset
kms CryptoKey<keyRing CryptoKeyVersion!<cryptoKey KeyRingImportJob!<keyRing KeyHandle!@location
  EkmConnection!@location
logging ProjectBucketConfig!@location FolderBucketConfig!@location OrganizationBucketConfig!@location
  BillingAccountBucketConfig!@location
looker Instance!@region?
lustre Instance@location
managedkafka Cluster@location Topic!@location
memcache Instance@region?
memorystore Instance@location
netapp StoragePool@location Volume@location Backup@location BackupVault@location VolumeSnapshot@location
observability Bucket!@location
oracledatabase AutonomousDatabase@location CloudVmCluster@location DbSystem@location
  CloudExadataInfrastructure@location ExadbVmCluster@location ExascaleDbStorageVault@location
parallelstore Instance@location
parametermanager RegionalParameter@location RegionalParameterVersion!<parameter
pubsub Topic@messageStoragePolicy.allowedPersistenceRegions[*] Subscription<topic LiteTopic!@region?
  LiteSubscription!@region?
redis Cluster@region? Instance@region?&locationId&alternativeLocationId
secretmanager RegionalSecret@location RegionalSecretVersion!<secret
  Secret@replication.userManaged.replicas[*].location SecretVersion!<secret
securesourcemanager Instance@location Repository!@location
spanner Instance@config Database!<instance InstancePartition!@config
sql DatabaseInstance#settings.userLabels@region? Database!<instance User!<instance
storage Bucket@location^customPlacementConfig.dataLocations[*] BucketObject!<bucket AnywhereCache!@zone
tpu V2Vm@zone?
vectorsearch Collection@location
vertex AiDataset@region? AiFeatureStore@region? AiFeatureOnlineStore@region? AiFeatureGroup@region?
  AiIndex@region? AiMetadataStore!@region? AiTensorboard@region? AiRagCorpus!@region
  AiPersistentResource@location? AiReasoningEngine@region?
vmwareengine PrivateCloud!@location Datastore!@location
workbench Instance@location
workstations Workstation@location
"""


def _aws() -> Iterator[tuple[str, Store]]:
    for module, name, marks in rows(_AWS):
        yield (
            token("aws", module, name),
            Store(
                places=("region",),
                more=paths(marks, "@"),
                nets=paths(marks, "~"),
                owners=paths(marks, "<"),
                tags="" if any(mark.sign == "!" for mark in marks) else "tags",
                provider="region",
            ),
        )


def _gcp() -> Iterator[tuple[str, Store]]:
    for module, name, marks in rows(_GCP):
        places = paths(marks, "@")
        other = next((mark.rest for mark in marks if mark.sign == "@"), "")
        yield (
            token("gcp", module, name),
            Store(
                places=places,
                exact=next(iter(paths(marks, "^")), ""),
                more=paths(marks, "&"),
                owners=paths(marks, "<"),
                tags=""
                if any(mark.sign == "!" for mark in marks)
                else next(iter(paths(marks, "#")), "labels"),
                provider=("zone" if places == ("zone",) else "region") if other == "?" else "",
                default=other.removeprefix("=") if other.startswith("=") else "",
            ),
        )


STORES: Mapping[str, Store] = dict([*_aws(), *_gcp()])
"""Every type of AWS and Google Cloud that holds content and lies somewhere, by its token."""

_OTHERS = {
    "aws": Store(places=("region",), more=("availabilityZone",), tags="tags", provider="region"),
    "gcp": Store(places=("location", "region", "zone"), tags="labels"),
}


def spots(resource: Resource, stack: Stack) -> Iterator[Spot]:
    """Every place that a resource lies in, from its own inputs, what it belongs to, its provider, or its ARN or
    self-link. Never empty: what says nothing has one spot without a site."""
    return _spots(resource, stack, frozenset())


def regions(resource: Resource, stack: Stack) -> frozenset[str]:
    """The regions that a resource lies in; `?` where they cannot be told."""
    found = frozenset(region for spot in spots(resource, stack) if spot.site for region in spot.site.regions)
    return found or frozenset({"?"})


def _spots(resource: Resource, stack: Stack, seen: frozenset[str]) -> Iterator[Spot]:
    store = STORES.get(resource.type) or _OTHERS.get(resource.cloud)
    if store is None or resource.urn in seen:
        yield Spot("", "no known place")
        return
    own = _inputs(resource, (store.exact,)) if store.exact else []
    own = own or _inputs(resource, store.places)
    if not own and not store.places:
        own = [
            found
            for path in store.owners
            for found in reference(resource, path, resource.get(path), stack, seen | {resource.urn})
        ]
    yield from own or _elsewhere(resource, store)
    yield from _inputs(resource, store.more)
    for path in store.nets:
        yield from _subnet(resource, path, stack)


def _inputs(resource: Resource, paths: tuple[str, ...]) -> list[Spot]:
    return [
        named(resource.cloud, concrete, value)
        for path in paths
        for concrete, value in resource.each(path)
        if value is UNKNOWN or value not in (None, "")
    ]


def named(cloud: str, path: str, value: Value) -> Spot:
    """The spot of an input that names a place of a cloud."""
    if value is UNKNOWN:
        return Spot(path, show(value), unknown=True)
    return Spot(path, show(value), site_of(cloud, value) if isinstance(value, str) else None)


def _elsewhere(resource: Resource, store: Store) -> list[Spot]:
    """What inputs do not say: the provider, the cloud's default, at last the ARN or self-link that it has got."""
    path = next(iter((*store.places, *store.owners)), "").split("[", 1)[0]
    value = resource.provider.props.get(store.provider) if resource.provider and store.provider else None
    if value is UNKNOWN:
        return [Spot(path, f"the provider's {store.provider}, {UNKNOWN}", unknown=True)]
    if isinstance(value, str) and value:
        said = f"{show(value)}, the provider's {store.provider}"
        return [Spot(path, said, site_of(resource.cloud, value))]
    if store.default:
        said = f"{show(store.default)}, which is the cloud's default"
        return [Spot(path, said, site_of(resource.cloud, store.default))]
    for name in ("arn", "selfLink", "id") if store.provider else ():
        text = resource.id if name == "id" else resource.outputs.get(name)
        if isinstance(text, str) and (found := inside(text)):
            return [Spot(path, f"{show(text)}, its {name}", found)]
    return [Spot(path, "no known place")]


def _subnet(resource: Resource, path: str, stack: Stack) -> Iterator[Spot]:
    for subnet in stack.referred(
        resource, path, "aws:ec2/subnet:Subnet", "aws:ec2/defaultSubnet:DefaultSubnet"
    ):
        for found in _inputs(subnet, ("availabilityZone", "availabilityZoneId")):
            yield Spot(path, f"a subnet in {found.text}", found.site, found.unknown)


# How a cloud's other services write the name of a store: the text before the name, its types, the input with the name.
_BUCKETS = ("aws:s3/bucket:Bucket", "aws:s3/bucketV2:BucketV2", "aws:s3/directoryBucket:DirectoryBucket")
_WRITTEN = (
    (re.compile(r"arn:aws:s3:::(?P<name>[^/]+)(?:/.*)?"), _BUCKETS, "bucket"),
    (re.compile(r"s3://(?P<name>[^/?]+)(?:[/?].*)?"), _BUCKETS, "bucket"),
    (re.compile(r"(?P<name>[a-z0-9.-]+)\.s3\.amazonaws\.com"), _BUCKETS, "bucket"),
    (
        re.compile(r"(?:gs://|storage\.googleapis\.com/)(?P<name>[^/]+)(?:/.*)?"),
        ("gcp:storage/bucket:Bucket",),
        "name",
    ),
    (
        re.compile(r"(?:bigquery\.googleapis\.com/)?projects/[^/]+/datasets/(?P<name>[^/]+)(?:/.*)?"),
        ("gcp:bigquery/dataset:Dataset",),
        "datasetId",
    ),
    (
        re.compile(r"(?:pubsub\.googleapis\.com/)?projects/[^/]+/topics/(?P<name>[^/]+)"),
        ("gcp:pubsub/topic:Topic",),
        "name",
    ),
)
# Names that stand alone, by the input that holds them.
_BARE = {
    "datasetId": (("gcp:bigquery/dataset:Dataset",), "datasetId"),
    "destinationDatasetId": (("gcp:bigquery/dataset:Dataset",), "datasetId"),
}


def reference(
    resource: Resource, path: str, value: Value, stack: Stack, seen: frozenset[str] = frozenset()
) -> list[Spot]:
    """The places of what an input refers to: by the region inside an ARN or self-link, else by the resource of the
    stack that it means. A reference to something that nobody here knows has a spot without a site."""
    if value in (None, "") and value is not UNKNOWN:
        return []
    if isinstance(value, str):
        if found := inside(value):
            return [Spot(path, show(value), found)]
        others = _meant(resource, path, value, stack)
    else:
        others = stack.referred(resource, path)
    places = [
        Spot(path, f"{other.type}::{other.name} in {spot.text}", spot.site, spot.unknown)
        for other in others
        if other.type in STORES or (_placed(other) and value is not UNKNOWN) or other.type in _HOLDERS
        for spot in _spots(other, stack, seen)
    ]
    if places:
        return places
    if value is UNKNOWN:
        return [Spot(path, show(value), unknown=True)]
    return [Spot(path, f"{show(value)}, of which the place is not known")]


# They hold no content themselves, but what they hold lies with them.
_HOLDERS = frozenset({"gcp:kms/keyRing:KeyRing"})


def _placed(resource: Resource) -> bool:
    return any(isinstance(resource.props.get(name), str) for name in ("location", "region", "zone"))


def _meant(resource: Resource, path: str, text: str, stack: Stack) -> list[Resource]:
    for pattern, types, name in _WRITTEN:
        if match := pattern.fullmatch(text):
            return [other for other in stack.of(*types) if match["name"] in _known_as(other, name)]
    last = re.split(r"[.\[]", path)[-1]
    if last in _BARE:
        types, name = _BARE[last]
        return [other for other in stack.of(*types) if text in _known_as(other, name)]
    # What merely belongs to the same thing has its name too: it is not meant.
    return [
        other
        for other in stack.named(text)
        if not any(other.get(owner) == text for owner in owners_of(other)) and other.urn != resource.urn
    ]


def _known_as(resource: Resource, name: str) -> set[Value]:
    """What a resource is called: never an unhashable or unknown thing."""
    texts = (resource.props.get(name), resource.outputs.get(name), resource.id)
    return {text for text in texts if isinstance(text, str)}


def owners_of(resource: Resource) -> tuple[str, ...]:
    """The inputs that refer to what a resource is a part of."""
    tables: tuple[Mapping[str, Store | Mover], ...] = (STORES, MOVERS)
    found = [path for table in tables if resource.type in table for path in table[resource.type].owners]
    return tuple(dict.fromkeys(found))


def belongs_to(resource: Resource, stack: Stack) -> Iterator[Resource]:
    """The resources of the stack that a resource is a part of by reference."""
    for path in owners_of(resource):
        value = resource.get(path)
        if isinstance(value, str):
            yield from _meant(resource, path, value, stack)
        else:
            yield from stack.referred(resource, path)
