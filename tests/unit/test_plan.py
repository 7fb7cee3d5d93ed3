"""The whole plan: what each node is told, and that nothing moves when a region joins."""

import pytest

from mailinfra.fleet import Fleet, Role
from mailinfra.node.spec import NodeSpec
from mailinfra.plan import FleetPlan, NodePlan, dkim_keys, issuer_group, node_spec, plan, signing_key
from tests.fleets import AWS_REGION, STACKS, config, fleet


def _spec(made: FleetPlan, node: NodePlan) -> NodeSpec:
    return node_spec(made, node, control_bucket="bucket", ca_key="ca-key", signing_reference="key-reference")


def _node(made: FleetPlan, fqdn: str) -> NodePlan:
    return next(node for node in made.nodes if node.fqdn.startswith(fqdn))


def test_an_edge_node() -> None:
    made = plan(fleet())
    spec = _spec(made, _node(made, "edge-1.eu-central-1"))
    assert spec.signing is not None
    assert spec.signing.selector == "eu-central-1-1"
    assert spec.signing.reference == "key-reference"
    assert spec.ca_key == ""
    assert spec.entitlements == {}
    assert spec.data_device == ""
    assert spec.egress_hosts == ("egress.eu.example.test",)
    assert spec.service_names == (
        "smtp.eu.example.test",
        "imap.eu.example.test",
        "pop3.eu.example.test",
        "mx1.aws.mx.example.test",
        "mx1.gcp.mx.example.test",
        "mx2.aws.mx.example.test",
        "mx2.gcp.mx.example.test",
        "mta-sts.example.test",
        "mta-sts.second.test",
    )
    assert spec.mta_sts_policy.startswith("version: STSv1\r\n")
    assert spec.endpoints == {
        "kms": "https://kms.eu-central-1.aws.test",
        "storage": "https://s3.eu-central-1.aws.test",
    }


def test_an_issuing_mailbox_node() -> None:
    made = plan(fleet())
    spec = _spec(made, _node(made, "store-1.europe-west3"))
    assert spec.signing is None
    assert spec.mta_sts_policy == ""
    assert spec.ca_key == "ca-key"
    assert set(spec.entitlements) == {"edge", "store"}
    assert spec.entitlements["edge"] == next(
        group.service_names for group in made.region("europe-west3").groups if group.name == "edge"
    )
    assert spec.entitlements["store"] == ()
    assert spec.data_device == "/dev/disk/by-id/google-data"
    assert spec.endpoints["kms"] == "https://cloudkms.googleapis.test"


def test_an_egress_node() -> None:
    made = plan(fleet())
    node = _node(made, "out-1.us-east-1")
    group = next(item for item in made.region("us-east-1").groups if item.name == "out")
    assert _spec(made, node).service_names == ("egress.us.example.test",)
    assert group.may_send_smtp
    assert group.data_gib == 0
    assert group.machine_type == "t3.small"


@pytest.mark.parametrize("stack", STACKS)
def test_a_region_more_changes_nothing_of_the_others(stack: str) -> None:
    data = config(stack)
    added = {**AWS_REGION, "region": "eu-west-3", "network": "10.250.0.0/24"}
    data["zones"]["eu"]["countries"] = sorted({*data["zones"]["eu"]["countries"], "FR"})
    before = plan(Fleet.load(data))
    data["regions"].append(added)
    after = plan(Fleet.load(data))
    for region in before.regions:
        assert after.region(region.name) == region
    for node in before.nodes:
        assert _spec(before, node) == _spec(after, _node(after, node.fqdn))
    assert {key.selector for key in before.dkim_keys} < {key.selector for key in after.dkim_keys}


def test_a_region_gone_changes_nothing_of_the_others() -> None:
    before = plan(fleet(regions__4=AWS_REGION))
    after = plan(fleet())
    for node in after.nodes:
        assert _spec(before, _node(before, node.fqdn)) == _spec(after, node)


def test_the_issuer_is_where_the_mail_is() -> None:
    one = fleet()
    assert issuer_group(one.regions[0]) == "store"
    assert issuer_group(fleet("dev").regions[1]) == "edge"
    assert issuer_group(one.regions[0].model_copy(update={"groups": one.regions[0].groups[:2]})) == "edge"


def test_an_empty_group_issues_nothing() -> None:
    region = fleet("dev").regions[1]
    empty = region.groups[0].model_copy(update={"count": 0})
    assert issuer_group(region.model_copy(update={"groups": (empty,)})) == "edge"
    alive = region.groups[0].model_copy(update={"name": "alive"})
    assert issuer_group(region.model_copy(update={"groups": (empty, alive)})) == "alive"


def test_dkim_keys_live_where_mail_is_signed_until_they_retire() -> None:
    keys = [
        {"serial": "1", "stage": "retired"},
        {"serial": "2", "stage": "signing"},
        {"serial": "3", "stage": "generated"},
    ]
    one = fleet(dkim={"keys": keys, "bits": 3072})
    found = {(key.region, key.serial) for key in dkim_keys(one)}
    assert found == {(region.region, serial) for region in one.regions for serial in ("2", "3")}
    assert {key.bits for key in dkim_keys(one)} == {3072}
    assert signing_key(one).serial == "2"
    made = plan(one)
    spec = _spec(made, _node(made, "edge-1.us-central1"))
    assert spec.signing is not None
    assert spec.signing.selector == "us-central1-2"


def test_regions_and_their_nodes() -> None:
    made = plan(fleet())
    assert len(made.nodes) == 10
    assert [node.name for node in made.region("us-central1").nodes] == ["edge-1", "store-1"]
    assert made.region("us-central1").has_submission
    with pytest.raises(KeyError):
        made.region("nowhere")


def test_every_role_of_the_sandbox_is_somewhere_alone() -> None:
    roles = {group.roles for region in plan(fleet()).regions for group in region.groups}
    assert (Role.EGRESS,) in roles
    assert (Role.MAILBOX,) in roles
