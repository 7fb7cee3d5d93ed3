"""Copies of mail lie under their own keys and administrators."""

from dataclasses import replace

import pytest

from mailinfra_policy.resource import Provider, Resource
from mailinfra_policy.rules.backups_separate_keys import RULE
from mailinfra_policy.values import UNKNOWN
from tests.policy_copies import (
    BY_AWS_BACKUP,
    BY_BACKUP_AND_DR,
    BY_SNAPSHOTS,
    COPIED,
    KEY,
    OTHER_KEY,
    VOLUME,
    dlm,
    gcs_copy,
    key,
    s3_copy,
)
from tests.policy_dns import instead, without
from tests.policy_helpers import changed, found, places, resource

GOOD = COPIED
FAR = next(item for item in BY_AWS_BACKUP if item.name == "far")


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        (instead(BY_AWS_BACKUP, changed(FAR, kmsKeyArn=KEY)), ("far", "kmsKeyArn")),
        (instead(BY_AWS_BACKUP, changed(FAR, kmsKeyArn=None)), ("far", "kmsKeyArn")),
        (instead(BY_SNAPSHOTS, gcs_copy(encryption=None)), ("restic", "encryption.defaultKmsKeyName")),
        (
            [VOLUME, dlm(), *without(s3_copy(), "restic-key")],
            (
                "restic",
                "serverSideEncryptionConfiguration.rule.applyServerSideEncryptionByDefault.kmsMasterKeyId",
            ),
        ),
    ],
)
def test_a_copy_without_a_key_of_its_own_is_named(stack: list[Resource], place: tuple[str, str]) -> None:
    assert places(RULE, stack) == [place]


@pytest.mark.parametrize("administrator", ["operators", "*"])
def test_the_same_administrators_in_one_account_are_not_enough(administrator: str) -> None:
    stack = instead(BY_AWS_BACKUP, key("copies-key", OTHER_KEY, administrator))
    assert places(RULE, stack) == [("mail", "")]


def test_a_key_without_a_policy_is_the_accounts() -> None:
    stack = instead(BY_AWS_BACKUP, resource("aws:kms/key:Key", "copies-key", {}, outputs={"arn": OTHER_KEY}))
    assert places(RULE, stack) == [("mail", "")]


def test_a_policy_of_its_own_resource_counts() -> None:
    bare = resource("aws:kms/key:Key", "copies-key", {}, outputs={"arn": OTHER_KEY, "keyId": "k-2"})
    policy = resource(
        "aws:kms/keyPolicy:KeyPolicy",
        "policy",
        {"keyId": "k-2", "policy": key("x", "", "keepers").props["policy"]},
    )
    assert found(RULE, [*instead(BY_AWS_BACKUP, bare), policy]) == []


def test_another_account_has_other_administrators() -> None:
    other = Provider(
        "pulumi:providers:aws",
        {"region": "eu-west-1", "assumeRoles": [{"roleArn": "arn:aws:iam::444455556666:role/backups"}]},
    )
    bucket, *rest = s3_copy()
    assert places(RULE, [VOLUME, dlm(), bucket, *rest]) == [("mail", "")]
    assert found(RULE, [VOLUME, dlm(), replace(bucket, provider=other), *rest]) == []


def test_another_project_has_other_administrators() -> None:
    safe = next(item for item in BY_BACKUP_AND_DR if item.name == "safe")
    same = replace(safe, provider=Provider("pulumi:providers:gcp", {"project": "example-mail"}))
    assert places(RULE, instead(BY_BACKUP_AND_DR, same)) == [("mail", "")]


def test_keys_that_are_not_known_are_compared_by_what_they_are_made_from() -> None:
    bare = resource("aws:kms/key:Key", "copies-key", {})
    far = replace(changed(FAR, kmsKeyArn=UNKNOWN), property_dependencies={"kmsKeyArn": (bare.urn,)})
    store = replace(changed(VOLUME, kmsKeyId=UNKNOWN), property_dependencies={"kmsKeyId": (bare.urn,)})
    assert ("far", "kmsKeyArn") in places(RULE, [*instead(BY_AWS_BACKUP, far, store, bare)])


def test_unknown_is_found_and_said() -> None:
    items = found(RULE, instead(BY_AWS_BACKUP, changed(FAR, kmsKeyArn=UNKNOWN)))
    assert items and all(item.finding.unknown for item in items)


def test_what_holds_no_mail_needs_none() -> None:
    assert found(RULE, [FAR]) == []
