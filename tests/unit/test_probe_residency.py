"""Tests of mailinfra.probe.residency: any trace is a failure, and so is a search that would not see one."""

from dataclasses import replace
from typing import Any

import pytest

from mailinfra.fleet import Role
from mailinfra.probe import residency, search
from mailinfra.probe.residency import DECOY, QUEUED, Passage
from mailinfra.probe.site import Site
from tests.probe_helpers import Made, planned

WHOLE = planned()
READ = {"seen": 1004.5, "tls": "TLSv1.3", "complete": True, "error": ""}


def passage(site: Site, **changes: Any) -> Passage:
    node, person, _ = residency.pairs(site)[0]
    good = Passage(
        node=node,
        person=person,
        accepted=1000.0,
        read={"imap": dict(READ), "pop3": dict(READ)},
        watch={
            "events": 7,
            "lost": False,
            "hits": {DECOY: ["/a"], QUEUED: ["/b"]},
            "files": {},
            "disks": ["/"],
        },
        hits=[],
        residue={"journal_bytes": 100, "journal": [], "open": 0, "deleted": [], "pid": 1},
        planted=list(search.FORMS),
        has_neighbours=True,
    )
    return replace(good, **changes)


def judged(monkeypatch: pytest.MonkeyPatch, claim: Any, **changes: Any) -> list[bool]:
    site = Made(WHOLE).site()
    monkeypatch.setattr(residency, "passages", lambda _: [passage(site, **changes)])
    return [finding.ok for finding in claim(site)]


def test_every_mx_node_gets_mail_for_a_user_of_another_zone() -> None:
    site = Made(WHOLE).site()
    found = residency.pairs(site)
    assert [node for node, _, _ in found] == [node for node in WHOLE.nodes if Role.MX in node.roles]
    assert all(site.zone(person.home) != site.zone(node.region) for node, person, _ in found)


def test_a_passage_without_a_trace_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(monkeypatch, residency.arrives) == [True, True]
    assert judged(monkeypatch, residency.not_written) == [True]
    assert judged(monkeypatch, residency.search_finds) == [True]


@pytest.mark.parametrize(
    "changes",
    [
        {"hits": ["plain in /var/spool/postfix/incoming/1"]},
        {"watch": {"events": 1, "lost": False, "hits": {"3": ["/var/tmp/x (deleted)"]}}},
        {"watch": {"events": 1, "lost": True, "hits": {}}},
        {"residue": {"journal_bytes": 1, "journal": [0], "deleted": []}},
        {"residue": {"journal_bytes": 1, "journal": [], "deleted": ["17 /tmp/x (deleted)"]}},
    ],
)
def test_any_trace_is_wrong(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    assert judged(monkeypatch, residency.not_written, **changes) == [False]


@pytest.mark.parametrize(
    "changes",
    [
        {"planted": list(search.FORMS)[1:]},
        {"planted": []},
        {"watch": {"events": 1, "lost": False, "hits": {QUEUED: ["/b"]}}},
        {"watch": {"events": 1, "lost": False, "hits": {DECOY: ["/a"]}}},
    ],
)
def test_a_blind_search_is_wrong(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    assert judged(monkeypatch, residency.search_finds, **changes) == [False]


@pytest.mark.parametrize(
    "read",
    [
        {**READ, "complete": False},
        {**READ, "seen": 1000.0 + residency.DELIVERY_SECONDS + 1},
        {"error": "timed out"},
    ],
)
def test_mail_that_comes_late_damaged_or_never_is_wrong(
    monkeypatch: pytest.MonkeyPatch, read: dict[str, Any]
) -> None:
    both = {"imap": dict(READ), "pop3": read}
    assert judged(monkeypatch, residency.arrives, read=both) == [True, False]


def test_nothing_is_claimed_where_residency_is_not_strict() -> None:
    site = Made(planned(residency="relaxed")).site()
    rows = [row for claim in residency.CLAIMS if claim.id != "residency.arrives" for row in claim.rows(site)]
    assert rows == []
