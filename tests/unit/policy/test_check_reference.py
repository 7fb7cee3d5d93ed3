"""The page of the policies is the rules' own, whole."""

import re
import sys
from pathlib import Path

import pytest

from mailinfra_policy import reference
from mailinfra_policy.config import Config
from mailinfra_policy.rules import all_rules
from tests.fleets import ROOT


def test_the_committed_page_is_what_the_code_says() -> None:
    page = ROOT / "docs" / reference.PAGE
    assert page.read_text() == reference.page(), "run: python -m mailinfra_policy.reference"


def test_every_rule_is_on_it_with_all_that_it_covers() -> None:
    text = reference.page()
    for rule in all_rules():
        assert f"### {rule.id}\n" in text and rule.mend in text and rule.why in text
        assert all(f"`{token.partition(':')[2]}`" in text for token in rule.covers)


def test_every_field_of_the_config_has_a_description() -> None:
    for path, model in reference._models(Config):
        for name, field in model.model_fields.items():
            assert field.description, f"{path}.{name}"


def test_links_lead_to_headings() -> None:
    text = reference.page()
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links and links <= {line[4:] for line in text.splitlines() if line.startswith("### ")}


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["reference", str(tmp_path)])
    reference.main()
    assert (tmp_path / "policies.md").read_text() == reference.page()
