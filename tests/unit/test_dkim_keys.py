"""The life of DKIM keys: no step leaves mail that cannot be verified."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.dkim.keys import Life, check_change, next_keys
from mailinfra.fleet import Dkim, DkimKey, KeyStage

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TTL = timedelta(hours=1)
DAY = timedelta(days=1)


def dkim(**stages: str) -> Dkim:
    """A declaration of keys: `_1="signing"`."""
    keys = tuple(DkimKey(serial=name[1:], stage=KeyStage(stage)) for name, stage in stages.items())
    return Dkim(keys=keys, rotation_days=180, drain_days=7)


def problems(old: Dkim, new: Dkim, **lives: Life) -> list[str]:
    return [str(found) for found in check_change(old, new, {k[1:]: v for k, v in lives.items()}, NOW, TTL)]


@pytest.mark.parametrize(
    ("old", "new", "lives"),
    [
        (dkim(_1="signing"), dkim(_1="signing"), {}),
        (dkim(_1="signing"), dkim(_1="signing", _2="generated"), {}),
        (dkim(_1="signing", _2="generated"), dkim(_1="signing", _2="published"), {}),
        (dkim(_1="signing", _2="generated"), dkim(_1="signing"), {}),
        (
            dkim(_1="signing", _2="published"),
            dkim(_1="published", _2="signing"),
            {"_2": Life(seen=NOW - TTL)},
        ),
        (
            dkim(_1="published", _2="signing"),
            dkim(_1="retired", _2="signing"),
            {"_1": Life(began=NOW - 200 * DAY, ended=NOW - 7 * DAY)},
        ),
        (dkim(_1="retired", _2="signing"), dkim(_2="signing"), {}),
        (dkim(_1="signing", _2="published"), dkim(_1="signing", _2="retired"), {}),
    ],
)
def test_safe_steps(old: Dkim, new: Dkim, lives: dict[str, Life]) -> None:
    assert problems(old, new, **lives) == []


@pytest.mark.parametrize(
    ("old", "new", "lives", "problem"),
    [
        (
            dkim(_1="published", _2="signing"),
            dkim(_2="signing"),
            {},
            "serial 1 gone while published; allowed: retired first",
        ),
        (
            dkim(_1="signing"),
            dkim(_1="signing", _2="published"),
            {},
            "published for a new serial; allowed: generated",
        ),
        (
            dkim(_1="signing", _2="generated"),
            dkim(_1="published", _2="signing"),
            {},
            "dkim.keys[1].stage: found signing after generated; allowed: generated or published",
        ),
        (dkim(_1="signing"), dkim(_1="retired"), {}, "retired after signing; allowed: signing or published"),
        (dkim(_1="retired"), dkim(_1="signing"), {}, "signing after retired; allowed: retired"),
        (
            dkim(_1="signing", _2="published"),
            dkim(_1="published", _2="signing"),
            {},
            "seen everywhere since never; allowed: signing once it is seen for 1:00:00",
        ),
        (
            dkim(_1="signing", _2="published"),
            dkim(_1="published", _2="signing"),
            {"_2": Life(seen=NOW - TTL + timedelta(seconds=1))},
            "signing once it is seen for 1:00:00",
        ),
        (
            dkim(_1="published", _2="signing"),
            dkim(_1="retired", _2="signing"),
            {"_1": Life(began=NOW - 200 * DAY, ended=NOW - 6 * DAY)},
            "allowed: retired 7 days after the last signature",
        ),
        (
            dkim(_1="published", _2="signing"),
            dkim(_1="retired", _2="signing"),
            {"_1": Life(began=NOW - 200 * DAY)},
            "an unknown time",
        ),
    ],
)
def test_unsafe_steps(old: Dkim, new: Dkim, lives: dict[str, Life], problem: str) -> None:
    (found,) = problems(old, new, **lives)
    assert problem in found


def test_serials_of_a_schedule_are_numbers() -> None:
    declared = Dkim(keys=(DkimKey(serial="spring"),))
    with pytest.raises(ValueError, match="found serials spring; allowed for a schedule: numbers"):
        next_keys(declared, {"spring": Life(began=NOW - 181 * DAY)}, NOW, TTL)


@given(st.lists(st.integers(1, 40 * 24), min_size=30, max_size=120), st.integers(0, 48))
def test_a_schedule_run_at_any_times_is_safe_and_gets_on(pauses: list[int], slow_hours: int) -> None:
    """Whenever it is run: each step is allowed, one key signs at a time, and each signing key is published."""
    declared, lives, now = dkim(_1="signing"), {"1": Life(seen=NOW - DAY, began=NOW)}, NOW
    shown: dict[str, datetime] = {}
    for hours in pauses:
        now += timedelta(hours=hours)
        for serial, since in shown.items():
            if serial not in lives and now >= since + timedelta(hours=slow_hours):
                lives[serial] = Life(seen=since + timedelta(hours=slow_hours))
        after = declared.model_copy(update={"keys": next_keys(declared, lives, now, TTL)})
        assert list(check_change(declared, after, lives, now, TTL)) == []
        (signing,) = [key.serial for key in after.keys if key.stage is KeyStage.SIGNING]
        old = {key.serial: key.stage for key in declared.keys}
        for key in after.keys:
            if key.stage is KeyStage.PUBLISHED and old.get(key.serial) is KeyStage.GENERATED:
                shown[key.serial] = now
        if old[signing] is not KeyStage.SIGNING:
            previous = next(serial for serial, stage in old.items() if stage is KeyStage.SIGNING)
            lives[previous] = Life(seen=lives[previous].seen, began=lives[previous].began, ended=now)
            lives[signing] = Life(seen=lives[signing].seen, began=now)
        declared = after
    age = now - (lives[signing].began or now)
    assert age <= timedelta(days=180) + timedelta(hours=4 * max(pauses) + slow_hours + 2)
