"""Placement: the first rule that fits, and few moves when mailbox nodes come and go."""

from collections import Counter

import pytest

from mailinfra.placement import home, homes, mailbox_host, mailbox_hosts, place_users
from tests.fleets import fleet

HOSTS = tuple(f"store-{n}.eu-central-1.nodes.example.test" for n in range(1, 6))
ADDRESSES = [f"user{n}@example.test" for n in range(4000)]


@pytest.mark.parametrize(
    ("attributes", "region"),
    [
        ({"country": "DE"}, "eu-central-1"),
        ({"country": "NL"}, "europe-west3"),
        ({"country": "US"}, "us-east-1"),
        ({"country": "US", "department": "research"}, "us-central1"),
        ({"country": "DE", "department": "research"}, "eu-central-1"),
        ({"country": "BR"}, "eu-central-1"),
        ({}, "eu-central-1"),
        ({"country": "de"}, "eu-central-1"),
    ],
)
def test_the_first_rule_that_fits_decides(attributes: dict[str, str], region: str) -> None:
    assert home(fleet(), attributes) == region


def test_rules_decide_as_if_read_in_order() -> None:
    one = fleet()
    table = homes(one)
    for country in ("DE", "NL", "US", "BR", ""):
        for department in ("research", "sales", ""):
            attributes = {"country": country, "department": department}
            slowly = next(
                (rule.home for rule in one.placement.rules if attributes[rule.attribute] in rule.values),
                one.placement.default,
            )
            assert table.home(attributes) == slowly


def test_hosts_are_a_regions_mailbox_nodes() -> None:
    one = fleet(regions__0__groups__2__count=3)
    assert mailbox_hosts(one, one.regions[0]) == HOSTS[:3]


def test_shares_are_even() -> None:
    shares = Counter(mailbox_host(address, HOSTS) for address in ADDRESSES)
    expected = len(ADDRESSES) / len(HOSTS)
    assert all(abs(shares[host] - expected) < 0.15 * expected for host in HOSTS)


def test_a_node_more_takes_its_share_and_nobody_else_moves() -> None:
    moved = 0
    for address in ADDRESSES:
        before, after = mailbox_host(address, HOSTS[:4]), mailbox_host(address, HOSTS)
        if before != after:
            assert after == HOSTS[4]
            moved += 1
    assert 0.15 < moved / len(ADDRESSES) < 0.25


def test_the_order_of_hosts_does_not_matter() -> None:
    assert [mailbox_host(a, HOSTS) for a in ADDRESSES[:200]] == [
        mailbox_host(a, HOSTS[::-1]) for a in ADDRESSES[:200]
    ]


def test_many_users_at_once_are_placed_as_one_by_one() -> None:
    one = fleet(regions__0__groups__2__count=3)
    table = homes(one)
    users = [(address, {"country": ["DE", "US"][n % 2]}) for n, address in enumerate(ADDRESSES)]
    for (address, attributes), (region, host) in zip(users, place_users(table, users), strict=True):
        assert region == table.home(attributes)
        assert host == mailbox_host(address, table.hosts[region])


def test_a_home_without_mailbox_nodes_is_an_error() -> None:
    whole = fleet()
    bare = whole.regions[0].model_copy(update={"groups": whole.regions[0].groups[:2]})
    table = homes(whole.model_copy(update={"regions": (bare, *whole.regions[1:])}))
    with pytest.raises(ValueError, match="no mailbox node"):
        place_users(table, [("a@example.test", {"country": "DE"})])
    with pytest.raises(ValueError, match="a mailbox node"):
        mailbox_host("a@example.test", ())
