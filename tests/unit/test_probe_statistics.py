"""Tests of mailinfra.probe.statistics."""

import math
import random
from collections import Counter

import pytest

from mailinfra.probe.statistics import FALSE_ALARM, chi_square, critical, tail


@pytest.mark.parametrize(
    ("degrees", "value"), [(1, 3.8415), (2, 5.9915), (3, 7.8147), (4, 9.4877), (5, 11.0705), (10, 18.3070)]
)
def test_the_tail_is_that_of_the_printed_tables(degrees: int, value: float) -> None:
    assert tail(value, degrees) == pytest.approx(0.05, abs=1e-5)
    assert critical(degrees, 0.05) == pytest.approx(value, abs=1e-3)


def test_nothing_is_left_to_chance_where_only_one_answer_is_allowed() -> None:
    assert chi_square({"a": 1000}, {"a": 1.0}) == (0.0, 0)
    assert critical(0) == 0.0


def test_an_answer_that_no_weight_allows_is_never_fair() -> None:
    statistic, _ = chi_square({"a": 999, "b": 1}, {"a": 1.0})
    assert math.isinf(statistic)
    assert tail(statistic, 0) == 0.0
    assert math.isinf(chi_square({"a": 1, "b": 1}, {"a": 1.0, "b": 0.0})[0])


def test_a_fair_draw_passes_and_a_skewed_one_does_not() -> None:
    shares = {"a": 0.7, "b": 0.2, "c": 0.1}
    fair = Counter(random.Random(7).choices(list(shares), list(shares.values()), k=1000))
    statistic, degrees = chi_square(fair, shares)
    assert degrees == 2
    assert statistic <= critical(degrees)
    for skewed in ({"a": 800, "b": 100, "c": 100}, {"a": 600, "b": 300, "c": 100}, {"a": 1000}):
        statistic, degrees = chi_square(skewed, shares)
        assert statistic > critical(degrees)


def test_a_fair_draw_is_hardly_ever_called_unfair() -> None:
    chance, shares = random.Random(11), {"a": 0.5, "b": 0.5}
    limit = critical(1)
    for _ in range(2000):
        counted = Counter(chance.choices("ab", k=1000))
        assert chi_square(counted, shares)[0] <= limit
    assert FALSE_ALARM < 1 / 2000
