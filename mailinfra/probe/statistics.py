"""How far counted answers may be from declared shares: Pearson's chi-square test, with exact tails."""

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

FALSE_ALARM = 1e-6
"""How often a fair draw may be called unfair."""


def chi_square(counted: Mapping[K, int], shares: Mapping[K, float]) -> tuple[float, int]:
    """Pearson's statistic of what was counted against declared shares (adding up to 1), and its degrees of freedom.

    What should never have been seen makes it infinite.
    """
    total = sum(counted.values())
    if any(number and not shares.get(key) for key, number in counted.items()):
        return math.inf, max(len(shares) - 1, 0)
    expected = {key: share * total for key, share in shares.items() if share > 0}
    statistic = sum((counted.get(key, 0) - value) ** 2 / value for key, value in expected.items() if value)
    return statistic, max(len(expected) - 1, 0)


def tail(statistic: float, degrees: int) -> float:
    """The chance that a chi-square variable exceeds `statistic` (Abramowitz & Stegun 26.4.4 and 26.4.5)."""
    if statistic <= 0:
        return 1.0
    if math.isinf(statistic):
        return 0.0
    half = statistic / 2
    if degrees % 2:
        result, term = math.erfc(math.sqrt(half)), math.exp(-half) * math.sqrt(half) / math.gamma(1.5)
        first = 1.5
    else:
        result, term = 0.0, math.exp(-half)
        first = 1.0
    for step in range(degrees // 2):
        result += term
        term *= half / (first + step)
    return result


def critical(degrees: int, chance: float = FALSE_ALARM) -> float:
    """The statistic that is exceeded with this chance; 0 where nothing is left to chance."""
    if degrees == 0:
        return 0.0
    low, high = 0.0, 1.0
    while tail(high, degrees) > chance:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, degrees) > chance else (low, middle)
    return high
