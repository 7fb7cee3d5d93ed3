"""One preview or update as the engine shows it: resource by resource before each is made, then the whole stack.

A resource rule speaks before its resource is made. Where it cannot yet, because a value is not known before the update
or because only the finished stack tells where a reference leads, it is asked again at the end of the preview, and the
value is judged in the update, before the resource is made. What is still open then counts as a violation.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mailinfra_policy import values
from mailinfra_policy.config import Level
from mailinfra_policy.judge import EXPIRED, Judge, Judged
from mailinfra_policy.resource import Pending, Resource, Stack
from mailinfra_policy.rule import Severity

EXPIRED_TITLE = "No exception is past its day"
"""What the check of the exceptions asks for."""


@dataclass(frozen=True)
class Report:
    """Something to tell the user: which rule, how bad, whether it stops the operation, where, and what."""

    rule: str
    title: str
    severity: Severity
    level: Level
    urn: str
    message: str


class Growing(Stack):
    """A stack whose resources are still being registered: their inputs are known, what the clouds answer is not."""

    def referred(self, resource: Resource, path: str, *types: str) -> list[Resource]:
        """As `Stack.referred`; raises `Pending` where a resource of this stack may be meant that cannot be told yet."""
        value = resource.get(path)
        for text in value if isinstance(value, list) else [value]:
            if values.known(text) and (not isinstance(text, str) or not text or self._found(text, types)):
                continue
            # What an input was made from is registered before it, so there must be something that it can mean.
            others = self.of(*types) if types else self.resources
            if any(other.urn != resource.urn and other.cloud != "pulumi" for other in others):
                raise Pending(path)
        return super().referred(resource, path, *types)

    def named(self, text: str) -> list[Resource]:
        """As `Stack.named`; raises `Pending` where the text may name a resource of this stack."""
        found = super().named(text)
        if not found and any(other.cloud != "pulumi" for other in self.resources):
            raise Pending("")
        return found

    def _found(self, text: str, types: tuple[str, ...]) -> bool:
        return bool(self.carrying(text, *types) if types else super().named(text))


class Operation:
    """The judging of one preview (`preview`) or update.

    `expired` is what an exception past its day does.
    """

    def __init__(self, judge: Judge, preview: bool, expired: Level = Level.MANDATORY) -> None:
        self._judge = judge
        self._preview = preview
        self._expired = expired
        self._growing = Growing()
        self._told: set[tuple[str, str, str]] = set()
        self._begun = False

    def registered(self, resource: Resource) -> list[Report]:
        """What stands against a resource that is about to be made, changed or left as it is."""
        self._growing.add(resource)
        reports = [*self._first()]
        for item in self._judge.resource(resource, self._growing):
            open_ = item.finding.pending or (item.finding.unknown and self._preview)
            if not open_:
                reports += self._report(item)
        return reports

    def finished(self, resources: Iterable[Resource]) -> list[Report]:
        """What else stands against the whole, now that every answer of the clouds and every reference is there.

        `resources` carry their outputs and no inputs. What was not registered in this operation (a look-up) may be
        referred to; it is not this program's to mend and not judged.
        """
        order = {resource.urn: index for index, resource in enumerate(self._growing.resources)}
        found = sorted(resources, key=lambda resource: order.get(resource.urn, -1))
        stack = Stack(self._whole(resource) for resource in found)
        reports = [*self._first()]
        for resource in stack.resources:
            if resource.urn in order:
                for item in self._judge.resource(resource, stack):
                    reports += self._report(item)
        for item in self._judge.stack(stack):
            about = item.finding.resource
            if about is None or about.urn in order:
                reports += self._report(item)
        return reports

    def _whole(self, finished: Resource) -> Resource:
        """A resource with its inputs as registered and its outputs as finished."""
        registered = self._growing.find(finished.urn)
        return replace(
            finished,
            props=registered.props if registered else finished.outputs,
            secrets=registered.secrets if registered else finished.secrets,
            provider=registered.provider if registered else finished.provider,
            id=finished.outputs.get("id"),
        )

    def _first(self) -> Iterator[Report]:
        """The exceptions past their day, told once and before anything is made."""
        if self._begun:
            return
        self._begun = True
        if self._expired is Level.OFF:
            return
        for item in self._judge.config.exceptions:
            if item.expires < self._judge.today:
                message = (
                    f"{EXPIRED_TITLE}.\n{item.rule} on {item.resource} ({item.reason}): found {item.expires}; "
                    f"allowed: {self._judge.today} or later\nMend what it excused, or accept it anew with a later day."
                )
                yield Report(EXPIRED, EXPIRED_TITLE, Severity.HIGH, self._expired, "", message)

    def _report(self, item: Judged) -> Iterator[Report]:
        if item.accepted or item.key in self._told:
            return
        self._told.add(item.key)
        rule, finding, level = item.rule, item.finding, item.level
        place = finding.path or ("the resource" if finding.resource else "the stack")
        lines = [f"{rule.title}.", f"{place}: found {finding.found}; allowed: {finding.allowed}", rule.mend]
        if finding.unknown and self._preview and item.early and self._judge.config.unknown == "later":
            level = Level.ADVISORY
            lines[-1] = "The update knows it, and decides before this resource is made."
        urn = finding.resource.urn if finding.resource else ""
        yield Report(rule.id, rule.title, rule.severity, level, urn, "\n".join(lines))
