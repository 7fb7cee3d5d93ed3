"""Elastic file systems refuse mounts without TLS."""

from collections.abc import Iterator

from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Finding, Rule, Severity
from mailinfra_policy.secure_transport import Store, plain_denied, undenied, without_policy
from mailinfra_policy.tls import TRANSPORT

FILE_SYSTEMS = Store(
    types=("aws:efs/fileSystem:FileSystem",),
    policies=(("aws:efs/fileSystemPolicy:FileSystemPolicy", "fileSystemId"),),
    inline="",
    actions=("elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"),
)


_ASKED = ((plain_denied, "plain text"),)


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """A policy denies everyone to mount without TLS."""
    yield from undenied(resource, context.stack, FILE_SYSTEMS, _ASKED)


def judge_stack(context: Context) -> Iterator[Finding]:
    """Each file system has a policy."""
    yield from without_policy(context.stack, FILE_SYSTEMS, _ASKED)


RULE = Rule(
    id="tls-file-system",
    title="File systems refuse mounts without TLS",
    severity=Severity.HIGH,
    why="NFS is plain text; EFS takes it so unless the file system's policy denies it.",
    mend="Add a FileSystemPolicy that denies everyone to mount and write when aws:SecureTransport is false.",
    controls=TRANSPORT,
    covers=FILE_SYSTEMS.covers,
    judge=judge,
    judge_stack=judge_stack,
)
