"""Judging: every rule on every resource, exceptions applied, nothing swallowed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from fnmatch import fnmatchcase

from mailinfra_policy.config import Config, Exception_, Level
from mailinfra_policy.resource import Pending, Resource, Stack
from mailinfra_policy.rule import ANY, Context, Finding, Rule
from mailinfra_policy.values import UNKNOWN, steps

EXPIRED = "exception-expired"
"""The rule id under which an exception past its day is reported."""


@dataclass(frozen=True)
class Judged:
    """A finding with the rule that made it, and the exception that accepts it, if any.

    `early`: the rule can speak before the resource is made; else only the whole stack tells.
    """

    rule: Rule
    finding: Finding
    level: Level
    accepted: Exception_ | None = None
    early: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two findings the same one."""
        return self.rule.id, self.finding.resource.urn if self.finding.resource else "", self.finding.path


@dataclass(frozen=True)
class Verdict:
    """Everything that was found in a stack.

    `findings` count; `accepted` are covered by an exception in force; `expired` are exceptions past their day, each a
    violation by itself; `unused` exceptions in force covered nothing; `unjudged` is what could not be judged, and why.
    """

    stack: Stack
    config: Config
    rules: Sequence[Rule]
    findings: Sequence[Judged]
    accepted: Sequence[Judged]
    expired: Sequence[Exception_]
    unused: Sequence[Exception_]
    unjudged: Sequence[tuple[str, str]] = field(default=())

    @property
    def judged(self) -> int:
        """How many resources were judged."""
        return sum(resource.cloud != "pulumi" for resource in self.stack.resources)

    @property
    def clean(self) -> bool:
        """No mandatory finding and no expired exception."""
        return not self.expired and not any(item.level is Level.MANDATORY for item in self.findings)


class Judge:
    """Some rules under one config on one day."""

    def __init__(self, rules: Iterable[Rule], config: Config, today: date) -> None:
        self.config = config
        self.today = today
        self.rules = tuple(rules)
        self._resource_rules: dict[str, list[Rule]] = {}
        active = [rule for rule in self.rules if config.level(rule.id) is not Level.OFF]
        for rule in active:
            for token in rule.covers if rule.judge else ():
                self._resource_rules.setdefault(token, []).append(rule)
        self._stack_rules = [rule for rule in active if rule.judge_stack]
        self._exceptions: dict[str, list[Exception_]] = {}
        for item in config.exceptions:
            if item.expires >= today:
                self._exceptions.setdefault(item.rule, []).append(item)

    def resource(self, resource: Resource, stack: Stack) -> Iterator[Judged]:
        """What the resource rules say of one resource; the stack holds at least what came before it."""
        rules = (*self._resource_rules.get(resource.type, ()), *self._resource_rules.get(ANY, ()))
        if not rules:
            return
        context = Context(stack, self.config)
        for rule in rules:
            yield from self._judged(rule, resource, context)

    def stack(self, stack: Stack) -> Iterator[Judged]:
        """What the stack rules say."""
        context = Context(stack, self.config)
        for rule in self._stack_rules:
            yield from self._judged(rule, None, context)

    def verdict(self, stack: Stack, unjudged: Iterable[tuple[str, str]] = ()) -> Verdict:
        """Everything: resource rules and stack rules on a whole stack."""
        found = [item for resource in stack.resources for item in self.resource(resource, stack)]
        found += self.stack(stack)
        unique = list({item.key: item for item in found}.values())
        used = Counter(item.accepted for item in unique if item.accepted)
        return Verdict(
            stack,
            self.config,
            self.rules,
            [item for item in unique if not item.accepted],
            [item for item in unique if item.accepted],
            [item for item in self.config.exceptions if item.expires < self.today],
            [item for item in self.config.exceptions if item.expires >= self.today and not used[item]],
            tuple(unjudged),
        )

    def _judged(self, rule: Rule, resource: Resource | None, context: Context) -> Iterator[Judged]:
        for finding in map(_discreet, _run(rule, resource, context)):
            yield Judged(
                rule,
                finding,
                self.config.level(rule.id),
                self._accepting(rule, finding),
                early=resource is not None,
            )

    def _accepting(self, rule: Rule, finding: Finding) -> Exception_ | None:
        for item in self._exceptions.get(rule.id, ()):
            if fnmatchcase(_tail(finding.resource), item.resource):
                return item
        return None


def _run(rule: Rule, resource: Resource | None, context: Context) -> Iterator[Finding]:
    """A rule's findings. One that raises has found something: it must never pass by failing."""
    try:
        if resource is not None and rule.judge is not None:
            yield from rule.judge(resource, context)
        elif rule.judge_stack is not None:
            yield from rule.judge_stack(context)
    except Pending as later:
        yield Finding(resource, str(later), str(UNKNOWN), "what it refers to", unknown=True, pending=True)
    except Exception as error:  # whatever it is, the resource was not shown to be right
        told = str(error) and not (resource and resource.secrets)
        place = f"{type(error).__name__}: {error}" if told else type(error).__name__
        yield Finding(resource, "", f"the rule itself failed ({place})", "what the rule can judge")


def _discreet(finding: Finding) -> Finding:
    """The finding without what is secret."""
    if finding.unknown or not finding.path or finding.resource is None:
        return finding
    return (
        replace(finding, found="a secret") if steps(finding.path)[0] in finding.resource.secrets else finding
    )


def _tail(resource: Resource | None) -> str:
    return f"{resource.type}::{resource.name}" if resource else "stack::"
