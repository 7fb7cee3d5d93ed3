"""What every form is made of: a verdict, what was not judged, and the exit code that follows."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from mailinfra_policy.config import Level
from mailinfra_policy.judge import EXPIRED, Judged, Verdict
from mailinfra_policy.rule import Finding, Severity
from mailinfra_policy.sources.loaded import Gap

CLEAN, FINDINGS, NOT_JUDGED = 0, 1, 2
"""The exit codes."""


@dataclass(frozen=True)
class Outcome:
    """One check. `source` says what was checked (`stack prod`), `home` names the file that stands for it."""

    verdict: Verdict
    gaps: Sequence[Gap]
    source: str
    home: str
    today: date

    @property
    def exit_code(self) -> int:
        """2 where a violation may be hidden, else 1 where there is one, else 0."""
        if any(gap.blocking for gap in self.gaps):
            return NOT_JUDGED
        return CLEAN if self.verdict.clean else FINDINGS

    @property
    def findings(self) -> list[Judged]:
        """The findings that count, the worst first."""
        order = list(Severity)[::-1]
        return sorted(
            self.verdict.findings,
            key=lambda item: (
                item.level is not Level.MANDATORY,
                order.index(item.rule.severity),
                item.rule.id,
                urn(item.finding),
                item.finding.path,
            ),
        )

    @property
    def exceptions(self) -> list[Mapping[str, object]]:
        """Every exception of the config, with what has become of it."""
        verdict = self.verdict
        listed: list[Mapping[str, object]] = []
        for index, item in enumerate(verdict.config.exceptions):
            covers = [found.finding for found in verdict.accepted if found.accepted == item]
            state = (
                "expired" if item in verdict.expired else "unused" if item in verdict.unused else "in force"
            )
            listed.append(
                {
                    "rule": item.rule,
                    "resource": item.resource,
                    "reason": item.reason,
                    "expires": item.expires.isoformat(),
                    "state": state,
                    "covers": [{"urn": urn(finding), "path": finding.path} for finding in covers],
                    "place": f"exceptions[{index}]",
                }
            )
        return listed

    def zone(self, finding: Finding) -> str:
        """The residency zone of what a finding is about; empty where it says none."""
        config = self.verdict.config
        tag = finding.resource.tag(config.tags.zone) if finding.resource else None
        return tag if isinstance(tag, str) else config.zone


def urn(finding: Finding) -> str:
    """The finding's resource; empty for the stack as a whole."""
    return finding.resource.urn if finding.resource else ""


def expired(outcome: Outcome) -> list[dict[str, str]]:
    """The exceptions past their day, each a finding of its own."""
    return [
        {
            "rule": EXPIRED,
            "place": f"exceptions[{index}].expires",
            "found": item.expires.isoformat(),
            "allowed": f"{outcome.today.isoformat()} or later, or no exception",
            "about": f"{item.rule} on {item.resource}: {item.reason}",
        }
        for index, item in enumerate(outcome.verdict.config.exceptions)
        if item in outcome.verdict.expired
    ]


def safe(text: str) -> str:
    """A text with what could steer a terminal or break a document shown as an escape: names are anybody's."""
    return "".join(letter if letter == " " or _plain(letter) else f"\\u{ord(letter):04x}" for letter in text)


def _plain(letter: str) -> bool:
    # Control, format (among them those that turn the direction of writing), surrogate, private, unassigned; separators.
    return unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
