"""What `mailinfra check` prints and how it ends."""

import json
import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import CliRunner

from mailinfra import cli
from mailinfra_policy import checking
from mailinfra_policy.command import Request, check
from mailinfra_policy.formats import FORMATS
from mailinfra_policy.rules import all_rules
from tests.check_helpers import GUARDED, INSTANCE, STACK, state, state_file, write_program
from tests.policy_helpers import TODAY

RULE = "exposure-metadata-tokens"
HOSTILE = '</td><script>alert(1)</script>"\x1b[31m\u202e]]>&'
OPEN = {"metadataOptions": {"httpTokens": "optional", "httpPutResponseHopLimit": 1}}
ONLY: dict[str, Any] = {
    "rules": {rule.id: {"level": "off"} for rule in all_rules() if rule.id != RULE},
    "zones": {"eu": {"countries": ["DE"]}},
}


def settings(path: Path, **more: Any) -> Path:
    """A pack config in which one rule is on."""
    path.write_text(yaml.safe_dump({**ONLY, **more}))
    return path


def accepted(expires: date, resource: str = f"{INSTANCE}::open", rule: str = RULE) -> dict[str, Any]:
    return {"rule": rule, "resource": resource, "reason": "until the image is renewed", "expires": expires}


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A state with an open node and a closed one."""
    return state_file(
        tmp_path / "state.json",
        [
            state(INSTANCE, "open", {**OPEN, "tags": {"residency-zone": "eu"}}),
            state(INSTANCE, "closed", {"metadataOptions": GUARDED}),
        ],
    )


def run(capsys: pytest.CaptureFixture[str], form: str, request: Request, **more: Any) -> tuple[int, str]:
    code = check(request, form, today=TODAY, **more)
    captured = capsys.readouterr()
    return code, captured.out or captured.err


def test_json_says_all_of_a_finding(tmp_path: Path, one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "json", Request(file=one, settings=settings(tmp_path / "c.yaml")))
    found = json.loads(text)
    (item,) = found["findings"]
    assert code == found["exit_code"] == 1
    assert item["rule"] == RULE and item["severity"] == "high" and item["level"] == "mandatory"
    assert item["urn"] == f"urn:pulumi:dev::shop::{INSTANCE}::open" and item["type"] == INSTANCE
    assert item["path"] == "metadataOptions.httpTokens"
    assert (item["found"], item["allowed"], item["unknown"]) == ('"optional"', '"required"', False)
    assert "SOC 2 CC6.1" in item["controls"]
    assert found["judged"] == 2 and found["exceptions"] == [] and found["not_judged"] == []


def test_a_clean_stack_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = state_file(tmp_path / "state.json", [state(INSTANCE, "closed", {"metadataOptions": GUARDED})])
    code, text = run(capsys, "text", Request(file=path, settings=settings(tmp_path / "c.yaml")))
    assert code == 0 and "clean in 1 resources" in text


def test_an_advisory_finding_is_told_and_ends_well(
    tmp_path: Path, one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = {**ONLY["rules"], RULE: {"level": "advisory"}}
    code, text = run(capsys, "text", Request(file=one, settings=settings(tmp_path / "c.yaml", rules=levels)))
    assert code == 0 and "(advisory)" in text


def test_exceptions_are_all_listed_with_what_became_of_them(
    tmp_path: Path, one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(
        tmp_path / "c.yaml",
        exceptions=[accepted(TODAY), accepted(TODAY, f"{INSTANCE}::other"), accepted(date(2026, 1, 1))],
    )
    code, text = run(capsys, "json", Request(file=one, settings=config))
    found = json.loads(text)
    assert [item["state"] for item in found["exceptions"]] == ["in force", "unused", "expired"]
    assert found["exceptions"][0]["covers"] == [
        {"urn": f"urn:pulumi:dev::shop::{INSTANCE}::open", "path": "metadataOptions.httpTokens"}
    ]
    # The expired one is a finding itself, although another one covers what it accepted.
    (item,) = found["findings"]
    assert code == 1
    assert (item["rule"], item["path"], item["found"]) == (
        "exception-expired",
        "exceptions[2].expires",
        "2026-01-01",
    )


def test_an_accepted_finding_ends_well(tmp_path: Path, one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settings(tmp_path / "c.yaml", exceptions=[accepted(TODAY)])
    code, text = run(capsys, "text", Request(file=one, settings=config))
    assert code == 0 and f"in force to {TODAY}: {RULE}" in text


WRONG = [
    ({"rules": {"no-such": {"level": "off"}}}, "rules.no-such: found no-such; allowed: one of "),
    ({"zone": "uk"}, "zone: found uk; allowed: one of eu"),
    ({"zones": {"a": {"countries": ["DE"]}, "b": {"countries": ["DE"]}}}, "zones.b.countries: found DE"),
    ({"zones": {"a": {"countries": ["Germany"]}}}, "zones.a.countries"),
    ({"exceptions": [{**accepted(TODAY), "expires": "soon"}]}, "exceptions[0].expires: found 'soon'"),
    ({"exceptions": [accepted(TODAY, "*")]}, "exceptions[0].resource: found *"),
    ({"exceptions": [accepted(TODAY, rule="no-such")]}, "exceptions[0].rule: found no-such"),
    ({"colour": "red"}, "colour: found 'red'"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said.split(":")[0] for _, said in WRONG])
def test_a_wrong_config_is_refused_before_anything_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    config = settings(tmp_path / "c.yaml", **change)
    broken = tmp_path / "not-even-read.json"
    code, text = run(capsys, "json", Request(file=broken, settings=config))
    assert code == 2 and said in text and str(config) in text and "No such file" not in text


@pytest.mark.parametrize(
    ("text", "said"), [("{", "YAML or JSON"), ("- 1", "(the document): found [1]"), (None, "No such file")]
)
def test_a_config_that_is_none_is_refused(
    tmp_path: Path, one: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    config = tmp_path / "c.yaml"
    if text is not None:
        config.write_text(text)
    code, found = run(capsys, "text", Request(file=one, settings=config))
    assert code == 2 and said in found and str(config) in found


def test_an_unknown_format_and_two_sources_are_refused(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "xml", Request(file=one))[0] == 2
    code, text = run(capsys, "text", Request(file=one, program=Path()))
    assert code == 2 and "either --file or --program" in text


def test_a_foreign_file_cannot_be_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"swagger\\u001b[2J": 1}')
    code, text = run(capsys, "text", Request(file=path))
    assert code == 2 and "found an object with 'swagger" in text and "\x1b" not in text


@pytest.fixture
def hostile(tmp_path: Path) -> Request:
    """A state in which every name is an attack on who shows it."""
    resource = state(
        INSTANCE, HOSTILE, {**OPEN, "tags": {"residency-zone": HOSTILE}}, sourcePosition="project:///a b.py#3"
    )
    path = state_file(
        tmp_path / "state.json",
        [resource, state(INSTANCE, "open", OPEN), state(INSTANCE, HOSTILE, external=True)],
    )
    return Request(
        file=path,
        settings=settings(
            tmp_path / "c.yaml", exceptions=[accepted(TODAY), accepted(date(2026, 1, 1), f"{HOSTILE}::*")]
        ),
    )


@pytest.mark.parametrize("form", FORMATS)
def test_names_do_not_steer_what_shows_them(
    form: str, hostile: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, form, hostile)
    assert code == 1
    assert "\x1b" not in text
    assert "\u202e" not in text
    if form == "junit":
        ElementTree.fromstring(text)  # noqa: S314 (our own; it must be well formed)
    elif form == "json":
        assert HOSTILE in {item["name"] for item in json.loads(text)["findings"]}


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_is_one_page_that_loads_nothing(
    tmp_path: Path, hostile: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out" / "report"
    _, text = run(capsys, "json", hostile, report=folder)
    assert json.loads((folder / "report.json").read_text()) == json.loads(text)
    page = Page((folder / "report.html").read_text())
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "form"}
    for _, attributes in page.elements:
        assert not attributes.get("src")
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    text = "".join(page.texts)
    assert "</td><script>alert(1)</script>" in text and "\\u001b[31m\\u202e" in text
    for heading in ("Findings by zone", "Findings by control", "Exceptions", "What was not judged, and why"):
        assert heading in text
    assert "until the image is renewed" in text and "read from the cloud" in text
    assert all(rule.id in text for rule in all_rules())


def test_a_report_that_cannot_be_written_is_said_so(
    tmp_path: Path, one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(capsys, "text", Request(file=one), report=one)
    assert code == 2 and "--report" in text


def test_junit_has_a_suite_for_each_rule(
    tmp_path: Path, one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text = run(capsys, "junit", Request(file=one, settings=settings(tmp_path / "c.yaml")))
    root = ElementTree.fromstring(text)  # noqa: S314 (our own)
    suites = {suite.get("name"): suite for suite in root}
    assert set(suites) == {rule.id for rule in all_rules()}
    assert suites[RULE].get("failures") == root.get("failures") == "1"
    (case,) = suites[RULE]
    assert case.get("name") == f"{INSTANCE}::open metadataOptions.httpTokens"
    assert case[0].get("message") == 'found "optional"; allowed: "required"'


def test_sarif_is_what_scanners_demand(hostile: Request, capsys: pytest.CaptureFixture[str]) -> None:
    _, text = run(capsys, "sarif", hostile)
    log = json.loads(text)
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    (one_run,) = log["runs"]
    rules = one_run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules) == len(all_rules()) + 1
    for rule in rules[:-1]:
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"] and rule["help"]["text"]
        assert re.match(r"https://\S+$", rule["helpUri"])
        assert rule["defaultConfiguration"]["level"] in {"error", "warning", "note"}
        assert 0 < float(rule["properties"]["security-severity"]) <= 10
    assert one_run["results"]
    for result in one_run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"] and result["level"] in {"error", "warning", "note"}
        (place,) = result["locations"]
        physical = place["physicalLocation"]
        assert physical["region"]["startLine"] >= 1
        uri = physical["artifactLocation"]["uri"]
        relative = physical["artifactLocation"].get("uriBaseId") == "%SRCROOT%"
        assert relative != uri.startswith("file:///") and " " not in uri
        assert result["partialFingerprints"]["finding/v1"]
    by_uri = {r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]: r for r in one_run["results"]}
    assert by_uri["a%20b.py"]["locations"][0]["physicalLocation"]["region"]["startLine"] == 3
    suppressed = [result for result in one_run["results"] if "suppressions" in result]
    assert [r["suppressions"][0]["justification"] for r in suppressed] == ["until the image is renewed"]
    (invocation,) = one_run["invocations"]
    assert invocation["executionSuccessful"] and invocation["exitCode"] == 1


PROGRAM = """
    import pulumi_aws as aws

    aws.ec2.Instance("open", ami="ami-1", instance_type="t3.small")
"""


def test_a_program_is_judged_and_its_line_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_program(tmp_path, PROGRAM)
    settings(tmp_path / "policy.yaml")  # beside Pulumi.yaml: taken without being asked for
    code, text = run(capsys, "text", Request(program=folder))
    assert code == 1
    place = f"{folder}/__main__.py:3: {INSTANCE}::open metadataOptions.httpTokens"
    assert f'{place}: found nothing; allowed: "required"' in text


def test_the_config_of_the_stack_comes_before_that_of_the_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_program(tmp_path, PROGRAM)
    settings(tmp_path / "policy.yaml")
    (tmp_path / "policy-dev.yaml").write_text(yaml.safe_dump({"colour": "red"}))
    code, text = run(capsys, "text", Request(program=folder))
    assert code == 2 and "policy-dev.yaml" in text


def test_a_gap_that_may_hide_a_violation_ends_with_2_and_the_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = PROGRAM + "    aws.ec2.Eip('ip', opts=None, tags={'a': 1})\n"
    folder = write_program(tmp_path, source)
    settings(tmp_path / "policy.yaml")
    code, text = run(capsys, "json", Request(program=folder, stack="dev"))
    found = json.loads(text)
    assert code == 2 and len(found["findings"]) == 1
    (gap,) = found["not_judged"]
    assert gap["blocking"] and "tags.a: found number 1; allowed: string" in gap["reason"]


def test_a_program_that_fails_is_2_with_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_program(tmp_path, "raise ValueError('no such zone')")
    code, text = run(capsys, "text", Request(program=folder))
    assert code == 2 and text.startswith("mailinfra: the program failed: ValueError: no such zone\n")


def test_the_zones_are_the_fleets_where_the_config_has_none(tmp_path: Path) -> None:
    fleet = {
        "config": {
            **STACK,
            "mailinfra:fleet": yaml.safe_load(Path("stacks/Pulumi.dev.yaml").read_text())["config"][
                "mailinfra:fleet"
            ],
        }
    }
    found = checking._config(None, None, fleet["config"])
    assert found.zones.keys() == fleet["config"]["mailinfra:fleet"]["zones"].keys()
    own = {"zones": {"mine": {"countries": ["DE"]}}}
    assert list(checking._config(None, own, fleet["config"]).zones) == ["mine"]


def test_the_command_line_ends_with_the_checks_code(tmp_path: Path, one: Path) -> None:
    config = settings(tmp_path / "c.yaml")
    done = CliRunner().invoke(
        cli.app, ["check", "--file", str(one), "--config", str(config), "--format", "json"]
    )
    assert done.exit_code == 1 and len(json.loads(done.stdout)["findings"]) == 1
    done = CliRunner().invoke(cli.app, ["check", "--file", str(tmp_path / "none")])
    assert done.exit_code == 2
