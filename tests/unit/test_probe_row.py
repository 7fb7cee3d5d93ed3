"""Tests of mailinfra.probe.row, report and runner."""

import io
import json
from collections.abc import Iterable
from typing import cast

import pytest
from rich.console import Console

from mailinfra.probe import CLAIMS, as_json, render
from mailinfra.probe.row import Claim, Finding, ProbeError, Row, count
from mailinfra.probe.runner import chosen, measure
from mailinfra.probe.site import Site
from mailinfra.sandbox.paths import SandboxError

NOWHERE = cast(Site, None)


def claim(*findings: Finding, id: str = "a.b") -> Claim:
    return Claim(id, "It holds", ("R01",), lambda site: findings)


def broken(error: Exception) -> Claim:
    def measure(site: Site) -> Iterable[Finding]:
        yield Finding(True, 1, 1, "s")
        raise error

    return Claim("a.broken", "It holds", ("R01",), measure)


def test_a_finding_becomes_a_row_of_its_claim() -> None:
    (row,) = claim(Finding(True, 1.5, 2, "s", "there", "why")).rows(NOWHERE)
    assert row == Row("It holds: there", True, 1.5, 2, "s", "a.b", ("R01",), "why")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ProbeError("no such machine"), "no such machine"), (KeyError("x"), "KeyError: 'x'")],
)
def test_what_cannot_be_measured_is_one_row_that_failed(error: Exception, reason: str) -> None:
    (row,) = broken(error).rows(NOWHERE)
    assert (row.ok, row.measured, row.detail) == (False, "not measured", reason)


def test_a_claim_without_findings_has_failed() -> None:
    (row,) = claim().rows(NOWHERE)
    assert not row.ok


@pytest.mark.parametrize(
    ("good", "of", "wrong", "ok"),
    [(3, 3, (), True), (2, 3, (), False), (0, 0, (), False), (3, 3, ("x",), False)],
)
def test_all_of_at_least_one_must_be_right(good: int, of: int, wrong: tuple[str, ...], ok: bool) -> None:
    assert count(good, of, "things", wrong=wrong).ok is ok


def test_a_long_list_of_reasons_is_cut() -> None:
    assert count(0, 9, "things", wrong=map(str, range(9))).detail == "0; 1; 2; 3; 4; and 4 more"


def test_json_has_the_rows() -> None:
    rows = claim(Finding(True, 3, 3, "hosts"), Finding(False, "none", 1.0, "s")).rows(NOWHERE)
    document = json.loads(as_json(rows))
    assert list(document) == ["rows"]
    first, second = document["rows"]
    assert list(first)[:5] == ["claim", "ok", "measured", "limit", "unit"]
    assert (first["claim"], first["ok"], first["measured"], first["limit"], first["unit"]) == (
        "It holds", True, 3, 3, "hosts",
    )  # fmt: skip
    assert (second["ok"], second["measured"]) == (False, "none")


def test_the_table_says_what_failed_and_why() -> None:
    out = io.StringIO()
    rows = claim(Finding(True, 1, 1, "[s]"), Finding(False, 0.5, 2, "s", "there", "it [was] late")).rows(
        NOWHERE
    )
    render(rows, Console(file=out, width=120))
    text = out.getvalue()
    assert "[s]" in text
    assert "It holds: there (R01): it [was] late" in text
    assert "1 of 2 rows hold" in text


def test_claims_have_ids_of_their_own_and_name_requirements() -> None:
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.requirements
        assert claim.title
        assert "." in claim.id


def test_claims_are_chosen_by_the_beginning_of_their_id() -> None:
    assert chosen(None) == CLAIMS
    assert {claim.id.partition(".")[0] for claim in chosen(["steering", "links.tls"])} == {
        "steering",
        "links",
    }
    with pytest.raises(SandboxError, match=r"found nonsense; allowed: .*steering"):
        chosen(["nonsense"])


def test_every_claim_is_measured_though_others_fail() -> None:
    told: list[str] = []
    claims = [claim(Finding(True, 1, 1, "s"), id=f"a.{n}") for n in range(3)] + [broken(OSError("gone"))]
    found = measure(NOWHERE, claims, told.append)
    assert sorted(found) == ["a.0", "a.1", "a.2", "a.broken"]
    assert told[-1].startswith("4 of 4 claims")
