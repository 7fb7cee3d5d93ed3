"""Queues and topics refuse plain text."""

from collections.abc import Iterator

from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Rule, Severity
from mailinfra_policy.secure_transport import Store, plain_denied, undenied, without_policy
from mailinfra_policy.tls import TRANSPORT

QUEUES = Store(
    types=("aws:sqs/queue:Queue",),
    policies=(("aws:sqs/queuePolicy:QueuePolicy", "queueUrl"),),
    inline="policy",
    actions=("sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage"),
)
# A topic's policy may speak of no other actions that carry messages.
TOPICS = Store(
    types=("aws:sns/topic:Topic",),
    policies=(("aws:sns/topicPolicy:TopicPolicy", "arn"),),
    inline="policy",
    actions=("sns:Publish",),
)


_ASKED = ((plain_denied, "plain text"),)


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """A policy denies everyone what comes without TLS."""
    for store in (QUEUES, TOPICS):
        yield from undenied(resource, context.stack, store, _ASKED)


def judge_stack(context: Context) -> Iterator[Finding]:
    """Each queue and topic has a policy."""
    for store in (QUEUES, TOPICS):
        yield from without_policy(context.stack, store, _ASKED)


RULE = Rule(
    id="tls-queue",
    title="Queues and topics refuse plain text",
    severity=Severity.HIGH,
    why="SQS and SNS answer over plain HTTP to whoever asks so, unless their policy denies it.",
    mend="Add a policy that denies everyone to send, receive and publish when aws:SecureTransport is false.",
    controls=TRANSPORT,
    covers={**QUEUES.covers, **TOPICS.covers},
    judge=judge,
    judge_stack=judge_stack,
)
