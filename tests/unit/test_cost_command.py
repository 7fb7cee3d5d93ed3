"""`mailinfra cost`: what is asked, and the estimate as text, JSON and CSV."""

import csv
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mailinfra import cli
from mailinfra.cost import LEFT_OUT
from mailinfra.cost.command import Request, estimates
from mailinfra.cost.report import CSV_COLUMNS
from mailinfra.prices import AS_OF
from tests.fleets import ROOT


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, ["cost", "--project", str(ROOT), *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr("sys.argv", ["mailinfra", "cost", "--project", str(ROOT), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 1 and not said.out and "Traceback" not in said.err
    return said.err


def lines(text: str, first: str) -> list[list[str]]:
    """The cells of the lines that begin with a word."""
    return [line.split() for line in text.splitlines() if line.split()[:1] == [first]]


def test_the_text_says_each_region_each_account_and_the_total() -> None:
    text = run("--stack", "prod")
    (found,) = estimates(Request(("prod",), project=ROOT))
    assert "prod: 84 nodes, 4,500 mailboxes" in text
    for region, total in found.by(lambda item: item.region).items():
        if region not in ("global", "us-east-1"):
            assert [cells[-1] for cells in lines(text, region)] == [f"{total.total:,.2f}"]
    ((*_, standing, by_use, total_usd),) = lines(text, "all")
    assert (standing, by_use, total_usd) == (
        f"{found.sum.standing:,.2f}",
        f"{found.sum.by_use:,.2f}",
        f"{found.sum.total:,.2f}",
    )
    assert [cells[-1] for cells in lines(text, "AWS")] == [
        f"{found.by(lambda item: item.account)['AWS'].total:,.2f}"
    ]
    assert AS_OF.isoformat() in text
    assert " ".join("; ".join(LEFT_OUT).split()) in " ".join(text.split())
    assert "side by side" not in text
    shares = {
        name: f"{part.total / found.sum.total:.0%} {name}"
        for name, part in found.by(lambda item: item.origin).items()
    }
    assert set(shares) == {"published", "quoted", "memory"}
    assert all(share in " ".join(text.split()) for share in shares.values())


def test_stacks_stand_side_by_side_and_the_pilot_light_at_full_size_too() -> None:
    text = run("--stack", "prod", "--stack", "dr", "--like", "prod")
    table = text[text.index("side by side") :]
    prod, dr, full = estimates(Request(("prod", "dr"), like="prod", project=ROOT))
    assert [found.name for found in (prod, dr, full)] == ["prod", "dr", "dr like prod"]
    assert lines(table, "prod") == [["prod", "84", "4,500", *_sums(prod)]]
    assert lines(table, "dr") == [
        ["dr", "6", "15", *_sums(dr)],
        ["dr", "like", "prod", "84", "4,500", *_sums(full)],
    ]


def _sums(found: Any) -> list[str]:
    return [f"{amount:,.2f}" for amount in (found.sum.standing, found.sum.by_use, found.sum.total)]


def test_a_stack_that_is_named_twice_is_shown_once() -> None:
    assert len(estimates(Request(("dr", "dr"), project=ROOT))) == 1


def test_every_item_is_printed_on_demand() -> None:
    assert "aws.t3.medium" not in run("--stack", "prod")
    assert "aws.t3.medium" in run("--stack", "prod", "--items")


def test_the_json_has_every_item_and_sums_that_agree() -> None:
    document = json.loads(run("--stack", "dr", "--stack", "sandbox", "--format", "json"))
    assert document["as_of"] == AS_OF.isoformat() and document["currency"] == "USD"
    assert document["left_out"] == list(LEFT_OUT) and document["hours_a_month"] == 730
    assert [stack["stack"] for stack in document["stacks"]] == ["dr", "sandbox"]
    for stack in document["stacks"]:
        items = stack["items"]
        assert sum(item["usd_a_month"] for item in items) == pytest.approx(stack["total"])
        assert stack["total"] == pytest.approx(stack["standing"] + stack["by_use"])
        assert stack["complete"] is True and stack["missing"] == []
        for cut, key in (
            ("accounts", "account"),
            ("regions", "region"),
            ("zones", "zone"),
            ("origins", "origin"),
        ):
            by_key: dict[str, float] = defaultdict(float)
            for item in items:
                by_key[item[key]] += item["usd_a_month"]
            assert {row[key]: row["total"] for row in stack[cut]} == pytest.approx(dict(by_key))
        for item in items:
            assert item["usd_a_month"] == pytest.approx(item["quantity"] * item["usd_per_unit"], abs=1e-8)
            assert item["kind"] in ("standing", "by use")
        assert stack["usage"]["mailboxes"] is None and stack["usage"]["message_kib"] == 75


def test_the_csv_has_every_item() -> None:
    rows = list(csv.DictReader(io.StringIO(run("--stack", "dr", "--format", "csv"))))
    (found,) = estimates(Request(("dr",), project=ROOT))
    assert tuple(rows[0]) == CSV_COLUMNS and len(rows) == len(found.items)
    assert sum(float(row["usd_a_month"]) for row in rows) == pytest.approx(float(found.sum.total), abs=0.01)
    assert {row["stack"] for row in rows} == {"dr"}


def test_use_is_changed_on_the_command_line() -> None:
    text = run(
        "--stack",
        "dr",
        "--mailboxes",
        "30",
        "--messages-per-day",
        "0",
        "--assume",
        "sends-per-day=0",
        "--format",
        "json",
    )
    (stack,) = json.loads(text)["stacks"]
    assert stack["mailboxes"] == 30 and stack["usage"]["sends_per_day"] == 0
    assert not [item for item in stack["items"] if item["what"].startswith(("mail to", "DKIM signatures"))]


def _moved(folder: Path) -> Path:
    """A project whose dev stack lies in a region that the table has no machine prices for."""
    (folder / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
    text = (ROOT / "stacks" / "Pulumi.dev.yaml").read_text()
    text = text.replace("eu-central-1", "eu-west-3").replace("[DE, NL]", "[FR, NL]")
    (folder / "Pulumi.dev.yaml").write_text(text)
    return folder


def test_what_has_no_price_is_said_in_every_form(tmp_path: Path) -> None:
    project = str(_moved(tmp_path))
    text = run("--stack", "dev", "--project", project, "--items")
    assert "no price for aws.t3.micro in eu-west-3" in text
    assert lines(text, "all")[0][-2:] == ["+", "?"]
    assert lines(text, "europe-west4")[0][-1] != "?"
    (stack,) = json.loads(run("--stack", "dev", "--project", project, "--format", "json"))["stacks"]
    assert stack["complete"] is False and "no price for aws.gp3 in eu-west-3" in stack["missing"]
    assert {row["region"]: row["complete"] for row in stack["regions"]}["eu-west-3"] is False
    assert [item["usd_a_month"] for item in stack["items"] if item["sku"] == "aws.gp3"] == [None] * 3
    rows = list(csv.DictReader(io.StringIO(run("--stack", "dev", "--project", project, "--format", "csv"))))
    assert {row["usd_a_month"] for row in rows if row["sku"] == "aws.gp3"} == {""}


def test_own_prices_make_it_complete(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    names = ["t3.micro", "t3.small", "gp3", "snapshot", "s3", "s3.put", "s3.get", "internet"]
    own.write_text(json.dumps({"prices": {f"aws.{name}": {"eu-west-3": "0.1"} for name in names}}))
    (found,) = estimates(Request(("dev",), project=_moved(tmp_path), prices=own))
    assert found.sum.complete


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stack", "nope"), "allowed: dev, dr, prod, sandbox"),
        (("--like", "nope"), "allowed: dev, dr, prod, sandbox"),
        (("--format", "xml"), "allowed: text, json, csv"),
        (("--mailboxes", "some"), "mailboxes: found 'some'; allowed: a whole number"),
        (("--message-kib", "-1"), "message_kib"),
        (("--assume", "fil=1"), "perhaps fill"),
        (("--assume", "fill"), "NAME=NUMBER"),
        (("--prices", "none.yaml"), "none.yaml"),
    ],
)
def test_what_is_not_good_is_said_in_words(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(monkeypatch, capsys, *arguments)


def test_markup_in_a_name_is_printed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
    (tmp_path / "Pulumi.[red]x.yaml").write_text((ROOT / "stacks" / "Pulumi.dev.yaml").read_text())
    assert "[red]x: 3 nodes" in run("--stack", "[red]x", "--project", str(tmp_path))
