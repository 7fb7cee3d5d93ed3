"""Audit logs and alarms, on either cloud."""

import json
from functools import cache
from typing import Any

from mailinfra_components import MailTraces, ProjectTraces
from mailinfra_components.traces import KEY_EVENTS, WRITERS, key_policy, topic_policy
from tests.declared import Program, declare

ARGS: dict[str, Any] = {
    "zone": "eu",
    "bucket": "traces-1",
    "storage_key": "key-1",
    "retention_days": 400,
    "rotation_days": 365,
    "deletion_window_days": 30,
    "operators": "operators@example.test",
    "network_id": "vpc-1",
}


@cache
def aws() -> Program:
    args = {**ARGS, "cloud": "aws", "region": "eu-central-1", "account": "123456789012"}
    return declare(lambda: MailTraces("traces", args))  # type: ignore[arg-type]


@cache
def gcp() -> Program:
    args = {**ARGS, "cloud": "gcp", "region": "europe-west3", "account": "example-mail"}
    return declare(lambda: MailTraces("traces", args))  # type: ignore[arg-type]


def test_everything_is_in_the_region_that_it_speaks_of() -> None:
    assert {r.inputs["region"] for r in aws().resources if r.type.startswith("aws:")} == {"eu-central-1"}
    assert gcp().named("traces-bucket").inputs["location"] == "europe-west3"


def test_the_trail_sees_calls_and_objects_and_can_be_validated() -> None:
    trail = aws().named("traces-trail").inputs
    assert trail["enableLogging"] is True and trail["enableLogFileValidation"] is True
    assert trail["isMultiRegionTrail"] is False
    assert trail["kmsKeyId"] == "arn:aws:test:::traces-key"
    categories = [s["fieldSelectors"][0]["equals"] for s in trail["advancedEventSelectors"]]
    assert categories == [["Management"], ["Data"]]


def test_connections_are_logged_too() -> None:
    log = aws().named("traces-connections").inputs
    assert (log["vpcId"], log["trafficType"]) == ("vpc-1", "ALL")
    assert (log["logDestinationType"], log["logDestination"]) == ("s3", "arn:aws:test:::traces-bucket")


def test_nobody_deletes_a_trace_before_its_time() -> None:
    assert aws().named("traces-bucket").inputs["objectLockEnabled"] is True
    assert aws().named("traces-lock").inputs["rule"] == {
        "defaultRetention": {"mode": "COMPLIANCE", "days": 400}
    }
    assert gcp().named("traces-bucket").inputs["retentionPolicy"] == {
        "retentionPeriod": str(400 * 86400),
        "isLocked": True,
    }


def test_the_bucket_lets_cloudtrail_write_and_nobody_without_tls() -> None:
    statements = json.loads(aws().named("traces-tls").inputs["policy"])["Statement"]
    allowed = [(*s["Principal"]["Service"], s["Action"]) for s in statements if s["Effect"] == "Allow"]
    assert allowed == [(*WRITERS, "s3:GetBucketAcl"), (*WRITERS, "s3:PutObject")]
    assert [s["Sid"] for s in statements if s["Effect"] == "Deny"] == ["TlsOnly", "TlsFloor"]


def test_what_is_done_to_keys_reaches_the_operators() -> None:
    pattern = json.loads(aws().named("traces-keys").inputs["eventPattern"])
    assert pattern["detail"]["eventName"] == list(KEY_EVENTS)
    assert aws().named("traces-keys-alarm").inputs["arn"] == "arn:aws:test:::traces-alarms"
    mail = aws().named("traces-operators").inputs
    assert (mail["protocol"], mail["endpoint"]) == ("email", "operators@example.test")


def test_services_act_for_this_account_only() -> None:
    for policy in (key_policy("123456789012"), topic_policy("arn:x", "123456789012", "events.amazonaws.com")):
        for statement in json.loads(policy)["Statement"]:
            if "Service" in statement["Principal"]:
                assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_the_sink_takes_the_audit_logs_of_its_region() -> None:
    sink = gcp().named("traces-sink").inputs
    assert sink["filter"].startswith('logName:"cloudaudit.googleapis.com" AND ')
    assert 'resource.labels.zone:"europe-west3-"' in sink["filter"]
    assert sink["destination"] == "storage.googleapis.com/traces-1"
    assert gcp().named("traces-writer").inputs["role"] == "roles/storage.objectCreator"


def test_a_project_logs_every_access_and_watches_its_keys() -> None:
    program = declare(
        lambda: ProjectTraces("mail", {"project": "example-mail", "operators": "operators@example.test"})
    )
    config = program.named("mail-calls").inputs
    assert config["service"] == "allServices"
    assert {item["logType"] for item in config["auditLogConfigs"]} == {
        "ADMIN_READ",
        "DATA_READ",
        "DATA_WRITE",
    }
    alert = program.named("mail-keys").inputs
    assert "DestroyCryptoKeyVersion" in alert["conditions"][0]["conditionMatchedLog"]["filter"]
    assert alert["notificationChannels"] == ["mail-operators-id"]
    failed = program.named("mail-snapshots").inputs
    text = failed["conditions"][0]["conditionMatchedLog"]["filter"]
    assert 'protoPayload.methodName="ScheduledSnapshots"' in text
    assert failed["notificationChannels"] == ["mail-operators-id"]
