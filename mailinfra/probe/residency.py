"""Claims about mail that comes in at a foreign zone: it gets home, and nothing of it stays where it came in."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mailinfra import names
from mailinfra.fleet import Residency, Role
from mailinfra.plan import NodePlan
from mailinfra.probe import mail, search
from mailinfra.probe.row import Claim, Finding, NotClaimedError, ProbeError, count, listed
from mailinfra.probe.site import Site, each
from mailinfra.sandbox.dns.outside import OutsideHost
from mailinfra.sandbox.people import Person

DELIVERY_SECONDS = 30.0
"""From the acceptance by any mx node to the home mailbox: the most that we let pass, on a busy machine."""
READ_SECONDS = 60.0
"""How long a message is waited for at all."""
WATCH_SECONDS = 180
READY_SECONDS = 20.0
PAUSE_SECONDS = 0.05
PROTOCOLS: tuple[names.Service, ...] = ("imap", "pop3")
FOLDER = "/run/mailinfra-probe"
TRAIL_FOLDER = "/var/lib/mailinfra"
"""Where the decoys are written: on the disk, like the queue."""

QUEUED, DECOY = str(len(search.FORMS)), str(len(search.FORMS) + 1)
"""The numbers of the needles that the watch must find: of mail that is queued on the node, as it is for its own zone,
and what the watch itself writes and deletes at once."""


@dataclass(frozen=True)
class Passage:
    """One message that came in at a foreign node."""

    node: NodePlan
    person: Person
    accepted: float
    read: dict[str, Any]
    watch: dict[str, Any]
    hits: list[str]
    residue: dict[str, Any]
    planted: list[str]
    """The forms of a planted copy that the search found."""
    has_neighbours: bool
    """Whether the node's own zone has users."""


def pairs(site: Site) -> list[tuple[NodePlan, Person, OutsideHost]]:
    """Every mx node with a user whose home is in another zone, and an outside host to write to them."""
    found = []
    for number, node in enumerate(site.nodes(Role.MX)):
        zone = site.zone(node.region)
        foreign = [person for person in site.people if site.zone(person.home) != zone]
        if foreign:
            outside = site.outside[number % len(site.outside)]
            found.append((node, foreign[number % len(foreign)], outside))
    return found


def passages(site: Site) -> list[Passage]:
    """Hand a message for a foreign user to every mx node, and read it at home."""
    return each(lambda item: _pass(site, *item), pairs(site))


def _pass(site: Site, node: NodePlan, person: Person, outside: OutsideHost) -> Passage:
    machine = site.machine(node)
    mark, queued, decoy = mail.token(), mail.token(), mail.token()
    needles = search.forms(mark)
    neighbours = [p for p in site.people if site.zone(p.home) == site.zone(node.region)][:1]
    ready, stop = f"{FOLDER}/{mark}.ready", f"{FOLDER}/{mark}.stop"
    told = {
        "needles": [mail.coded(needle) for needle in (*needles.values(), queued.encode())],
        "planted": mail.coded(decoy.encode()),
        "decoy": f"{TRAIL_FOLDER}/probe-{decoy[:8]}",
        "ready": ready,
        "stop": stop,
        "seconds": WATCH_SECONDS,
    }
    began = time.time()
    with ThreadPoolExecutor(max_workers=2) as pool:
        watching = pool.submit(site.run, machine, "watch", told, WATCH_SECONDS + 30)
        try:
            _wait_ready(site, machine, ready, watching.done)
            reading = pool.submit(_read, site, person, outside, mark)
            accepted, *_ = _deliver(site, node, outside, [(person, mark), *((p, queued) for p in neighbours)])
            read = reading.result()
        finally:
            site.shell(machine, "touch", stop)
        watch = watching.result()
    places = site.folders(machine)
    hits = [str(hit) for hit in search.find(places, needles)]
    looked_for = {"needles": [mail.coded(needle) for needle in needles.values()], "since": began - 1}
    residue = site.run(machine, "residue", looked_for, WATCH_SECONDS)
    planted = _plant(site, machine)
    return Passage(node, person, accepted, read, watch, hits, residue, planted, bool(neighbours))


def _wait_ready(site: Site, machine: str, ready: str, ended: Any) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        done = site.control.call("machines.execute", id=machine, command=["test", "-e", ready], timeout=10)
        if done["code"] == 0 or ended():
            return
        if time.monotonic() > deadline:
            raise ProbeError(f"{machine}: the watch of its disk did not begin in {READY_SECONDS:g} s")
        time.sleep(PAUSE_SECONDS)


def _deliver(
    site: Site, node: NodePlan, outside: OutsideHost, messages: Sequence[tuple[Person, str]]
) -> list[float]:
    """Hand messages with these marks to the node itself; when each was accepted."""
    sender = f"probe@{outside.domain}"
    calls = [
        {
            "address": site.addresses(node.fqdn)[0],
            "port": 25,
            "tls": "starttls",
            "name": site.plan.mx_hosts[0],
            "sender": sender,
            "recipients": [person.address],
            "message": mail.coded(mail.message(sender, person.address, mark)),
            "seconds": DELIVERY_SECONDS,
        }
        for person, mark in messages
    ]
    sessions = site.run(outside.id, "smtp", calls)
    for (person, _), session in zip(messages, sessions, strict=True):
        if session["accepted"] is None:
            last = [session[step] for step in ("sender", "recipients", "data") if session[step]][-1:]
            raise ProbeError(f"{node.fqdn} took no mail for {person.address}: {session['error'] or last}")
    return [session["accepted"] for session in sessions]


def _read(site: Site, person: Person, outside: OutsideHost, mark: str) -> dict[str, Any]:
    """Wait for the message at its home, read it over both protocols, and remove it."""
    zone = site.zone(person.home)
    hosts = {protocol: names.service_host(site.plan.fleet, protocol, zone) for protocol in PROTOCOLS}
    known = {"user": person.address, "password": person.password, "token": mark}
    parts = [f"In plain text: {mark}", f"Grüße an {mark}, schöne Straße", f"Subject: Probe {mark}"]
    told = known | {"action": "read", "hosts": hosts, "parts": parts, "seconds": READ_SECONDS}
    read: dict[str, Any] = site.run(outside.id, "mailbox", [told], 2 * READ_SECONDS + 60)[0]
    collect = known | {"action": "collect", "host": hosts["imap"], "remove": True}
    site.run(outside.id, "mailbox", [collect])
    return read


def _plant(site: Site, machine: str) -> list[str]:
    """Put a copy of a token in every form on the node's disk, search, and take it away again."""
    mark = mail.token()
    needles = search.forms(mark)
    path = f"{TRAIL_FOLDER}/probe-{mark[:8]}"
    write = "import base64, sys; open(sys.argv[1], 'wb').write(base64.b64decode(sys.stdin.read()))"
    text = b"\n".join(needles.values())
    try:
        site.shell(machine, "python3", "-c", write, path, stdin=mail.coded(text))
        return [hit.what for hit in search.find(site.folders(machine), needles)]
    finally:
        site.shell(machine, "rm", "-f", path)


def arrives(site: Site) -> Iterable[Finding]:
    """How long mail accepted in a foreign zone takes to its home, and that it is read there whole."""
    for done in site.once(passages):
        for protocol in PROTOCOLS:
            read = done.read[protocol]
            seconds = "not read" if read["error"] else round(read["seen"] - done.accepted, 2)
            whole = not read["error"] and read["complete"]
            yield Finding(
                whole and isinstance(seconds, float) and seconds <= DELIVERY_SECONDS,
                seconds,
                DELIVERY_SECONDS,
                "s",
                f"{done.node.region} → {done.person.home}, {protocol.upper()}S",
                read["error"] or ("" if whole else "the message is not as it was sent") or read["tls"],
            )


def not_written(site: Site) -> Iterable[Finding]:
    """That no form of the token was written on the foreign node's disk: not while the mail passed (every write is
    watched), not afterwards (files, journal, deleted files that are open)."""
    if site.plan.fleet.residency is not Residency.STRICT:
        raise NotClaimedError
    for done in site.once(passages):
        watched = [
            f"{file} while it passed"
            for number, files in done.watch["hits"].items()
            if number not in (QUEUED, DECOY)
            for file in files
        ]
        found = [*watched, *done.hits, *(f"the journal (form {n})" for n in done.residue["journal"])]
        found += [f"deleted but open: {item}" for item in done.residue["deleted"]]
        if done.watch["lost"]:
            found.append("the watch lost events")
        yield Finding(
            not found,
            len(found),
            0,
            "places with a trace",
            done.node.fqdn,
            listed(found)
            or f"{done.watch['events']} writes watched, {done.residue['journal_bytes']} B of journal",
        )


def search_finds(site: Site) -> Iterable[Finding]:
    """That the search and the watch see what is there: planted copies, one deleted at once, and a message for a user
    of the node's own zone, which goes through its queue."""
    if site.plan.fleet.residency is not Residency.STRICT:
        raise NotClaimedError
    for done in site.once(passages):
        missing = [form for form in search.FORMS if form not in done.planted]
        if DECOY not in done.watch["hits"]:
            missing.append("a file that was deleted at once")
        if done.has_neighbours and QUEUED not in done.watch["hits"]:
            missing.append("a message that was queued for the node's own zone")
        every = len(search.FORMS) + 1 + done.has_neighbours
        yield count(every - len(missing), every, "forms found", subject=done.node.fqdn, wrong=missing)


CLAIMS = (
    Claim("residency.arrives", "Mail accepted in a foreign zone is read at home", ("R02", "R03"), arrives),
    Claim("residency.disk", "No byte of it was written on the foreign node's disk", ("R03",), not_written),
    Claim("residency.control", "A planted copy is found by the same search", ("R03",), search_finds),
)
