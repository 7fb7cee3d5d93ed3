"""The whole fleet as components: what the sandbox's stack declares, under mocks."""

import base64
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailinfra.node.bootstrap import AWS_LIMIT
from mailinfra_components import MailFleet
from tests.declared import Program, declare

STACKS = Path(__file__).parents[2] / "stacks"


def config(stack: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text())["config"][
        "mailinfra:fleet"
    ]
    return found


@cache
def fleet(stack: str) -> Program:
    declared = config(stack)
    return declare(lambda: MailFleet(declared["name"], {"fleet": declared}))


@pytest.fixture(params=["sandbox"])
def program(request: pytest.FixtureRequest) -> Program:
    return fleet(request.param)


def test_names_are_unique_within_their_type(program: Program) -> None:
    seen = [(r.type, r.name) for r in program.resources]
    assert len(seen) == len(set(seen))


def test_every_disk_is_encrypted_under_a_key_of_its_own_region(program: Program) -> None:
    instances = program.of("aws:ec2/instance:Instance")
    assert instances
    for instance in instances:
        disk = instance.inputs["rootBlockDevice"]
        assert disk["encrypted"] and f"-{instance.inputs['region']}-" in disk["kmsKeyId"]
    for volume in program.of("aws:ebs/volume:Volume"):
        assert volume.inputs["encrypted"] and f"-{volume.inputs['region']}-" in volume.inputs["kmsKeyId"]
    for instance in program.of("gcp:compute/instance:Instance"):
        region = instance.inputs["zone"].rsplit("-", 1)[0]
        assert f"-{region}-" in instance.inputs["bootDisk"]["kmsKeySelfLink"]


def test_every_user_data_fits_and_the_credentials_service_is_guarded(program: Program) -> None:
    for instance in program.of("aws:ec2/instance:Instance"):
        assert 0 < len(base64.b64decode(instance.inputs["userDataBase64"])) <= AWS_LIMIT
        assert instance.inputs["metadataOptions"]["httpTokens"] == "required"


def test_nothing_of_a_key_or_password_is_in_any_input(program: Program) -> None:
    text = json.dumps([r.inputs for r in program.resources])
    assert "PRIVATE KEY" not in text
    assert not re.search(r'(?i)"[a-z]*password"', text)


def test_the_world_reaches_only_what_the_roles_serve(program: Program) -> None:
    ports = {"mx": {25, 443}, "submission": {465, 587}, "imap": {993}, "pop3": {995}}
    groups = {(r["region"], g["name"]): g["roles"] for r in config("sandbox")["regions"] for g in r["groups"]}
    rules = program.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    opened: dict[tuple[str, str], set[int]] = {}
    for rule in rules:
        assert rule.inputs["fromPort"] == rule.inputs["toPort"]
        if "prefixListId" not in rule.inputs:
            group = re.search(r"-net-([a-z]+)-in-", rule.name)
            assert group
            opened.setdefault((rule.inputs["region"], group[1]), set()).add(int(rule.inputs["fromPort"]))
    expected = {
        key: set().union(*(ports.get(role, set()) for role in roles))
        for key, roles in groups.items()
        if key[0] in ("eu-central-1", "us-east-1")
    }
    assert opened == {key: found for key, found in expected.items() if found}


def test_only_egress_nodes_may_reach_port_25(program: Program) -> None:
    rules = program.of("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule")
    names = {rule.name for rule in rules if rule.inputs["fromPort"] <= 25 <= rule.inputs["toPort"]}
    assert names and all("-net-out-out-tcp-25-" in name for name in names)
    for firewall in program.of("gcp:compute/firewall:Firewall"):
        allowed = [port for rule in firewall.inputs.get("allows", []) for port in rule.get("ports", [])]
        assert firewall.inputs["direction"] == "INGRESS" or "25" not in allowed


def test_a_node_may_sign_with_its_own_regions_key_and_only_where_it_takes_mail_from_users(
    program: Program,
) -> None:
    signers = 0
    for policy in program.of("aws:iam/rolePolicy:RolePolicy"):
        if policy.name.endswith("-snapshots-rights"):
            continue  # no node's, but Data Lifecycle Manager's
        statements = {s["Sid"]: s for s in json.loads(policy.inputs["policy"])["Statement"]}
        assert all(
            "*" not in (s["Resource"] if isinstance(s["Resource"], str) else "") for s in statements.values()
        )
        assert ("SignMail" in statements) == ("-edge-" in policy.name)
        if "SignMail" in statements:
            signers += 1
            region = policy.name.removeprefix("sandbox-").split("-edge")[0]
            assert f"{region}-dkim" in statements["SignMail"]["Resource"]
        assert ("SignCertificates" in statements) == ("-store-" in policy.name)
    assert signers == 2


def test_children_belong_to_a_region_of_their_own_zone(program: Program) -> None:
    zones = {r["region"]: r["zone"] for r in config("sandbox")["regions"]}
    for resource in program.resources:
        region, marks = resource.inputs.get("region"), resource.inputs.get("tags")
        if region in zones and isinstance(marks, dict) and "residency-zone" in marks:
            assert marks["residency-zone"] == zones[region], resource.name


def test_every_region_with_mail_makes_snapshots_and_keeps_its_neighbours_replica() -> None:
    program = fleet("sandbox")
    names = {item.name for item in program.of("mailinfra:index:MailSnapshots")}
    assert names == {
        f"sandbox-{region}-snapshots"
        for region in ("eu-central-1", "europe-west3", "us-east-1", "us-central1")
    }
    policies = program.of("aws:dlm/lifecyclePolicy:LifecyclePolicy")
    wanted = [policy.inputs["policyDetails"]["targetTags"]["mailinfra-snapshots"] for policy in policies]
    tagged = [volume.inputs["tags"]["mailinfra-snapshots"] for volume in program.of("aws:ebs/volume:Volume")]
    assert sorted(wanted) == sorted(tagged)
    disks = {disk.inputs["name"] for disk in program.of("gcp:compute/disk:Disk")}
    attached = program.of("gcp:compute/diskResourcePolicyAttachment:DiskResourcePolicyAttachment")
    assert {item.inputs["disk"] for item in attached} == disks
    assert (
        program.named("sandbox-eu-central-1-store-store-1-mail").inputs["tags"]["backup-of"] == "europe-west3"
    )
    assert (
        program.named("sandbox-europe-west3-store-store-1-mail").inputs["labels"]["backup-of"]
        == "eu-central-1"
    )


def test_each_store_has_a_vault_in_the_other_cloud_in_its_zone(program: Program) -> None:
    regions = {r["region"]: r for r in config("sandbox")["regions"]}
    at_aws = program.of("aws:s3/bucket:Bucket")
    at_gcp = program.of("gcp:storage/bucket:Bucket")
    found: dict[str, tuple[str, str]] = {}
    for bucket, marks, place in (
        *((b, b.inputs["tags"], b.inputs["region"]) for b in at_aws),
        *((b, b.inputs["labels"], b.inputs["location"]) for b in at_gcp),
    ):
        if "backup-of" in marks:
            assert marks["data-class"] == "backup" and not bucket.inputs.get("forceDestroy")
            found[marks["backup-of"]] = (place, marks["residency-zone"])
    assert found == {
        "eu-central-1": ("europe-west3", "eu"),
        "europe-west3": ("eu-central-1", "eu"),
        "us-east-1": ("us-central1", "us"),
        "us-central1": ("us-east-1", "us"),
    }
    assert {regions[place]["zone"] for place, _ in found.values()} == {"eu", "us"}


def test_only_the_stores_roles_come_in_by_the_fleets_one_pool(program: Program) -> None:
    (pool,) = program.of("gcp:iam/workloadIdentityPool:WorkloadIdentityPool")
    assert pool.inputs["workloadIdentityPoolId"] == "mail-sandbox"
    (provider,) = program.of("gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider")
    condition = provider.inputs["attributeCondition"]
    assert condition.endswith('in ["sandbox-eu-central-1-store", "sandbox-us-east-1-store"]')


def test_a_vault_lets_in_its_store_and_its_replica_only(program: Program) -> None:
    """As IAM's grants say it, on the vaults at Google Cloud."""
    stores = {"eu-central-1": "europe-west3", "us-east-1": "us-central1"}
    for store, replica in stores.items():
        grants = [
            grant.inputs
            for grant in program.of("gcp:storage/bucketIAMMember:BucketIAMMember")
            if f"{store}-vault" in grant.inputs["bucket"]
        ]
        members = {grant["member"].rpartition("/")[2].partition("@")[0] for grant in grants}
        assert members == {f"sandbox-{store}-store", f"serviceAccount:sandbox-{replica}-store"}
