"""What holds data lies in its residency zone."""

from typing import Any

import pytest

from mailinfra_policy.resource import Provider
from mailinfra_policy.rules.residency_region import RULE
from mailinfra_policy.stores import STORES
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings
from tests.residency_helpers import GCP_OWNER, OWNERS, TAGS, store

GOOD = [[*OWNERS, store(token, own=own)] for token in STORES for own in (True, False)]

QUEUE = resource("aws:sqs/queue:Queue", "queue", {"tags": TAGS})
VOLUME = resource("aws:ebs/volume:Volume", "disk", {"availabilityZone": "eu-central-1a", "tags": TAGS})
BUCKET = resource("gcp:storage/bucket:Bucket", "bucket", {"location": "EUROPE-WEST3", "labels": TAGS})
RING = resource("gcp:kms/keyRing:KeyRing", "ring", {"location": "europe-west3"}, id="ring")
KEY = resource("gcp:kms/cryptoKey:CryptoKey", "key", {"keyRing": "ring", "labels": TAGS})


def test_the_provider_tells_where_nothing_else_does() -> None:
    abroad = Provider("pulumi:providers:aws", {"region": "us-east-1"})
    (item,) = found(RULE, [resource("aws:sqs/queue:Queue", "queue", {"tags": TAGS}, provider=abroad)])
    assert item.finding.path == "region"
    assert item.finding.found == '"us-east-1", the provider\'s region: US'
    assert item.finding.allowed == "a place in zone eu (BE, DE, IE, NL)"


def test_its_own_region_goes_before_the_provider() -> None:
    assert places(RULE, [changed(QUEUE, region="us-east-1")]) == [("queue", "region")]
    abroad = Provider("pulumi:providers:aws", {"region": "us-east-1"})
    props = {"tags": TAGS, "region": "eu-west-1"}
    assert found(RULE, [resource("aws:sqs/queue:Queue", "queue", props, provider=abroad)]) == []


@pytest.mark.parametrize("provider", [None, Provider("pulumi:providers:aws", {})])
def test_no_known_region_is_found(provider: Provider | None) -> None:
    (item,) = found(RULE, [resource("aws:sqs/queue:Queue", "queue", {"tags": TAGS}, provider=provider)])
    assert "no known place" in item.finding.found


def test_the_arn_tells_what_the_provider_does_not() -> None:
    bare = Provider("pulumi:providers:aws", {})
    for region, expected in (("eu-west-1", 0), ("us-east-1", 1)):
        outputs = {"arn": f"arn:aws:sqs:{region}:111122223333:queue"}
        queue = resource("aws:sqs/queue:Queue", "queue", {"tags": TAGS}, provider=bare, outputs=outputs)
        assert len(found(RULE, [queue])) == expected


@pytest.mark.parametrize(
    "region",
    [
        "eu-central-11",
        "eu-central",
        "EU Central 1",
        "eu-central-1-x",
        "global",
        "eu",
        "de",
        "EU-CENTRAL-1",
        "europe-west3",
    ],
)
def test_a_name_that_is_no_region_is_found(region: str) -> None:
    (item,) = found(RULE, [changed(QUEUE, region=region)])
    assert item.finding.path == "region" and "nobody knows" in item.finding.found


@pytest.mark.parametrize(
    ("zone", "fits"),
    [
        ("eu-central-1b", True),
        ("euc1-az3", True),
        ("eu-central-1-ham-1a", True),
        ("eu-central-1-waw-1a", False),
        ("eu-central-1-wl1-ber-wlz-1", True),
        ("eu-west-3-wl1-cmn-wlz-1", False),
        ("eu-central-1-xyz-1a", False),
        ("us-east-1a", False),
    ],
)
def test_an_availability_zone_may_lie_in_another_country_than_its_region(zone: str, fits: bool) -> None:
    expected = [] if fits else [("disk", "availabilityZone")]
    assert places(RULE, [changed(VOLUME, availabilityZone=zone)]) == expected


def test_a_subnet_in_a_local_zone_counts() -> None:
    subnet = resource(
        "aws:ec2/subnet:Subnet", "net", {"availabilityZone": "eu-central-1-waw-1a"}, id="subnet-1"
    )
    server = resource("aws:ec2/instance:Instance", "server", {"subnetId": "subnet-1", "tags": TAGS})
    assert places(RULE, [subnet, server]) == [("server", "subnetId")]
    near = changed(subnet, availabilityZone="eu-central-1a")
    assert found(RULE, [near, server]) == []


EU = ["AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT"]
EU += ["LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"]


@pytest.mark.parametrize(
    ("location", "countries", "fits"),
    [
        ("EU", EU, True),
        ("EU", EU[1:], False),
        ("EUR4", ["BE", "FI", "NL"], True),
        ("EUR4", ["FI", "NL"], False),
        ("eur5", EU, False),
        ("US", ["US"], True),
        ("nam4", ["US"], True),
        ("nam14", ["US"], False),
        ("ASIA", ["TW", "HK", "JP", "KR", "IN", "SG", "ID", "TH"], True),
        ("ASIA", ["JP"], False),
        ("global", EU, False),
        ("europe-west3", ["DE"], True),
        ("europe-west33", ["DE"], False),
        ("eu-central-1", ["DE"], False),
        ("FR", EU, False),
    ],
)
def test_a_multi_region_is_judged_by_all_its_countries(
    location: str, countries: list[str], fits: bool
) -> None:
    conf = settings(zones={"eu": {"countries": countries}})
    assert places(RULE, [changed(BUCKET, location=location)], conf) == (
        [] if fits else [("bucket", "location")]
    )


def test_a_dual_region_of_choice_is_judged_by_what_was_chosen() -> None:
    chosen = {"dataLocations": ["EUROPE-WEST3", "EUROPE-WEST4"]}
    assert found(RULE, [changed(BUCKET, location="EU", customPlacementConfig=chosen)]) == []
    chosen = {"dataLocations": ["EUROPE-WEST3", "EUROPE-WEST9"]}
    assert places(RULE, [changed(BUCKET, location="EU", customPlacementConfig=chosen)]) == [
        ("bucket", "customPlacementConfig.dataLocations[1]")
    ]


def test_only_the_zones_regions_if_it_names_some() -> None:
    conf = settings(zones={"eu": {"countries": ["DE", "IE", "NL", "BE", "FI"], "regions": ["eu-central-1"]}})
    assert found(RULE, [QUEUE], conf) == []
    assert places(RULE, [changed(QUEUE, region="eu-west-1")], conf) == [("queue", "region")]
    assert places(RULE, [changed(BUCKET, location="EUR4")], conf) == [("bucket", "location")]


def test_a_key_lies_with_its_ring() -> None:
    assert found(RULE, [RING, KEY]) == []
    assert places(RULE, [changed(RING, location="us-east1"), KEY]) == [("key", "keyRing")]
    assert places(RULE, [changed(RING, location="global"), KEY]) == [("key", "keyRing")]
    assert places(RULE, [KEY]) == [("key", "keyRing")]
    long = "projects/p/locations/us-east1/keyRings/ring"
    assert places(RULE, [changed(KEY, keyRing=long)]) == [("key", "keyRing")]


def test_what_it_was_made_from_tells_where_its_ring_is() -> None:
    key = resource(
        "gcp:kms/cryptoKey:CryptoKey", "key", {"labels": TAGS}, property_dependencies={"keyRing": (RING.urn,)}
    )
    key = changed(key, keyRing=UNKNOWN)
    assert found(RULE, [RING, key]) == []
    assert places(RULE, [changed(RING, location="us-east1"), key]) == [("key", "keyRing")]


def test_a_topic_that_may_keep_messages_anywhere_is_found() -> None:
    topic = resource("gcp:pubsub/topic:Topic", "topic", {"labels": TAGS})
    assert places(RULE, [topic]) == [("topic", "messageStoragePolicy.allowedPersistenceRegions")]


def test_a_secret_of_googles_choice_is_found() -> None:
    secret = resource("gcp:secretmanager/secret:Secret", "s", {"labels": TAGS, "replication": {"auto": {}}})
    assert places(RULE, [secret]) == [("s", "replication.userManaged.replicas")]


def test_a_dataset_without_a_location_is_in_the_us() -> None:
    dataset = resource("gcp:bigquery/dataset:Dataset", "d", {"datasetId": "d", "labels": TAGS})
    assert places(RULE, [dataset]) == [("d", "location")]
    assert found(RULE, [changed(dataset, labels={"residency-zone": "us"})]) == []


def test_a_copy_of_a_database_lies_where_it_is_sent() -> None:
    copy = resource(
        "aws:rds/snapshotCopy:SnapshotCopy", "copy", {"destinationRegion": "us-west-2", "tags": TAGS}
    )
    assert places(RULE, [copy]) == [("copy", "destinationRegion")]


def test_another_zones_tag_is_found() -> None:
    (item,) = found(RULE, [changed(QUEUE, tags={"residency-zone": "us"})])
    assert item.finding.allowed == "a place in zone us (US)"


@pytest.mark.parametrize("props", [{"region": UNKNOWN}, {"region": None}])
def test_unknown_is_found_and_said(props: dict[str, Any]) -> None:
    unsure = Provider("pulumi:providers:aws", {"region": UNKNOWN})
    queue = resource("aws:sqs/queue:Queue", "queue", {"tags": TAGS}, provider=unsure)
    (item,) = found(RULE, [changed(queue, **props)])
    assert item.finding.unknown


def test_a_missing_zone_is_the_other_rules_business_while_that_one_is_applied() -> None:
    assert found(RULE, [changed(QUEUE, tags=None)]) == []
    off = settings(rules={"residency-zone-known": {"level": "off"}})
    assert places(RULE, [changed(QUEUE, tags=None)], off) == [("queue", "tags.residency-zone")]


def test_a_zone_that_may_be_anywhere() -> None:
    conf = settings(zones={"eu": {"countries": [], "anywhere": True}})
    assert found(RULE, [changed(QUEUE, region="us-east-1"), GCP_OWNER], conf) == []


@pytest.mark.parametrize(
    "token",
    ["aws:ec2/vpc:Vpc", "aws:iam/role:Role", "gcp:compute/network:Network", "cloudflare:index/zone:Zone"],
)
def test_what_holds_no_data_is_not_judged(token: str) -> None:
    assert found(RULE, [resource(token)]) == []
