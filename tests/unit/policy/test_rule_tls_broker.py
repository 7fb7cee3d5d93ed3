"""Brokers and pushes use TLS."""

from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_broker import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

KAFKA = resource(
    "aws:msk/cluster:Cluster",
    "kafka",
    {"encryptionInfo": {"encryptionInTransit": {"clientBroker": "TLS", "inCluster": True}}},
)
CONNECTOR = resource(
    "aws:mskconnect/connector:Connector",
    "connector",
    {"kafkaClusterEncryptionInTransit": {"encryptionType": "TLS"}},
)
COPY = resource("aws:dms/endpoint:Endpoint", "copy", {"kafkaSettings": {"securityProtocol": "sasl-ssl"}})
OTHER = resource("aws:dms/endpoint:Endpoint", "other", {"engineName": "s3"})
PUSH = resource("aws:sns/topicSubscription:TopicSubscription", "push", {"protocol": "https"})
GOOD = ([KAFKA], [resource("aws:msk/cluster:Cluster", "default")], [CONNECTOR], [COPY], [OTHER], [PUSH])


@pytest.mark.parametrize(
    ("good", "props", "path"),
    [
        (
            KAFKA,
            {"encryptionInfo": {"encryptionInTransit": {"clientBroker": "TLS_PLAINTEXT"}}},
            "encryptionInfo.encryptionInTransit.clientBroker",
        ),
        (
            KAFKA,
            {"encryptionInfo": {"encryptionInTransit": {"clientBroker": "tls"}}},
            "encryptionInfo.encryptionInTransit.clientBroker",
        ),
        (
            KAFKA,
            {"encryptionInfo": {"encryptionInTransit": {"inCluster": False}}},
            "encryptionInfo.encryptionInTransit.inCluster",
        ),
        (
            CONNECTOR,
            {"kafkaClusterEncryptionInTransit": None},
            "kafkaClusterEncryptionInTransit.encryptionType",
        ),
        (COPY, {"kafkaSettings": {"broker": "k:9092"}}, "kafkaSettings.securityProtocol"),
        (PUSH, {"protocol": "http"}, "protocol"),
    ],
)
def test_what_is_wrong_is_named(good: Resource, props: dict[str, Any], path: str) -> None:
    assert places(RULE, [changed(good, **props)]) == [(good.name, path)]


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [changed(PUSH, protocol=UNKNOWN)], settings())
    assert item.finding.unknown
