"""Message brokers, streams and their clients: TLS between clients, brokers and pushes."""

from mailinfra_policy.rule import Rule, Severity
from mailinfra_policy.tls import TRANSPORT, Must, Table, guarded, judged_by

TABLE: Table = {
    "aws:msk/cluster:Cluster": (
        Must(
            "encryptionInfo.encryptionInTransit.clientBroker",
            ("TLS",),
            default="TLS",
            wrong=("TLS_PLAINTEXT", "PLAINTEXT"),
        ),
        Must("encryptionInfo.encryptionInTransit.inCluster", (True,), default=True),
    ),
    "aws:mskconnect/connector:Connector": (
        Must("kafkaClusterEncryptionInTransit.encryptionType", ("TLS",), wrong=("PLAINTEXT",)),
    ),
    "aws:dms/endpoint:Endpoint": (
        Must(
            "securityProtocol",
            ("ssl-encryption", "ssl-authentication", "sasl-ssl"),
            under="kafkaSettings",
            wrong=("plaintext",),
        ),
    ),
    "aws:sns/topicSubscription:TopicSubscription": (
        Must(
            "protocol",
            ("https", "sqs", "lambda", "firehose", "email", "email-json", "sms", "application"),
            wrong=("http",),
        ),
    ),
}

RULE = Rule(
    id="tls-broker",
    title="Brokers and pushes use TLS",
    severity=Severity.HIGH,
    why="Events travel through brokers; a plain listener or push hands them to the network.",
    mend="Set clientBroker to TLS and inCluster to true, and push to https addresses.",
    controls=TRANSPORT,
    covers=guarded(TABLE),
    judge=judged_by(TABLE),
)
