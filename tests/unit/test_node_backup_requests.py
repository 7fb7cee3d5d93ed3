"""Requests and vaults as nodes read them: strictly, whoever wrote them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.node.backup.requests import (
    SIZE_LIMIT,
    Progress,
    Request,
    dump,
    dump_progress,
    parse,
    parse_progress,
)
from mailinfra.node.backup.vault import from_json
from mailinfra.node.backup.vault import parse as parse_vault
from tests.backup_helpers import VAULT

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def request(**changes: Any) -> Request:
    known: dict[str, Any] = {
        "id": "0123456789abcdef",
        "created": NOW,
        "at": NOW,
        "source": "eu-central-1",
        "target": "europe-west3",
        "apply": True,
        "mailbox": "anna@example.test",
    }
    return Request(**{**known, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"message": "<a.b@c>"},
        {"mailbox": "", "domain": "example.test"},
        {"mailbox": "", "everything": True},
    ],
)
def test_what_is_written_is_read(changes: dict[str, Any]) -> None:
    assert parse(dump(request(**changes))) == request(**changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "../../x"),
        ("id", "0123456789ABCDEF"),
        ("created", "now"),
        ("at", 5),
        ("source", "eu central"),
        ("source", "../eu"),
        ("target", ""),
        ("apply", "yes"),
        ("mailbox", "anna@example.test\n-A"),
        ("mailbox", "../../etc@example.test"),
        ("mailbox", "-A"),
        ("mailbox", ""),
        ("domain", "example.test"),
        ("everything", True),
        ("everything", 1),
        ("message", "no angles"),
        ("message", "<a b>"),
        ("surprise", 1),
    ],
)
def test_what_is_wrong_is_refused(field: str, value: Any) -> None:
    known = json.loads(dump(request()))
    with pytest.raises(ValueError, match=r"request|time data"):
        parse(json.dumps({**known, field: value}).encode())


def test_what_is_too_large_or_no_object_is_refused() -> None:
    for data in (b"[]", b"{", b"", b" " * (SIZE_LIMIT + 1), b"\xff"):
        with pytest.raises(ValueError, match=r"request|Expecting|utf|codec"):
            parse(data)


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.booleans() | st.text(max_size=9), st.lists).map(json.dumps).map(str.encode)
)
def test_nothing_that_is_hostile_does_more_than_be_refused(data: bytes) -> None:
    for read in (parse, parse_progress, parse_vault):
        with pytest.raises(ValueError):
            read(data)


@pytest.mark.parametrize(
    ("user", "mailbox", "domain", "everything", "covered"),
    [
        ("anna@example.test", "anna@example.test", "", False, True),
        ("anna@example.test", "ben@example.test", "", False, False),
        ("anna@example.test", "", "example.test", False, True),
        ("anna@my.example.test", "", "example.test", False, False),
        ("anna@notexample.test", "", "example.test", False, False),
        ("anna@example.test", "", "", True, True),
    ],
)
def test_a_scope_covers_what_it_says(
    user: str, mailbox: str, domain: str, everything: bool, covered: bool
) -> None:
    assert request(mailbox=mailbox, domain=domain, everything=everything).covers(user) is covered


def test_progress_is_read_as_it_was_written() -> None:
    progress = Progress("0123456789abcdef", "store-1.eu-central-1.nodes.example.test", "done", 2, 2, 9, 3, 3)
    assert parse_progress(dump_progress(progress)) == progress
    with pytest.raises(ValueError, match="state"):
        parse_progress(dump_progress(Progress("x", "y", "dancing")))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cloud", "azure"),
        ("bucket", ""),
        ("bucket", "a b"),
        ("key", None),
        ("access", {"role": "r"}),
        ("access", []),
        ("endpoints", {"kms": "http://plain.test"}),
        ("endpoints", {"kms": "https://x.test/path"}),
        ("rpo_minutes", 0),
        ("rpo_minutes", True),
        ("verify_hours", "24"),
    ],
)
def test_a_vault_that_is_wrong_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match="vault"):
        from_json({**VAULT, field: value})
