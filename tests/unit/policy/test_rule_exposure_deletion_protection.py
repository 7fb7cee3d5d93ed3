"""Stores cannot be deleted by one wrong update."""

from dataclasses import replace
from typing import Any

import pytest

from mailinfra_policy.mutants import put
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules.exposure_deletion_protection import LOCKS, RULE, UNLOCKED
from mailinfra_policy.values import UNKNOWN
from tests.policy_helpers import changed, found, places, resource, settings

MAIL = {"data-class": "mail"}


def locked(token: str) -> Resource:
    props: dict[str, Any] = {}
    for lock in LOCKS[token]:
        put(props, lock.path, lock.value)
    return resource(token, "store", props)


TABLE = locked("aws:dynamodb/table:Table")
BUCKET = locked("aws:s3/bucket:Bucket")
SQL = locked("gcp:sql/databaseInstance:DatabaseInstance")
VOLUME = resource("aws:ebs/volume:Volume", "mail", {"tags": MAIL}, protect=True)
GOOD = (
    [locked(token) for token in LOCKS],
    [resource(token, "mail", {"tags": MAIL, "labels": MAIL}, protect=True) for token in UNLOCKED],
    [resource("aws:ebs/volume:Volume", "scratch", {})],
)


@pytest.mark.parametrize("data", ["mail", None])
def test_stores_of_mail_and_of_who_knows_what(data: str | None) -> None:
    tags = {"data-class": data} if data else None
    assert places(RULE, [changed(TABLE, deletionProtectionEnabled=None, tags=tags)]) == [
        ("store", "deletionProtectionEnabled")
    ]
    assert places(RULE, [changed(BUCKET, forceDestroy=True, tags=tags)]) == [("store", "forceDestroy")]


def test_copies_need_no_lock() -> None:
    assert found(RULE, [changed(BUCKET, forceDestroy=True, tags={"data-class": "personal"})]) == []
    conf = settings(backups={"stores": ["mail", "personal"]})
    assert places(RULE, [changed(BUCKET, forceDestroy=True, tags={"data-class": "personal"})], conf) == [
        ("store", "forceDestroy")
    ]


@pytest.mark.parametrize("value", [False, "true", 1, None])
def test_the_lock_is_exactly_on(value: Any) -> None:
    assert places(RULE, [changed(TABLE, deletionProtectionEnabled=value)]) == [
        ("store", "deletionProtectionEnabled")
    ]


def test_both_locks_of_cloud_sql() -> None:
    assert places(RULE, [changed(SQL, deletionProtection=False, settings={})]) == [
        ("store", "deletionProtection"),
        ("store", "settings.deletionProtectionEnabled"),
    ]


def test_a_disk_of_mail_is_protected() -> None:
    assert places(RULE, [replace(VOLUME, protect=False)]) == [("mail", "")]
    assert found(RULE, [replace(changed(VOLUME, tags={"data-class": "queue"}), protect=False)]) == []


def test_unknown_is_undecided() -> None:
    for of, path in ((TABLE, "deletionProtectionEnabled"), (replace(VOLUME, protect=False), "tags")):
        (item,) = found(RULE, [changed(of, **{path: UNKNOWN})])
        assert (item.finding.path, item.finding.unknown) == (path, True)
