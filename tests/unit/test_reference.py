"""The reference pages are the code's own, whole."""

import re
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from mailinfra import reference
from mailinfra.directory import Group, User
from mailinfra.fleet import Fleet
from tests.fleets import ROOT


@pytest.mark.parametrize(("name", "text"), reference.pages().items())
def test_the_committed_pages_are_what_the_code_says(name: str, text: str) -> None:
    assert (ROOT / "docs" / name).read_text() == text, "run: python -m mailinfra.reference"


def test_every_field_has_a_description() -> None:
    for path, model in (*reference.sections(Fleet), ("user", User), ("group", Group)):
        for name, field in model.model_fields.items():
            assert field.description, f"{path}.{name}"


def test_links_lead_to_headings() -> None:
    text = reference.pages()["config.md"]
    headings = {reference._anchor(line[3:]) for line in text.splitlines() if line.startswith("## ")}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= {heading.replace(" ", "-") for heading in headings}


def test_sections_are_each_once() -> None:
    paths = [path for path, _ in reference.sections(Fleet)]
    assert len(set(paths)) == len(paths)
    assert {"", "regions[]", "regions[].groups[]", "zones.*", "dkim.keys[]"} <= set(paths)
    assert all(issubclass(model, BaseModel) for _, model in reference.sections(Fleet))


def test_the_command_writes_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["reference", str(tmp_path)])
    reference.main()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == reference.pages()
