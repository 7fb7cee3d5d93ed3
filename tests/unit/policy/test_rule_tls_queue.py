"""Queues and topics refuse plain text."""

import json
from typing import Any

import pytest

from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.tls_queue import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource

QUEUE_ARN, TOPIC_ARN = "arn:aws:sqs:eu-central-1:1:mail", "arn:aws:sns:eu-central-1:1:news"


def deny(*resources: str, **changes: Any) -> dict[str, Any]:
    """A statement that refuses plain text."""
    plain = {"Bool": {"aws:SecureTransport": "false"}}
    return {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": [*resources],
        "Condition": plain,
        **changes,
    }


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [*statements]})


QUEUE_TEXT = document(deny(QUEUE_ARN))
TOPIC_TEXT = document(deny(TOPIC_ARN, Action="sns:Publish"))
QUEUE = resource("aws:sqs/queue:Queue", "mail", {}, outputs={"arn": QUEUE_ARN})
TOPIC = resource("aws:sns/topic:Topic", "news", {}, outputs={"arn": TOPIC_ARN})
QUEUE_POLICY = resource(
    "aws:sqs/queuePolicy:QueuePolicy", "queues", {"queueUrl": "mail-id", "policy": QUEUE_TEXT}
)
TOPIC_POLICY = resource("aws:sns/topicPolicy:TopicPolicy", "topics", {"arn": TOPIC_ARN, "policy": TOPIC_TEXT})
GOOD = ([QUEUE, QUEUE_POLICY], [TOPIC, TOPIC_POLICY], [changed(QUEUE, policy=QUEUE_TEXT)])


@pytest.mark.parametrize("store", [QUEUE, TOPIC], ids=lambda item: item.name)
def test_one_without_a_policy_is_found(store: Resource) -> None:
    assert places(RULE, [store]) == [(store.name, "")]


@pytest.mark.parametrize(
    "statement",
    [
        deny(QUEUE_ARN, Action="sqs:SendMessage"),
        deny(QUEUE_ARN + "s"),
        deny(QUEUE_ARN, Effect="Allow"),
        deny(QUEUE_ARN, Condition={"Bool": {"aws:SecureTransport": "true"}}),
        deny(QUEUE_ARN, Principal={"AWS": "111122223333"}),
    ],
)
def test_a_policy_that_leaves_a_hole_is_named(statement: dict[str, Any]) -> None:
    assert places(RULE, [QUEUE, changed(QUEUE_POLICY, policy=document(statement))]) == [("queues", "policy")]
    assert places(RULE, [changed(QUEUE, policy=document(statement))]) == [("mail", "policy")]


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [TOPIC, changed(TOPIC_POLICY, policy=UNKNOWN)])
    assert item.finding.unknown
