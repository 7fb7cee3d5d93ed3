"""`routing.lua`: which members answer, by policy, place and health."""

from collections import Counter
from pathlib import Path

import pytest

from mailinfra.places import PLACES
from mailinfra.sandbox.dns.translate import Node
from tests.dns_helpers import Resolver


def node(*values: str, **fields: object) -> Node:
    return Node(values=values, **fields)  # type: ignore[arg-type]


def near(region: str, *values: str, check: str | None = None) -> Node:
    place = PLACES[region]
    return Node(values=values, check=check, latitude=place.latitude, longitude=place.longitude)


def counts(resolver: Resolver, tree: Node, times: int = 1000) -> Counter[str]:
    return Counter(value for _ in range(times) for value in resolver.ask(tree))


WEIGHTED = Node(
    policy="weighted",
    members=(
        node("a", weight=70, check="ha"),
        node("b", weight=30, check="hb"),
        node("z", weight=0, check="hz"),
    ),
)


def test_weights_are_kept(tmp_path: Path) -> None:
    found = counts(Resolver(tmp_path), WEIGHTED)
    assert found["z"] == 0
    assert 640 <= found["a"] <= 760


def test_an_unhealthy_member_leaves_and_others_take_its_share(tmp_path: Path) -> None:
    assert counts(Resolver(tmp_path, down=("ha",)), WEIGHTED, 50) == {"b": 50}


def test_weight_zero_answers_when_all_others_are_unhealthy(tmp_path: Path) -> None:
    assert counts(Resolver(tmp_path, down=("ha", "hb")), WEIGHTED, 50) == {"z": 50}


def test_when_all_are_unhealthy_all_count_as_healthy(tmp_path: Path) -> None:
    found = counts(Resolver(tmp_path, down=("ha", "hb", "hz")), WEIGHTED)
    assert found["z"] == 0
    assert 640 <= found["a"] <= 760


def test_all_weights_zero_are_equal_chances(tmp_path: Path) -> None:
    tree = Node(policy="weighted", members=(node("a", weight=0), node("b", weight=0)))
    assert 430 <= counts(Resolver(tmp_path), tree)["a"] <= 570


LOCATION = Node(
    policy="location",
    members=(
        node("california", place="US-CA", check="hca"),
        node("us", place="US", check="hus"),
        node("america", place="continent:NA", check="hna"),
        node("elsewhere", place="*", check="hall"),
    ),
)


@pytest.mark.parametrize(
    ("country", "down", "answer"),
    [
        ("US", (), "california"),
        ("US", ("hca",), "us"),
        ("US", ("hca", "hus"), "america"),
        ("US", ("hca", "hus", "hna"), "elsewhere"),
        ("US", ("hca", "hus", "hna", "hall"), "california"),
        ("CA", (), "america"),
        ("DE", (), "elsewhere"),
        ("??", (), "elsewhere"),
    ],
)
def test_the_most_specific_healthy_place_answers(
    country: str, down: tuple[str, ...], answer: str, tmp_path: Path
) -> None:
    assert Resolver(tmp_path, country, down).ask(LOCATION) == [answer]


def test_without_a_default_place_strangers_get_nothing(tmp_path: Path) -> None:
    tree = Node(policy="location", members=(node("de", place="DE"),))
    assert Resolver(tmp_path, "US").ask(tree) == []
    assert Resolver(tmp_path, "DE").ask(tree) == ["de"]


NEAREST = Node(
    policy="nearest",
    members=(
        near("us-east-1", "us", check="hus"),
        near("eu-central-1", "eu", check="heu"),
        near("ap-northeast-1", "jp", check="hjp"),
    ),
)


@pytest.mark.parametrize(
    ("country", "down", "answer"),
    [
        ("DE", (), "eu"),
        ("US", (), "us"),
        ("KR", (), "jp"),
        ("DE", ("heu",), "us"),
        ("US", ("hus",), "eu"),
        ("DE", ("heu", "hus", "hjp"), "eu"),
    ],
)
def test_the_nearest_healthy_member_answers(
    country: str, down: tuple[str, ...], answer: str, tmp_path: Path
) -> None:
    assert Resolver(tmp_path, country, down).ask(NEAREST) == [answer]


def test_a_client_of_unknown_place_gets_some_healthy_answer(tmp_path: Path) -> None:
    assert Resolver(tmp_path, "??", ("hus",)).ask(NEAREST) == ["eu"]


def endpoints(region: str, *pairs: tuple[str, str]) -> Node:
    place = PLACES[region]
    return Node(addresses=pairs, latitude=place.latitude, longitude=place.longitude)


@pytest.mark.parametrize("fenced", [False, True])
def test_only_healthy_endpoints_answer_and_a_fence_keeps_clients_in(fenced: bool, tmp_path: Path) -> None:
    tree = Node(
        policy="nearest",
        fenced=fenced,
        members=(endpoints("europe-west3", ("1", "h1"), ("2", "h2")), endpoints("us-east4", ("3", "h3"))),
    )
    assert Resolver(tmp_path).ask(tree) == ["1", "2"]
    assert Resolver(tmp_path, down=("h1",)).ask(tree) == ["2"]
    assert Resolver(tmp_path, down=("h1", "h2")).ask(tree) == (["1", "2"] if fenced else ["3"])
    assert Resolver(tmp_path, down=("h1", "h2", "h3")).ask(tree) == ["1", "2"]


def test_failover_goes_to_the_backup_and_back(tmp_path: Path) -> None:
    tree = Node(policy="failover", members=(node("first", check="h1"), node("second", check="h2")))
    assert Resolver(tmp_path).ask(tree) == ["first"]
    down = tmp_path / "h1"
    assert Resolver(tmp_path, down=("h1",)).ask(tree) == ["second"]
    assert Resolver(tmp_path, down=("h2",)).ask(tree) == ["first"]
    down.unlink()
    assert Resolver(tmp_path).ask(tree) == ["first"]


def test_a_trickle_goes_to_the_backup(tmp_path: Path) -> None:
    tree = Node(policy="failover", members=(node("first"), node("second", check="h2")), trickle=0.2)
    assert 140 <= counts(Resolver(tmp_path), tree)["second"] <= 260
    assert counts(Resolver(tmp_path, down=("h2",)), tree, 100)["second"] == 0
    whole = Node(policy="failover", members=tree.members, trickle=1.0)
    (tmp_path / "h2").unlink()
    assert counts(Resolver(tmp_path), whole, 20) == {"second": 20}


def test_a_multivalue_answer_has_up_to_eight_healthy_values(tmp_path: Path) -> None:
    tree = Node(policy="multivalue", members=tuple(node(str(i), check=f"h{i}") for i in range(10)))
    everything = Resolver(tmp_path)
    answers = [everything.ask(tree) for _ in range(100)]
    assert {len(set(a)) for a in answers} == {8}
    assert {v for a in answers for v in a} == {str(i) for i in range(10)}
    assert sorted(Resolver(tmp_path, down=tuple(f"h{i}" for i in range(7))).ask(tree)) == ["7", "8", "9"]
    assert len(Resolver(tmp_path, down=tuple(f"h{i}" for i in range(10))).ask(tree)) == 8


def test_an_alias_takes_its_targets_health_only_when_told(tmp_path: Path) -> None:
    target = Node(
        policy="weighted", members=(node("eu1", weight=1, check="h1"), node("eu2", weight=1, check="h2"))
    )
    for evaluate, answer in ((True, ["us"]), (False, None)):
        tree = Node(
            policy="location",
            members=(Node(alias=target, evaluate=evaluate, place="DE"), node("us", place="*")),
        )
        assert Resolver(tmp_path, down=("h1",)).ask(tree) == ["eu2"]
        both = Resolver(tmp_path, down=("h1", "h2")).ask(tree)
        assert both == answer if answer else both in (["eu1"], ["eu2"])
        for name in ("h1", "h2"):
            (tmp_path / name).unlink()
