"""Brings what shall be served to the name servers, and notices when they lost it."""

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mailinfra.sandbox.dns import geo, internet, zones
from mailinfra.sandbox.dns.pdns import Connect, NameServer, ServerError, request
from mailinfra.sandbox.dns.translate import Probe
from mailinfra.sandbox.dns.zones import Plan, Served, Server

log = logging.getLogger(__name__)

Wanted = Callable[[], tuple[Plan, Mapping[str, geo.Location]]]
WATCH_SECONDS = 2.0
UNSIGN_SECONDS = 2.0 * zones.SHORT_TTL
"""How long a zone is signed on after its DS is gone."""


@dataclass(frozen=True)
class State:
    """Whether everything is served; if not, why."""

    serving: bool
    why: str


class Mirror:
    """Keeps the name servers equal to what `wanted` gives. `start` before use; thread-safe."""

    def __init__(self, connect: Connect, key: str, wanted: Wanted) -> None:
        self._connect, self._key, self._wanted = connect, key, wanted
        self._servers = {
            server: NameServer(connect, address, key, internet.API_PORT)
            for server, address in zones.ADDRESSES.items()
        }
        self._lock = threading.Lock()
        self._served: dict[tuple[Server, str], Served] | None = None  # None: unknown, ask the servers
        self._probes: dict[str, Probe] | None = None
        self._located: Mapping[str, geo.Location] | None = None
        self._unsign_at: dict[tuple[Server, str], float] = {}
        self._state = State(False, "the name servers' machine has not booted yet")
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dns-mirror", daemon=True)

    def start(self) -> None:
        """Begin to watch the name servers."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)

    def wake(self) -> None:
        """Look at the name servers now: their machine changed its state."""
        self._wake.set()

    def state(self) -> State:
        """Whether everything is served."""
        return self._state

    def serve(self, deadline: float) -> None:
        """Bring the name servers up to date before `deadline` (monotonic).

        Raises `ServerError` if that fails.
        """
        while True:
            try:
                self._bring()
                return
            except ServerError as error:
                if time.monotonic() > deadline or self._stop.is_set():
                    raise ServerError(f"kept, but not served yet: {error}") from error
                self._stop.wait(0.5)

    def health(self) -> dict[str, Any]:
        """What the prober found, by the probes' names. Raises `ServerError`."""
        found: dict[str, Any] = self._prober("GET", "/health")
        return found

    def _prober(self, method: str, path: str, body: object = None) -> Any:
        address = (zones.ADDRESSES["root"], internet.PROBER_PORT)
        status, data = request(self._connect, address, self._key, method, path, body)
        if status >= 400:
            raise ServerError(f"the prober: {method} {path}: {status} {data.decode(errors='replace')}")
        return json.loads(data)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(WATCH_SECONDS)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self._look()
                self._bring()
            except ServerError as error:
                self._forget(str(error))
            except Exception:
                log.exception("mirroring the zones failed")
                self._forget("an internal error; see the log")

    def _forget(self, why: str) -> None:
        with self._lock:
            self._served = self._probes = self._located = None
            self._state = State(False, why)

    def _look(self) -> None:
        """Ask the servers whether they still serve what they were given; a new disk has nothing."""
        with self._lock:
            served = self._served
            if served is None:
                return
            for server, client in self._servers.items():
                if set(client.zones()) != {zone for owner, zone in served if owner == server}:
                    self._served = None
            if self._probes is not None and set(self._prober("GET", "/health")) != set(self._probes):
                self._probes = None

    def _bring(self) -> None:
        with self._lock:
            try:
                plan, located = self._wanted()
                if located != self._located:
                    self._prober("PUT", "/geoip", geo.database(located.items()))
                    self._located = located
                if plan.probes != self._probes:
                    specs = {name: asdict(probe) for name, probe in plan.probes.items()}
                    self._prober("PUT", "/checks", specs)
                    self._probes = dict(plan.probes)
                self._bring_zones(plan)
                self._state = State(True, "")
            except ServerError as error:
                self._served = self._probes = self._located = None
                self._state = State(False, str(error))
                raise

    def _bring_zones(self, plan: Plan) -> None:
        known = self._served or {}
        if self._served is None:
            present = {(server, zone) for server, client in self._servers.items() for zone in client.zones()}
        else:
            present = set(known)
        for owner, zone in present - set(plan.zones):
            self._servers[owner].remove(zone)
        served: dict[tuple[Server, str], Served] = {}
        # The root's server last: a parent must not announce a key before its child signs with it.
        for name in sorted(plan.zones, key=lambda n: n[0] == "root"):
            has = known.get(name)
            shall = served[name] = self._still_signed(name, plan.zones[name], has)
            if shall != has:
                self._bring_zone(name, shall, has, created=name not in present)
        self._served = served

    def _still_signed(self, name: tuple[Server, str], shall: Served, has: Served | None) -> Served:
        """What to serve now of a zone that stops being signed: it is signed while resolvers remember its DS."""
        if has is None or has.key is None or shall.key is not None:
            self._unsign_at.pop(name, None)
            return shall
        if time.monotonic() >= self._unsign_at.setdefault(name, time.monotonic() + UNSIGN_SECONDS):
            del self._unsign_at[name]
            return shall
        return dataclasses.replace(shall, key=has.key)

    def _bring_zone(
        self, name: tuple[Server, str], shall: Served, has: Served | None, *, created: bool
    ) -> None:
        owner, zone = name
        server = self._servers[owner]
        if created:
            server.create(zone, shall.soa, shall.rrsets)
        else:
            wanted = {(r.name, r.rtype): r for r in shall.rrsets}
            if has is not None:
                held = {(r.name, r.rtype): r for r in has.rrsets}
                changed = [r for key, r in wanted.items() if held.get(key) != r]
                gone = held.keys() - wanted.keys()
            else:
                changed = list(wanted.values())
                gone = {key for key in server.contents(zone) or () if key[1] != "SOA"} - wanted.keys()
            server.change(zone, changed, gone)
        if has is None or has.key != shall.key:
            server.sign(zone, shall.key)
        elif shall.key is not None:
            server.rectify(zone)
