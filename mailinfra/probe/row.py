"""What the probe says of one claim, and what a claim is."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailinfra.probe.site import Site

Measure = str | int | float


class ProbeError(Exception):
    """Something could not be measured; the message says what was found instead."""


class NotClaimedError(Exception):
    """The fleet's declaration does not promise it, so there is nothing to prove."""


class Stage(IntEnum):
    """When a claim is measured: those of one stage side by side, one stage after the other."""

    FIRST = 1
    """Needs every node alive."""
    SECOND = 2
    """Looks on every node for what the first stage's mail may have left there."""
    LAST = 3
    """Kills a node."""


@dataclass(frozen=True)
class Row:
    """One line of the proof: a claim, whether it holds, what was measured, and the limit of it in `unit`.

    `detail` is what a reader needs who doubts: which hosts, or why it failed.
    """

    claim: str
    ok: bool
    measured: Measure
    limit: Measure
    unit: str
    id: str = ""
    requirements: tuple[str, ...] = ()
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Finding:
    """What one measurement of a claim gave. `subject` tells a claim's findings apart."""

    ok: bool
    measured: Measure
    limit: Measure
    unit: str
    subject: str = ""
    detail: str = ""


LISTED = 5


def listed(items: Iterable[str]) -> str:
    """The first few of a list, and how many more there are."""
    every = list(items)
    more = f"; and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return "; ".join(every[:LISTED]) + more


def count(good: int, of: int, unit: str, *, subject: str = "", wrong: Iterable[str] = ()) -> Finding:
    """How many of all there are were right. None at all proves nothing, so it is a failure."""
    problems = list(wrong)
    detail = listed(problems) if problems else "" if of else "there was nothing to measure"
    return Finding(good == of and of > 0 and not problems, good, of, unit, subject, detail)


@dataclass(frozen=True)
class Claim:
    """A claim: `id` is `<group>.<name>`, `requirements` are those that it proves (`R10` …)."""

    id: str
    title: str
    requirements: tuple[str, ...]
    measure: "Callable[[Site], Iterable[Finding]]"
    stage: Stage = Stage.FIRST

    def rows(self, site: "Site") -> list[Row]:
        """Measure it. Never raises: what cannot be measured is a row that failed, with the reason.

        No rows where the fleet does not promise it.
        """
        try:
            findings = list(self.measure(site))
        except NotClaimedError:
            return []
        except Exception as error:  # whatever goes wrong in a measurement is its result
            reason = str(error) or type(error).__name__
            if not isinstance(error, ProbeError):
                reason = f"{type(error).__name__}: {reason}"
            return [self._row(Finding(False, "not measured", "", "", detail=" ".join(reason.split())))]
        if not findings:
            return [
                self._row(Finding(False, "not measured", "", "", detail="the fleet has nothing to measure"))
            ]
        return [self._row(finding) for finding in findings]

    def _row(self, finding: Finding) -> Row:
        title = f"{self.title}: {finding.subject}" if finding.subject else self.title
        return Row(
            title,
            finding.ok,
            finding.measured,
            finding.limit,
            finding.unit,
            self.id,
            self.requirements,
            finding.detail,
        )
