"""Mutants of a clean stack: each property that a rule claims to guard, spoilt, to see whether the rule bites."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from mailinfra_policy.judge import Judge
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import ANY, Guard, Rule
from mailinfra_policy.values import UNKNOWN, Value, each, show, steps, texts


@dataclass(frozen=True)
class Mutant:
    """One spoilt stack: which rule should refuse it, at which resource and property, and what was done."""

    rule: Rule
    resource: Resource
    path: str
    change: str
    stack: Stack
    elsewhere: bool = False

    def __str__(self) -> str:
        place = f"{self.resource.type}::{self.resource.name} {self.path}".rstrip()
        return f"{self.rule.id}: {place} {self.change}"


def mutants(stack: Stack, rules: Iterable[Rule]) -> Iterator[Mutant]:
    """Every mutant of a stack that the rules' guards call for."""
    for rule in rules:
        for token, guards in rule.covers.items():
            for resource in stack.resources if token == ANY else stack.of(token):
                for guard in guards:
                    yield from _of_guard(stack, rule, resource, guard)


def caught(mutant: Mutant, judge: Judge, before: frozenset[tuple[str, str, str]] = frozenset()) -> bool:
    """Whether the mutant's own rule refuses it and names the property.

    `before` are the keys of what was found in the unspoilt stack. A rule may name the property itself, one below or
    above it, or (where the resource is gone, or the property refers to another resource) the resource it went with.
    """
    found = judge.stack(mutant.stack) if mutant.rule.judge_stack else _on_resource(mutant, judge)
    return any(
        item.rule.id == mutant.rule.id
        and item.key not in before
        and not item.accepted
        and _names(item.finding.resource, item.finding.path, mutant)
        for item in found
    )


def _on_resource(mutant: Mutant, judge: Judge) -> Iterator[Any]:
    resource = mutant.stack.find(mutant.resource.urn)
    # A resource rule may also judge another resource by what this one says of it.
    yield from judge.resource(resource, mutant.stack) if resource else ()


def _names(resource: Resource | None, path: str, mutant: Mutant) -> bool:
    if not mutant.path or (mutant.elsewhere and resource and resource.urn == mutant.resource.urn):
        return True
    if resource is None or resource.urn != mutant.resource.urn:
        # A rule on the whole stack may blame the resource that goes without: its own property is then another one.
        return mutant.rule.judge_stack is not None
    ours, theirs = steps(mutant.path), steps(path) if path else ()
    shorter = min(len(ours), len(theirs))
    return shorter > 0 and ours[:shorter] == theirs[:shorter]


def _of_guard(stack: Stack, rule: Rule, resource: Resource, guard: Guard) -> Iterator[Mutant]:
    if guard.where and not guard.where(resource, stack):
        return
    if not guard.path:
        if guard.when and not guard.when(resource, None):
            return
        others = [other for other in stack.resources if other.urn != resource.urn]
        yield Mutant(rule, resource, "", "taken away", Stack(others))
        return
    if guard.provider:
        yield from _of_provider(stack, rule, resource, guard)
        return
    places = texts(resource.props) if guard.path == ANY else each(resource.props, guard.path)
    for path, value in places:
        if guard.when and not guard.when(resource, value):
            continue
        for change, spoilt in _changes(guard, value):
            changed = spoil(stack, resource, path, spoilt)
            yield Mutant(rule, resource, path, change, changed, guard.elsewhere)


def _of_provider(stack: Stack, rule: Rule, resource: Resource, guard: Guard) -> Iterator[Mutant]:
    provider = resource.provider
    value = provider.props.get(guard.provider) if provider else None
    own = any(value is not None for _, value in each(resource.props, guard.path))
    if provider is None or value is None or own or (guard.when and not guard.when(resource, value)):
        return
    for change, spoilt in _changes(guard, value):
        settings = {**provider.props, guard.provider: spoilt}
        known = {name: setting for name, setting in settings.items() if setting is not None}
        # Made by another provider it is another resource: nothing that the cloud said of this one holds.
        moved = replace(resource, provider=replace(provider, props=known), id=None, outputs={})
        changed = Stack(moved if other.urn == resource.urn else other for other in stack.resources)
        yield Mutant(rule, resource, guard.path, f"with the provider's {guard.provider} {change}", changed)


def _changes(guard: Guard, value: Value) -> Iterator[tuple[str, Value]]:
    if guard.needed and value is not None:
        yield "taken away", None
    if not guard.opaque:
        yield "made unknown", UNKNOWN
    for wrong in guard.wrong:
        spoilt = wrong(value) if isinstance(wrong, Callable) else wrong  # type: ignore[arg-type]
        if spoilt is not value:  # A function may leave a value alone that it cannot spoil.
            yield f"set to {show(spoilt, 60)}", spoilt


def spoil(stack: Stack, resource: Resource, path: str, value: Value) -> Stack:
    """The stack with one input of one resource changed (None takes it away); outputs no longer tell the old value."""
    props = deepcopy(dict(resource.props))
    put(props, path, value)
    top = re.split(r"[.\[]", path, maxsplit=1)[0]
    outputs = {key: item for key, item in resource.outputs.items() if key != top}
    dependencies = {key: item for key, item in resource.property_dependencies.items() if key != top}
    changed = replace(resource, props=props, outputs=outputs, property_dependencies=dependencies)
    return Stack(changed if other.urn == resource.urn else other for other in stack.resources)


def put(props: dict[str, Value], path: str, value: Value) -> None:
    """Set the value at a concrete path, or take it away with None; what is missing on the way is made."""
    *way, last = steps(path)
    at: Any = props
    for index, step in enumerate(way):
        if isinstance(at, dict) and not isinstance(at.get(step), dict | list):
            at[step] = [] if isinstance((*way, last)[index + 1], int) else {}
        at = at[step]
    if value is None:
        if isinstance(at, dict):
            at.pop(last, None)
        else:
            del at[last]
    else:
        at[last] = value


def survivors(
    stack: Stack, judge: Judge, chosen: Callable[[Sequence[Mutant]], Sequence[Mutant]] | None = None
) -> tuple[int, list[Mutant]]:
    """How many mutants there were, and those that no rule caught. `chosen` may take a sample."""
    before = frozenset(item.key for item in judge.verdict(stack).findings)
    found = [*mutants(stack, judge.rules)]
    taken = chosen(found) if chosen else found
    return len(taken), [mutant for mutant in taken if not caught(mutant, judge, before)]


def counted(found: Iterable[Mutant]) -> Mapping[str, int]:
    """Mutants by rule."""
    counts: dict[str, int] = {}
    for mutant in found:
        counts[mutant.rule.id] = counts.get(mutant.rule.id, 0) + 1
    return counts
