from pathlib import Path

import pytest
import yaml

from mailinfra.errors import ConfigError
from mailinfra.project import Project

REPO = Path(__file__).parents[2]


def refused(project: Project, stack: str) -> str:
    with pytest.raises(ConfigError) as caught:
        project.fleet(stack)
    return str(caught.value)


@pytest.mark.parametrize("stack", ["sandbox", "dev", "prod", "dr"])
def test_every_stack_of_the_repo_declares_a_fleet(stack: str) -> None:
    assert Project(REPO).fleet(stack).regions


def test_an_unknown_stack_names_those_that_there_are() -> None:
    assert "allowed: dev, dr, prod, sandbox" in refused(Project(REPO), "pord")


def test_a_folder_without_a_project_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "Pulumi.yaml") in refused(Project(tmp_path), "prod")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("- a list", "list"),
        ("a: [", "allowed: YAML"),
        ("config: {}", "config.mailinfra:fleet: found nothing"),
        ("config: {'mailinfra:fleet': {name: x}}", "domains: found nothing"),
    ],
)
def test_a_stack_file_that_is_none_is_refused_with_its_place(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "x", "runtime": "python"}))
    (tmp_path / "Pulumi.prod.yaml").write_text(text)
    message = refused(Project(tmp_path), "prod")
    assert found in message and "Traceback" not in message
