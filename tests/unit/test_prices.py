"""The price table, and prices of one's own over it."""

from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from mailinfra.errors import ConfigError
from mailinfra.fleet import Cloud, Size
from mailinfra.places import PLACES, machine_type
from mailinfra.prices import AS_OF, EVERYWHERE, PRICES, Origin, load


def test_every_price_is_a_price_in_a_region_that_there_is() -> None:
    for sku in PRICES.values():
        assert sku.usd and sku.unit and sku.page.startswith("https://"), sku.name
        assert all(usd > 0 for usd in sku.usd.values()) or sku.name == "cloudflare.zone"
        for region in set(sku.usd) - {EVERYWHERE}:
            assert PLACES[region].cloud == sku.name.split(".")[0], sku.name


def test_no_number_is_newer_than_the_table_and_none_from_memory_has_a_date() -> None:
    for sku in PRICES.values():
        assert sku.read is None or date(2020, 1, 1) < sku.read <= AS_OF, sku.name
        assert sku.origin is not Origin.MEMORY or sku.read is None, sku.name


@pytest.mark.parametrize("cloud", Cloud)
def test_every_machine_type_has_prices_that_double_with_its_memory(cloud: Cloud) -> None:
    for sizes in ((Size.NANO, Size.SMALL, Size.MEDIUM), (Size.LARGE, Size.XLARGE)):
        skus = [PRICES[f"{cloud}.{machine_type(cloud, size)}"] for size in sizes]
        assert len({frozenset(sku.usd) for sku in skus}) == 1
        for smaller, larger in pairwise(skus):
            for region, usd in smaller.usd.items():
                # A core and memory of E2 do not grow in the same measure: 0.25 and 1, 0.5 and 2, 1 and 4.
                assert larger.usd[region] == 2 * usd


def test_a_machine_at_google_costs_its_cores_and_memory() -> None:
    # Compute Engine's price page: e2-micro 0.0084, n2-standard-2 0.0971 in us-central1.
    assert round(PRICES["gcp.e2-micro"].usd["us-central1"], 4) == Decimal("0.0084")
    assert round(PRICES["gcp.n2-standard-2"].usd["us-central1"], 4) == Decimal("0.0971")


def test_a_region_without_a_price_has_none() -> None:
    assert PRICES["aws.t3.micro"].at("af-south-1") is None
    assert PRICES["aws.kms.key"].at("af-south-1") == 1


def test_own_prices_go_over_the_table(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text('prices: {aws.t3.micro: {af-south-1: 0.0136}, aws.ipv4: {"*": 0}}\n')
    own = load(file)
    assert own["aws.t3.micro"].at("af-south-1") == Decimal("0.0136")
    assert own["aws.t3.micro"].at("us-east-1") == PRICES["aws.t3.micro"].at("us-east-1")
    assert own["aws.ipv4"].at("us-east-1") == 0
    assert own["aws.ipv4"].origin is Origin.OWN
    assert own["aws.gp3"] == PRICES["aws.gp3"]
    assert PRICES["aws.t3.micro"].at("af-south-1") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prices: {aws.t3.mikro: {us-east-1: 1}}", "aws.t3.micro"),
        ("prices: {aws.gp3: {us-east-1: -1}}", "prices.aws.gp3.us-east-1"),
        ("prices: {aws.gp3: {us-east-1: .inf}}", "prices.aws.gp3.us-east-1"),
        ("prices: {aws.gp3: 1}", "prices.aws.gp3"),
        ("price: {}", "price"),
        ("prices: [", "YAML"),
        ("", "prices"),
    ],
)
def test_a_file_that_is_not_good_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert said in str(refused.value) and "the prices" in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load(tmp_path / "none.yaml")
