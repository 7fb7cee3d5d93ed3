"""What rules say again and again, each failing closed: an unknown value is a finding, never a pass."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Finding
from mailinfra_policy.values import UNKNOWN, Value, show


def unknown(resource: Resource, path: str, allowed: str) -> Finding:
    """The finding for a value that is not known yet."""
    return Finding(resource, path, str(UNKNOWN), allowed, unknown=True)


def holds(
    resource: Resource,
    path: str,
    fits: Callable[[Any], bool],
    allowed: str,
    *,
    default: Value = None,
) -> Iterator[Finding]:
    """Every value at the path fits. Nothing there counts as `default` (what the cloud would use)."""
    for concrete, value in resource.each(path):
        judged = default if value is None else value
        if judged is UNKNOWN:
            yield unknown(resource, concrete, allowed)
        elif judged is None or not fits(judged):
            yield Finding(resource, concrete, show(value), allowed)


def one_of(
    resource: Resource, path: str, allowed: Collection[Any], *, default: Value = None
) -> Iterator[Finding]:
    """Every value at the path is one of an exact list."""
    text = " or ".join(show(item) for item in allowed)
    return holds(resource, path, lambda value: _among(value, allowed), text, default=default)


def _among(value: Value, allowed: Collection[Any]) -> bool:
    # `True == 1` in Python, but not in a cloud's API.
    return any(type(value) is type(item) and value == item for item in allowed)


def is_true(resource: Resource, path: str, *, default: Value = None) -> Iterator[Finding]:
    """It is true."""
    return one_of(resource, path, (True,), default=default)


def is_false(resource: Resource, path: str, *, default: Value = None) -> Iterator[Finding]:
    """It is false."""
    return one_of(resource, path, (False,), default=default)


def present(resource: Resource, path: str, allowed: str) -> Iterator[Finding]:
    """Something is there. A value that is not known yet passes: it was given."""
    for concrete, value in resource.each(path):
        if value is None or (value is not UNKNOWN and value in ("", [], {})):
            yield Finding(resource, concrete, show(value), allowed)


def absent(resource: Resource, path: str, allowed: str = "nothing") -> Iterator[Finding]:
    """Nothing is there."""
    for concrete, value in resource.each(path):
        if value is UNKNOWN:
            yield unknown(resource, concrete, allowed)
        elif value not in (None, "", [], {}):
            yield Finding(resource, concrete, show(value), allowed)


def within(
    resource: Resource, path: str, low: float, high: float, unit: str, *, default: Value = None
) -> Iterator[Finding]:
    """It is a number from `low` to `high`."""
    return holds(
        resource,
        path,
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
        f"{low:g} to {high:g} {unit}" if high != float("inf") else f"at least {low:g} {unit}",
        default=default,
    )
