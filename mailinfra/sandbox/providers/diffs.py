"""What changed between two sets of inputs, by property path, and whether a change replaces the resource."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mailinfra.sandbox.providers.schema import Property, Schema, Type
from mailinfra.sandbox.providers.values import UNKNOWN, child, is_asset

Kind = Literal["add", "delete", "update"]


@dataclass(frozen=True)
class Change:
    """A difference at a property path; `root` is the input that it belongs to."""

    path: str
    root: str
    kind: Kind
    forces_new: bool


@dataclass(frozen=True)
class Rules:
    """What a type's documentation does not say.

    `replaces` and `keeps` are inputs whose change does or does not replace the resource, against the documentation.
    `unordered` are lists that are sets in the cloud: their order means nothing. `json` are strings that hold JSON
    documents: their formatting means nothing.
    """

    replaces: frozenset[str] = frozenset()
    keeps: frozenset[str] = frozenset()
    unordered: frozenset[str] = frozenset()
    json: frozenset[str] = frozenset()


def diff(old: Mapping[str, Any], new: Mapping[str, Any], schema: Schema, rules: Rules) -> list[Change]:
    """The changes from the old inputs to the new, in the order of their paths."""
    changes: list[Change] = []
    for root in sorted(old.keys() | new.keys()):
        if root.startswith("__"):
            continue
        known = schema.inputs.get(root)
        before, after = old.get(root), new.get(root)
        if same(before, after, root, rules):
            continue
        forces = root in rules.replaces or (
            known is not None and known.forces_new and root not in rules.keeps
        )
        leaves: list[tuple[str, Kind, bool]] = []
        _walk(before, after, known.type if known else Type("any"), schema.objects, root, forces, leaves)
        changes.extend(Change(path, root, kind, f and root not in rules.keeps) for path, kind, f in leaves)
    return changes


def project(found: Any, given: Any, known: Type, objects: Mapping[str, dict[str, Property]]) -> Any:
    """What the cloud has, without what nobody asked for: in nested objects, the properties that `given` has.

    The clouds fill in defaults; those are no drift. Maps (tags) are compared whole: an entry too many is drift.
    """
    if isinstance(found, dict) and isinstance(given, dict) and known.kind == "object":
        types = objects[known.name]
        return {
            key: project(found[key], given[key], types[key].type if key in types else Type("any"), objects)
            for key in given
            if key in found
        }
    if isinstance(found, list) and isinstance(given, list) and len(found) == len(given) and known.element:
        return [project(f, g, known.element, objects) for f, g in zip(found, given, strict=True)]
    return found


def same(before: Any, after: Any, root: str, rules: Rules) -> bool:
    """Whether two values of the input `root` mean the same to the cloud."""
    if before == after and type(before) is type(after):
        return True
    if root in rules.unordered and isinstance(before, list) and isinstance(after, list):
        return sorted(map(_canonical, before)) == sorted(map(_canonical, after))
    if root in rules.json and isinstance(before, str) and isinstance(after, str):
        try:
            return bool(json.loads(before) == json.loads(after))
        except ValueError:
            return False
    # A list or map without members and none at all are the same to the clouds' providers.
    return before in (None, [], {}) and after in (None, [], {})


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _walk(
    before: Any,
    after: Any,
    known: Type,
    objects: Mapping[str, dict[str, Property]],
    path: str,
    forces: bool,
    leaves: list[tuple[str, Kind, bool]],
) -> None:
    if before == after and type(before) is type(after):
        return
    if after == UNKNOWN and before is not None:
        leaves.append((path, "update", forces))
    elif before is None or after is None:
        leaves.append((path, "add" if before is None else "delete", forces))
    elif isinstance(before, dict) and isinstance(after, dict) and not (is_asset(before) or is_asset(after)):
        for key in sorted(before.keys() | after.keys()):
            if key.startswith("__"):
                continue
            nested = objects[known.name].get(key) if known.kind == "object" else None
            inner = nested.type if nested else known.element or Type("any")
            _walk(
                before.get(key),
                after.get(key),
                inner,
                objects,
                child(path, key),
                forces or (nested is not None and nested.forces_new),
                leaves,
            )
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            _walk(
                before[index] if index < len(before) else None,
                after[index] if index < len(after) else None,
                known.element or Type("any"),
                objects,
                child(path, index),
                forces,
                leaves,
            )
    else:
        leaves.append((path, "update", forces))
