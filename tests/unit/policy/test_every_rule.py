"""What holds for every rule: its spec exists, its types and paths exist, it bites on each property that it guards.

A rule `x-y` has its spec in `test_rule_x_y.py`: `GOOD`, stacks in which it finds nothing and which hold every type that
it covers, `NEVER`, types that it always refuses, and tests of what it finds and does not.
"""

import importlib
import re
from functools import cache
from types import ModuleType

import pytest

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.schema import Schema, Sdk, Type
from mailinfra_policy import mutants
from mailinfra_policy.judge import Judge
from mailinfra_policy.resource import Stack
from mailinfra_policy.rule import ANY, PROTECT, Guard, Rule
from mailinfra_policy.rules import all_rules
from mailinfra_policy.values import steps
from tests.policy_helpers import TODAY, found, resource, settings

RULES = all_rules()
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def spec(rule: Rule) -> ModuleType:
    """The module of a rule's tests."""
    return importlib.import_module(f"tests.unit.policy.test_rule_{rule.id.replace('-', '_')}")


def goods(rule: Rule) -> list[Stack]:
    """The stacks of a rule's spec in which it finds nothing."""
    return [Stack(resources) for resources in spec(rule).GOOD]


@cache
def sdk(cloud: str) -> Sdk:
    return Sdk(f"pulumi_{cloud}", Paths.of("unit").cache)


@each_rule
def test_an_id_is_a_file(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.id)
    assert importlib.import_module(f"mailinfra_policy.rules.{rule.id.replace('-', '_')}").RULE is rule
    assert rule.title and rule.why and rule.mend


@each_rule
def test_types_and_paths_exist_in_the_sdk(rule: Rule) -> None:
    for token, guards in _typed(rule):
        schema = sdk(token.split(":")[0]).schema(token)
        for guard in guards:
            if guard.path in {"", PROTECT}:
                continue
            name, *rest = steps(guard.path)
            assert name in schema.inputs, f"{token} has no input {name}"
            kinds = [schema.inputs[str(name)].type]
            for step in rest:
                kinds = [below for kind in kinds for below in _below(schema, kind, step)]
                assert kinds, f"{token} has no input {guard.path}"


def _typed(rule: Rule) -> list[tuple[str, tuple[Guard, ...]]]:
    return [(token, guards) for token, guards in rule.covers.items() if token != ANY]


def never(rule: Rule) -> frozenset[str]:
    """The types that a rule refuses whatever their inputs."""
    return frozenset(getattr(spec(rule), "NEVER", ()))


def _below(schema: Schema, kind: Type, step: str | int | None) -> list[Type]:
    """The types that a value may have one step further down: none where there is no such step."""
    if kind.kind == "union":
        return [below for option in kind.options for below in _below(schema, option, step)]
    if kind.kind == "any":
        return [kind]
    if kind.kind in {"list", "map"} and kind.element:
        return [kind.element] if (kind.kind == "list") == (step is None or isinstance(step, int)) else []
    if kind.kind == "object" and step in schema.objects[kind.name]:
        return [schema.objects[kind.name][str(step)].type]
    return []


@each_rule
def test_the_good_is_clean(rule: Rule) -> None:
    for stack in goods(rule):
        assert found(rule, stack) == []


@each_rule
def test_the_good_holds_every_type(rule: Rule) -> None:
    held = {item.type for stack in goods(rule) for item in stack.resources}
    assert set(rule.covers) - {ANY} <= held | never(rule)


@each_rule
def test_what_is_never_right_is_found(rule: Rule) -> None:
    for token in never(rule):
        assert token in rule.covers and found(rule, [resource(token)]), token


@each_rule
def test_it_bites_on_what_it_guards(rule: Rule) -> None:
    judge = Judge([rule], settings(), TODAY)
    seen, survived = 0, []
    for stack in goods(rule):
        count, alive = mutants.survivors(stack, judge)
        seen += count
        survived += alive
    assert seen > 0
    assert [str(mutant) for mutant in survived] == []


@each_rule
def test_it_says_nothing_of_other_types(rule: Rule) -> None:
    assert found(rule, [resource("random:index/randomPet:RandomPet")]) == []


@each_rule
def test_a_guarded_property_is_in_some_good_stack(rule: Rule) -> None:
    """Else the mutation run would have nothing to spoil there."""
    stacks = goods(rule)
    for token, guards in _typed(rule):
        for guard in guards:
            if guard.path not in {"", PROTECT} and guard.needed and not guard.provider:
                values = [v for s in stacks for r in s.of(token) for _, v in r.each(guard.path)]
                assert any(value is not None for value in values), f"{token} {guard.path}"
