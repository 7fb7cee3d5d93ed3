"""Claims about mail that comes in at a foreign zone: it gets home, and nothing of it stays where it came in."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mailinfra import names
from mailinfra.fleet import Residency, Role
from mailinfra.plan import NodePlan
from mailinfra.probe import mail, search
from mailinfra.probe.row import Claim, Finding, ProbeError, count, listed
from mailinfra.probe.site import Site, each
from mailinfra.sandbox.dns.outside import OutsideHost
from mailinfra.sandbox.people import Person

DELIVERY_SECONDS = 30.0
"""From the acceptance by any mx node to the home mailbox: the most that we let pass, on a busy machine."""
WATCH_SECONDS = 120
READY_SECONDS = 20.0
PAUSE_SECONDS = 0.05
PROTOCOLS: tuple[names.Service, ...] = ("imap", "pop3")
FOLDER = "/run/mailinfra-probe"
TRAIL_FOLDER = "/var/lib/mailinfra"
"""Where the decoys are written: on the disk, like the queue."""

DECOY = str(len(search.FORMS))
"""The number of the needle that the watch itself plants."""


@dataclass(frozen=True)
class Passage:
    """One message that came in at a foreign node."""

    node: NodePlan
    person: Person
    outside: OutsideHost
    token: str
    accepted: float
    session: dict[str, Any]
    imap: dict[str, Any]
    pop3: dict[str, Any]
    watch: dict[str, Any]
    hits: list[str]
    residue: dict[str, Any]
    planted: list[str]
    """The forms of a planted copy that the search found."""


def pairs(site: Site) -> list[tuple[NodePlan, Person, OutsideHost]]:
    """Every mx node with a user whose home is in another zone, and an outside host to write to them."""
    found = []
    for number, node in enumerate(site.nodes(Role.MX)):
        foreign = [person for person in site.people if site.zone(person.home) != site.zone(node.region)]
        if foreign:
            outside = site.outside[number % len(site.outside)]
            found.append((node, foreign[number % len(foreign)], outside))
    return found


def passages(site: Site) -> list[Passage]:
    """Hand a message for a foreign user to every mx node, and read it at home."""
    return each(lambda item: _pass(site, *item), pairs(site))


def _pass(site: Site, node: NodePlan, person: Person, outside: OutsideHost) -> Passage:
    machine = site.machine(node)
    mark, decoy = mail.token(), mail.token()
    needles = search.forms(mark)
    ready, stop = f"{FOLDER}/{mark}.ready", f"{FOLDER}/{mark}.stop"
    told = {
        "needles": [mail.coded(needle) for needle in needles.values()],
        "planted": mail.coded(decoy.encode()),
        "decoy": f"{TRAIL_FOLDER}/probe-{decoy[:8]}",
        "ready": ready,
        "stop": stop,
        "seconds": WATCH_SECONDS,
    }
    began = time.time()
    with ThreadPoolExecutor(max_workers=1) as pool:
        watching = pool.submit(site.run, machine, "watch", told, WATCH_SECONDS + 30)
        try:
            _wait_ready(site, machine, ready, watching.done)
            session = _deliver(site, node, person, outside, mark)
            imap, pop3 = _read(site, person, outside, mark)
        finally:
            site.shell(machine, "touch", stop)
        watch = watching.result()
    places = site.folders(machine)
    hits = [str(hit) for hit in search.find(places, needles)]
    residue = site.run(machine, "residue", {"needles": told["needles"], "since": began - 1}, WATCH_SECONDS)
    planted = _plant(site, machine)
    return Passage(
        node, person, outside, mark, session["accepted"], session, imap, pop3, watch, hits, residue, planted
    )


def _wait_ready(site: Site, machine: str, ready: str, ended: Any) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        done = site.control.call("machines.execute", id=machine, command=["test", "-e", ready], timeout=10)
        if done["code"] == 0 or ended():
            return
        if time.monotonic() > deadline:
            raise ProbeError(f"{machine}: the watch of its disk did not begin in {READY_SECONDS:g} s")
        time.sleep(PAUSE_SECONDS)


def _deliver(site: Site, node: NodePlan, person: Person, outside: OutsideHost, mark: str) -> dict[str, Any]:
    sender = f"probe@{outside.domain}"
    call = {
        "address": site.addresses(node.fqdn)[0],
        "port": 25,
        "tls": "starttls",
        "name": site.plan.mx_hosts[0],
        "sender": sender,
        "recipients": [person.address],
        "message": mail.coded(mail.message(sender, person.address, mark)),
        "seconds": DELIVERY_SECONDS,
    }
    session: dict[str, Any] = site.run(outside.id, "smtp", [call])[0]
    if session["accepted"] is None:
        last = [session[step] for step in ("sender", "recipients", "data") if session[step]][-1:]
        raise ProbeError(f"{node.fqdn} took no mail for {person.address}: {session['error'] or last}")
    return session


def _read(
    site: Site, person: Person, outside: OutsideHost, mark: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    zone = site.zone(person.home)
    parts = [f"In plain text: {mark}", f"Grüße an {mark}, schöne Straße", f"Subject: Probe {mark}"]
    told = [
        {
            "protocol": protocol,
            "host": names.service_host(site.plan.fleet, protocol, zone),
            "user": person.address,
            "password": person.password,
            "token": mark,
            "parts": parts,
            "seconds": DELIVERY_SECONDS,
        }
        for protocol in PROTOCOLS
    ]
    imap, pop3 = site.run(outside.id, "mailbox", told, DELIVERY_SECONDS + 60)
    site.run(outside.id, "mailbox", [{**told[0], "protocol": "collect", "remove": True}])
    return imap, pop3


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
        for protocol, read in (("IMAPS", done.imap), ("POP3S", done.pop3)):
            seconds = "not read" if read["error"] else round(read["seen"] - done.accepted, 2)
            whole = not read["error"] and read["complete"]
            yield Finding(
                whole and isinstance(seconds, float) and seconds <= DELIVERY_SECONDS,
                seconds,
                DELIVERY_SECONDS,
                "s",
                f"{done.node.region} → {done.person.home}, {protocol}",
                read["error"] or ("" if whole else "the message is not as it was sent") or read["tls"],
            )


def not_written(site: Site) -> Iterable[Finding]:
    """That no form of the token was written on the foreign node's disk: not while the mail passed (every write is
    watched), not afterwards (files, journal, deleted files that are open)."""
    if site.plan.fleet.residency is not Residency.STRICT:
        return
    for done in site.once(passages):
        watched = [
            f"{file} while it passed"
            for number, files in done.watch["hits"].items()
            if number != DECOY
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
    """That the search and the watch see what is there: planted copies, one deleted at once."""
    if site.plan.fleet.residency is not Residency.STRICT:
        return
    for done in site.once(passages):
        missing = [form for form in search.FORMS if form not in done.planted]
        if DECOY not in done.watch["hits"]:
            missing.append("written and deleted at once")
        every = len(search.FORMS) + 1
        yield count(every - len(missing), every, "forms found", subject=done.node.fqdn, wrong=missing)


CLAIMS = (
    Claim("residency.arrives", "Mail accepted in a foreign zone is read at home", ("R02", "R03"), arrives),
    Claim("residency.disk", "No byte of it was written on the foreign node's disk", ("R03",), not_written),
    Claim("residency.control", "A planted copy is found by the same search", ("R03",), search_finds),
)
