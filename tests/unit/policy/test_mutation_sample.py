"""A sample of the mutation run over our own stacks; `make mutate` makes the whole."""

from functools import cache

import pytest

from mailinfra_policy.mutants import Fate
from tests.policy_helpers import TODAY
from tools import mutate

SAMPLE, SEED = 150, 20261123
STACKS = ("sandbox", "dev")
each_stack = pytest.mark.parametrize("stack", STACKS)


@cache
def run(stack: str) -> mutate.Run:
    """A stack with a sample of its mutants, judged."""
    return mutate.judge(mutate.prepare(stack, sample=SAMPLE, seed=SEED, today=TODAY))


@each_stack
def test_our_stack_is_clean(stack: str) -> None:
    assert list(run(stack).unclean) == []


@each_stack
def test_every_mutant_of_the_sample_is_caught(stack: str) -> None:
    assert len(run(stack).found) == SAMPLE
    assert [str(mutant) for mutant in run(stack).survivors] == []
    assert run(stack).fates.count(Fate.CAUGHT) > SAMPLE * 3 / 4  # The rest is what exceptions accept.


def test_a_sample_has_every_rule_that_guards_something_and_is_the_same_each_time() -> None:
    whole = mutate.prepare("dev", today=TODAY)
    again = mutate.spread(whole.found, SAMPLE, SEED)
    assert {item.rule.id for item in again} == {item.rule.id for item in whole.found}
    assert [str(item) for item in again] == [str(item) for item in run("dev").found]


def test_the_report_names_survivors_and_counts_by_rule() -> None:
    judged = run("dev")
    bad = judged.found[0]
    fates = [Fate.SURVIVED if item is bad else Fate.CAUGHT for item in judged.found]
    lines = [*mutate.report([mutate.Run("dev", judged.outcome, judged.trial, judged.found, fates)])]
    assert f"dev: survived: {bad}" in lines
    (row,) = (line for line in lines if line.startswith(f"{bad.rule.id} "))
    of_rule = sum(item.rule.id == bad.rule.id for item in judged.found)
    assert row.split()[1:] == [str(of_rule), str(of_rule - 1), "1", "0"]
    assert any(line.startswith("all rules") for line in lines)
