"""Copies, exports and logs stay in the residency zone."""

import pytest

from mailinfra_policy.movers import MOVERS
from mailinfra_policy.resource import Provider, Resource
from mailinfra_policy.rules.residency_destination import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource
from tests.residency_helpers import OWNERS, TAGS, mover

GOOD = [[*OWNERS, mover(token)] for token in MOVERS]

US = {"residency-zone": "us"}
HERE = resource("aws:s3/bucket:Bucket", "here", {"bucket": "here", "tags": TAGS})
THERE = resource(
    "aws:s3/bucket:Bucket",
    "there",
    {"bucket": "there", "tags": US},
    provider=Provider("pulumi:providers:aws", {"region": "us-east-1"}),
)


def replication(bucket: object) -> Resource:
    return resource(
        "aws:s3/bucketReplicationConfig:BucketReplicationConfig",
        "copy",
        {"bucket": "here", "rules": [{"destination": {"bucket": bucket}}]},
    )


def test_a_bucket_of_the_stack_is_judged_where_it_lies() -> None:
    near = resource("aws:s3/bucket:Bucket", "near", {"bucket": "near", "region": "eu-west-1", "tags": TAGS})
    assert found(RULE, [HERE, near, replication("arn:aws:s3:::near")]) == []
    (item,) = found(RULE, [HERE, THERE, replication("arn:aws:s3:::there")])
    assert item.finding.path == "rules[0].destination.bucket"
    assert "aws:s3/bucket:Bucket::there" in item.finding.found and item.finding.found.endswith(": US")


def test_a_bucket_that_nobody_knows_is_found() -> None:
    (item,) = found(RULE, [HERE, replication("arn:aws:s3:::elsewhere")])
    assert "not known" in item.finding.found


def test_a_bucket_that_is_not_made_yet_is_known_by_what_the_input_was_made_from() -> None:
    for bucket, expected in ((HERE, 0), (THERE, 1)):
        made = resource(
            "aws:s3/bucketReplicationConfig:BucketReplicationConfig",
            "copy",
            {"bucket": "here"},
            property_dependencies={"rules": (bucket.urn,)},
        )
        made = changed(made, rules=[{"destination": {"bucket": UNKNOWN}}])
        assert len(found(RULE, [HERE, THERE, made])) == expected


def test_unknown_is_found_and_said() -> None:
    (item,) = found(RULE, [HERE, replication(UNKNOWN)])
    assert item.finding.unknown


@pytest.mark.parametrize(
    ("arn", "fits"),
    [
        ("arn:aws:backup:eu-west-1:111122223333:backup-vault:second", True),
        ("arn:aws:backup:us-east-1:111122223333:backup-vault:second", False),
        ("arn:aws:backup:eu-west-9:111122223333:backup-vault:second", False),
        ("arn:aws-cn:backup:cn-north-1:111122223333:backup-vault:second", False),
    ],
)
def test_a_copy_action(arn: str, fits: bool) -> None:
    plan = resource(
        "aws:backup/plan:Plan",
        "plan",
        {"tags": TAGS, "rules": [{"copyActions": [{"destinationVaultArn": arn}]}]},
    )
    expected = [] if fits else [("plan", "rules[0].copyActions[0].destinationVaultArn")]
    assert places(RULE, [plan]) == expected


@pytest.mark.parametrize(
    ("bucket", "fits"),
    [
        ("here.s3.amazonaws.com", True),
        ("there.s3.amazonaws.com", False),
        ("logs.s3.eu-west-1.amazonaws.com", True),
    ],
)
def test_the_log_of_a_cdn(bucket: str, fits: bool) -> None:
    cdn = resource(
        "aws:cloudfront/distribution:Distribution", "cdn", {"tags": TAGS, "loggingConfig": {"bucket": bucket}}
    )
    assert places(RULE, [HERE, THERE, cdn]) == ([] if fits else [("cdn", "loggingConfig.bucket")])


def test_each_replica_is_judged() -> None:
    secret = resource(
        "aws:secretsmanager/secret:Secret",
        "secret",
        {"tags": TAGS, "replicas": [{"region": "eu-west-1"}, {"region": "us-east-1"}, {"region": "EU"}]},
    )
    assert places(RULE, [secret]) == [("secret", "replicas[1].region"), ("secret", "replicas[2].region")]


@pytest.mark.parametrize(
    ("destination", "fits"),
    [
        ("logging.googleapis.com/projects/p/locations/europe-west3/buckets/b", True),
        ("logging.googleapis.com/projects/p/locations/global/buckets/_Default", False),
        ("logging.googleapis.com/projects/p", False),
        ("storage.googleapis.com/logs", True),
        ("storage.googleapis.com/log", False),
        ("bigquery.googleapis.com/projects/p/datasets/logs", False),
        ("pubsub.googleapis.com/projects/p/topics/logs", False),
        ("europe-west3", False),
    ],
)
def test_a_log_sink(destination: str, fits: bool) -> None:
    group = resource("example:index:Group", "group", {"tags": TAGS})
    logs = resource(
        "gcp:storage/bucket:Bucket", "bucket", {"name": "logs", "location": "EUROPE-WEST3", "labels": TAGS}
    )
    sink = resource(
        "gcp:logging/projectSink:ProjectSink", "sink", {"destination": destination}, parent=group.urn
    )
    assert places(RULE, [group, logs, sink]) == ([] if fits else [("sink", "destination")])


@pytest.mark.parametrize(
    ("backups", "expected"),
    [
        ({"enabled": True, "location": "europe-west4"}, []),
        ({"enabled": True}, ["settings.backupConfiguration.location"]),
        ({"enabled": UNKNOWN}, ["settings.backupConfiguration.location"]),
        ({"enabled": False}, []),
        ({"enabled": True, "location": "eu"}, ["settings.backupConfiguration.location"]),
        ({"enabled": True, "location": "us-east1"}, ["settings.backupConfiguration.location"]),
    ],
)
def test_backups_whose_place_google_would_choose(backups: dict[str, object], expected: list[str]) -> None:
    database = resource(
        "gcp:sql/databaseInstance:DatabaseInstance",
        "db",
        {"settings": {"userLabels": TAGS, "backupConfiguration": backups}},
    )
    assert [path for _, path in places(RULE, [database])] == expected


@pytest.mark.parametrize(
    ("destination", "fits"),
    [
        ("s3://logs/mail?region=eu-central-1", True),
        ("s3://logs/mail?region=us-east-1", False),
        ("https://logs.example.test/in", False),
        ("r2://logs/mail?account-id=a", False),
    ],
)
def test_logpush(destination: str, fits: bool) -> None:
    group = resource("example:index:Group", "group", {"tags": TAGS})
    job = resource(
        "cloudflare:index/logpushJob:LogpushJob", "job", {"destinationConf": destination}, parent=group.urn
    )
    assert places(RULE, [group, job]) == ([] if fits else [("job", "destinationConf")])


def test_what_sends_nothing_needs_no_zone() -> None:
    assert (
        found(RULE, [resource("aws:secretsmanager/secret:Secret"), resource("aws:dynamodb/table:Table")])
        == []
    )


def test_what_sends_without_a_zone_is_found() -> None:
    flow = resource(
        "aws:ec2/flowLog:FlowLog", "flow", {"logDestination": "arn:aws:logs:eu-west-1:1:log-group:x"}
    )
    assert places(RULE, [flow]) == [("flow", "tags.residency-zone")]


@pytest.mark.parametrize(
    ("zone", "location", "expected"),
    [
        ("eu", "europe-west3", []),
        ("eu", "us-central1", ["snapshotSchedulePolicy.snapshotProperties.storageLocations"]),
        ("us", "europe-west3", ["snapshotSchedulePolicy.snapshotProperties.storageLocations"]),
        ("", "europe-west3", ["snapshotSchedulePolicy.snapshotProperties.labels.residency-zone"]),
    ],
)
def test_a_snapshot_schedule_belongs_to_the_zone_that_its_snapshots_name(
    zone: str, location: str, expected: list[str]
) -> None:
    """A resource policy can carry no labels of its own; the snapshots that it makes can."""
    properties = {"storageLocations": location, "labels": {"residency-zone": zone} if zone else {}}
    policy = {"schedule": {"hourlySchedule": {"hoursInCycle": 1}}, "snapshotProperties": properties}
    schedule = resource(
        "gcp:compute/resourcePolicy:ResourcePolicy",
        "hourly",
        {"region": "europe-west3", "snapshotSchedulePolicy": policy},
    )
    assert [path for _, path in places(RULE, [schedule])] == expected
