"""Judges what a source gives by the pack's rules and its config."""

import functools
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from mailinfra.errors import ConfigError, Problem
from mailinfra.fleet import Fleet
from mailinfra.project import FLEET_KEY, PROJECT_FILE, Project
from mailinfra_policy import config
from mailinfra_policy.command import Request
from mailinfra_policy.config import Config
from mailinfra_policy.formats import html
from mailinfra_policy.formats.outcome import Outcome
from mailinfra_policy.judge import Judge
from mailinfra_policy.rules import all_rules, ids
from mailinfra_policy.sources import file
from mailinfra_policy.sources.loaded import Loaded
from mailinfra_policy.sources.process import Process
from mailinfra_policy.sources.yaml import read


def outcome(request: Request, running: Process | None, today: date) -> Outcome:
    """What the rules say of a file, or of a program that a process is there to run. Raises ConfigError and
    SourceError."""
    folder = request.program or request.project
    load: Callable[[], Loaded]
    if running is None:
        given = request.file or Path()
        stack, source, home = request.stack, f"file {given}", given
        load = functools.partial(file.load, given)
    else:
        from mailinfra_policy.sources import program

        stack = request.stack or program.default_stack(folder)
        source, home = f"stack {stack}", _shown(folder / PROJECT_FILE)
        load = functools.partial(program.load, folder, stack, running)
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
    return Outcome(verdict, loaded.gaps, source, str(home), today)


def _shown(path: Path) -> Path:
    """A path as a reader in the working folder would write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


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


def write(outcome: Outcome, folder: Path) -> None:
    """Writes the report. Raises ConfigError."""
    try:
        html.write(outcome, folder)
    except OSError as error:
        raise ConfigError(
            [Problem("--report", f"{folder}: {error.strerror}", "a folder that can be written")],
            "the command line",
        ) from None
