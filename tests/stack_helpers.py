"""A stack of a test's own under the real engine, with the sandbox's clouds and no machines."""

import json
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mailinfra.sandbox.cloud import start_cloud, stop_cloud
from mailinfra.sandbox.control import ControlClient
from mailinfra.sandbox.engine import Engine
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.stack import SandboxStack

STACK = "test"


class Project:
    """A Pulumi project with one program, run on a sandbox of its own."""

    def __init__(self, folder: Path, paths: Paths, engine: Engine, control: ControlClient) -> None:
        self.folder = folder
        self.paths = paths
        self.control = control
        self.stack = SandboxStack(paths, engine, folder, STACK, {})

    def write(self, program: str, **config: str) -> None:
        """Sets the program and the stack's config (keys with `__` for the colon)."""
        (self.folder / "Pulumi.yaml").write_text("name: case\nruntime: python\n")
        settings = {key.replace("__", ":"): value for key, value in config.items()}
        (self.folder / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": settings}))
        (self.folder / "__main__.py").write_text(textwrap.dedent(program))
        self.stack.prepare()

    def preview(self) -> dict[str, str]:
        """What would be done, by the resources' names; what stays as it is is left out."""
        steps = json.loads(self.stack.pulumi("preview", "--json"))["steps"]
        done: dict[str, str] = {}
        for step in steps:
            if step["op"] != "same":
                done.setdefault(step["urn"].rsplit("::", 1)[1], step["op"])
        return done

    def up(self) -> dict[str, object]:
        """Brings the stack up; its outputs."""
        self.stack.pulumi("up", "--yes", "--skip-preview")
        return self.stack.outputs()

    def refresh_finds_nothing(self) -> None:
        """Refreshes; fails if anything differs."""
        self.stack.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    def destroy(self) -> None:
        """Removes all of it."""
        self.stack.pulumi("destroy", "--yes", "--skip-preview")


@contextmanager
def project(engine: Engine, folder: Path) -> Iterator[Project]:
    """A project on a sandbox that lives as long as the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        paths = Paths.of("test")
        try:
            control = start_cloud(paths, False, lambda _what, _seconds: None)
            source = folder / "project"
            source.mkdir()
            yield Project(source, paths, engine, control)
        finally:
            stop_cloud(paths)
