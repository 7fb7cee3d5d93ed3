"""The reference page is the code's own, whole."""

import re
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from mailinfra import reference
from mailinfra.fleet import Fleet
from tests.fleets import ROOT


def test_the_committed_page_is_what_the_code_says() -> None:
    assert (ROOT / reference.PAGE).read_text() == reference.page(), "run: python -m mailinfra.reference"


def test_every_field_has_a_description() -> None:
    for path, model in reference.sections(Fleet):
        for name, field in model.model_fields.items():
            assert field.description, f"{path}.{name}"


def test_links_lead_to_headings() -> None:
    text = reference.page()
    headings = {reference._anchor(line[3:]) for line in text.splitlines() if line.startswith("## ")}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= {heading.replace(" ", "-") for heading in headings}


def test_sections_are_each_once() -> None:
    paths = [path for path, _ in reference.sections(Fleet)]
    assert len(set(paths)) == len(paths)
    assert {"", "regions[]", "regions[].groups[]", "zones.*", "dkim.keys[]"} <= set(paths)
    assert all(issubclass(model, BaseModel) for _, model in reference.sections(Fleet))


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["reference", str(target)])
    reference.main()
    assert target.read_text() == reference.page()
