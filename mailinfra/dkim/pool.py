"""Calls to one HSM: concurrent, bounded, tried again with jitter until a deadline."""

import asyncio
import random
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from mailinfra.dkim.signers import Signer, SignError

PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Bounds of the first pause and of the longest, in seconds; each is drawn from 0 to its bound."""


class Pool:
    """Signs in threads of its own, so that a slow or dead HSM holds up nobody who does not need it.

    `concurrency` is the most calls at a time, `deadline` the seconds that all tries of a signature may take.
    """

    def __init__(self, signer: Signer, concurrency: int, deadline: float) -> None:
        self.signer, self.deadline = signer, deadline
        self.threads = ThreadPoolExecutor(concurrency, "hsm")
        self.seconds = deque[float](maxlen=4096)
        """How long the last calls took."""

    def call(self, digest: bytes) -> bytes:
        """Ask the HSM once."""
        start = time.perf_counter()
        try:
            return self.signer.sign(digest)
        finally:
            self.seconds.append(time.perf_counter() - start)

    async def sign(self, digest: bytes) -> bytes:
        """Return the signature over a SHA-256 digest, or raise `SignError` when the deadline is over."""
        loop = asyncio.get_running_loop()
        pause, last = PAUSE, "no answer"
        try:
            async with asyncio.timeout(self.deadline):
                while True:
                    try:
                        return await loop.run_in_executor(self.threads, self.call, digest)
                    except SignError as error:
                        if not error.again:
                            raise
                        last = str(error)
                    await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - jitter is no secret
                    pause = min(2 * pause, LONGEST_PAUSE)
        except TimeoutError:
            raise SignError(f"given up after {self.deadline:g} s: {last}", again=False) from None
