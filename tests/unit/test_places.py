"""Places: the table is whole, distances are right, unknown regions are explained."""

import json
import math
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.fleet import Cloud, Size
from mailinfra.places import (
    CLOUD_DNS_HEALTH_SOURCES,
    COUNTRIES,
    MACHINE_IMAGES,
    PLACES,
    Nearby,
    distance_km,
    machine_type,
    place,
    unknown_region,
)

CONTINENTS = {"AF", "AS", "EU", "NA", "OC", "SA"}


def test_every_public_aws_region_is_in_the_table() -> None:
    data = json.loads(files("botocore").joinpath("data/partitions.json").read_text())
    wanted = {name for item in data["partitions"] if item["id"] == "aws" for name in item["regions"]}
    assert wanted - {"aws-global"} <= {name for name, item in PLACES.items() if item.cloud is Cloud.AWS}


def test_rows_are_well_formed() -> None:
    for name, item in PLACES.items():
        assert name == item.region
        assert item.country in COUNTRIES
        assert item.continent in CONTINENTS
        assert -90 <= item.latitude <= 90
        assert -180 <= item.longitude <= 180
        assert len(set(item.zone_letters)) == len(item.zone_letters) == 2


def test_names_look_like_their_cloud() -> None:
    for name, item in PLACES.items():
        assert (name[-2] == "-") == (item.cloud is Cloud.AWS), name


@pytest.mark.parametrize(
    ("one", "other", "kilometres"),
    [
        ("eu-central-1", "us-east-1", 6540),
        ("eu-west-2", "ap-southeast-2", 16990),
        ("eu-west-3", "eu-west-3", 0),
    ],
)
def test_distances(one: str, other: str, kilometres: int) -> None:
    assert distance_km(place(one), place(other)) == pytest.approx(kilometres, rel=0.01, abs=1)


def test_nearest() -> None:
    candidates = [place(name) for name in ("us-central1", "europe-west3", "asia-northeast1", "europe-west2")]
    near = Nearby.of(candidates)
    assert near
    assert near.nearest(place("eu-central-1")) == place("europe-west3")
    assert near.nearest(place("europe-west3")) == place("europe-west2")
    alone = Nearby.of([place("europe-west3")])
    assert alone
    assert alone.nearest(place("europe-west3")) is None
    assert Nearby.of([]) is None


@given(st.lists(st.sampled_from(sorted(PLACES)), min_size=1, unique=True), st.sampled_from(sorted(PLACES)))
def test_the_nearest_is_that_of_all(names: list[str], origin: str) -> None:
    near = Nearby.of([place(name) for name in names])
    assert near
    ranked = sorted(
        (math.dist(place(origin).vector, place(name).vector), name) for name in names if name != origin
    )
    assert near.nearest(place(origin)) == (place(ranked[0][1]) if ranked else None)


def test_availability_zones_are_named_as_the_cloud_does() -> None:
    assert place("eu-central-1").availability_zone("a") == "eu-central-1a"
    assert place("europe-west3").availability_zone("b") == "europe-west3-b"


def test_an_unknown_region_comes_with_near_names() -> None:
    problem = unknown_region("regions[0].region", "eu-centrl-1", Cloud.AWS)
    assert problem.path == "regions[0].region"
    assert "eu-central-1" in problem.allowed
    assert "europe" not in problem.allowed


def test_a_region_of_the_other_cloud_is_called_that() -> None:
    assert "a region of gcp" in unknown_region("x", "europe-west3", Cloud.AWS).found


def test_a_hopeless_name_gets_the_whole_list() -> None:
    assert "us-east-1" in unknown_region("x", "zzzzzz", Cloud.AWS).allowed


def test_every_size_has_a_machine_on_each_cloud() -> None:
    types = [machine_type(cloud, size) for cloud in Cloud for size in Size]
    assert len(set(types)) == len(types) == 10
    assert MACHINE_IMAGES[Cloud.AWS].owner.isdigit()
    assert MACHINE_IMAGES[Cloud.GCP].family == "debian-12"


def test_cloud_dns_probes_from_three_continents() -> None:
    assert len({PLACES[name].continent for name in CLOUD_DNS_HEALTH_SOURCES}) == 3
