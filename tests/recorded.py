"""Stacks under the real engine on the sandbox's clouds, where servers are recorded instead of booted."""

import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailinfra.sandbox.cloud import leftovers, start_cloud, stop_cloud
from mailinfra.sandbox.control import ControlClient
from mailinfra.sandbox.engine import Engine
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers import install
from mailinfra.sandbox.stack import SandboxStack, cloud_environment

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class OwnStack(SandboxStack):
    """A stack of a project that is a test's own: the engine works in it, not in a mirror."""

    @property
    def mirror(self) -> Path:
        """The project itself."""
        return self.project

    def _mirror(self) -> None:
        pass

    def changes(self, *args: str) -> dict[str, str]:
        """What an `up` would do: URN to operation, without what stays the same."""
        return _changes(json.loads(self.pulumi("preview", "--json", *args))["steps"])

    def up_changes(self) -> dict[str, str]:
        """Bring the stack up; what was done, as the engine's events tell it: URN to operation."""
        steps: list[Mapping[str, Any]] = []

        def note(event: Mapping[str, Any]) -> None:
            steps.extend(
                event[kind]["metadata"] for kind in ("resourcePreEvent", "resOutputsEvent") if kind in event
            )

        self.up(note)
        assert steps, "the engine told of no step at all"
        return _changes(steps)

    def refresh_finds_nothing(self) -> None:
        """Refresh; EngineError if a cloud differs from the state."""
        self.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    def resources(self) -> list[dict[str, Any]]:
        """The resources in the state."""
        return list(self.state()["deployment"].get("resources", []))


def _changes(steps: list[Mapping[str, Any]]) -> dict[str, str]:
    # Reads are look-ups of the program's; the root stack's own step says only that outputs changed.
    return {
        step["urn"]: step["op"]
        for step in steps
        if step["op"] not in {"same", "read"} and "::pulumi:pulumi:Stack::" not in step["urn"]
    }


def names(changes: Mapping[str, str], operation: str) -> set[str]:
    """The names of the resources that have this operation among the changes."""
    return {urn.rsplit("::", 1)[1] for urn, done in changes.items() if done == operation}


@dataclass(frozen=True)
class RecordedSandbox:
    """A sandbox's clouds without machines."""

    paths: Paths
    engine: Engine
    control: ControlClient
    clouds: Mapping[str, str]

    def stack(self, project: Path, name: str) -> OwnStack:
        """The stack `name` of a test's own project, selected."""
        stack = OwnStack(self.paths, self.engine, project, name, self.clouds)
        stack.prepare()
        return stack

    def fleet(self, folder: Path, name: str, declared: Mapping[str, Any]) -> OwnStack:
        """A stack of the one program of `stacks/` in a project of its own, with this fleet declared."""
        project = {
            "name": "mailinfra",
            "runtime": {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}},
            "main": "program",
        }
        folder.mkdir(exist_ok=True)
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
        if not (folder / "program").exists():
            shutil.copytree(
                ROOT / "stacks", folder / "program", ignore=shutil.ignore_patterns("Pulumi.*", "__pycache__")
            )
        declare(folder, name, declared)
        return self.stack(folder, name)

    def aws(self, service: str, region: str) -> Any:
        """A boto3 client of the sandbox's AWS."""
        import boto3

        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self.clouds["AWS_ENDPOINT_URL"],
            aws_access_key_id="sandbox",
            aws_secret_access_key="sandbox",
        )

    def gcp_documents(self) -> set[tuple[str, str]]:
        """What Google's side keeps: (kind, name)."""
        with closing(sqlite3.connect(self.paths.state / "gcp" / "resources.sqlite")) as database:
            return set(database.execute("SELECT kind, name FROM document"))


def declare(folder: Path, stack: str, declared: Mapping[str, Any]) -> None:
    """Write the stack's config, with what the engine needs to read its secrets kept."""
    file = folder / f"Pulumi.{stack}.yaml"
    kept = yaml.safe_load(file.read_text()) if file.exists() else {}
    secrets = {key: value for key, value in (kept or {}).items() if key.startswith("encrypt")}
    config = {
        "aws:region": "eu-central-1",
        "gcp:project": declared.get("clouds", {}).get("gcp", {}).get("project", "sandbox-mail"),
        "mailinfra:fleet": declared,
    }
    file.write_text(yaml.safe_dump({**secrets, "config": config}, sort_keys=False))


@contextmanager
def recorded(engine: Engine) -> Iterator[RecordedSandbox]:
    """A sandbox as long as the block; fails if anything of it is left behind."""
    # Short, because the daemon's socket lies in it.
    home = Path(tempfile.mkdtemp(prefix="mi", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        paths = Paths.of("recorded")
        try:
            control = start_cloud(paths, False, lambda _what, _seconds: None)
            clouds = cloud_environment(control)
            sandbox = RecordedSandbox(paths, engine, control, clouds)
            install.install(
                paths, engine.pulumi, SandboxStack(paths, engine, home, "none", clouds).environment
            )
            yield sandbox
        finally:
            stop_cloud(paths)
            # Beside the state root only its parent folder, which other sandboxes of a user share.
            left = [*leftovers(paths), *map(os.fspath, (home / "mailinfra").iterdir())]
            shutil.rmtree(home)
    assert not left, f"left of the sandbox: {left}"
