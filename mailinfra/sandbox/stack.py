"""Runs a project's stacks on the sandbox's clouds, with the engine's state kept inside the sandbox.

The project itself is left untouched: the engine works in a mirror of it below the state root, since a stack that is
initialised writes into its config file.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mailinfra.project import PROJECT_FILE, Project
from mailinfra.sandbox.control import ControlClient
from mailinfra.sandbox.engine import Engine
from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.processes import write_atomic
from mailinfra.sandbox.providers import install
from mailinfra.sandbox.providers.guard import VARIABLE
from mailinfra.sandbox.providers.journal import settle

INTERRUPT_SECONDS = 60.0
"""How long an interrupted engine may take to finish the operations that it has begun."""


@dataclass(frozen=True)
class SandboxStack:
    """One stack of one project, as the sandbox runs it. `project` is the folder with `Pulumi.yaml`."""

    paths: Paths
    engine: Engine
    project: Path
    stack: str
    clouds: Mapping[str, str]
    """Environment that points SDKs of the clouds (boto3 in the program) at the sandbox."""

    @property
    def mirror(self) -> Path:
        """The folder that the engine works in."""
        return self.paths.folder("project")

    @property
    def environment(self) -> dict[str, str]:
        """The engine's environment: plugins, state and secrets of the sandbox's own."""
        return self.engine.env(
            install.pulumi_home(self.paths),
            self.paths.folder("stacks"),
            extra={VARIABLE: str(self.paths.state), **self.clouds},
        )

    def prepare(self) -> None:
        """Mirror the project, install the providers, and select the stack, made if need be."""
        self._mirror()
        install.install(self.paths, self.engine.pulumi, self.environment)
        self.pulumi("stack", "select", "--create", self.stack)

    def up(self, on_event: Callable[[dict[str, Any]], None], *, refresh: bool = False) -> None:
        """`pulumi up`; each engine event is handed to `on_event`. Raises `SandboxError` with what went wrong.

        With `refresh`, the state is first compared with what the clouds still have. So it is after an `up` that did
        not end well: a killed engine may have removed what its state still names.

        Until one has ended well, the engine writes the state down only when it ends, also with errors or after an
        interrupt: at every step of so many, it would be more work than all the rest. What a killed one had made, the
        providers' journals know. Later ones change little, and what they made may be in no program any more when
        they are killed: each step is written down.
        """
        self.pulumi("cancel", "--yes", check=False)
        first = not self._finished.exists()
        refresh = refresh or self._begun.exists()
        self._begun.touch()
        options = ["--refresh"] if refresh else []
        self._stream("up", on_event, *options, **({"PULUMI_SKIP_CHECKPOINTS": "true"} if first else {}))
        settle(self.paths.state / "providers", self.stack)
        self._finished.touch()
        self._begun.unlink()

    @property
    def _begun(self) -> Path:
        """File in the state root: an `up` of the stack is under way, or did not end well."""
        return self.paths.folder(".") / f"up-begun-{self.stack}"

    @property
    def _finished(self) -> Path:
        """File in the state root: an `up` of the stack has ended well."""
        return self.paths.folder(".") / f"up-finished-{self.stack}"

    def preview(self) -> None:
        """`pulumi preview`. Raises `SandboxError` with what went wrong."""
        self.pulumi("preview")

    def destroy(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        """`pulumi destroy`; each engine event is handed to `on_event`."""
        self.pulumi("cancel", "--yes", check=False)
        self._stream("destroy", on_event)
        self._finished.unlink(missing_ok=True)

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        found = json.loads(self.pulumi("stack", "output", "--json"))
        if not isinstance(found, dict):
            raise SandboxError(
                f"the outputs of stack {self.stack}: found {type(found).__name__}; allowed: an object"
            )
        return found

    def state(self) -> dict[str, Any]:
        """The stack's whole state (`pulumi stack export`)."""
        found: dict[str, Any] = json.loads(self.pulumi("stack", "export"))
        return found

    def pulumi(self, *args: str, check: bool = True) -> str:
        """Run the engine in the mirror; its output. Raises `SandboxError` when it fails."""
        return self.engine.run(args, env=self.environment, cwd=self.mirror, check=check).stdout

    def _stream(
        self, command: str, on_event: Callable[[dict[str, Any]], None], *options: str, **environment: str
    ) -> None:
        log = self.paths.folder("logs") / f"{self.stack}-{command}.json"
        process = subprocess.Popen(
            [
                *dying_with_us(),
                str(self.engine.pulumi),
                command,
                "--stack",
                self.stack,
                "--yes",
                "--skip-preview",
                *options,
                "--json",
                "--non-interactive",
                "--color=never",
            ],
            env={**self.environment, "PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true", **environment},
            cwd=self.mirror,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Its own group: an interrupt reaches it once, by us, and means an orderly end; a second would kill it.
            start_new_session=True,
        )
        problems: list[str] = []
        with process, ended(process), log.open("w") as copy:
            for event in _events(process, copy):
                diagnostic = event.get("diagnosticEvent")
                if diagnostic and diagnostic.get("severity") == "error":
                    problems.append(f"{_resource(diagnostic.get('urn', ''))}{_gist(diagnostic['message'])}")
                on_event(event)
        if process.returncode:
            detail = "\n  ".join(dict.fromkeys(problems)) or "no error was named"
            raise SandboxError(
                f"`pulumi {command}` of stack {self.stack} failed:\n  {detail}\n  All of it: {log}"
            )

    def _mirror(self) -> None:
        source = Project(self.project)
        project = source.document()
        program = self.mirror / "program"
        program.mkdir(exist_ok=True)
        wanted = {
            entry.name: entry.resolve()
            for entry in source.program().iterdir()
            if not entry.name.startswith("Pulumi.") and entry.name != "__pycache__"
        }
        # What another project left here, or this one no longer has, is not part of the program.
        for link in program.iterdir():
            if link.is_symlink() and link.readlink() != wanted.get(link.name):
                link.unlink()
        for name, target in wanted.items():
            link = program / name
            if not link.is_symlink():
                link.symlink_to(target)
        runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
        mirrored = {**project, "runtime": runtime, "main": "program", "stackConfigDir": "."}
        write_atomic(self.mirror / PROJECT_FILE, yaml.safe_dump(mirrored, sort_keys=False))
        copy = self.mirror / source.stack_file(self.stack).name
        config = source.stack_config(self.stack)
        if copy.exists():
            kept = yaml.safe_load(copy.read_text()) or {}
            config = {**{key: kept[key] for key in kept if key.startswith("encrypt")}, **config}
        write_atomic(copy, yaml.safe_dump(config, sort_keys=False))


def dying_with_us() -> tuple[str, ...]:
    """Wraps a command so that the kernel ends it when we are killed: an engine without a caller would go on."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL") if setpriv else ()


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Interrupt the engine when its caller fails or is interrupted, so that it finishes what it began and saves."""
    try:
        yield
    except BaseException:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=INTERRUPT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


def _events(process: subprocess.Popen[str], copy: Any) -> Iterator[dict[str, Any]]:
    """The engine's events, one JSON object a line; anything else it prints is a diagnostic."""
    for line in process.stdout or ():
        copy.write(line)
        try:
            event = json.loads(line)
        except ValueError:
            if line.strip().startswith("error:"):
                yield {"diagnosticEvent": {"severity": "error", "message": line.strip()}}
            continue
        if isinstance(event, dict):
            yield event


def _gist(message: str) -> str:
    """A diagnostic without the traces that the engine and the program wrap around it."""
    lines = message.strip().splitlines()
    if any(line.startswith("Traceback ") for line in lines):
        return lines[-1].removeprefix("Exception: ")
    return "\n  ".join(lines)


def _resource(urn: str) -> str:
    return f"{urn.rsplit('::', 1)[-1]}: " if urn else ""


def cloud_environment(control: ControlClient) -> dict[str, str]:
    """Environment for boto3 outside the engine: AWS on loopback, and no real account within reach."""
    return {
        "AWS_ENDPOINT_URL": control.call("aws.info")["endpoint"],
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
