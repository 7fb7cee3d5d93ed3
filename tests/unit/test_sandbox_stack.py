import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailinfra.sandbox.engine import Engine
from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.stack import SandboxStack

FAKE = """#!{python}
import json, sys
if sys.argv[1] == "up":
    for event in {events}:
        print(event if isinstance(event, str) else json.dumps(event))
    sys.exit({code})
"""

SLOW = """#!{python}
import sys, time
print("{{}}", flush=True)
if sys.argv[1] == "up":
    time.sleep(600)
"""

TELLING = """#!{python}
import os, sys
if sys.argv[1] in ("up", "destroy"):
    refresh, skip = "--refresh" in sys.argv, "PULUMI_SKIP_CHECKPOINTS" in os.environ
    open("{told}", "a").write(f"{{sys.argv[1]}} {{refresh}} {{skip}}\\n")
    sys.exit({code})
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "stacks").mkdir(parents=True)
    document = {"name": "mail", "runtime": "python", "main": "stacks", "stackConfigDir": "stacks"}
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(document))
    (folder / "stacks" / "__main__.py").write_text("print('hello')")
    (folder / "stacks" / "Pulumi.dev.yaml").write_text("config: {a: &x [1], b: *x}\n")
    return folder


def stack(tmp_path: Path, project: Path, events: list[Any] | None = None, code: int = 0) -> SandboxStack:
    pulumi = tmp_path / "pulumi"
    pulumi.write_text(FAKE.format(python=sys.executable, events=repr(events or []), code=code))
    pulumi.chmod(0o755)
    paths = Paths("t", tmp_path / "state", tmp_path / "cache")
    return SandboxStack(paths, Engine(pulumi, "3.259.0"), project, "dev", {})


def test_the_engine_works_in_a_mirror_and_the_project_stays_as_it_is(tmp_path: Path, project: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    made = stack(tmp_path, project)
    made._mirror()
    made._mirror()
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    mirrored = yaml.safe_load((made.mirror / "Pulumi.yaml").read_text())
    assert mirrored["runtime"]["options"]["virtualenv"] == sys.prefix
    assert (made.mirror / mirrored["main"] / "__main__.py").read_text() == "print('hello')"
    assert yaml.safe_load((made.mirror / "Pulumi.dev.yaml").read_text()) == {"config": {"a": [1], "b": [1]}}


def test_another_projects_program_takes_the_mirror_over(tmp_path: Path, project: Path) -> None:
    (project / "stacks" / "more.py").write_text("")
    stack(tmp_path, project)._mirror()
    other = tmp_path / "other"
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("more.py"))
    (other / "stacks" / "__main__.py").write_text("print('other')")
    made = stack(tmp_path, other)
    made._mirror()
    assert (made.mirror / "program" / "__main__.py").read_text() == "print('other')"
    assert not (made.mirror / "program" / "more.py").is_symlink()


def test_the_stacks_salt_survives_and_its_config_follows(tmp_path: Path, project: Path) -> None:
    made = stack(tmp_path, project)
    made._mirror()
    copy = made.mirror / "Pulumi.dev.yaml"
    copy.write_text("encryptionsalt: v1:abc\nconfig: {old: 1}\n")
    made._mirror()
    assert yaml.safe_load(copy.read_text()) == {"encryptionsalt": "v1:abc", "config": {"a": [1], "b": [1]}}


def test_events_come_as_they_are_and_other_lines_do_no_harm(tmp_path: Path, project: Path) -> None:
    events = [{"resOutputsEvent": {"metadata": {"urn": "u"}}}, "warning: something", {"summaryEvent": {}}]
    found: list[dict[str, Any]] = []
    stack(tmp_path, project, events).up(found.append)
    assert found == [events[0], events[2]]


def test_an_up_repairs_one_that_failed_and_writes_each_step_down_once_one_ended_well(
    tmp_path: Path, project: Path
) -> None:
    made = stack(tmp_path, project)
    told = tmp_path / "told"

    def engine(code: int) -> None:
        made.engine.pulumi.write_text(TELLING.format(python=sys.executable, told=told, code=code))

    engine(255)
    with pytest.raises(SandboxError):
        made.up(lambda _: None)
    engine(0)
    made.up(lambda _: None)
    made.up(lambda _: None)
    engine(255)
    with pytest.raises(SandboxError):
        made.up(lambda _: None)
    engine(0)
    made.up(lambda _: None)
    made.up(lambda _: None, refresh=True)
    made.destroy(lambda _: None)
    made.up(lambda _: None)
    assert told.read_text().splitlines() == [
        "up False True",
        "up True True",
        "up False False",
        "up False False",
        "up True False",
        "up True False",
        "destroy False False",
        "up False True",
    ]


def test_a_failure_says_each_error_once_without_traces(tmp_path: Path, project: Path) -> None:
    trace = (
        'Program failed:\nTraceback (most recent call last):\n  File "x"\nException: invoke failed: no key'
    )
    urn = "urn:pulumi:dev::mail::aws:kms/key:Key::k"
    error = {"diagnosticEvent": {"severity": "error", "urn": urn, "message": "AccessDenied\n"}}
    events = [error, error, {"diagnosticEvent": {"severity": "error", "message": trace}}]
    with pytest.raises(SandboxError) as caught:
        stack(tmp_path, project, events, code=255).up(lambda _: None)
    message = str(caught.value)
    assert message.count("k: AccessDenied") == 1 and "invoke failed: no key" in message
    assert "Traceback" not in message and "dev-up.json" in message


def test_a_caller_that_fails_does_not_leave_the_engine_behind(tmp_path: Path, project: Path) -> None:
    made = stack(tmp_path, project)
    made.engine.pulumi.write_text(SLOW.format(python=sys.executable))

    def fail(event: dict[str, Any]) -> None:
        raise RuntimeError("the caller is done")

    with pytest.raises(RuntimeError):
        made.up(fail)
    left = subprocess.run(["pgrep", "-f", f"{made.engine.pulumi} up"], capture_output=True, check=False)
    assert left.stdout == b""


def test_outputs_that_are_no_object_are_refused(tmp_path: Path, project: Path) -> None:
    made = stack(tmp_path, project)
    made._mirror()
    made.engine.pulumi.write_text(f"#!{sys.executable}\nprint({json.dumps('[1]')})\n")
    with pytest.raises(SandboxError, match="found list"):
        made.outputs()
