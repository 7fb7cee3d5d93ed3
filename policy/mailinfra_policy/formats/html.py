"""The report for a person: one page that needs nothing from any network, and the same as JSON for auditors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mailinfra_policy.formats import document
from mailinfra_policy.formats.outcome import Outcome, expired, safe
from mailinfra_policy.judge import Judged

PAGE, DATA = "report.html", "report.json"


def write(outcome: Outcome, folder: Path) -> None:
    """Writes `report.html` and `report.json` into a folder, which is made where it is missing. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(page(outcome), encoding="utf-8")
    (folder / DATA).write_text(document.render(outcome), encoding="utf-8")


def page(outcome: Outcome) -> str:
    """The page. Whatever comes from the program or the config is text in it, never markup."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["safe_text"] = lambda value: safe(str(value))
    return (
        environment.get_template("report.html.j2").render(
            outcome=outcome,
            verdict=outcome.verdict,
            zones=_by_zone(outcome),
            controls=_by_control(outcome),
            expired=expired(outcome),
            exceptions=outcome.exceptions,
            row=document.finding,
            level=outcome.verdict.config.level,
        )
        + "\n"
    )


def _by_zone(outcome: Outcome) -> Mapping[str, list[Judged]]:
    found: dict[str, list[Judged]] = {name: [] for name in outcome.verdict.config.zones}
    for item in outcome.findings:
        found.setdefault(outcome.zone(item.finding) or "no zone", []).append(item)
    return found


def _by_control(outcome: Outcome) -> list[Mapping[str, Any]]:
    """Each control that a rule serves, with its rules and how many findings stand against it."""
    rules: dict[Any, list[str]] = {}
    for rule in outcome.verdict.rules:
        for control in rule.controls:
            rules.setdefault(control, []).append(rule.id)
    counts: dict[Any, int] = {}
    for item in outcome.findings:
        for control in item.rule.controls:
            counts[control] = counts.get(control, 0) + 1
    return [
        {"control": str(control), "rules": rules[control], "findings": counts.get(control, 0)}
        for control in sorted(rules)
    ]
