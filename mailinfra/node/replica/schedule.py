"""What to sync next: changes first, the sweep over all users behind them. Knows no clock, no process and no disk."""

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

GAP_SECONDS = 1.0
"""Between two syncs of one user: what comes in a burst goes in one."""
SWEEP_SECONDS = 3600.0
"""Between two syncs of a user that believe nothing of what was remembered."""
LONGEST_WAIT = 300.0
"""The longest pause after failures with one user."""
PARALLEL, THOROUGH = 4, 2
"""Syncs at a time: altogether, and of those that compare whole mailboxes, which may take long."""
STATE_BYTES = 100_000
"""The longest state of dsync's that is remembered: it becomes an argument (Linux takes 128 KiB)."""
INCOMPLETE = 2
"""dsync's exit code for: something changed meanwhile, run it again."""


@dataclass
class Peer:
    """A node that keeps replicas. `epoch` is empty while it is not reached; `ask` is when to ask for it again."""

    epoch: str = ""
    ask: float = 0.0
    failures: int = 0
    error: str = ""
    sweep: list[tuple[float, str]] = field(default_factory=list)
    """A heap of when each user's next sweep is due."""


@dataclass
class Mailbox:
    """A user whose mail is followed. `since` is the time of the oldest change that is not on the replica yet (None:
    none is known); `state` is dsync's, good under `epoch` only."""

    host: str
    since: float | None = None
    syncing: float | None = None
    """`since` of the sync under way."""
    running: bool = False
    wait: float = 0.0
    due: float = 0.0
    state: str = ""
    epoch: str = ""
    """The replica's epoch under which the whole mailbox was compared last; empty when never."""
    failures: int = 0
    one_way: bool = False
    """The next sync goes towards the replica only: dsync cannot merge two INBOXes that were made apart (it gives each
    the other's GUID, for ever), but after one sync in one direction it can."""


@dataclass(frozen=True)
class Job:
    """One sync. `state` is empty for one that compares everything."""

    user: str
    host: str
    epoch: str
    state: str
    one_way: bool


class Schedule:
    """See the module. Times are seconds of one clock, whichever the caller's is."""

    def __init__(self, spread: Callable[[], float] = random.random) -> None:
        self.boxes: dict[str, Mailbox] = {}
        self.peers: dict[str, Peer] = {}
        self.dirty: dict[str, None] = {}
        """The users with a `since`, in the order in which their changes were seen."""
        self.spread = spread
        self.thorough = self.running = 0
        self.error = ""

    def users(self, followed: Mapping[str, str], newest: Callable[[str], float]) -> None:
        """Take up the users as the directory has them now, with their replicas' hosts. Those whose mail changed last
        (`newest`, seconds) are compared first."""
        for user in self.boxes.keys() - followed.keys():
            del self.boxes[user]
            self.dirty.pop(user, None)
        for user, host in followed.items():
            box = self.boxes.get(user)
            if box is None or box.host != host:
                fresh = Mailbox(host, due=-newest(user))
                if box:
                    fresh.since, fresh.running = box.since, box.running
                self.boxes[user] = fresh
                peer = self.peers.setdefault(host, Peer())
                heapq.heappush(peer.sweep, (fresh.due, user))
        for host in self.peers.keys() - set(followed.values()):
            del self.peers[host]

    def changed(self, user: str, at: float) -> None:
        """A user's mail changed at a time."""
        box = self.boxes.get(user)
        if box and box.since is None:
            box.since = at
            self.dirty[user] = None

    def to_ask(self, now: float) -> list[str]:
        """The peers that should be asked now whether they are there, and for their epochs."""
        return [host for host, peer in self.peers.items() if peer.ask <= now]

    def reached(self, host: str, epoch: str, now: float, every: float) -> None:
        """A peer is there. With another epoch than before, nothing that was remembered of it is believed."""
        peer = self.peers.get(host)
        if peer is None:
            return
        if peer.epoch != epoch:
            peer.sweep = []
            for user, box in self.boxes.items():
                if box.host == host:
                    box.wait = 0.0
                    if box.epoch != epoch:
                        box.due = min(box.due, 0.0)
                    peer.sweep.append((box.due, user))
            heapq.heapify(peer.sweep)
        peer.epoch, peer.ask, peer.failures, peer.error = epoch, now + every, 0, ""

    def missed(self, host: str, error: str, now: float) -> None:
        """A peer is not there, or refuses. It is asked again after 1 to 60 s."""
        if peer := self.peers.get(host):
            peer.epoch, peer.error = "", error
            peer.ask = now + min(2.0**peer.failures, 60.0)
            peer.failures = min(peer.failures + 1, 16)
            self.error = f"{host}: {error}"

    def next(self, now: float) -> Job | None:
        """The sync to begin now, or None."""
        if self.running >= PARALLEL:
            return None
        for user in self.dirty:
            box = self.boxes[user]
            epoch = self._epoch(box, now)
            if epoch and (self._incremental(box, epoch) or self.thorough < THOROUGH):
                return self._begin(user, box, epoch, thorough=not self._incremental(box, epoch))
        return self._sweep(now) if self.thorough < THOROUGH else None

    def done(self, job: Job, code: int, state: str, now: float) -> None:
        """A sync has ended, with dsync's exit code and its new state."""
        self.running -= 1
        self.thorough -= not job.state
        box = self.boxes.get(job.user)
        if box is None:
            return
        box.running, since, box.syncing = False, box.syncing, None
        if box.host != job.host:
            return
        box.wait, box.state = now + GAP_SECONDS, ""
        if code == 0:
            box.failures, box.one_way = 0, False
            if job.one_way:
                self.changed(job.user, now if since is None else since)
                return
            box.state = state if len(state) <= STATE_BYTES else ""
            if not job.state:
                box.epoch = job.epoch
                self._due(job.user, box, now + SWEEP_SECONDS * (0.9 + 0.2 * self.spread()))
            return
        box.one_way = code == INCOMPLETE and not job.state and not job.one_way
        box.failures = min(box.failures + 1, 16)
        if code != INCOMPLETE or job.one_way:
            box.wait = now + min(2.0**box.failures, LONGEST_WAIT)
        self.error = f"{job.host}: dsync ended with exit code {code}"
        if since is not None:
            box.since = since if box.since is None else min(since, box.since)
            self.dirty[job.user] = None
        else:
            self._due(job.user, box, box.wait)
        if peer := self.peers.get(job.host):
            peer.ask = 0.0

    def report(self, now: float) -> dict[str, Any]:
        """What others may know of it: see `replicator.STATUS`."""
        waiting = [box for box in self.boxes.values() if box.since is not None or box.syncing is not None]
        oldest = [at for box in waiting for at in (box.since, box.syncing) if at is not None]
        epochs = {host: peer.epoch for host, peer in self.peers.items()}
        return {
            "users": len(self.boxes),
            "pending": len(waiting),
            "lag_seconds": round(max(0.0, now - min(oldest, default=now)), 3),
            "unchecked": sum(not box.epoch or box.epoch != epochs[box.host] for box in self.boxes.values()),
            "failing": sum(box.failures > 0 for box in self.boxes.values()),
            "unreachable": {host: peer.error for host, peer in self.peers.items() if not peer.epoch},
            "last_error": self.error,
        }

    def _epoch(self, box: Mailbox, now: float) -> str:
        """The epoch of a mailbox's replica, if a sync may begin now; else empty."""
        return "" if box.running or box.wait > now else self.peers[box.host].epoch

    def _incremental(self, box: Mailbox, epoch: str) -> bool:
        return bool(box.state) and box.epoch == epoch

    def _due(self, user: str, box: Mailbox, at: float) -> None:
        box.due = at
        if peer := self.peers.get(box.host):
            heapq.heappush(peer.sweep, (at, user))

    def _sweep(self, now: float) -> Job | None:
        for peer in self.peers.values():
            while peer.epoch and peer.sweep and peer.sweep[0][0] <= now:
                due, user = heapq.heappop(peer.sweep)
                box = self.boxes.get(user)
                if box is None or box.due != due or self.peers.get(box.host) is not peer:
                    continue
                if box.running or box.wait > now:
                    self._due(user, box, max(box.wait, now + GAP_SECONDS))
                    continue
                return self._begin(user, box, peer.epoch, thorough=True)
        return None

    def _begin(self, user: str, box: Mailbox, epoch: str, *, thorough: bool) -> Job:
        box.running, box.syncing, box.since = True, box.since, None
        self.dirty.pop(user, None)
        self.running += 1
        self.thorough += thorough
        return Job(user, box.host, epoch, "" if thorough else box.state, box.one_way)
