"""When schedules are due, and what the daemon's part does with a time."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mailinfra.sandbox.context import Context
from mailinfra.sandbox.control import InvalidParams
from mailinfra.sandbox.schedules import Service, done, last_due


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2030-01-31T{text}Z")


@pytest.mark.parametrize(
    ("start", "hours", "now", "due"),
    [
        ("00:00", 1, "12:34:56", "12:00:00"),
        ("00:00", 1, "12:00:00", "12:00:00"),
        ("09:30", 1, "12:29:59", "11:30:00"),
        ("09:30", 24, "12:29:59", "09:30:00"),
        ("03:00", 6, "20:00:00", "15:00:00"),
    ],
)
def test_the_last_time_that_is_due(start: str, hours: int, now: str, due: str) -> None:
    assert last_due(start, hours, at(now)) == at(due)


def test_before_the_first_time_of_a_day_it_is_the_day_before() -> None:
    assert last_due("09:00", 24, at("08:59:59")) == at("09:00:00") - timedelta(days=1)
    assert last_due("09:00", 6, at("02:59:59")) == at("21:00:00") - timedelta(days=1)


@pytest.mark.parametrize(("start", "hours"), [("24:00", 1), ("9:00", 1), ("00:00", 5), ("00:00", 0)])
def test_other_schedules_are_refused(start: str, hours: int) -> None:
    with pytest.raises(ValueError, match=r"found .*; allowed"):
        last_due(start, hours, at("12:00:00"))


def test_a_rehearsal_of_tomorrow_takes_nothing_from_today() -> None:
    now = datetime.now(UTC)
    assert done(now - timedelta(hours=1)) == (now - timedelta(hours=1)).isoformat()
    assert datetime.fromisoformat(done(now + timedelta(days=1))) < now + timedelta(minutes=1)


def service(**methods: Any) -> Service:
    made = Service()
    made._context = cast(
        Context,
        SimpleNamespace(methods=methods, call=lambda method, **params: methods[method](**params)),
    )
    return made


def test_both_clouds_are_asked_and_one_that_is_not_there_is_not() -> None:
    asked = []

    def run(at: str) -> dict[str, list[str]]:
        asked.append(at)
        return {"made": ["snap-1"], "expired": ["snap-0"]}

    both = service(**{"aws.run_schedules": run, "gcp.run_schedules": run})
    assert both.run("2030-01-31T12:00:00Z") == {"made": ["snap-1"] * 2, "expired": ["snap-0"] * 2}
    assert asked == ["2030-01-31T12:00:00+00:00"] * 2
    assert service().run() == {"made": [], "expired": []}


@pytest.mark.parametrize("text", ["tomorrow", "2030-01-31T12:00:00"])
def test_a_time_needs_its_zone(text: str) -> None:
    with pytest.raises(InvalidParams, match="at: "):
        service().run(text)
