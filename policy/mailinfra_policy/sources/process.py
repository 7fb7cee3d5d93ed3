"""The process that runs a Pulumi program: started early, for its interpreter takes as long to begin as ours."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailinfra.project import PROJECT_FILE, Project
from mailinfra_policy.sources import runner
from mailinfra_policy.sources.loaded import SourceError

TIMEOUT = 600.0
"""Seconds that a program may run."""
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
class Process:
    """A runner that waits for its job. `foreign` are the folders of the program's environment, whose code is not its
    own; `scratch` holds the answer and what the program printed."""

    process: subprocess.Popen[bytes]
    foreign: tuple[Path, ...]
    scratch: Path

    def run(self, folder: Path, job: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
        """What the runner answered to a job (None: nothing) that it did in a folder, and the tail of what the program
        printed. Raises SourceError for a program that does not end."""
        answer = self.scratch / "answer.json"
        whole = {**job, "folder": str(folder), "answer": str(answer)}
        try:
            self.process.communicate(json.dumps(whole).encode(), timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            raise SourceError(f"the program still ran after {TIMEOUT:.0f} s") from None
        said = (self.scratch / "log").read_text(errors="replace")
        tail = "\n".join(said.splitlines()[-10:])
        if not answer.exists():
            return None, tail
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return found, tail


@contextmanager
def started(folder: Path) -> Iterator[Process]:
    """A runner for the program in a folder, that has done nothing yet. Raises SourceError and ConfigError."""
    interpreter, foreign = _interpreter(folder, Project(folder).document())
    environment = {key: value for key, value in os.environ.items() if key not in _CREDENTIALS}
    # A program that reads the cloud's own settings at import finds none, and does not look for a metadata service.
    environment["AWS_EC2_METADATA_DISABLED"] = "true"
    with tempfile.TemporaryDirectory(prefix="mailinfra-check-") as scratch:
        with (Path(scratch) / "log").open("wb") as output:
            process = subprocess.Popen(
                [interpreter, Path(runner.__file__).resolve()],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
        try:
            yield Process(process, foreign, Path(scratch))
        finally:
            process.kill()
            process.communicate()


def _interpreter(folder: Path, document: Mapping[str, Any]) -> tuple[str, tuple[Path, ...]]:
    """The program's Python, and the folder of its environment. Ours, where it has none of its own."""
    runtime = document.get("runtime")
    name, options = (
        (runtime.get("name"), runtime.get("options") or {}) if isinstance(runtime, dict) else (runtime, {})
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
