"""Records the state that this release leaves: `python -m tests.engine.recorded.make`, once for each release.

A test previews the program of later releases over it. It is made in the sandbox, so it holds no account, key or user.
"""

import gzip
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mailinfra.sandbox.engine import ensure_engine
from tests.fleets import config
from tests.recorded import ROOT, RecordedSandbox, recorded

FOLDER = Path(__file__).parent
STACK = "sandbox"
PLACES = ("sourcePosition", "stackTrace")
"""Where in the program a resource was declared: paths of this machine, and no part of what it is."""


def with_look_ups(project: Path) -> None:
    """Put the recorder of look-ups in front of the project's program."""
    program = project / "program"
    (program / "__main__.py").rename(program / "fleet.py")
    (program / "__main__.py").write_text((FOLDER / "look_ups.py").read_text())


def scrub(state: dict[str, Any]) -> None:
    """Take out of an exported state what is of this machine, and what is large and of no use to the test."""
    for resource in state["deployment"]["resources"]:
        for key in PLACES:
            resource.pop(key, None)
        if is_software(resource["urn"]):
            for side in ("inputs", "outputs"):
                resource[side]["content"] = ""


def is_software(urn: str) -> bool:
    """Whether this is an object with the nodes' software: named by its content, so a release's is always a new one."""
    return urn.endswith("-directory-software")


def record(sandbox: RecordedSandbox, folder: Path) -> Path:
    """Bring the sandbox's fleet up and keep its state with the clouds' answers; where it is kept."""
    answers = folder / "answers.json"
    clouds = {**sandbox.clouds, "LOOK_UPS": str(answers)}
    declared = config(STACK)
    sandbox = RecordedSandbox(sandbox.paths, sandbox.engine, sandbox.control, clouds)
    stack = sandbox.fleet(folder / "project", STACK, declared)
    with_look_ups(folder / "project")
    stack.up(lambda _event: None)
    state = stack.state()
    scrub(state)
    document = json.dumps({"fleet": declared, "answers": json.loads(answers.read_text()), "state": state})
    private = (
        str(ROOT),
        sys.prefix,
        f"{Path.home()}/",
        str(folder),
        str(sandbox.paths.state),
        "PRIVATE KEY",
    )
    found = [word for word in private if word in document]
    if found:
        raise SystemExit(f"the state holds {found}: it must not be kept")
    kept = FOLDER / f"{version('mailinfra')}.json.gz"
    kept.write_bytes(gzip.compress(document.encode(), mtime=0))
    return kept


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory(prefix="mi") as folder,
        recorded(ensure_engine(lambda _: None)) as sandbox,
    ):
        record(sandbox, Path(folder))
