"""What is synced next."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from mailinfra.node.replica.schedule import (
    GAP_SECONDS,
    INCOMPLETE,
    PARALLEL,
    STATE_BYTES,
    SWEEP_SECONDS,
    THOROUGH,
    Job,
    Schedule,
)

HOST, OTHER = "store-1.west.example.test", "store-1.north.example.test"
ONE, TWO = "1" * 32, "2" * 32


def never(user: str) -> float:
    return 0.0


def made(
    *users: str, newest: Callable[[str], float] = never, reached: bool = True, swept: bool = False
) -> Schedule:
    """A schedule at time 0 whose users' replicas are all on one host."""
    schedule = Schedule(spread=lambda: 0.5)
    schedule.users(dict.fromkeys(users, HOST), newest)
    if reached:
        schedule.reached(HOST, ONE, 0, 10)
    while swept and (job := schedule.next(0)):
        schedule.done(job, 0, f"state-{job.user}", 0)
    return schedule


def test_every_user_is_compared_as_a_whole_first_the_last_changed_before_the_others() -> None:
    schedule = made("a", "b", "c", newest={"a": 5.0, "b": 7.0, "c": 0.0}.__getitem__)
    assert schedule.report(0)["unchecked"] == 3
    found = []
    while job := schedule.next(0):
        assert (job.state, job.epoch, job.one_way) == ("", ONE, False)
        found.append(job.user)
        schedule.done(job, 0, "s", 0)
    assert found == ["b", "a", "c"]
    assert schedule.report(0) == {
        "users": 3, "pending": 0, "lag_seconds": 0.0, "unchecked": 0, "failing": 0, "unreachable": {}, "last_error": "",
    }  # fmt: skip


def test_a_change_is_synced_with_the_state_of_the_last_sync() -> None:
    schedule = made("a", "b", swept=True)
    schedule.changed("a", 9.5)
    assert schedule.report(10)["lag_seconds"] == 0.5
    job = schedule.next(10)
    assert job == Job("a", HOST, ONE, "state-a", False)
    assert schedule.report(11)["lag_seconds"] == 1.5  # not there before the sync has ended
    schedule.done(job, 0, "newer", 12)
    assert schedule.report(12)["pending"] == 0
    schedule.changed("a", 13)
    assert schedule.next(13) == Job("a", HOST, ONE, "newer", False)


def test_a_burst_goes_in_one_sync_after_a_pause() -> None:
    schedule = made("a", swept=True)
    schedule.changed("a", 10)
    first = schedule.next(10)
    assert first
    for at in (10.1, 10.2, 10.3):
        schedule.changed("a", at)
        assert schedule.next(at) is None  # one sync of a user at a time
    schedule.done(first, 0, "s2", 10.5)
    assert schedule.next(10.5 + GAP_SECONDS / 2) is None
    assert schedule.report(11)["lag_seconds"] == 0.9
    second = schedule.next(10.5 + GAP_SECONDS)
    assert second and second.state == "s2"
    schedule.done(second, 0, "s3", 12)
    assert schedule.next(20) is None


def test_a_sweep_comes_once_an_hour_and_behind_changes() -> None:
    schedule = made("a", "b", "c", swept=True)
    assert schedule.next(SWEEP_SECONDS - 1) is None
    schedule.changed("c", SWEEP_SECONDS)
    first, second = schedule.next(SWEEP_SECONDS), schedule.next(SWEEP_SECONDS)
    assert first and (first.user, first.state) == ("c", "state-c")
    assert second and second.state == ""
    schedule.done(second, 0, "s", SWEEP_SECONDS)
    third = schedule.next(SWEEP_SECONDS)
    assert third and {second.user, third.user} == {"a", "b"}
    assert schedule.next(SWEEP_SECONDS) is None  # c is being synced; its sweep waits


def test_the_sweep_is_spread() -> None:
    values = iter([0.0, 0.25, 0.5, 1.0])
    schedule = Schedule(spread=lambda: next(values))
    schedule.users(dict.fromkeys("abcd", HOST), never)
    schedule.reached(HOST, ONE, 0, 10)
    while job := schedule.next(0):
        schedule.done(job, 0, "s", 0)
    assert sorted(box.due for box in schedule.boxes.values()) == pytest.approx([3240, 3420, 3600, 3960])


def test_a_bounded_number_at_a_time_and_room_for_changes_beside_long_syncs() -> None:
    schedule = made(*"abcdefgh")
    long = [schedule.next(0) for _ in range(THOROUGH + 1)]
    assert [job is None for job in long] == [False] * THOROUGH + [True]
    for job in long[:THOROUGH]:
        assert job
        schedule.done(job, 0, "s", 0)
    while job := schedule.next(0):
        schedule.done(job, 0, "s", 0)
    for user in "abcdefgh":
        schedule.changed(user, 5)
    short = [schedule.next(5) for _ in range(PARALLEL + 1)]
    assert [job is None for job in short] == [False] * PARALLEL + [True]


def test_nothing_is_tried_while_the_peer_is_away_and_all_of_it_when_it_is_back() -> None:
    schedule = made("a", "b", swept=True)
    assert schedule.to_ask(9) == []
    assert schedule.to_ask(10) == [HOST]
    schedule.missed(HOST, "unreachable: no route", 10)
    schedule.changed("a", 11)
    assert schedule.next(12) is None
    told = schedule.report(20)
    assert (told["lag_seconds"], told["unreachable"]) == (9.0, {HOST: "unreachable: no route"})
    assert told["last_error"] == f"{HOST}: unreachable: no route"
    asked = [at for at in range(10, 400) if schedule.to_ask(at) and not schedule.missed(HOST, "x", at)]
    assert asked[:5] == [11, 13, 17, 25, 41]
    assert {b - a for a, b in pairwise(asked[6:])} == {60}  # and never longer
    schedule.reached(HOST, ONE, 500, 10)
    job = schedule.next(500)
    assert job and (job.user, job.state) == ("a", "state-a")
    assert schedule.report(500)["unreachable"] == {}
    assert schedule.report(500)["unchecked"] == 0


def test_a_peer_that_began_anew_is_believed_nothing() -> None:
    schedule = made("a", "b", swept=True)
    schedule.changed("a", 1)
    schedule.reached(HOST, TWO, 20, 10)
    assert schedule.report(20)["unchecked"] == 2
    jobs = [schedule.next(20), schedule.next(20)]
    assert [job and (job.user, job.state, job.epoch) for job in jobs] == [("a", "", TWO), ("b", "", TWO)]
    assert schedule.report(20)["unchecked"] == 2
    for job in jobs:
        assert job
        schedule.done(job, 0, "s", 21)
    assert schedule.report(21)["unchecked"] == 0


def test_a_sync_that_fails_is_tried_again_later_and_later_without_the_state() -> None:
    schedule = made("a", "b", swept=True)
    schedule.changed("a", 100)
    now, pauses = 100.0, []
    for _ in range(10):
        job = schedule.next(now)
        assert job and job.user == "a" and job.state == ("state-a" if not pauses else "")
        schedule.done(job, 75, "", now)
        assert schedule.to_ask(now) == [HOST]  # is it the peer?
        schedule.reached(HOST, ONE, now, 10)
        end = now
        while (again := schedule.boxes["a"].wait) > end:
            assert schedule.next(again - 0.01) is None
            end = again
        pauses.append(end - now)
        now = end
    assert pauses[:4] == [2, 4, 8, 16]
    assert max(pauses) == 300
    told = schedule.report(now)
    assert (told["failing"], told["pending"], told["lag_seconds"]) == (1, 1, now - 100)
    assert told["last_error"] == f"{HOST}: dsync ended with exit code 75"
    job = schedule.next(now)
    assert job
    schedule.done(job, 0, "s", now)
    assert (schedule.report(now)["failing"], schedule.report(now)["pending"]) == (0, 0)


def test_a_failed_sweep_is_tried_again() -> None:
    schedule = made("a")
    job = schedule.next(0)
    assert job
    schedule.done(job, 75, "", 0)
    assert schedule.report(0)["unchecked"] == 1
    assert schedule.next(1) is None
    again = schedule.next(2)
    assert again and again.user == "a"


def test_what_dsync_cannot_merge_goes_one_way_once_and_both_ways_after() -> None:
    schedule = made("a", swept=True)
    schedule.changed("a", 10)
    seen = []
    now = 10.0
    for code in (INCOMPLETE, INCOMPLETE, 0, 0):
        job = schedule.next(now)
        assert job
        seen.append((job.state, job.one_way))
        schedule.done(job, code, "s" if code == 0 else "", now)
        now += GAP_SECONDS
    assert seen == [("state-a", False), ("", False), ("", True), ("", False)]
    assert schedule.report(now)["pending"] == 0
    assert schedule.next(now) is None


def test_a_state_too_long_for_an_argument_is_forgotten() -> None:
    schedule = made("a", swept=True)
    schedule.changed("a", 10)
    job = schedule.next(10)
    assert job
    schedule.done(job, 0, "s" * (STATE_BYTES + 1), 10)
    schedule.changed("a", 20)
    job = schedule.next(20)
    assert job and job.state == ""


def test_users_come_and_go_and_change_their_replicas() -> None:
    schedule = made("a", "b", "c", swept=True)
    schedule.changed("a", 1)
    schedule.changed("b", 1)
    running = schedule.next(1)
    assert running and running.user == "a"
    schedule.users({"b": OTHER, "c": HOST, "d": HOST}, never)
    schedule.done(running, 0, "s", 2)  # of one who is gone
    schedule.changed("a", 3)
    schedule.changed("nobody", 3)
    fresh = schedule.next(3)
    assert fresh and (fresh.user, fresh.host, fresh.state) == ("d", HOST, "")
    schedule.reached(OTHER, TWO, 3, 10)
    moved = schedule.next(3)
    assert moved and (moved.user, moved.host, moved.state, moved.epoch) == ("b", OTHER, "", TWO)
    schedule.users({"b": OTHER}, never)
    assert schedule.to_ask(1000) == [OTHER]
    schedule.done(moved, 0, "s", 4)
    schedule.done(fresh, 0, "s", 4)
    assert schedule.report(4) == {
        "users": 1, "pending": 0, "lag_seconds": 0.0, "unchecked": 0, "failing": 0, "unreachable": {}, "last_error": "",
    }  # fmt: skip
    assert (schedule.running, schedule.thorough) == (0, 0)


def test_a_sync_to_the_old_replica_says_nothing_of_the_new_one() -> None:
    schedule = made("a")
    old = schedule.next(0)
    assert old
    schedule.users({"a": OTHER}, never)
    schedule.reached(OTHER, ONE, 0, 10)
    assert schedule.next(0) is None  # not two syncs of one user at a time
    schedule.done(old, 0, "s", 1)
    assert schedule.report(1)["unchecked"] == 1
    job = schedule.next(1 + GAP_SECONDS)
    assert job and (job.host, job.state) == (OTHER, "")
