"""The stacks under the real engine: previews of all, the whole life of a fleet, the state of the last release."""

import copy
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.engine import EngineError
from mailinfra.sandbox.paths import SandboxError
from mailinfra.sandbox.stack import SandboxStack
from tests.engine.recorded.make import is_software, with_look_ups
from tests.fleets import AWS_REGION, config
from tests.recorded import ROOT, RecordedSandbox, declare, names

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

RELEASES = Path(__file__).parent / "recorded"
AWS_INSTANCE, GCP_INSTANCE = "aws:ec2/instance:Instance", "gcp:compute/instance:Instance"

LIFE: dict[str, Any] = {
    "name": "life",
    "domains": ["life.test"],
    "protect": False,
    "zones": {"eu": {"countries": ["DE", "IE"]}},
    "regions": [
        {
            "cloud": "aws",
            "region": "eu-central-1",
            "zone": "eu",
            "network": "203.0.113.0/27",
            "weight": 100,
            "groups": [
                {"name": "edge", "roles": ["mx", "submission", "imap", "egress"]},
                {"name": "store", "roles": ["mailbox"], "data_gib": 10},
            ],
        },
        {
            "cloud": "gcp",
            "region": "europe-west3",
            "zone": "eu",
            "network": "203.0.113.32/27",
            "weight": 100,
            "groups": [{"name": "edge", "roles": ["mx"]}],
        },
    ],
    "mx": {"policy": "weighted", "health": {"interval_seconds": 30, "failures": 3}},
    "dns": {"parent": {"provider": "cloudflare", "account_id": "0123456789abcdef0123456789abcdef"}},
    "placement": {"default": "eu-central-1"},
    "clouds": {"gcp": {"project": "sandbox-mail"}},
}
"""A small fleet on both clouds with everything that the large ones have."""
ADDED = {**AWS_REGION, "groups": [{"name": "edge", "roles": ["mx", "imap", "submission"]}]}


def policies(stack: str) -> list[str]:
    """The options with which the policies are applied to one of our stacks."""
    config = ROOT / "stacks" / f"policy-{stack}.json"
    return ["--policy-pack", str(ROOT / "policy"), "--policy-pack-config", str(config)]


def kind(urn: str) -> str:
    """The type of the resource with this URN."""
    return urn.split("::")[2].rsplit("$", 1)[-1]


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("prod", {AWS_INSTANCE: 60, GCP_INSTANCE: 24}),
        ("dev", {AWS_INSTANCE: 2, GCP_INSTANCE: 1}),
        ("dr", {AWS_INSTANCE: 6}),
    ],
)
def test_a_stack_can_be_previewed_under_the_policies(
    recorded_sandbox: RecordedSandbox, name: str, nodes: Mapping[str, int]
) -> None:
    sandbox = recorded_sandbox
    stack = SandboxStack(sandbox.paths, sandbox.engine, ROOT, name, sandbox.clouds)
    stack.prepare()
    steps = json.loads(stack.pulumi("preview", "--json", *policies(name)))["steps"]
    assert {step["op"] for step in steps} <= {"create", "read"}
    made = [kind(step["urn"]) for step in steps]
    assert {token: made.count(token) for token in (AWS_INSTANCE, GCP_INSTANCE) if token in made} == nodes


def test_a_fleet_is_made_from_nothing_under_the_policies(
    recorded_sandbox: RecordedSandbox, tmp_path: Path
) -> None:
    stack = recorded_sandbox.fleet(tmp_path / "project", "dev", config("dev", domains__0="dev.test"))
    stack.pulumi("up", "--yes", "--stack", "dev", *policies("dev"))
    made = [resource["type"] for resource in stack.resources()]
    assert made.count(AWS_INSTANCE) == 2
    stack.pulumi("destroy", "--yes", "--stack", "dev")


def test_the_life_of_a_fleet(recorded_sandbox: RecordedSandbox, tmp_path: Path) -> None:
    declared = copy.deepcopy(LIFE)
    stack = recorded_sandbox.fleet(tmp_path / "project", "life", declared)
    assert set(stack.up_changes().values()) == {"create"}
    assert sum(r["type"] in {AWS_INSTANCE, GCP_INSTANCE} for r in stack.resources()) == 3

    assert stack.up_changes() == {}, "a second up has nothing to do"
    stack.refresh_finds_nothing()

    declared["regions"][0]["weight"] = 50
    declare(tmp_path / "project", "life", declared)
    changed = stack.up_changes()
    assert set(changed.values()) == {"update"}, changed
    assert {kind(urn) for urn in changed} == {"aws:route53/record:Record", "gcp:dns/recordSet:RecordSet"}
    assert weights(recorded_sandbox) == {50, 100}

    before = {resource["urn"]: resource["id"] for resource in stack.resources() if "id" in resource}
    declared["regions"].append(copy.deepcopy(ADDED))
    declare(tmp_path / "project", "life", declared)
    changed = stack.up_changes()
    other = {urn: done for urn, done in changed.items() if done not in ("create", "update")}
    assert other == {}, "nothing is replaced or removed"
    updated = {kind(urn) for urn, done in changed.items() if done == "update"}
    assert updated.isdisjoint({AWS_INSTANCE, GCP_INSTANCE}), "no server that is there is touched"
    after = {resource["urn"]: resource["id"] for resource in stack.resources() if "id" in resource}
    assert {urn: after.get(urn) for urn in before} == before
    assert any("eu-west-1" in name for name in names(changed, "create"))

    declared["regions"].pop()
    declare(tmp_path / "project", "life", declared)
    changed = stack.up_changes()
    assert set(changed.values()) == {"delete", "update"}
    assert {urn for urn, done in changed.items() if done == "delete"} == set(after) - set(before) | {
        urn for urn, done in changed.items() if done == "delete" and kind(urn).startswith("mailinfra:")
    }
    stack.refresh_finds_nothing()
    assert stack.changes() == {}

    stack.destroy(lambda _event: None)
    assert stack.resources() == []
    nothing_is_left(recorded_sandbox)


def weights(sandbox: RecordedSandbox) -> set[int]:
    """The weights of the regions in the steering zone at Route 53, as Route 53 has them."""
    route53 = sandbox.aws("route53", "us-east-1")
    zone = next(
        z["Id"] for z in route53.list_hosted_zones()["HostedZones"] if z["Name"] == "aws.mx.life.test."
    )
    found = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return {record["Weight"] for record in found if "AliasTarget" in record and "Weight" in record}


def nothing_is_left(sandbox: RecordedSandbox) -> None:
    """Every cloud is as empty as the real one would be: keys wait for their deletion, Google's stay for ever. Vaults
    stay with their keys, and Google keeps the ids of pools."""
    assert [zone for zone in sandbox.control.call("dns.status")["zones"] if "life.test" in zone["zone"]] == []
    for region in ("eu-central-1", "eu-west-1", "us-east-1"):
        ec2, kms = sandbox.aws("ec2", region), sandbox.aws("kms", region)
        live = [
            i
            for r in ec2.describe_instances()["Reservations"]
            for i in r["Instances"]
            if i["State"]["Name"] != "terminated"
        ]
        assert live == []
        assert [vpc for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]] == []
        assert ec2.describe_addresses()["Addresses"] == []
        assert ec2.describe_volumes()["Volumes"] == []
        keys = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]]
        ours = [k for k in keys if k["KeyManager"] == "CUSTOMER" and "-vault-" not in k["Description"]]
        assert {key["KeyState"] for key in ours} <= {"PendingDeletion"}
    s3, iam = sandbox.aws("s3", "us-east-1"), sandbox.aws("iam", "us-east-1")
    route53 = sandbox.aws("route53", "us-east-1")
    assert [bucket for bucket in s3.list_buckets()["Buckets"] if bucket["Name"].startswith("life-")] == []
    assert [role for role in iam.list_roles()["Roles"] if role["RoleName"].startswith("life-")] == []
    assert route53.list_hosted_zones()["HostedZones"] == []
    assert route53.list_health_checks()["HealthChecks"] == []
    left = {(found, name) for found, name in sandbox.gcp_documents() if "life" in name}
    # A key's policy stays with the key; the versions, which are what encrypts and signs, are destroyed.
    kept = {"keyRing", "cryptoKey", "cryptoKeyVersion", "deletedWorkloadIdentity"}
    left = {(found, name) for found, name in left if found not in kept and "/keyRings/" not in name}
    vaults = {(found, name) for found, name in left if "life-eu-central-1-vault-bucket-" in name}
    assert ("bucket", False) in {(found, "/" in name) for found, name in vaults}
    assert left == vaults


def test_a_mistake_in_the_config_is_told_by_its_places(
    recorded_sandbox: RecordedSandbox, tmp_path: Path
) -> None:
    declared = copy.deepcopy(LIFE)
    declared["regions"][1]["zone"] = "mars"
    declared["mx"]["policy"] = "fastest"
    stack = recorded_sandbox.fleet(tmp_path / "project", "wrong", declared)
    with pytest.raises(EngineError) as raised:
        stack.pulumi("preview")
    said = str(raised.value)
    assert "problems in the fleet's config" in said
    assert "regions[1].zone: found 'mars'; allowed: a zone of the fleet: eu" in said
    assert "mx.policy: found 'fastest'; allowed:" in said
    assert "Traceback" not in said
    assert 'File "' not in said
    with pytest.raises(SandboxError, match=r"regions\[1\]\.zone: found 'mars'"):
        stack.up(lambda _event: None)


@pytest.mark.parametrize(
    "release", sorted(path.name.removesuffix(".json.gz") for path in RELEASES.glob("*.json.gz"))
)
def test_nothing_that_a_release_left_is_replaced(
    recorded_sandbox: RecordedSandbox, tmp_path: Path, release: str
) -> None:
    left = json.loads(gzip.decompress((RELEASES / f"{release}.json.gz").read_bytes()))
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(left["answers"]))
    clouds = {**recorded_sandbox.clouds, "LOOK_UPS": str(answers)}
    sandbox = RecordedSandbox(
        recorded_sandbox.paths, recorded_sandbox.engine, recorded_sandbox.control, clouds
    )
    stack = sandbox.fleet(tmp_path / "project", "sandbox", left["fleet"])
    with_look_ups(tmp_path / "project")
    state = tmp_path / "state.json"
    state.write_text(json.dumps(left["state"]))
    stack.pulumi("stack", "import", "--file", str(state))
    assert len(stack.resources()) > 500
    changes = {urn: done for urn, done in stack.changes().items() if not is_software(urn)}
    lost = {urn: done for urn, done in changes.items() if done not in {"create", "update"}}
    assert lost == {}, "an alias is missing, or an input is changed that cannot be changed in place"


def test_a_release_is_recorded() -> None:
    assert list(RELEASES.glob("*.json.gz"))


def test_a_lost_name_is_noticed(recorded_sandbox: RecordedSandbox, tmp_path: Path) -> None:
    """The counterpart: the same look at a program that forgot a node's old name finds what it would destroy."""
    declared = copy.deepcopy(LIFE)
    stack = recorded_sandbox.fleet(tmp_path / "project", "renamed", declared)
    program = tmp_path / "project" / "program" / "__main__.py"
    program.write_text("import pulumi_aws as aws\naws.kms.Key('old', region='eu-central-1')\n")
    stack.up(lambda _event: None)
    program.write_text(program.read_text().replace("'old'", "'new'"))
    assert sorted(stack.changes().values()) == ["create", "delete"]
    stack.destroy(lambda _event: None)
