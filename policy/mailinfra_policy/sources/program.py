"""Runs a Pulumi program with no engine, no credentials and no network, and takes down what it declares."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailinfra.errors import ConfigError, Problem
from mailinfra.project import PROJECT_FILE, Project
from mailinfra_policy.sources import runner
from mailinfra_policy.sources.clouds import Clouds
from mailinfra_policy.sources.loaded import Gap, Loaded, SourceError
from mailinfra_policy.sources.monitor import Monitor, Program, served, setting
from mailinfra_policy.sources.process import Process

_PARALLEL = 32


@dataclass(frozen=True)
class StackConfig:
    """A stack's configuration as a program reads it. `values` by full key; what is encrypted is not known."""

    values: Mapping[str, str]
    secrets: tuple[str, ...]
    environments: tuple[str, ...]


def load(folder: Path, stack: str, process: Process) -> Loaded:
    """What the program in a folder declares for a stack, run by a process of its own. Raises SourceError and
    ConfigError."""
    project = Project(folder)
    document = project.document()
    config = stack_config(project, document, stack)
    name = str(document.get("name") or folder.resolve().name)
    main = project.program().resolve()
    if not main.exists():
        raise ConfigError(
            [Problem(f"{folder / PROJECT_FILE}: main", str(document.get("main")), "a file or folder")]
        )
    own = main if main.is_dir() else main.parent
    monitor = Monitor(Program(name, stack, own, config.values, process.foreign), Clouds())
    with served(monitor) as address:
        answer, said = process.run(own, _job(address, name, stack, folder, main, config))
    if answer is None:
        raise SourceError(f"the program ended without a word; the last that it said:\n{said}".rstrip())
    if error := answer.get("error"):
        raise SourceError(_failure(error, answer["trace"], monitor.gaps))
    gaps = [*monitor.gaps, *(Gap("the program", f"reported an error: {text}") for text in monitor.errors)]
    for environment in config.environments:
        gaps.append(
            Gap(f"environment {environment}", "its values are kept elsewhere and are not known here", False)
        )
    return Loaded(monitor.stack, tuple(sorted(set(gaps))), _plain_config(project, stack))


def _failure(error: str, trace: list[str], gaps: list[Gap]) -> str:
    lines = [f"the program failed: {error}", *(f"    {line}" for line in trace)]
    asked = sorted({gap.place for gap in gaps if "data source" in gap.reason})
    if asked:
        lines.append(f"  it had asked what only the cloud can answer: {', '.join(asked)}")
    return "\n".join(lines)


def default_stack(folder: Path) -> str:
    """The stack of a program that has a config for one only. Raises ConfigError where there are several."""
    document = Project(folder).document()
    where = folder / str(document.get("stackConfigDir", "."))
    names = sorted(
        path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in where.glob("Pulumi.*.yaml")
    )
    if len(names) > 1:
        raise ConfigError([Problem("--stack", "nothing", f"one of {', '.join(names)}")], "the command line")
    return names[0] if names else "dev"


def stack_config(project: Project, document: Mapping[str, Any], stack: str) -> StackConfig:
    """A stack's config with the project's defaults. A stack without a file has the defaults, where it may."""
    name = str(document.get("name", ""))
    found: dict[str, Any] = {}
    for key, declared in _mapping(document.get("config")).items():
        value = declared.get("value", declared.get("default")) if isinstance(declared, dict) else declared
        if value is not None:
            found[_full(key, name)] = value
    of_stack: Mapping[str, Any] = {}
    if any(_stack_files(project, document)):
        of_stack = project.stack_config(stack)
    found |= {_full(key, name): value for key, value in _mapping(of_stack.get("config")).items()}
    texts = {key: setting(_without_cipher(value)) for key, value in found.items()}
    texts = {key: _lower(text, found[key]) for key, text in texts.items()}
    secrets = tuple(sorted(key for key, value in found.items() if _without_cipher(value) != value))
    environments = of_stack.get("environment") or ()
    if isinstance(environments, dict):
        environments = environments.get("imports") or ["(in the stack's file)"]
    return StackConfig(texts, secrets, tuple(str(item) for item in environments))


def _lower(text: str, value: Any) -> str:
    return text.lower() if isinstance(value, bool) else text


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _stack_files(project: Project, document: Mapping[str, Any]) -> list[Path]:
    return list((project.folder / str(document.get("stackConfigDir", "."))).glob("Pulumi.*.yaml"))


def _full(key: str, project: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _without_cipher(value: Any) -> Any:
    """A config value with `{secure: …}` replaced by the mark for what is not known."""
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            return runner.UNKNOWN
        return {key: _without_cipher(item) for key, item in value.items()}
    return [_without_cipher(item) for item in value] if isinstance(value, list) else value


def _plain_config(project: Project, stack: str) -> Mapping[str, Any]:
    try:
        return _mapping(project.stack_config(stack).get("config"))
    except ConfigError:
        return {}


def _job(
    address: str, name: str, stack: str, folder: Path, main: Path, config: StackConfig
) -> dict[str, Any]:
    return {
        "address": address,
        "project": name,
        "stack": stack,
        "root": str(folder.resolve()),
        "main": str(main),
        "config": dict(config.values),
        "secret_keys": list(config.secrets),
        "parallel": _PARALLEL,
    }
