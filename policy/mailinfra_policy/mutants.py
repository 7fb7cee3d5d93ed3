"""Mutants of a clean stack: each property that a rule claims to guard, spoilt, to see whether the rule bites."""

import re
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from mailinfra_policy.judge import Judge, Judged
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import ANY, PROTECT, Guard, Rule
from mailinfra_policy.values import UNKNOWN, Value, each, show, steps, texts


@dataclass(frozen=True)
class Mutant:
    """One spoilt stack: which rule should refuse it, at which resource and property, and what was done.

    `spoilt` is the resource as it stands in the spoilt stack; None where it was taken away.
    """

    rule: Rule
    resource: Resource
    path: str
    change: str
    base: Stack = field(repr=False)
    spoilt: Resource | None = field(repr=False)
    elsewhere: bool = False

    def __str__(self) -> str:
        place = f"{self.resource.type}::{self.resource.name} {self.path}".rstrip()
        return f"{self.rule.id}: {place} {self.change}"

    @property
    def stack(self) -> Stack:
        """The spoilt stack, made anew at each call: a large stack has thousands of mutants."""
        if self.spoilt is None:
            return self.base.without(self.resource)
        return self.base.altered(self.spoilt)


class Fate(Enum):
    """What became of a mutant."""

    CAUGHT = "caught"
    SURVIVED = "survived"
    EXCEPTED = "excepted"
    """The rule refuses the property in the unspoilt stack already, and an exception accepts that."""


def mutants(stack: Stack, rules: Iterable[Rule]) -> Iterator[Mutant]:
    """Every mutant of a stack that the rules' guards call for."""
    for rule in rules:
        for token, guards in rule.covers.items():
            for resource in stack.resources if token == ANY else stack.of(token):
                for guard in guards:
                    yield from _of_guard(stack, rule, resource, guard)


class Trial:
    """An unspoilt stack, judged once, against which its mutants are held.

    Each mutant is judged by its own rule alone: that another one happens to refuse it too proves nothing.
    """

    def __init__(self, stack: Stack, judge: Judge) -> None:
        self.stack = stack
        self._judges = {rule.id: Judge([rule], judge.config, judge.today) for rule in judge.rules}
        verdict = judge.verdict(stack)
        self.findings = verdict.findings
        """What is found in the unspoilt stack. A mutant is only caught by what is found besides."""
        self._accepted = verdict.accepted
        self._before = frozenset(item.key for item in (*verdict.findings, *verdict.accepted))

    def fate(self, mutant: Mutant) -> Fate:
        """Whether the mutant's rule refuses it and names the property.

        It may name the property itself, one below or above it, or (where the resource is gone, or the property refers
        to another resource) the resource it went with.
        """
        found = (item for item in self._found(mutant) if item.key not in self._before)
        if any(_names(item.finding.resource, item.finding.path, mutant) for item in found):
            return Fate.CAUGHT
        if any(_accepts(item, mutant) for item in self._accepted):
            return Fate.EXCEPTED
        return Fate.SURVIVED

    def _found(self, mutant: Mutant) -> Iterator[Judged]:
        judge, stack = self._judges[mutant.rule.id], mutant.stack
        # A resource rule may also judge another resource by what this one says of it.
        if mutant.spoilt is not None:
            yield from judge.resource(mutant.spoilt, stack)
        if mutant.rule.judge_stack:
            yield from judge.stack(stack)


def _accepts(item: Judged, mutant: Mutant) -> bool:
    resource = item.finding.resource
    same = resource is not None and resource.urn == mutant.resource.urn
    return same and item.rule.id == mutant.rule.id and _names(resource, item.finding.path, mutant)


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
        yield Mutant(rule, resource, "", "taken away", stack, None)
        return
    if guard.path == PROTECT:
        if resource.protect and not (guard.when and not guard.when(resource, True)):
            yield Mutant(rule, resource, "", "no longer protected", stack, replace(resource, protect=False))
        return
    if guard.provider:
        yield from _of_provider(stack, rule, resource, guard)
        return
    places = texts(resource.props) if guard.path == ANY else each(resource.props, guard.path)
    for path, value in places:
        if guard.when and not guard.when(resource, value):
            continue
        for change, spoilt in _changes(guard, value):
            yield Mutant(rule, resource, path, change, stack, spoil(resource, path, spoilt), guard.elsewhere)


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
        yield Mutant(
            rule, resource, guard.path, f"with the provider's {guard.provider} {change}", stack, moved
        )


def _changes(guard: Guard, value: Value) -> Iterator[tuple[str, Value]]:
    if guard.needed and value is not None:
        yield "taken away", None
    if not guard.opaque:
        yield "made unknown", UNKNOWN
    for wrong in guard.wrong:
        spoilt = wrong(value) if isinstance(wrong, Callable) else wrong  # type: ignore[arg-type]
        if spoilt is not value:  # A function may leave a value alone that it cannot spoil.
            yield f"set to {show(spoilt, 60)}", spoilt


def spoil(resource: Resource, path: str, value: Value) -> Resource:
    """The resource with one input changed (None takes it away); its outputs no longer tell the old value."""
    top = re.split(r"[.\[]", path, maxsplit=1)[0]
    # Of the other inputs nothing is changed: they may be shared.
    props = {key: deepcopy(item) if key == top else item for key, item in resource.props.items()}
    put(props, path, value)
    outputs = {key: item for key, item in resource.outputs.items() if key != top}
    dependencies = {key: item for key, item in resource.property_dependencies.items() if key != top}
    return replace(resource, props=props, outputs=outputs, property_dependencies=dependencies)


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


def survivors(stack: Stack, judge: Judge) -> tuple[int, list[Mutant]]:
    """How many mutants there were, and those that no rule caught."""
    trial = Trial(stack, judge)
    found = [*mutants(stack, judge.rules)]
    return len(found), [mutant for mutant in found if trial.fate(mutant) is Fate.SURVIVED]
