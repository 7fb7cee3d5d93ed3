"""Programs and files for the tests of `mailinfra check`."""

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from mailinfra_policy.sources import process, program
from mailinfra_policy.sources.loaded import Loaded

STACK = {"aws:region": "eu-central-1", "gcp:project": "example-mail", "gcp:region": "europe-west3"}


def write_program(
    folder: Path,
    source: str,
    *,
    config: Mapping[str, Any] | None = None,
    project: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
) -> Path:
    """A Pulumi program's folder with a stack `dev`; `files` are more of its modules."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Pulumi.yaml").write_text(
        yaml.safe_dump({"name": "shop", "runtime": "python", **(project or {})})
    )
    (folder / "Pulumi.dev.yaml").write_text(
        yaml.safe_dump({"config": STACK if config is None else dict(config)})
    )
    for name, text in {"__main__.py": source, **(files or {})}.items():
        (folder / name).write_text(dedent(text).lstrip("\n"))
    return folder


def run_program(folder: Path, source: str, **more: Any) -> Loaded:
    """What a program declares."""
    return load_program(write_program(folder, source, **more), "dev")


def load_program(folder: Path, stack: str) -> Loaded:
    """What the program in a folder declares for a stack."""
    with process.started(folder) as running:
        return program.load(folder, stack, running)


def line_of(folder: Path, text: str) -> int:
    """The number of the first line of a program that has the text in it."""
    lines = (folder / "__main__.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def state_file(path: Path, resources: list[dict[str, Any]], **more: Any) -> Path:
    """A file as `pulumi stack export` writes it."""
    path.write_text(
        json.dumps({"version": 3, "deployment": {"manifest": {}, "resources": resources}, **more})
    )
    return path


def state(token: str, name: str, inputs: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """One resource of a state."""
    return {
        "urn": f"urn:pulumi:dev::shop::{token}::{name}",
        "type": token,
        "custom": True,
        "id": f"{name}-id",
        "inputs": dict(inputs or {}),
        "outputs": {},
        **more,
    }


INSTANCE = "aws:ec2/instance:Instance"
GUARDED = {"httpTokens": "required", "httpPutResponseHopLimit": 1}
