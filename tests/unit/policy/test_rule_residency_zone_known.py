"""What holds data names its residency zone."""

import pytest

from mailinfra_policy.resource import Provider
from mailinfra_policy.rules.residency_zone_known import RULE
from mailinfra_policy.stores import STORES
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import ZONES, changed, found, places, resource, settings
from tests.residency_helpers import OWNERS, TAGS, store

GOOD = [[*OWNERS, store(token, own=True)] for token in STORES]

QUEUE = resource("aws:sqs/queue:Queue", "queue", {"tags": TAGS})
OBJECT = resource("aws:s3/bucketObject:BucketObject", "object", {"bucket": "mail"})
BUCKET = resource("aws:s3/bucket:Bucket", "bucket", {"bucket": "mail", "tags": TAGS})


@pytest.mark.parametrize("zone", ["EU", "eu ", "", "europe", "eu-central-1"])
def test_a_name_that_is_no_zone_is_found(zone: str) -> None:
    (item,) = found(RULE, [changed(QUEUE, tags={"residency-zone": zone})])
    assert item.finding.path == "tags.residency-zone"
    assert item.finding.allowed == "one of the zones eu, us"


def test_no_zone_is_found() -> None:
    (item,) = found(RULE, [changed(QUEUE, tags={"Residency-Zone": "eu"})])
    assert item.finding.found == "nothing"


@pytest.mark.parametrize("tags", [UNKNOWN, {"residency-zone": UNKNOWN}])
def test_unknown_is_found_and_said(tags: object) -> None:
    (item,) = found(RULE, [changed(QUEUE, tags=tags)])
    assert item.finding.unknown


def test_the_providers_tags_count() -> None:
    tagged = Provider("pulumi:providers:aws", {"region": "eu-central-1", "defaultTags": {"tags": TAGS}})
    assert found(RULE, [resource("aws:sqs/queue:Queue", "queue", provider=tagged)]) == []


def test_an_ancestor_says_it_for_its_children() -> None:
    grand = resource("example:index:Region", "region", {"tags": TAGS})
    child = resource("example:index:Queues", "queues", parent=grand.urn)
    queue = resource("aws:sqs/queue:Queue", "queue", parent=child.urn)
    assert found(RULE, [grand, child, queue]) == []
    assert places(RULE, [child, queue]) == [("queue", "tags.residency-zone")]


def test_what_it_belongs_to_says_it() -> None:
    assert found(RULE, [BUCKET, OBJECT]) == []
    assert places(RULE, [changed(BUCKET, tags=None), OBJECT]) == [
        ("bucket", "tags.residency-zone"),
        ("object", "tags.residency-zone"),
    ]
    assert places(RULE, [BUCKET, changed(OBJECT, bucket="another")]) == [("object", "tags.residency-zone")]


def test_the_config_says_it_for_what_can_carry_no_tag() -> None:
    user = resource("aws:identitystore/user:User", "anna")
    assert places(RULE, [user]) == [("anna", "")]
    zones = {**ZONES, "eu": {**ZONES["eu"], "resources": ["aws:identitystore/user:User::a*"]}}
    assert found(RULE, [user], settings(zones=zones)) == []
    assert found(RULE, [changed(QUEUE, tags=TAGS)], settings(zones=zones)) == []


def test_the_stacks_zone_is_the_last_to_be_asked() -> None:
    assert found(RULE, [changed(QUEUE, tags=None)], settings(zone="eu")) == []
    assert places(RULE, [changed(QUEUE, tags={"residency-zone": "x"})], settings(zone="eu")) == [
        ("queue", "tags.residency-zone")
    ]


def test_labels_that_are_not_at_the_top() -> None:
    database = resource("gcp:sql/databaseInstance:DatabaseInstance", "db", {"settings": {"userLabels": TAGS}})
    assert found(RULE, [database]) == []
    assert places(RULE, [changed(database, settings={"tier": "x"})]) == [
        ("db", "settings.userLabels.residency-zone")
    ]


def test_what_holds_no_data_needs_no_zone() -> None:
    assert found(RULE, [resource("aws:ec2/vpc:Vpc"), resource("gcp:kms/keyRing:KeyRing")]) == []
