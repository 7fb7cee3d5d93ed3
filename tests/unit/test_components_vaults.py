"""Vaults in either cloud, for stores in either cloud: what is locked, who may do what, what the nodes are told."""

import json
from functools import cache
from typing import Any

import pytest

from mailinfra.errors import ConfigError
from mailinfra.node.backup.vault import GENERATION_DAYS
from mailinfra_components import AwsFederation, BackupVault
from mailinfra_components.vaults import only_roles, role_member, silent_minutes, vault_policy
from tests.declared import Declared, Program, declare

ARGS: dict[str, Any] = {
    "zone": "eu",
    "control_bucket": "control-1",
    "rpo_minutes": 15,
    "retention_days": 35,
    "verify_hours": 24,
    "rotation_days": 365,
    "deletion_window_days": 30,
    "operators": "operators@example.test",
    "roles": {"writes": "vault-writes", "reads": "vault-reads"},
}
AT_AWS = {"cloud": "aws", "region": "eu-central-1", "account": "123456789012"}
AT_GCP = {"cloud": "gcp", "region": "europe-west3", "account": "example-mail", "channel": "channel-1"}
POOL = {"pool": "projects/0/locations/global/workloadIdentityPools/mail-test", "audience": "//iam/audience"}
REGIONS = {"aws": "eu-central-1", "gcp": "europe-west3"}


def user(cloud: str, writes: bool, group: str = "store") -> dict[str, Any]:
    email = f"{group}@example-mail.iam.gserviceaccount.com"
    return {
        "cloud": cloud,
        "region": REGIONS[cloud],
        "group": group,
        "identity": f"{group}-role" if cloud == "aws" else email,
        "identity_id": f"id-of-{group}",
        "writes": writes,
    }


def vault(where: dict[str, Any], store: str, replica: str, **other: Any) -> Program:
    """A vault in one cloud, for a store in one and a replica in another."""
    users = [user(store, True), user(replica, False, "replica")]
    args = {**ARGS, **where, "store_cloud": store, "store_region": REGIONS[store], "users": users, **other}
    return declare(lambda: BackupVault("vault", args))  # type: ignore[arg-type]


@cache
def at_gcp() -> Program:
    """Of a store at AWS, followed by nodes at Google Cloud."""
    return vault({**AT_GCP, **POOL}, "aws", "gcp", endpoints={"sts": "https://sts.googleapis.test"})


@cache
def at_aws() -> Program:
    """Of a store at Google Cloud, followed by nodes at AWS."""
    return vault(AT_AWS, "gcp", "aws")


def told(program: Program) -> dict[str, Any]:
    """What the nodes are told."""
    content = program.named("vault-description").inputs["content"]
    # Google's SDK takes every object's content for a secret.
    found: dict[str, Any] = json.loads(content["value"] if isinstance(content, dict) else content)
    return found


def granted(program: Program, member: str) -> set[tuple[str, str]]:
    """The roles that a member has, with the condition, if any."""
    grants = program.of("gcp:storage/bucketIAMMember:BucketIAMMember")
    grants += program.of("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember")
    return {
        (g.inputs["role"].rpartition(".")[2], (g.inputs.get("condition") or {}).get("expression", ""))
        for g in grants
        if g.inputs["member"] == member
    }


def statements(policy: Declared) -> dict[str, dict[str, Any]]:
    """A policy's statements by their ids."""
    return {s["Sid"]: s for s in json.loads(policy.inputs["policy"])["Statement"]}


LOCKED = 35 + GENERATION_DAYS
"""Days: the last snapshot of a generation needs what the first one wrote."""


def test_nobody_deletes_before_its_time_and_everything_goes_afterwards() -> None:
    lock = at_aws().named("vault-lock").inputs["rule"]
    assert lock == {"defaultRetention": {"mode": "COMPLIANCE", "days": LOCKED}}
    assert at_aws().named("vault-bucket").inputs["objectLockEnabled"] is True
    objects, markers = at_aws().named("vault-ends").inputs["rules"]
    assert objects["expiration"] == {"days": 35 + GENERATION_DAYS + 1}
    assert objects["noncurrentVersionExpiration"] == {"noncurrentDays": LOCKED}
    assert markers["expiration"] == {"expiredObjectDeleteMarker": True}
    bucket = at_gcp().named("vault-bucket").inputs
    assert bucket["retentionPolicy"] == {"retentionPeriod": str(LOCKED * 86400), "isLocked": True}
    assert bucket["lifecycleRules"] == [{"action": {"type": "Delete"}, "condition": {"age": 66}}]


@pytest.mark.parametrize("program", [at_aws, at_gcp])
def test_the_vault_says_what_it_is(program: Any) -> None:
    made = program()
    marks = made.named("vault-bucket").inputs
    marks = marks.get("tags") or marks["labels"]
    store = "europe-west3" if program is at_aws else "eu-central-1"
    wanted = {
        "backup-of": store,
        "backup-interval-minutes": "15",
        "data-class": "backup",
        "residency-zone": "eu",
    }
    assert marks | wanted == marks


def test_its_two_keys_are_its_own_and_rotate() -> None:
    keys = at_aws().of("aws:kms/key:Key")
    assert [key.name for key in keys] == ["vault-passwords", "vault-rest"]
    for key in keys:
        assert key.inputs["region"] == "eu-central-1"
        assert (key.inputs["enableKeyRotation"], key.inputs["rotationPeriodInDays"]) == (True, 365)
        assert key.inputs["deletionWindowInDays"] == 30
    assert told(at_aws())["key"] == "arn:aws:test:::vault-passwords"
    (rule,) = at_aws().named("vault-encryption").inputs["rules"]
    assert rule["applyServerSideEncryptionByDefault"]["kmsMasterKeyId"] == "arn:aws:test:::vault-rest"
    keys = at_gcp().of("gcp:kms/cryptoKey:CryptoKey")
    assert [key.name for key in keys] == ["vault-passwords", "vault-rest"]
    assert {key.inputs["rotationPeriod"] for key in keys} == {f"{365 * 86400}s"}
    assert at_gcp().named("vault-ring").inputs["location"] == "europe-west3"
    assert at_gcp().named("vault-bucket").inputs["encryption"] == {"defaultKmsKeyName": "vault-rest-id"}


def test_nodes_at_aws_are_known_at_google_by_their_role() -> None:
    pool = POOL["pool"]
    member = f"principalSet://iam.googleapis.com/{pool}/attribute.aws_role/store-role"
    assert role_member(pool, "store-role") == member
    below = 'resource.name.startsWith("projects/_/buckets/vault-bucket/objects/eu-central-1/")'
    assert granted(at_gcp(), member) == {
        ("objectCreator", below),
        ("objectViewer", below),
        ("legacyBucketReader", ""),
        ("cryptoKeyEncrypterDecrypter", ""),
    }
    assert told(at_gcp())["access"] == {"audience": "//iam/audience"}


def test_the_replica_reads_and_decrypts_only() -> None:
    member = "serviceAccount:replica@example-mail.iam.gserviceaccount.com"
    below = 'resource.name.startsWith("projects/_/buckets/vault-bucket/objects/eu-central-1/")'
    assert granted(at_gcp(), member) == {
        ("objectViewer", below),
        ("legacyBucketReader", ""),
        ("cryptoKeyDecrypter", ""),
    }
    policy = at_aws().named("vault-reads-eu-central-1-replica")
    assert policy.inputs["role"] == "replica-role"
    given = statements(policy)
    assert given["Objects"]["Action"] == ["s3:GetObject"]
    assert given["AtRest"]["Action"] == given["Passwords"]["Action"] == ["kms:Decrypt"]


def test_nodes_at_google_get_a_role_that_trusts_their_account_alone() -> None:
    role = at_aws().named("vault-writes").inputs
    assert role["name"] == "vault-writes"
    (trust,) = json.loads(role["assumeRolePolicy"])["Statement"]
    assert trust["Principal"] == {"Federated": "accounts.google.com"}
    assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert trust["Condition"] == {
        "StringEquals": {
            "accounts.google.com:aud": ["id-of-store"],
            "accounts.google.com:oaud": "vault-bucket-id",
            "accounts.google.com:sub": ["id-of-store"],
        }
    }
    assert told(at_aws())["access"] == {"role": "arn:aws:test:::vault-writes", "audience": "vault-bucket-id"}
    assert [role.name for role in at_aws().of("aws:iam/role:Role")] == ["vault-writes"]


def test_a_writer_at_aws_adds_and_reads_below_its_region() -> None:
    given = statements(at_aws().named("vault-writes-policy"))
    assert given["Objects"]["Action"] == ["s3:PutObject", "s3:GetObject"]
    assert given["Objects"]["Resource"] == ["arn:aws:test:::vault-bucket/europe-west3/*"]
    assert given["AtRest"]["Condition"] == {
        "StringEquals": {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}
    }
    assert given["Passwords"]["Resource"] == "arn:aws:test:::vault-passwords"


@pytest.mark.parametrize("writes", [True, False])
def test_nobody_deletes_or_speaks_of_locks(writes: bool) -> None:
    text = vault_policy(
        bucket="arn:b", rest="arn:r", wraps="arn:w", prefix="eu/", region="eu-central-1", writes=writes
    )
    actions = {
        action
        for statement in json.loads(text)["Statement"]
        for action in (
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        )
    }
    assert not [a for a in actions if "*" in a or "Delete" in a or "Retention" in a or "LegalHold" in a]
    roles = {
        role
        for g in at_gcp().of("gcp:storage/bucketIAMMember:BucketIAMMember")
        for role in [g.inputs["role"]]
    }
    assert roles == {f"roles/storage.{n}" for n in ("objectCreator", "objectViewer", "legacyBucketReader")}


def test_in_its_own_cloud_a_group_uses_its_own_identity() -> None:
    inside = vault({**AT_GCP, "region": "europe-west4"}, "gcp", "gcp")
    assert told(inside)["access"] == {}
    member = "serviceAccount:store@example-mail.iam.gserviceaccount.com"
    assert {role for role, _ in granted(inside, member)} > {"objectCreator", "objectViewer"}
    inside = vault({**AT_AWS, "region": "eu-west-1"}, "aws", "aws")
    assert told(inside)["access"] == {}
    assert inside.of("aws:iam/role:Role") == []
    assert inside.named("vault-writes-eu-central-1-store").inputs["role"] == "store-role"


def test_a_replica_in_neither_the_vaults_cloud_nor_its_own_vault_has_a_way_in_too() -> None:
    mixed = vault(AT_AWS, "aws", "gcp")
    assert told(mixed)["access"] == {}, "the store is in the vault's cloud"
    assert [role.inputs["name"] for role in mixed.of("aws:iam/role:Role")] == ["vault-reads"]
    assert statements(mixed.named("vault-reads-policy"))["Objects"]["Action"] == ["s3:GetObject"]


def test_the_store_is_told_in_its_own_control_bucket() -> None:
    at = at_gcp().named("vault-description")
    assert at.type == "aws:s3/bucketObjectv2:BucketObjectv2"
    assert (at.inputs["bucket"], at.inputs["key"]) == ("control-1", "backup/vault.json")
    assert at.inputs["region"] == "eu-central-1"
    assert told(at_gcp()) == {
        "cloud": "gcp",
        "region": "europe-west3",
        "bucket": "vault-bucket",
        "key": "vault-passwords-id",
        "access": {"audience": "//iam/audience"},
        "endpoints": {"storage": "", "kms": "", "sts": "https://sts.googleapis.test"},
        "rpo_minutes": 15,
        "retention_days": 35,
        "verify_hours": 24,
    }
    at = at_aws().named("vault-description")
    assert at.type == "gcp:storage/bucketObject:BucketObject"
    assert at.inputs["name"] == "backup/vault.json"


def test_whole_numbers_stay_whole_in_package_mode() -> None:
    floats = {key: float(value) for key, value in ARGS.items() if isinstance(value, int)}
    made = vault(AT_AWS, "gcp", "aws", **floats)
    assert told(made) == told(at_aws())
    assert made.named("vault-bucket").inputs["tags"]["backup-interval-minutes"] == "15"
    assert made.named("vault-ends").inputs == at_aws().named("vault-ends").inputs


def test_silence_reaches_the_operators() -> None:
    alarm = at_aws().named("vault-silent").inputs
    assert (alarm["metricName"], alarm["treatMissingData"]) == ("PutRequests", "breaching")
    assert alarm["dimensions"] == {"BucketName": "vault-bucket-id", "FilterId": "all"}
    assert alarm["period"] * alarm["evaluationPeriods"] == 45 * 60
    assert alarm["alarmActions"] == ["arn:aws:test:::vault-alarms"]
    assert at_aws().named("vault-operators").inputs["endpoint"] == "operators@example.test"
    (condition,) = at_gcp().named("vault-silent").inputs["conditions"]
    absent = condition["conditionAbsent"]
    assert absent["duration"] == f"{45 * 60}s"
    assert 'bucket_name = "vault-bucket"' in absent["filter"] and "WriteObject" in absent["filter"]
    assert at_gcp().named("vault-silent").inputs["notificationChannels"] == ["channel-1"]


@pytest.mark.parametrize(("rpo", "minutes"), [(5, 30), (15, 45), (60, 180)])
def test_silence_is_some_runs(rpo: int, minutes: int) -> None:
    assert silent_minutes(rpo) == minutes


@pytest.mark.parametrize("missing", ["channel", "pool", "audience"])
def test_what_a_vault_at_google_needs_is_said(missing: str) -> None:
    given = {key: value for key, value in {**AT_GCP, **POOL}.items() if key != missing}
    with pytest.raises(ConfigError, match=missing):
        vault(given, "aws", "gcp")


def test_a_pool_believes_sessions_of_named_roles_of_one_account() -> None:
    made = declare(
        lambda: AwsFederation(
            "federation",
            {"project": "p", "pool": "mail-test", "account": "123456789012", "roles": ["b-role", "a-role"]},
        )
    )
    provider = made.named("federation-aws").inputs
    assert provider["aws"] == {"accountId": "123456789012"}
    assert provider["attributeMapping"] == {
        "google.subject": "assertion.arn",
        "attribute.aws_role": "assertion.arn.extract('assumed-role/{role}/')",
    }
    condition = only_roles("123456789012", ["b-role", "a-role"])
    assert provider["attributeCondition"] == condition
    assert condition == (
        'assertion.arn.startsWith("arn:aws:sts::123456789012:assumed-role/") && '
        'attribute.aws_role in ["a-role", "b-role"]'
    )
