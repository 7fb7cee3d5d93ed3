"""Three copies of each store of mail, on two kinds of media, one of them away.

What counts as a store and as a copy: `mailinfra_policy.copies`. A program declares copies that it makes itself (restic
into a bucket, the disk of a replicated mailbox node) by tags on what holds them: `backup-of` names a residency zone, a
region or a store; `backup-interval-minutes` says how old the copy may get; `data-class: backup` and `residency-zone` as
on every store.
"""

from collections.abc import Iterator

from mailinfra_policy.copies import (
    ASSOCIATION,
    ASYNC,
    ATTACHMENTS,
    BUCKETS,
    DLM,
    EFS_REPLICA,
    GCP_PLAN,
    MEDIA,
    PLAN,
    S3_REPLICA,
    SCHEDULE,
    SELECTION,
    copies,
    enough,
    stores,
    tells,
)
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.stores import regions
from mailinfra_policy.values import Value


def judge_stack(context: Context) -> Iterator[Finding]:
    """Each store of mail."""
    wanted = context.config.backups
    for store in stores(context):
        short = enough(store, copies(store, context), context)
        if short:
            yield Finding(
                store,
                "",
                short,
                f"{wanted.copies} copies on {wanted.media} kinds of media, one in another cloud or region of the zone",
            )


def _copy(resource: Resource, _value: Value) -> bool:
    return resource.tag("backup-of") is not None


def _only(resource: Resource, stack: Stack) -> bool:
    """Whether no other disk in the same place is a copy of the same: those of several nodes are one copy together."""
    here = regions(resource, stack)
    return not any(
        other.urn != resource.urn
        and MEDIA[other.type] == MEDIA[resource.type]
        and other.tag("backup-of") == resource.tag("backup-of")
        and regions(other, stack) == here
        for other in stack.of(*MEDIA)
    )


_DISKS = ("gcp:compute/disk:Disk",)
_TAGGED = (Guard("", when=_copy, where=_only),)

RULE = Rule(
    id="backups-three-copies",
    title="Three copies of each store of mail, on two kinds of media, one away",
    severity=Severity.CRITICAL,
    why="A disk, a region or a mistake takes one copy; mail without two others, one of them elsewhere, is then lost.",
    mend="Add snapshots on a schedule and a copy in another cloud or region of the zone: AWS Backup with copyActions, "
    "Backup and DR, or a bucket with the tag backup-of.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(c)"),
        Control(Framework.SOC2, "A1.2"),
        Control(Framework.ISO27001, "A.8.13"),
    ),
    covers={
        **{
            token: (
                *_TAGGED,
                Guard(
                    f"{'tags' if token.startswith('aws') else 'labels'}.backup-of",
                    wrong=("elsewhere",),
                    when=lambda _resource, value: value is not None,
                    where=_only,
                ),
            )
            for token in MEDIA
            if token in BUCKETS or token in _DISKS
        },
        **{token: () for token in MEDIA if token not in BUCKETS and token not in _DISKS},
        PLAN: (Guard(""),),
        SELECTION: (Guard(""), Guard("resources", wrong=(["arn:aws:ec2:eu-central-1:1:volume/other"],))),
        DLM: (
            Guard("", where=tells),
            Guard("policyDetails.targetTags", wrong=({"data-class": "other"},), where=tells),
            Guard("state", wrong=("DISABLED",), needed=False, where=tells),
        ),
        EFS_REPLICA: (Guard(""),),
        S3_REPLICA: (Guard(""), Guard("rules[*].status", wrong=("Disabled",))),
        SCHEDULE: (Guard("", where=tells),),
        **{
            token: (Guard("", where=tells), Guard("disk", wrong=("other",), where=tells))
            for token in ATTACHMENTS
        },
        ASYNC: (Guard(""), Guard("primaryDisk", wrong=("other",))),
        GCP_PLAN: (Guard(""),),
        ASSOCIATION: (Guard(""), Guard("resource", wrong=("other",))),
    },
    judge_stack=judge_stack,
)
