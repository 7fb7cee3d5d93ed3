"""Whether inputs are what a type takes: every property known, every required one there, every type right."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailinfra.sandbox.providers.schema import Property, Type
from mailinfra.sandbox.providers.values import UNKNOWN, child, describe, is_asset

_PRIMITIVES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


@dataclass(frozen=True)
class Failure:
    """One thing wrong: where (a property path such as `ingress[0].fromPort`) and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def check(
    inputs: Mapping[str, Any], properties: Mapping[str, Property], objects: Mapping[str, dict[str, Property]]
) -> list[Failure]:
    """All that is wrong with the inputs of a type; empty if nothing is. Never raises.

    `objects` holds the nested types by name. Unknown values (at preview) pass: nothing is known against them. Names
    that begin with two underscores are the engine's and the providers' own and pass.
    """
    return _object(inputs, properties, objects, "")


def _object(
    value: Mapping[str, Any],
    properties: Mapping[str, Property],
    objects: Mapping[str, dict[str, Property]],
    path: str,
) -> list[Failure]:
    failures = []
    for name, item in value.items():
        if name.startswith("__"):
            continue
        where = child(path, name)
        known = properties.get(name)
        if known is None:
            failures.append(Failure(where, f"unknown property; {_allowed(name, properties)}"))
        elif item is not None:
            failures.extend(_value(item, known.type, objects, where))
    for name, known in properties.items():
        if known.required and value.get(name) is None:
            failures.append(Failure(child(path, name), f"missing required property; allowed: {known.type}"))
    return failures


def _allowed(name: str, properties: Mapping[str, Property]) -> str:
    near = difflib.get_close_matches(name, properties, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"allowed: {', '.join(sorted(properties)) or 'none'}"


def _value(
    value: Any, expected: Type, objects: Mapping[str, dict[str, Property]], path: str
) -> list[Failure]:
    if (isinstance(value, str) and value == UNKNOWN) or expected.kind == "any":
        return []
    if expected.kind == "union":
        attempts = [_value(value, option, objects, path) for option in expected.options]
        return [] if not all(attempts) else [_wrong(value, expected, path)]
    if expected.kind == "enum":
        return [] if any(value == allowed for allowed in expected.values) else [_wrong(value, expected, path)]
    if expected.kind == "asset":
        return [] if is_asset(value) else [_wrong(value, expected, path)]
    if expected.kind in _PRIMITIVES:
        # bool is an int in Python, never in a cloud's API.
        right = isinstance(value, _PRIMITIVES[expected.kind]) and (
            expected.kind == "boolean" or not isinstance(value, bool)
        )
        return [] if right else [_wrong(value, expected, path)]
    if expected.kind == "list" and expected.element is not None:
        if not isinstance(value, list):
            return [_wrong(value, expected, path)]
        return [
            failure
            for index, item in enumerate(value)
            for failure in _item(item, expected.element, objects, child(path, index))
        ]
    if not isinstance(value, dict) or is_asset(value):
        return [_wrong(value, expected, path)]
    if expected.kind == "map" and expected.element is not None:
        return [
            failure
            for key, item in value.items()
            if not key.startswith("__")
            for failure in _item(item, expected.element, objects, child(path, key))
        ]
    return _object(value, objects[expected.name], objects, path)


def _item(value: Any, expected: Type, objects: Mapping[str, dict[str, Property]], path: str) -> list[Failure]:
    return [] if value is None else _value(value, expected, objects, path)


def _wrong(value: Any, expected: Type, path: str) -> Failure:
    return Failure(path, f"found {describe(value)}; allowed: {expected}")
