"""File systems refuse mounts without TLS."""

import json
from typing import Any

from mailinfra_policy.rules.tls_file_system import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource


def deny(*resources: str, **changes: Any) -> dict[str, Any]:
    """A statement that refuses plain text."""
    plain = {"Bool": {"aws:SecureTransport": "false"}}
    return {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "*",
        "Resource": [*resources],
        "Condition": plain,
        **changes,
    }


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [*statements]})


FILES = resource("aws:efs/fileSystem:FileSystem", "files", {}, outputs={"arn": "arn:aws:elasticfilesystem:x"})
POLICY = resource(
    "aws:efs/fileSystemPolicy:FileSystemPolicy",
    "policy",
    {"fileSystemId": "files-id", "policy": document(deny("*"))},
)
GOOD = ([FILES, POLICY],)


def test_one_without_a_policy_is_found() -> None:
    assert places(RULE, [FILES]) == [("files", "")]


def test_a_policy_that_leaves_a_hole_is_named() -> None:
    only = document(deny("*", Action="elasticfilesystem:ClientMount"))
    assert places(RULE, [FILES, changed(POLICY, policy=only)]) == [("policy", "policy")]


def test_unknown_is_found() -> None:
    (item,) = found(RULE, [FILES, changed(POLICY, policy=UNKNOWN)])
    assert item.finding.unknown
