"""Where the copies of each store of mail lie."""

from dataclasses import replace

import pytest

from mailinfra.backup.plan import copies, followers
from mailinfra.errors import Problem
from mailinfra.fleet import Cloud, Clouds
from mailinfra.placement import mailbox_hosts
from mailinfra.places import PLACES
from mailinfra.plan import plan
from tests.fleets import STACKS, fleet, refused


@pytest.mark.parametrize("stack", STACKS)
def test_every_store_has_a_vault_in_the_other_cloud_and_in_its_zone(stack: str) -> None:
    made = fleet(stack)
    found = copies(made)
    assert found
    for store in found:
        assert store.vault is not None
        assert store.vault.cloud is not made.region(store.region).cloud
        assert store.vault.country in made.zones[store.zone].countries


@pytest.mark.parametrize("stack", ["sandbox", "prod"])
def test_every_mailbox_node_is_followed_by_one_of_another_region_and_cloud_in_its_zone(stack: str) -> None:
    made = fleet(stack)
    whole = plan(made)
    nodes = {node.fqdn: node for node in whole.nodes}
    for store in whole.copies:
        for fqdn in mailbox_hosts(made, made.region(store.region)):
            other = nodes[followers(made)[fqdn]]
            assert "mailbox" in other.roles and other.region != store.region
            assert whole.region(other.region).zone == store.zone
            assert whole.region(other.region).cloud is not made.region(store.region).cloud


def test_a_zone_with_one_store_has_no_replica() -> None:
    assert [store.replica for store in copies(fleet("dev"))] == [""]


def test_no_place_of_google_cloud_without_a_project() -> None:
    made = fleet().model_copy(update={"clouds": Clouds()})
    for store in copies(made):
        assert store.vault is not None
        assert store.vault.cloud is Cloud.AWS
        assert store.vault.region != store.region


def test_no_vault_where_the_zone_has_no_other_place() -> None:
    only = {name: place for name, place in PLACES.items() if name in {"eu-central-1", "europe-west4"}}
    made = fleet("dev")
    assert [store.vault for store in copies(made, only)] == [PLACES["europe-west4"]]
    only["europe-west4"] = replace(only["europe-west4"], country="FR")
    assert [store.vault for store in copies(made, only)] == [None]


@pytest.mark.parametrize(
    ("vaults", "path", "found"),
    [
        (
            {"europe-west4": {"cloud": "gcp", "region": "europe-west4"}},
            "backup.vaults.europe-west4",
            "europe-west4",
        ),
        (
            {"eu-central-1": {"cloud": "aws", "region": "eu-central-1"}},
            "backup.vaults.eu-central-1.region",
            "itself",
        ),
        (
            {"eu-central-1": {"cloud": "gcp", "region": "us-east5"}},
            "backup.vaults.eu-central-1.region",
            "lies in US",
        ),
        (
            {"eu-central-1": {"cloud": "gcp", "region": "moon-1"}},
            "backup.vaults.eu-central-1.region",
            "moon-1",
        ),
    ],
)
def test_a_vault_that_cannot_be_is_named(vaults: object, path: str, found: str) -> None:
    problems: tuple[Problem, ...] = refused("dev", backup={"vaults": vaults})
    assert [problem.path for problem in problems] == [path]
    assert found in problems[0].found


def test_a_declared_vault_is_taken() -> None:
    (store,) = copies(
        fleet("dev", backup={"vaults": {"eu-central-1": {"cloud": "gcp", "region": "europe-west3"}}})
    )
    assert store.vault == PLACES["europe-west3"]
