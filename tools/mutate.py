"""The mutation run: our own stacks, spoilt property by property, to see whether the policies bite.

`python -m tools.mutate [--stack S] [--sample N] [--seed K] [--rule R]`. Each stack is read as `mailinfra check` reads
it, under the same config, and has to be clean. Then everything that a rule claims to guard is spoilt, one thing at a
time (taken away, set to each wrong value, made unknown, moved to a foreign region), and the rule that guards it has to
refuse it and name the property. Mutants of what an exception accepts already are counted apart: they prove nothing.
Ends with 1 where a stack is not clean or a mutant survives.
"""

import argparse
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from mailinfra_policy import command
from mailinfra_policy.formats.outcome import Outcome
from mailinfra_policy.judge import Judge
from mailinfra_policy.mutants import Fate, Mutant, Trial, mutants
from mailinfra_policy.resource import Resource
from mailinfra_policy.rules import all_rules, ids

ROOT = Path(__file__).resolve().parent.parent
STACKS = ("sandbox", "dev", "dr", "prod")
_SHARE = 40
"""Mutants that a worker takes at a time."""


@dataclass
class Run:
    """What became of one stack's mutants."""

    stack: str
    outcome: Outcome
    trial: Trial
    found: Sequence[Mutant]
    fates: Sequence[Fate] = ()
    unclean: Sequence[str] = field(default=())

    @property
    def survivors(self) -> list[Mutant]:
        """The mutants that their rule let pass."""
        return [mutant for mutant, fate in zip(self.found, self.fates, strict=True) if fate is Fate.SURVIVED]


def prepare(stack: str, only: str = "", sample: int = 0, seed: int = 0, today: date | None = None) -> Run:
    """A stack, read and judged, with its mutants (of one rule only, or a sample of them)."""
    request = command.Request(stack=stack, project=ROOT)
    outcome = command.judged(request, today or datetime.now(UTC).date())
    verdict = outcome.verdict
    rules = [rule for rule in verdict.rules if not only or rule.id == only]
    trial = Trial(verdict.stack, Judge(rules, verdict.config, outcome.today))
    # A program registers its resources in another order at each run.
    found = sorted(mutants(verdict.stack, rules), key=str)
    if sample:
        found = spread(found, sample, seed)
    unclean = [
        f"{item.rule.id}: {_place(item.finding.resource)} {item.finding.path}".rstrip()
        for item in verdict.findings
    ]
    unclean += [f"exception past its day: {item.rule} {item.resource}" for item in verdict.expired]
    unclean += [f"not judged: {gap.place}: {gap.reason}" for gap in outcome.gaps if gap.blocking]
    return Run(stack, outcome, trial, found, unclean=unclean)


def _place(resource: Resource | None) -> str:
    return f"{resource.type}::{resource.name}" if resource else "the stack"


def spread(found: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """A sample with every rule in it: rules in turn, until there are enough."""
    chance = random.Random(seed)  # noqa: S311 (a sample is no secret)
    piles: dict[str, list[Mutant]] = {}
    for mutant in found:
        piles.setdefault(mutant.rule.id, []).append(mutant)
    for pile in piles.values():
        chance.shuffle(pile)
    turns = max(map(len, piles.values()), default=0)
    dealt = [pile[turn] for turn in range(turns) for pile in piles.values() if turn < len(pile)]
    return dealt[:count]


_running: Run | None = None
"""What the workers, forked off this process, work on."""


def _work(span: tuple[int, int]) -> list[Fate]:
    assert _running is not None  # noqa: S101 (set before the fork)
    return [_running.trial.fate(mutant) for mutant in _running.found[slice(*span)]]


def judge(run: Run, workers: int = 1) -> Run:
    """Finds out every mutant's fate, in worker processes where the system can fork."""
    global _running  # noqa: PLW0603 (a fork carries it over)
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        run.fates = [run.trial.fate(mutant) for mutant in run.found]
        return run
    _running = run
    spans = [(start, start + _SHARE) for start in range(0, len(run.found), _SHARE)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        run.fates = [fate for fates in pool.map(_work, spans, chunksize=1) for fate in fates]
    return run


def report(runs: Sequence[Run], only: str = "") -> Iterator[str]:
    """The run in lines: counts by rule and stack, what was not clean, every survivor, rules with nothing to guard."""
    counts: dict[str, Counter[Fate]] = {rule.id: Counter() for rule in all_rules() if only in {"", rule.id}}
    for run in runs:
        for mutant, fate in zip(run.found, run.fates, strict=True):
            counts[mutant.rule.id][fate] += 1
    yield f"{'rule':<32}{'mutants':>9}{'caught':>9}{'survived':>9}{'excepted':>9}"
    for rule, fates in counts.items():
        if fates:
            yield _row(rule, fates)
    yield _row("all rules", sum(counts.values(), Counter()))
    idle = [rule for rule, fates in counts.items() if not fates]
    if idle:
        yield f"No mutant in these stacks (only the rules' own tests spoil what they guard): {', '.join(idle)}"
    for run in runs:
        yield from (f"{run.stack} is not clean: {line}" for line in run.unclean)
    for run in runs:
        yield from (f"{run.stack}: survived: {mutant}" for mutant in run.survivors)


def _row(name: str, fates: Counter[Fate]) -> str:
    numbers = (fates.total(), fates[Fate.CAUGHT], fates[Fate.SURVIVED], fates[Fate.EXCEPTED])
    return f"{name:<32}" + "".join(f"{number:>9}" for number in numbers)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--stack", action="append", choices=STACKS, help="this stack (again for more); else all"
    )
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="so many mutants a stack; else all"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="which sample")
    parser.add_argument(
        "--rule", default="", choices=sorted(ids()), metavar="R", help="the mutants of this rule only"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    chosen = parser.parse_args(arguments)
    runs = []
    for stack in chosen.stack or STACKS:
        started = time.monotonic()
        run = judge(prepare(stack, chosen.rule, chosen.sample, chosen.seed), chosen.workers)
        runs.append(run)
        resources, took = len(run.outcome.verdict.stack.resources), time.monotonic() - started
        sys.stderr.write(f"{stack}: {resources} resources, {len(run.found)} mutants, {took:.0f} s\n")
    for line in report(runs, chosen.rule):
        sys.stdout.write(f"{line}\n")
    return 1 if any(run.unclean or run.survivors for run in runs) else 0


if __name__ == "__main__":
    raise SystemExit(main())
