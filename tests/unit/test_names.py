"""Names: those of the architecture, and within the clouds' limits whatever the config says."""

import re

from hypothesis import given
from hypothesis import strategies as st

from mailinfra import names
from mailinfra.fleet import Fleet
from mailinfra.places import PLACES
from tests.fleets import config, fleet, refused

LABELS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\Z")
GROUPS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?\Z")
REGIONS = st.sampled_from(sorted(PLACES))


def _named(name: str) -> Fleet:
    return Fleet.model_validate(config(name=name))


def test_hosts_and_zones() -> None:
    one = fleet()
    assert names.node_fqdn(one, "eu-central-1", "edge", 1) == "edge-1.eu-central-1.nodes.example.test"
    assert names.steering_zones(one) == ("aws.mx.example.test", "gcp.mx.example.test")
    assert names.mx_hosts(one, 1) == ("mx1.aws.mx.example.test", "mx1.gcp.mx.example.test")
    assert names.mx_hosts(one, 2) == ("mx2.aws.mx.example.test", "mx2.gcp.mx.example.test")
    assert names.service_host(one, "imap", "eu") == "imap.eu.example.test"
    assert names.mta_sts_host("second.test") == "mta-sts.second.test"


def test_keys_and_objects() -> None:
    one = fleet()
    assert names.dkim_selector(one, "eu-central-1", "1") == "eu-central-1-1"
    assert names.dkim_name("s", "example.test") == "s._domainkey.example.test"
    assert names.enrol_key("edge", "edge-1") == "enrol/edge/edge-1.csr"
    assert names.certificate_key("edge", "edge-1") == "certs/edge/edge-1.pem"
    assert names.enrol_key("edge", "edge-1").startswith(names.enrol_prefix("edge"))
    assert names.certificate_key("edge", "edge-1").startswith(names.certificate_prefix("edge"))
    assert names.kms_alias(one, "eu-central-1", "storage") == "alias/sandbox/eu-central-1/storage"


@given(LABELS, REGIONS, GROUPS)
def test_cloud_names_fit_their_limits(name: str, region: str, group: str) -> None:
    one = _named(name)
    account = names.gcp_service_account_id(one, region, group)
    assert re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", account)
    assert len(names.iam_role_name(one, region, group)) <= 64
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", names.gcp_name(one, region, group, "x" * 50))
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", names.key_ring(one, region))
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", names.control_bucket(one, region, "1"))


@given(st.lists(st.tuples(REGIONS, GROUPS), min_size=2, max_size=20, unique=True))
def test_shortened_names_stay_apart(pairs: list[tuple[str, str]]) -> None:
    one = _named("a-long-name1")
    ids = {names.gcp_service_account_id(one, region, group) for region, group in pairs}
    # "a-b" in region "c" and "b" in "c-a" join to the same text only if a region's end may be a group's start.
    assert len(ids) == len({f"{region}-{group}" for region, group in pairs})


def test_buckets_of_two_accounts_differ_and_are_stable() -> None:
    one = fleet()
    first = names.control_bucket(one, "eu-central-1", "111111111111")
    assert first == names.control_bucket(one, "eu-central-1", "111111111111")
    assert first != names.control_bucket(one, "eu-central-1", "222222222222")
    assert first.startswith("sandbox-eu-central-1-control-")


def test_short_names_are_left_alone() -> None:
    assert names.shorten("short", 10) == "short"
    assert len(names.shorten("much-longer-than-that", 15)) == 15


@given(LABELS, REGIONS, REGIONS)
def test_names_of_vaults_fit(name: str, region: str, store: str) -> None:
    one = _named(name)
    assert re.fullmatch(r"(?!gcp-)[a-z0-9-]{4,32}", names.identity_pool(one))
    assert len(names.vault_role(one, region, store)) <= 64


def test_a_fleet_that_comes_back_may_take_another_pool() -> None:
    one = fleet("sandbox", clouds={"gcp": {"project": "sandbox-mail", "identity_pool": "mail-sandbox-2"}})
    assert (names.identity_pool(fleet("sandbox")), names.identity_pool(one)) == (
        "mail-sandbox",
        "mail-sandbox-2",
    )
    (problem,) = refused("sandbox", clouds={"gcp": {"project": "sandbox-mail", "identity_pool": "gcp-mine"}})
    assert problem.path == "clouds.gcp.identity_pool"


def test_each_use_of_a_vault_has_a_role_of_its_own() -> None:
    one = fleet()
    assert names.vault_role(one, "us-central1", "us-central1") == "sandbox-us-central1-vault"
    reads = {
        names.vault_role(one, "us-central1", store) for store in ("us-east-1", "us-west-2", "us-central1")
    }
    assert len(reads) == 3
