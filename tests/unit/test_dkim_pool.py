"""Retries, deadline and concurrency of HSM calls."""

import asyncio
import threading
import time

import pytest

from mailinfra.dkim.pool import Pool
from mailinfra.dkim.signers import SignError
from tests.dkim_helpers import MemorySigner

DIGEST = b"\1" * 32


def failing(*errors: Exception) -> MemorySigner:
    """Return a signer that fails with these errors first."""
    left = list(errors)

    def before() -> None:
        if left:
            raise left.pop(0)

    return MemorySigner(before)


def test_a_call_that_fails_once_is_tried_again() -> None:
    signer = failing(SignError("throttled"), SignError("throttled"))
    signature = asyncio.run(Pool(signer, 4, 10).sign(DIGEST))
    assert signature == MemorySigner().sign(DIGEST)
    assert signer.digests == [DIGEST] * 3


def test_what_cannot_get_better_is_not_tried_again() -> None:
    signer = failing(SignError("no such key", again=False))
    with pytest.raises(SignError, match="no such key"):
        asyncio.run(Pool(signer, 4, 10).sign(DIGEST))
    assert len(signer.digests) == 1


def test_the_deadline_ends_it_and_names_the_last_error() -> None:
    start = time.monotonic()
    signer = failing(*[SignError("HSM is down")] * 1000)
    with pytest.raises(SignError, match=r"given up after 0\.3 s: HSM is down") as caught:
        asyncio.run(Pool(signer, 4, 0.3).sign(DIGEST))
    assert not caught.value.again
    assert 0.25 < time.monotonic() - start < 2
    assert 2 <= len(signer.digests) < 100


def test_the_deadline_ends_a_call_that_hangs() -> None:
    free = threading.Event()
    pool = Pool(MemorySigner(lambda: void(free.wait())), 1, 0.2)

    async def both() -> list[BaseException | bytes]:
        return await asyncio.gather(pool.sign(DIGEST), pool.sign(DIGEST), return_exceptions=True)

    results = asyncio.run(both())
    free.set()
    assert [str(result) for result in results] == ["given up after 0.2 s: no answer"] * 2


def void(_: object) -> None:
    """Drop a value."""


def test_calls_run_beside_each_other_up_to_the_limit() -> None:
    together = threading.Barrier(8)
    running, most, lock = 0, 0, threading.Lock()

    def before() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(10)
        with lock:
            running -= 1

    async def many(pool: Pool) -> None:
        await asyncio.gather(*(pool.sign(DIGEST) for _ in range(16)))

    asyncio.run(many(Pool(MemorySigner(before), 8, 20)))
    assert most == 8


def test_a_programming_error_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(Pool(failing(ZeroDivisionError()), 1, 5).sign(DIGEST))


def test_the_time_of_calls_is_kept() -> None:
    pool = Pool(MemorySigner(lambda: time.sleep(0.02)), 1, 5)
    asyncio.run(pool.sign(DIGEST))
    assert pool.seconds[0] >= 0.02
