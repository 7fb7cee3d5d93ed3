"""`mailinfra cost`: from what is asked on the command line to what is printed."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mailinfra.cost.bill import Estimate
from mailinfra.cost.items import estimate
from mailinfra.cost.report import as_csv, as_json, show
from mailinfra.cost.scale import at_full_size
from mailinfra.cost.usage import Usage
from mailinfra.errors import ConfigError, Problem
from mailinfra.plan import plan
from mailinfra.prices import PRICES, Prices, load
from mailinfra.project import Project

FORMS = ("text", "json", "csv")


@dataclass(frozen=True)
class Request:
    """What is asked: the stacks; `like`, at whose size each of them is wanted too (or empty); the project's folder; the
    form; whether with every item; a file of prices; numbers of `Usage` by name, and further ones as `NAME=NUMBER`."""

    stacks: tuple[str, ...]
    like: str = ""
    project: Path = Path()
    form: str = "text"
    items: bool = False
    prices: Path | None = None
    usage: Mapping[str, str] | None = None
    assumptions: tuple[str, ...] = ()


def estimates(request: Request) -> list[Estimate]:
    """The estimates that are asked for. ConfigError for a stack, price or number that is not good."""
    project = Project(request.project)
    usage = Usage.of({**(request.usage or {}), **_assumptions(request.assumptions)})
    prices: Prices = load(request.prices) if request.prices else PRICES
    fleets = {stack: project.fleet(stack) for stack in dict.fromkeys(request.stacks)}
    like = project.fleet(request.like) if request.like else None
    found = []
    for stack, fleet in fleets.items():
        found.append(estimate(plan(fleet), usage, prices, stack))
        if like is not None and stack != request.like:
            name = f"{stack} like {request.like}"
            found.append(at_full_size(fleet, like, usage, prices, name=name))
    return found


def run(request: Request, console: Console) -> None:
    """Print the estimates that are asked for; errors as in `estimates`."""
    if request.form not in FORMS:
        raise ConfigError([Problem("--format", repr(request.form), ", ".join(FORMS))], "the command line")
    found = estimates(request)
    if request.form == "json":
        sys.stdout.write(as_json(found) + "\n")
    elif request.form == "csv":
        sys.stdout.write(as_csv(found))
    else:
        show(found, console, items=request.items)


def _assumptions(given: tuple[str, ...]) -> dict[str, str]:
    parts = [text.partition("=") for text in given]
    wrong = [Problem("--assume", repr("".join(part)), "NAME=NUMBER") for part in parts if not part[1]]
    if wrong:
        raise ConfigError(wrong, "the command line")
    return {name.strip().replace("-", "_"): value.strip() for name, _, value in parts}
