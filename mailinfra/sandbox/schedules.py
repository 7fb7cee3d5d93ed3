"""When the clouds' own schedulers run: the daemon's part that makes and expires snapshots.

The rule, the same for both clouds: a schedule has its times by the clock (UTC), the first at its start time and then
every so many hours. At each of them one snapshot of each volume is made, so the first comes within the first interval
of the policy's life, as in the clouds. A time at which the sandbox did not run is not made up for, but for the last
one. What is older than the schedule keeps goes at the same occasion.
"""

import logging
import re
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from mailinfra.sandbox.context import Context, Method
from mailinfra.sandbox.control import InvalidParams

LOOK_SECONDS = 20.0
"""How often the clock is looked at."""
CLOUDS = ("aws", "gcp")
_log = logging.getLogger(__name__)


def last_due(start: str, hours: int, at: datetime) -> datetime:
    """The last time of a schedule that is not after `at`: it runs daily at `start` (`HH:MM`, UTC), and every so many
    hours after it until the next day's. Raises ValueError for another start or no whole number of times a day."""
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", start):
        raise ValueError(f"start time: found {start!r}; allowed: HH:MM, UTC")
    if hours < 1 or 24 % hours:
        raise ValueError(f"hours: found {hours}; allowed: 1, 2, 3, 4, 6, 8, 12 and 24")
    hour, minute = map(int, start.split(":"))
    first = at.astimezone(UTC).replace(hour=hour, minute=minute, second=0, microsecond=0)
    if first > at:
        first -= timedelta(days=1)
    return first + (at - first) // timedelta(hours=hours) * timedelta(hours=hours)


def done(at: datetime) -> str:
    """What a policy notes when it ran at a time: that time, but never one to come, so that a rehearsal of tomorrow
    does not take away today's snapshots."""
    return min(at, datetime.now(UTC)).astimezone(UTC).isoformat()


class Service:
    """The daemon's part `schedules`."""

    name = "schedules"

    def __init__(self) -> None:
        self._context: Context | None = None
        self._stopping = threading.Event()
        self._running = threading.Lock()

    def start(self, context: Context) -> None:
        """Look at the clock from now on."""
        self._context = context
        threading.Thread(target=self._keep, name="schedules", daemon=True).start()

    def stop(self) -> None:
        """Look no more; what is being made is finished first."""
        self._stopping.set()
        with self._running:
            pass

    def methods(self) -> dict[str, Method]:
        """`schedules.run`."""
        return {"run": self.run}

    def run(self, at: str = "") -> dict[str, list[str]]:
        """Do what is due at a time (RFC 3339; now if none is given): the snapshots `made` and `expired`.

        For tests and rehearsals, which cannot wait: what is made says that it was made then.
        """
        try:
            moment = datetime.fromisoformat(at) if at else datetime.now(UTC)
        except ValueError as error:
            raise InvalidParams(f"at: {error}") from error
        if moment.tzinfo is None:
            raise InvalidParams(
                f"at: found {at!r}; allowed: a time with its zone, such as 2030-01-31T12:00:00Z"
            )
        found: dict[str, list[str]] = {"made": [], "expired": []}
        with self._running:
            for done in self._each(moment):
                for kind, names in done.items():
                    found[kind] += names
        return found

    def _each(self, moment: datetime) -> Iterable[dict[str, Any]]:
        for cloud in CLOUDS:
            if self._context is not None and f"{cloud}.run_schedules" in self._context.methods:
                yield self._context.call(f"{cloud}.run_schedules", at=moment.isoformat())

    def _keep(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.run()
            except Exception:  # the next look may find it mended
                _log.exception("the schedules did not run")
