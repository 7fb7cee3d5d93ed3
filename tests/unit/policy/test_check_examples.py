"""The workflows in `examples/ci` call the check as it is."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from click import Command
from typer.main import get_command

from mailinfra import cli
from mailinfra_policy.formats import FORMATS
from tests.fleets import ROOT

FILES = sorted((ROOT / "examples" / "ci").glob("*.yml"))


def commands(path: Path) -> list[list[str]]:
    """Each call of `mailinfra check` in a workflow, its continued lines joined."""
    text = path.read_text().replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(r"mailinfra check .*", text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_workflow_is_yaml_and_calls_what_there_is(path: Path) -> None:
    assert yaml.safe_load(path.read_text())
    check: Command = get_command(cli.app).commands["check"]  # type: ignore[attr-defined]
    known = {option for parameter in check.params for option in parameter.opts}
    (call,) = commands(path)
    options = [word for word in call if word.startswith("--")]
    assert set(options) <= known and "--stack" in options
    assert call[call.index("--format") + 1] in FORMATS


def test_there_is_one_for_each_forge() -> None:
    assert [path.name for path in FILES] == ["github-actions.yml", "gitlab-ci.yml"]
