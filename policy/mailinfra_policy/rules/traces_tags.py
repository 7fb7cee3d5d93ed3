"""Every store says whose it is, to which zone it belongs and what it holds."""

from collections.abc import Iterator, Mapping

from mailinfra_policy.copies import MEDIA
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.values import UNKNOWN, join, show

_TYPES: Mapping[str, str] = {
    **{token: "tags" if token.startswith("aws:") else "labels" for token in MEDIA},
    **dict.fromkeys(
        (
            "aws:backup/vault:Vault",
            "aws:backup/logicallyAirGappedVault:LogicallyAirGappedVault",
            "aws:cloudwatch/logGroup:LogGroup",
            "aws:elasticache/replicationGroup:ReplicationGroup",
            "aws:elasticsearch/domain:Domain",
            "aws:kinesis/stream:Stream",
            "aws:opensearch/domain:Domain",
            "aws:sqs/queue:Queue",
        ),
        "tags",
    ),
    **dict.fromkeys(
        (
            "gcp:backupdisasterrecovery/backupVault:BackupVault",
            "gcp:bigquery/dataset:Dataset",
            "gcp:compute/image:Image",
            "gcp:compute/snapshot:Snapshot",
            "gcp:pubsub/topic:Topic",
            "gcp:redis/instance:Instance",
            "gcp:spanner/instance:Instance",
        ),
        "labels",
    ),
}
"""The types that hold mail or what comes of it, and the input with their tags."""


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Three tags, each with a value; those that the provider adds to everything count."""
    tags = context.config.tags
    for name, what in (
        (tags.owner, "who answers for it"),
        (tags.zone, "its zone"),
        (tags.data, "what it holds"),
    ):
        value = resource.tag(name)
        if value is UNKNOWN or not isinstance(value, str) or not value.strip():
            path = join(_TYPES[resource.type], name)
            yield Finding(resource, path, show(value), f"a value that says {what}", value is UNKNOWN)


RULE = Rule(
    id="traces-tags",
    title="Every store says its owner, its zone and what it holds",
    severity=Severity.MEDIUM,
    why="What has no owner is nobody's to mend, and what does not say its zone and class cannot be judged by the rest.",
    mend="Tag (label) every store with its owner, its residency zone and its data class.",
    controls=(
        Control(Framework.GDPR, "Art. 30"),
        Control(Framework.SOC2, "CC6.1"),
        Control(Framework.ISO27001, "A.5.9"),
        Control(Framework.ISO27001, "A.5.12"),
    ),
    covers={
        token: tuple(
            Guard(join(path, name), wrong=("", " "))
            for name in ("managed-by", "residency-zone", "data-class")
        )
        for token, path in _TYPES.items()
    },
    judge=judge,
)
