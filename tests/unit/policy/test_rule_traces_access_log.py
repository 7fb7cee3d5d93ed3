"""Access to stores and networks is logged."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.traces_access_log import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource
from tests.unit.policy.test_rule_traces_audit_log import TRAIL, audit

LOGS = {"data-class": "logs"}


def buckets(suffix: str = "") -> list[Resource]:
    """A bucket, its access logs, and the bucket that these go to."""
    kind = f"aws:s3/bucket{suffix}:Bucket{suffix}"
    return [
        resource(kind, "mail", {"bucket": "mail"}),
        resource(kind, "logs", {"bucket": "logs"}),
        resource(
            f"aws:s3/bucketLogging{suffix}:BucketLogging{suffix}",
            "logging",
            {"bucket": "mail", "targetBucket": "logs", "targetPrefix": "s3/"},
        ),
    ]


VPC = resource("aws:ec2/vpc:Vpc", "net", {"cidrBlock": "10.0.0.0/16"})
FLOW = resource("aws:ec2/flowLog:FlowLog", "flow", {"vpcId": "net-id", "trafficType": "ALL"})
SUBNET = resource("gcp:compute/subnetwork:Subnetwork", "subnet", {"logConfig": {"flowSampling": 0.5}})
GCS = resource("gcp:storage/bucket:Bucket", "mail", {"name": "mail", "logging": {"logBucket": "logs"}})
GCS_LOGS = resource("gcp:storage/bucket:Bucket", "logs", {"name": "logs", "labels": LOGS})
BALANCERS = [
    resource(
        f"aws:{kind}/loadBalancer:LoadBalancer", kind, {"accessLogs": {"bucket": "logs", "enabled": True}}
    )
    for kind in ("lb", "alb", "elb")
]
BACKENDS = [
    resource(f"gcp:compute/{kind[0].lower()}{kind[1:]}:{kind}", kind, {"logConfig": {"enable": True}})
    for kind in ("BackendService", "RegionBackendService")
]
STAGES = [
    resource(f"aws:{kind}/stage:Stage", kind, {"accessLogSettings": {"destinationArn": "arn:aws:logs:x"}})
    for kind in ("apigateway", "apigatewayv2")
]
CDN = resource("aws:cloudfront/distribution:Distribution", "cdn", {"loggingConfig": {"bucket": "logs.s3.x"}})
DELIVERED = [
    resource("aws:cloudfront/distribution:Distribution", "cdn"),
    resource(
        "aws:cloudwatch/logDeliverySource:LogDeliverySource",
        "source",
        {"name": "source", "logType": "ACCESS_LOGS", "resourceArn": "cdn-id"},
    ),
    resource("aws:cloudwatch/logDelivery:LogDelivery", "delivery", {"deliverySourceName": "source"}),
]
GOOD = (
    STAGES,
    [CDN],
    DELIVERED,
    buckets(),
    buckets("V2"),
    [VPC, FLOW],
    [SUBNET],
    [GCS, GCS_LOGS],
    BALANCERS,
    BACKENDS,
)
MAIL = buckets()[0]


def trail(**more: Any) -> Resource:
    return changed(TRAIL, **more)


def data(kind: str, *values: str) -> dict[str, Any]:
    return {"eventSelectors": [{"dataResources": [{"type": kind, "values": list(values)}]}]}


ADVANCED = {
    "advancedEventSelectors": [
        {
            "fieldSelectors": [
                {"field": "eventCategory", "equals": ["Data"]},
                {"field": "resources.type", "equals": ["AWS::S3::Object"]},
            ]
        }
    ]
}


@pytest.mark.parametrize(
    ("more", "clean"),
    [
        (data("AWS::S3::Object", "arn:aws:s3"), True),
        (data("AWS::S3::Object", "arn:aws:s3:::mail/"), True),
        (ADVANCED, True),
        (data("AWS::S3::Object", "arn:aws:s3:::other/"), False),
        (data("AWS::Lambda::Function", "arn:aws:s3"), False),
        ({"eventSelectors": UNKNOWN}, False),
        ({}, False),
    ],
)
def test_a_trail_may_record_the_bucket(more: dict[str, Any], clean: bool) -> None:
    assert (found(RULE, [MAIL, trail(**more)]) == []) == clean


def test_a_bucket_without_logs_is_found() -> None:
    assert places(RULE, [MAIL]) == [("mail", "")]
    assert places(RULE, [changed(GCS, logging=None)]) == [("mail", "logging.logBucket")]


def test_the_buckets_of_logs_are_left_alone() -> None:
    assert found(RULE, [resource("aws:s3/bucket:Bucket", "logs", {"tags": LOGS})]) == []
    assert found(RULE, [trail(), resource("aws:s3/bucket:Bucket", "audit", {"bucket": "audit"})]) == []


def test_an_audit_config_records_cloud_storage() -> None:
    assert found(RULE, [changed(GCS, logging=None), audit()]) == []
    assert found(RULE, [changed(GCS, logging=None), audit(service="cloudkms.googleapis.com")]) != []


@pytest.mark.parametrize("traffic", ["ACCEPT", "REJECT", "all", None])
def test_all_traffic_is_logged(traffic: str | None) -> None:
    assert places(RULE, [VPC, changed(FLOW, trafficType=traffic)]) == [("flow", "trafficType")]
    assert places(RULE, [VPC]) == [("net", "")]


def test_a_balancer_with_its_logs_off_is_found() -> None:
    for balancer in BALANCERS:
        assert places(RULE, [changed(balancer, accessLogs={"bucket": "logs", "enabled": False})]) == [
            (balancer.name, "accessLogs.enabled")
        ]


def test_a_subnet_of_proxies_has_no_flow_logs() -> None:
    assert found(RULE, [changed(SUBNET, logConfig=None, purpose="REGIONAL_MANAGED_PROXY")]) == []
    assert places(RULE, [changed(SUBNET, logConfig=None)]) == [("subnet", "logConfig")]


def test_an_api_without_access_logs_is_found() -> None:
    for stage in STAGES:
        assert places(RULE, [changed(stage, accessLogSettings=None)]) == [
            (stage.name, "accessLogSettings.destinationArn")
        ]


def test_a_distribution_without_logs_that_go_somewhere_is_found() -> None:
    wrong = [("cdn", "loggingConfig.bucket")]
    assert places(RULE, [changed(CDN, loggingConfig=None)]) == wrong
    distribution, source, delivery = DELIVERED
    assert places(RULE, [distribution, source]) == wrong
    assert places(RULE, [distribution, changed(source, logType="EVENT_LOGS"), delivery]) == wrong
    assert places(RULE, [distribution, changed(source, resourceArn="other"), delivery]) == wrong


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, [VPC, changed(FLOW, trafficType=UNKNOWN)])
    assert items and items[0].finding.unknown
