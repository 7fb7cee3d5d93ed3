"""What a fleet costs: the items of its parts, their sums, and a pilot light at full size."""

import inspect
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mailinfra.cost import GLOBAL, Estimate, Item, Sum, Usage, at_full_size, estimate, scaled
from mailinfra.cost.items import ACCOUNT_ROLES, POLL_SECONDS
from mailinfra.errors import ConfigError
from mailinfra.fleet import Fleet, Role, Size
from mailinfra.node.agent.__main__ import INTERVAL
from mailinfra.node.agent.directory import Directory
from mailinfra.plan import plan
from mailinfra.prices import PRICES, Sku
from tests.fleets import AWS_REGION, STACKS, fleet, refused

MONTH = 730  # hours
DAYS = 730 / 24


def bill(made: Fleet, usage: Usage | None = None) -> Estimate:
    return estimate(plan(made), usage)


@cache
def of_stack(stack: str) -> Estimate:
    return bill(fleet(stack))


def amounts(found: Estimate, what: str, region: str = "") -> list[Decimal]:
    return [
        item.quantity
        for item in found.items
        if item.what.startswith(what) and item.region in (region or item.region)
    ]


def usd(sku: str, region: str = "*") -> float:
    return float(PRICES[sku].usd[region])


def test_the_sandbox_costs_what_it_comes_to_by_hand() -> None:
    """Four regions: on AWS an edge, an out and a store node of t3.small, at Google an edge and a store node of
    e2-small; 20 GiB system disks, stores with 10 GiB; one mailbox of 2 GiB in each region (half of half a volume),
    followed by the other region of its zone; one generation of RSA-2048 keys; two domains at Cloudflare, a steering
    zone at Route 53 and one at Cloud DNS, each with four mx nodes of two addresses."""
    new = 60 * DAYS * 75 / 1024**2  # GiB of new mail in a mailbox in a month
    received, sent = 60 * DAYS, 20 * DAYS
    looks = MONTH * 3600 / 10
    log = (received + sent) * 4 / 1024**2
    snapshots = 2 + 2 + 2 * new * 3 * 7 / DAYS
    written = (2 * DAYS / 30 + new) * 0.7
    kept = 400 / DAYS
    total = 0.0
    for region, follower in (("eu-central-1", "europe-west3"), ("us-east-1", "us-central1")):
        total += 3 * MONTH * usd("aws.t3.small", region) + (3 * 20 + 10) * usd("aws.gp3", region)
        total += 3 * MONTH * usd("aws.ipv4") + 3 * 7 * usd("aws.metric")
        total += 4 * usd("aws.kms.key") + sent / 10_000 * usd("aws.kms.rsa-2048")
        # Each looks for anchors and routes, edge and store for accounts too; the store, which issues, makes two lists.
        total += 8 * looks / 1000 * usd("aws.s3.get", region) + 2 * looks / 1000 * usd("aws.s3.put", region)
        total += 10 * looks / 100_000 * usd("aws.data-event")
        flows = 3 * 64 * DAYS / 1024
        total += (flows + log) * usd("aws.flow-logs")
        total += (flows + log + 10 * looks * 1.5 / 1024**2) * 0.1 * kept * usd("aws.s3", region)
        total += snapshots * usd("aws.snapshot", region)
        total += (new + written) * usd("aws.internet", region)  # to the replica, to the vault
        # Its users' mail read by two clients; its own and the other region's mail out.
        total += (received * 2 + sent * 2) * 75 / 1024**2 * usd("aws.internet", region)
        # The vault of this region's mail lies at Google, beside its follower, and the other way round.
        total += 2 * 0.7 * 65 / 30 * (usd("gcp.storage", follower) + usd("aws.s3", region))
        packs = written * 1024 / 16 / 1000
        runs = MONTH * 60 / 15 * 4 / 1000
        total += (packs + runs) * (usd("gcp.storage.put") + usd("aws.s3.put", region))
        total += usd("gcp.kms.key") + usd("aws.kms.key")

        total += 2 * MONTH * usd("gcp.e2-small", follower) + (2 * 20 + 10) * usd("gcp.pd-balanced", follower)
        total += 2 * MONTH * usd("gcp.ipv4")
        total += (
            2 * usd("gcp.kms.key") + usd("gcp.kms.key.asymmetric") + sent / 10_000 * usd("gcp.kms.rsa-2048")
        )
        total += 6 * looks / 1000 * usd("gcp.storage.get") + 2 * looks / 1000 * usd("gcp.storage.put")
        events = (8 * looks) * 1.5 / 1024**2
        total += (2 * 128 * DAYS / 1024 + events + log + sent * 1.5 / 1024**2) * usd("gcp.logs")
        total += events * kept * usd("gcp.storage", follower)
        total += snapshots * usd("gcp.snapshot", follower)
        total += (new + written) * usd("gcp.internet", follower)
        total += (received * 2 + sent) * 75 / 1024**2 * usd("gcp.internet", follower)
    asked = 4 * received * 4 / 2 / 10**6  # million queries to each steering zone
    total += usd("route53.zone") + usd("aws.kms.key") + asked * usd("route53.queries.geo")
    total += 4 * usd("route53.fast-check.aws") + 4 * usd("route53.fast-check.other")
    total += usd("clouddns.zone") + 8 * usd("clouddns.check") + asked * usd("clouddns.queries.routed")
    total += asked * 10**6 * 1.5 / 1024**2 * usd("gcp.logs")

    found = of_stack("sandbox")
    assert found.mailboxes == 4
    assert float(found.sum.total) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_has_a_price_for_everything(stack: str) -> None:
    found = of_stack(stack)
    assert found.sum.complete and not found.missing and not found.notes
    assert all(item.quantity > 0 for item in found.items)
    assert 0 < found.sum.standing < found.sum.total


@pytest.mark.parametrize("stack", STACKS)
def test_items_sum_to_the_total_in_each_cut(stack: str) -> None:
    found = of_stack(stack)
    assert sum((item.monthly for item in found.items), Decimal(0)) == found.sum.total
    for key in (
        lambda item: item.account,
        lambda item: item.region,
        lambda item: item.zone,
        lambda item: item.origin.value,
        lambda item: item.sku,
    ):
        cut = found.by(key).values()
        assert sum((part.standing for part in cut), Decimal(0)) == found.sum.standing
        assert sum((part.by_use for part in cut), Decimal(0)) == found.sum.by_use


@pytest.mark.parametrize("stack", STACKS)
def test_every_region_and_account_of_a_fleet_costs_something(stack: str) -> None:
    made = fleet(stack)
    regions = of_stack(stack).by(lambda item: item.region)
    assert all(regions[region.region].standing > 0 for region in made.regions)
    accounts = set(of_stack(stack).by(lambda item: item.account))
    wanted = {"AWS", f"Google Cloud {made.clouds.gcp.project}"}
    assert accounts == (wanted if stack == "dev" else wanted | {"Cloudflare"})


def test_without_mail_only_what_stands_is_paid() -> None:
    idle = bill(fleet("dr"), Usage(mailboxes=0))
    assert idle.sum.by_use == 0
    assert idle.sum.standing == of_stack("dr").sum.standing


@settings(max_examples=25)
@given(
    stack=st.sampled_from(STACKS),
    index=st.integers(0, 30),
    field=st.sampled_from(["count", "disk_gib", "data_gib"]),
    more=st.integers(1, 5),
)
def test_more_of_anything_never_lowers_the_total(stack: str, index: int, field: str, more: int) -> None:
    made = fleet(stack)
    places = [
        (number, place) for number, region in enumerate(made.regions) for place in range(len(region.groups))
    ]
    region, group = places[index % len(places)]
    old = getattr(made.regions[region].groups[group], field)
    change = {f"regions__{region}__groups__{group}__{field}": old + more}
    assume(not refused(stack, **change))  # a network has an end
    larger = fleet(stack, **change)
    before, after = of_stack(stack).sum, bill(larger).sum
    assert after.standing >= before.standing and after.total >= before.total
    if field == "count":
        assert after.standing > before.standing


def test_a_further_region_costs_more() -> None:
    larger = fleet("sandbox", regions__4=AWS_REGION)
    assert bill(larger).sum.standing > of_stack("sandbox").sum.standing


numbers = st.decimals(0, 1000, places=2)


@settings(max_examples=25)
@given(usage=st.fixed_dictionaries(dict.fromkeys(set(Usage.model_fields) - {"mailboxes", "fill"}, numbers)))
def test_nothing_costs_less_than_nothing(usage: dict[str, Decimal]) -> None:
    found = bill(fleet("sandbox"), Usage(**usage))
    assert all(item.monthly >= 0 for item in found.items)
    assert all(
        part.standing >= 0 and part.by_use >= 0 for part in found.by(lambda item: item.region).values()
    )


@settings(max_examples=25)
@given(fewer=st.integers(0, 5000), more=st.integers(0, 5000))
def test_more_mailboxes_cost_more(fewer: int, more: int) -> None:
    low, high = (bill(fleet("prod"), Usage(mailboxes=number)).sum for number in (fewer, fewer + more))
    assert low.standing == high.standing
    assert low.by_use <= high.by_use and (more == 0 or low.by_use < high.by_use)


def test_a_region_without_a_price_is_named_and_the_total_says_so() -> None:
    made = fleet(
        "dev",
        regions__0__region="eu-west-3",
        zones__eu__countries=["FR", "NL"],
        placement__default="eu-west-3",
    )
    found = bill(made)
    assert "no price for aws.t3.micro in eu-west-3" in found.missing
    assert not found.sum.complete
    regions = found.by(lambda item: item.region)
    assert not regions["eu-west-3"].complete and regions["europe-west4"].complete
    assert regions["eu-west-3"].total > 0  # what costs the same everywhere is counted


def test_mail_that_does_not_fit_is_said() -> None:
    (note,) = bill(fleet("dev"), Usage(mailboxes=1000)).notes
    assert note == "eu-central-1: 2,000 GiB of mail do not fit its mail volumes of 20 GiB"


def test_mailboxes_follow_the_mail_volumes() -> None:
    found = bill(fleet("sandbox", regions__0__groups__2__data_gib=70), Usage(mailboxes=100))
    assert [load.mailboxes for load in found.loads.values()] == [70, 10, 10, 10]
    assert found.loads["europe-west3"].replica_gib == 140


def test_the_defaults_leave_room_on_every_volume() -> None:
    for load in of_stack("prod").loads.values():
        assert load.own_gib == 1000
        assert load.own_gib + load.replica_gib <= 4000


def test_mail_leaves_by_the_egress_nodes_of_its_zone() -> None:
    found = of_stack("sandbox")
    assert amounts(found, "mail to the egress nodes", "europe-west3")
    assert not amounts(found, "mail to the internet", "europe-west3")
    own_and_other = amounts(found, "mail to the internet", "eu-central-1")
    assert own_and_other == [pytest.approx(2 * amounts(found, "mail to the egress nodes", "europe-west3")[0])]


def test_longer_keys_cost_more() -> None:
    short, long = of_stack("sandbox"), bill(fleet("sandbox", dkim__bits=4096))
    skus = {item.sku for item in long.items}
    assert {"aws.kms.asymmetric", "gcp.kms.asymmetric"} <= skus
    assert not {"aws.kms.rsa-2048", "gcp.kms.rsa-2048"} & skus
    # Two keys at Google of 2.50 instead of 1.
    assert long.sum.standing - short.sum.standing == 3


def test_health_checks_by_interval_and_owner() -> None:
    slow = fleet("sandbox", mx__health__interval_seconds=30)
    assert {item.sku for item in bill(slow).items if item.sku.startswith("route53.")} >= {
        "route53.check.aws",
        "route53.check.other",
    }
    # One optional feature less for four addresses in AWS (1 USD) and four others (2 USD).
    assert of_stack("sandbox").sum.standing - bill(slow).sum.standing == 12


@pytest.mark.parametrize(
    ("policy", "sku"),
    [
        ("geo", "route53.queries.geo"),
        ("weighted", "route53.queries.weighted"),
        ("latency", "route53.queries.latency"),
    ],
)
def test_queries_cost_by_policy(policy: str, sku: str) -> None:
    changes: dict[str, Any] = {"mx__policy": policy}
    if policy == "latency":
        changes["dns__steering"] = [{"provider": "route53", "label": label} for label in ("one", "two")]
    skus = {item.sku for item in bill(fleet("sandbox", **changes)).items}
    assert {name for name in skus if "queries" in name and name.startswith("route53")} == {sku}


@pytest.mark.parametrize(
    ("parent", "account", "sku"),
    [
        ({"provider": "route53"}, "AWS", "route53.zone"),
        ({"provider": "clouddns"}, "Google Cloud sandbox-mail", "clouddns.zone"),
        ({"provider": "cloudflare", "account_id": "0" * 32}, "Cloudflare", "cloudflare.zone"),
    ],
)
def test_parent_zones_are_paid_where_they_are_served(parent: dict[str, str], account: str, sku: str) -> None:
    found = bill(fleet("sandbox", dns__parent=parent))
    (zones,) = [item for item in found.items if item.what == "parent zones"]
    assert (zones.account, zones.region, zones.sku, zones.quantity) == (account, GLOBAL, sku, 2)
    one = bill(fleet("sandbox", dns__parent={**parent, "existing": {"second.test": "Z1"}}))
    assert [item.quantity for item in one.items if item.what == "parent zones"] == [1]


def test_unsigned_zones_have_no_keys() -> None:
    signed, unsigned = (bill(fleet("dev", dns__dnssec=dnssec)) for dnssec in (True, False))
    assert amounts(signed, "DNSSEC keys") == [1, 1] and not amounts(unsigned, "DNSSEC keys")


def test_a_zone_without_a_replica_pays_for_none() -> None:
    assert not amounts(of_stack("dev"), "replica")
    assert len(amounts(of_stack("prod"), "replica")) == 9


def test_longer_retention_keeps_more() -> None:
    long = bill(fleet("sandbox", backup__retention_days=350, traces__retention_days=800))
    for what in ("vault of", "traces kept"):
        before = [item.monthly for item in of_stack("sandbox").items if item.what.startswith(what)]
        after = [item.monthly for item in long.items if item.what.startswith(what)]
        assert sum(after) > sum(before)


def test_the_polling_is_the_agents() -> None:
    assert POLL_SECONDS == INTERVAL
    source = inspect.getsource(Directory.__init__)
    assert all(f'"{role}"' in source for role in ACCOUNT_ROLES)


# A pilot light at full size


def roles(made: Fleet) -> dict[tuple[str, frozenset[Role], Size, int], int]:
    found: dict[tuple[str, frozenset[Role], Size, int], int] = {}
    for region in made.regions:
        for group in region.groups:
            data = group.data_gib if Role.MAILBOX in group.roles else 0
            key = (region.zone, frozenset(group.roles), group.size, data)
            found[key] = found.get(key, 0) + group.count
    return found


def test_a_pilot_light_at_full_size_has_the_others_nodes_zone_by_zone() -> None:
    large, notes = scaled(fleet("dr"), fleet("prod"))
    assert not notes
    assert roles(large) == roles(fleet("prod"))
    assert [region.region for region in large.regions] == [region.region for region in fleet("dr").regions]


def test_what_is_left_over_goes_to_the_first_regions_and_egress_only_where_smtp_gets_out() -> None:
    large, notes = scaled(fleet("sandbox"), fleet("prod"))
    assert notes == ("no region of sandbox is in zone apac: 28 nodes of prod are left out",)
    eu = {region.region: region for region in large.regions if region.zone == "eu"}
    counts = {name: {group.roles: group.count for group in region.groups} for name, region in eu.items()}
    assert counts["eu-central-1"][Role.EGRESS,] == 4
    assert (Role.EGRESS,) not in counts["europe-west3"]
    assert counts["eu-central-1"][Role.MX,] == counts["europe-west3"][Role.MX,] == 3
    odd = fleet("prod", regions__0__groups__0__count=3)
    first, second, *_ = scaled(fleet("sandbox"), odd)[0].regions
    assert [group.count for group in first.groups if group.roles == (Role.MX,)] == [4]
    assert [group.count for group in second.groups if group.roles == (Role.MX,)] == [3]


def test_a_zone_of_the_pilot_light_alone_keeps_its_groups() -> None:
    pilot, like = fleet("dr"), fleet("dev")
    large, _ = scaled(pilot, like)
    assert large.regions[1] == pilot.regions[1]
    assert large.regions[0].groups != pilot.regions[0].groups


def test_full_size_costs_more_than_standing_by() -> None:
    pilot, full = of_stack("dr"), at_full_size(fleet("dr"), fleet("prod"))
    assert full.name == "dr like prod"
    assert full.nodes == of_stack("prod").nodes and full.mailboxes == of_stack("prod").mailboxes
    assert full.sum.standing > 10 * pilot.sum.standing
    assert full.sum.complete


def test_full_size_has_the_mailboxes_of_the_zones_that_both_have() -> None:
    full = at_full_size(fleet("dev"), fleet("prod"), Usage(mailboxes=900))
    assert full.mailboxes == 300
    assert len(full.notes) == 2


# Assumptions


def test_numbers_are_taken_from_text() -> None:
    usage = Usage.of({"mailboxes": "12", "message_kib": "80.5"})
    assert (usage.mailboxes, usage.message_kib, usage.fill) == (12, Decimal("80.5"), Decimal("0.5"))


def test_what_is_no_number_is_refused_all_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        Usage.of({"mailboxes": "1.5", "fill": "2", "message_kib": "NaN", "sends_per_day": "-1", "fil": "1"})
    assert {problem.path for problem in refused.value.problems} == {
        "mailboxes",
        "fill",
        "message_kib",
        "sends_per_day",
        "fil",
    }


def test_a_sum_counts_what_has_no_price() -> None:
    sku: Sku = PRICES["aws.gp3"]
    item = Item("AWS", "r", "z", "disk", sku.name, Decimal(1), sku.unit, None, sku.origin, True)
    total = Sum().plus(item)
    assert (total.total, total.missing, total.complete) == (0, 1, False)
    assert item.missing == "no price for aws.gp3 in r"
