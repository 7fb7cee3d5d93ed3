"""`mailinfra check`: the pack's rules on a program or a file, with no engine, no credentials and no network."""

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from mailinfra.errors import ConfigError, Problem
from mailinfra.fleet import Fleet
from mailinfra.project import FLEET_KEY, PROJECT_FILE, Project
from mailinfra_policy import config
from mailinfra_policy.config import Config
from mailinfra_policy.formats import FORMATS, html
from mailinfra_policy.formats.outcome import NOT_JUDGED, Outcome, safe
from mailinfra_policy.judge import Judge
from mailinfra_policy.rules import all_rules, ids
from mailinfra_policy.sources import file, process
from mailinfra_policy.sources.loaded import Loaded, SourceError
from mailinfra_policy.sources.yaml import read


@dataclass(frozen=True)
class Request:
    """What is to be checked. One of `stack` (in `project`), `program` and `file` at least; `settings` is `--config`."""

    stack: str = ""
    project: Path = Path()
    program: Path | None = None
    file: Path | None = None
    settings: Path | None = None


def check(request: Request, form: str = "text", report: Path | None = None, today: date | None = None) -> int:
    """Judges, prints, writes the report; the exit code: 0 clean, 1 findings, 2 it could not be judged."""
    try:
        if form not in FORMATS:
            raise ConfigError([Problem("--format", form, ", ".join(FORMATS))], "the command line")
        outcome = judged(request, today or datetime.now(UTC).date())
        if report is not None:
            _write(outcome, report)
    except (ConfigError, SourceError) as error:
        text = "\n".join(safe(line) for line in str(error).splitlines())
        sys.stderr.write(f"mailinfra: {text}\n")
        return NOT_JUDGED
    sys.stdout.write(FORMATS[form](outcome))
    return outcome.exit_code


def judged(request: Request, today: date) -> Outcome:
    """The outcome of a check. Raises ConfigError and SourceError where there can be none."""
    if request.program is not None and request.file is not None:
        raise ConfigError(
            [Problem("--file", str(request.file), "either --file or --program")], "the command line"
        )
    folder = request.program or request.project
    if request.file is not None:
        path = request.file
        return _judged(
            request, today, folder, request.stack, lambda: file.load(path), f"file {path}", str(path)
        )
    with process.started(folder) as running:
        from mailinfra_policy.sources import program

        stack = request.stack or program.default_stack(folder)
        home, here = folder / PROJECT_FILE, Path.cwd()
        name = str(home.relative_to(here)) if home.is_relative_to(here) else str(home)
        load = functools.partial(program.load, folder, stack, running)
        return _judged(request, today, folder, stack, load, f"stack {stack}", name)


def _judged(
    request: Request,
    today: date,
    folder: Path,
    stack: str,
    load: Callable[[], Loaded],
    source: str,
    home: str,
) -> Outcome:
    path, document = _settings(request, folder, stack)
    own = _stack_config(folder, stack) if stack and (folder / PROJECT_FILE).exists() else {}
    # Before anything is run or read: a wrong config judges nothing.
    settings = _config(path, document, own)
    loaded = load()
    if not own and loaded.config:
        settings = _config(path, document, loaded.config)
    verdict = Judge(all_rules(), settings, today).verdict(
        loaded.stack, [(gap.place, gap.reason) for gap in loaded.gaps]
    )
    return Outcome(verdict, loaded.gaps, source, home, today)


def _settings(request: Request, folder: Path, stack: str) -> tuple[Path | None, Any]:
    """The pack's config file: the one named, else `policy-<stack>` or `policy` (.json, .yaml) beside the stack's."""
    path = request.settings
    if path is None and request.file is None:
        beside = folder / str(Project(folder).document().get("stackConfigDir", "."))
        wanted = (
            beside / f"{name}{end}" for name in (f"policy-{stack}", "policy") for end in (".json", ".yaml")
        )
        path = next((item for item in wanted if item.is_file()), None)
    return path, config.of_engine(read(path, config.WHAT)) if path else None


def _stack_config(folder: Path, stack: str) -> Mapping[str, Any]:
    project = Project(folder)
    if not any((folder / str(project.document().get("stackConfigDir", "."))).glob("Pulumi.*.yaml")):
        return {}
    found = project.stack_config(stack).get("config")
    return found if isinstance(found, dict) else {}


def _config(path: Path | None, document: Any, stack_config: Mapping[str, Any]) -> Config:
    """The pack's config, its zones those of the stack's fleet where the config has none of its own."""
    if isinstance(document, dict | None) and not (document or {}).get("zones") and FLEET_KEY in stack_config:
        fleet = Fleet.load(stack_config[FLEET_KEY])
        zones = {name: {"countries": list(zone.countries)} for name, zone in fleet.zones.items()}
        document = {**(document or {}), "zones": zones}
    try:
        return config.load(document, ids())
    except ConfigError as error:
        raise ConfigError(error.problems, f"{config.WHAT}, {path}" if path else config.WHAT) from None


def _write(outcome: Outcome, folder: Path) -> None:
    try:
        html.write(outcome, folder)
    except OSError as error:
        raise ConfigError(
            [Problem("--report", f"{folder}: {error.strerror}", "a folder that can be written")],
            "the command line",
        ) from None
