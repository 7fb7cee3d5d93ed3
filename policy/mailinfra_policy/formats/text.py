"""For a person at a terminal."""

import sys
from collections import Counter
from itertools import groupby

from rich.console import Console
from rich.text import Text

from mailinfra_policy.formats.outcome import Outcome, expired, safe
from mailinfra_policy.judge import Judged
from mailinfra_policy.rule import Severity

_STYLES = {
    Severity.CRITICAL: "bold white on red",
    Severity.HIGH: "bold red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "cyan",
}
_WIDTH = 140


def render(outcome: Outcome) -> str:
    """The findings by rule, the exceptions, what was not judged, and a last line that says it all."""
    terminal = sys.stdout.isatty()
    console = Console(
        highlight=False,
        markup=False,
        width=None if terminal else _WIDTH,
        force_terminal=terminal,
        record=False,
    )
    with console.capture() as captured:
        _print(console, outcome)
    return captured.get()


def _print(console: Console, outcome: Outcome) -> None:
    for _, group in groupby(outcome.findings, key=lambda item: item.rule.id):
        _rule(console, list(group))
    for item in expired(outcome):
        console.print(Text("exception expired", style="bold red"), end=" ")
        console.print(
            safe(f"{item['place']}: found {item['found']}; allowed: {item['allowed']}"), soft_wrap=True
        )
        console.print(f"  {safe(item['about'])}\n", soft_wrap=True)
    if outcome.exceptions:
        console.print("Exceptions:", style="bold")
        for entry in outcome.exceptions:
            covers = entry["covers"]
            count = len(covers) if isinstance(covers, list) else 0
            line = (
                f"  {entry['state']} to {entry['expires']}: {entry['rule']} on {entry['resource']} ({count})"
            )
            console.print(safe(line), soft_wrap=True)
        console.print()
    if outcome.gaps:
        console.print("Not judged:", style="bold")
        for gap in outcome.gaps:
            style = "bold red" if gap.blocking else None
            console.print(Text(safe(f"  {gap.place}: {gap.reason}"), style=style or ""), soft_wrap=True)
        console.print()
    console.print(_summary(outcome), soft_wrap=True)


def _rule(console: Console, found: list[Judged]) -> None:
    rule = found[0].rule
    head = Text(rule.severity.value, style=_STYLES[rule.severity])
    head.append(f" {rule.id}", style="bold").append(f": {rule.title}", style="")
    if found[0].level.value != "mandatory":
        head.append(f" ({found[0].level.value})", style="dim")
    console.print(head, soft_wrap=True)
    console.print(Text(f"  {rule.mend}"), soft_wrap=True)
    console.print(Text("  " + ", ".join(map(str, rule.controls)), style="dim"), soft_wrap=True)
    for item in found:
        finding, resource = item.finding, item.finding.resource
        place = f"{resource.type}::{resource.name}" if resource else "the stack"
        if resource and resource.source:
            place = f"{resource.source.file}:{resource.source.line}: {place}"
        line = Text(f"    {safe(place)}", style="")
        line.append(safe(f" {finding.path}" if finding.path else ""), style="bold")
        line.append(safe(f": found {finding.found}; allowed: {finding.allowed}"))
        console.print(line, soft_wrap=True)
    console.print()


def _summary(outcome: Outcome) -> Text:
    counts = Counter(item.rule.severity.value for item in outcome.findings)
    total = len(outcome.findings) + len(outcome.verdict.expired)
    text = Text(safe(f"{outcome.source}: "))
    text.append(f"{total} findings" if total else "clean", style="bold red" if total else "bold green")
    if counts:
        text.append(
            " ("
            + ", ".join(
                f"{counts[level.value]} {level.value}"
                for level in list(Severity)[::-1]
                if counts[level.value]
            )
            + ")"
        )
    text.append(f" in {outcome.verdict.judged} resources by {len(outcome.verdict.rules)} rules")
    if blocking := sum(gap.blocking for gap in outcome.gaps):
        text.append(f"; {blocking} could not be judged", style="bold red")
    return text
