"""Runs a Pulumi program with no engine, no credentials and no network, and takes down what it declares."""

import json
import os
import subprocess
import sys
import tempfile
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

TIMEOUT = 600.0
"""Seconds that a program may run."""
_PARALLEL = 32
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "CLOUDFLARE_API_KEY",
    "CLOUDFLARE_API_TOKEN",
    "CLOUDFLARE_API_USER_SERVICE_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CREDENTIALS",
    "GOOGLE_CLOUD_KEYFILE_JSON",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
    "GCLOUD_KEYFILE_JSON",
    "PULUMI_ACCESS_TOKEN",
    "PULUMI_CONFIG_PASSPHRASE",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
)


@dataclass(frozen=True)
class StackConfig:
    """A stack's configuration as a program reads it. `values` by full key; what is encrypted is not known."""

    values: Mapping[str, str]
    secrets: tuple[str, ...]
    environments: tuple[str, ...]


def load(folder: Path, stack: str) -> Loaded:
    """What the program in a folder declares for a stack. Raises SourceError and ConfigError."""
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
    interpreter, foreign = _interpreter(folder, document)
    monitor = Monitor(Program(name, stack, own, config.values, foreign), Clouds())
    with served(monitor) as address:
        answer, said = _run(interpreter, own, _job(address, name, stack, folder, main, config))
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


def _interpreter(folder: Path, document: Mapping[str, Any]) -> tuple[str, tuple[Path, ...]]:
    """The program's Python, and the folder of its environment. Ours, where it has none of its own."""
    runtime = document.get("runtime")
    name, options = (
        (runtime.get("name"), _mapping(runtime.get("options")))
        if isinstance(runtime, dict)
        else (runtime, {})
    )
    if name != "python":
        raise SourceError(
            f"{folder / PROJECT_FILE}: runtime: found {name}; allowed: python (check the preview with --file)"
        )
    environment = options.get("virtualenv") or (".venv" if options.get("toolchain") == "uv" else None)
    if environment is None:
        return sys.executable, ()
    where = Path(os.path.abspath(folder / str(environment)))  # noqa: PTH100 (a link stays a link)
    python = where / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return (str(python) if python.exists() else sys.executable), (where,)


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


def _run(interpreter: str, folder: Path, job: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """What the runner answered (None: nothing), and the tail of what the program printed."""
    environment = {key: value for key, value in os.environ.items() if key not in _CREDENTIALS}
    environment["PULUMI_CONFIG"] = json.dumps(job["config"])
    environment["PULUMI_CONFIG_SECRET_KEYS"] = json.dumps(job["secret_keys"])
    # A program that reads the cloud's own settings at import finds none, and does not look for a metadata service.
    environment["AWS_EC2_METADATA_DISABLED"] = "true"
    with tempfile.TemporaryDirectory(prefix="mailinfra-check-") as scratch:
        answer = Path(scratch) / "answer.json"
        log = Path(scratch) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [interpreter, runner.__file__],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
            try:
                process.communicate(json.dumps({**job, "answer": str(answer)}).encode(), timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                raise SourceError(f"the program still ran after {TIMEOUT:.0f} s") from None
            finally:
                process.kill()
                process.wait()
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        if not answer.exists():
            return None, tail
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return found, tail
