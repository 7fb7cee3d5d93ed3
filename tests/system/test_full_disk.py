"""Disks that run full while mail flows: senders are told to come again, and what was accepted arrives by itself."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from mailinfra import names
from mailinfra.fleet import Role
from mailinfra.plan import NodePlan
from mailinfra.probe import mail
from mailinfra.probe.site import Site
from mailinfra.sandbox.lifecycle import Sandbox, unhealthy
from mailinfra.sandbox.people import Person
from tests.node_helpers import until
from tests.system.fleet import UP_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.timeout(UP_SECONDS)]
HOME, NEAR, FAR = "eu-central-1", "europe-west3", "us-east-1"
"""The region whose disks get full, another of its zone, and one of another zone."""
ROOM = {"root": 20 << 30, "mail": 10 << 30}
"""What the sandbox's fleet declares for the node's own disk and for the volume with the mail."""
FILL = """
room=$(df -B1 --output=avail "$1" | tail -1)
fallocate -l $((room - (64 << 20))) "$1/filling"
dd if=/dev/zero of="$1/rest" bs=4k 2>/dev/null || true
df -B1 --output=avail "$1" | tail -1
"""
RETRY_SECONDS = 240
"""Postfix tries again after a minute at the earliest, and looks at its queue once a minute."""


@pytest.fixture(scope="module")
def site(fleet_sandbox: Sandbox) -> Site:
    """The fleet as the probe sees it."""
    site = Site(fleet_sandbox)
    site.prepare()
    return site


def node(site: Site, role: Role, region: str) -> NodePlan:
    return next(node for node in site.nodes(role) if node.region == region)


def person(site: Site, home: str) -> Person:
    return next(person for person in site.people if person.home == home)


@contextmanager
def full(site: Site, of: NodePlan, folder: str) -> Iterator[None]:
    """The disk that a folder of a node is on has not one byte left for as long as this lasts."""
    machine = site.machine(of)
    try:
        assert site.shell(machine, "sh", "-euc", FILL, "sh", folder).strip() == "0"
        yield
    finally:
        site.shell(machine, "rm", "-f", f"{folder}/filling", f"{folder}/rest")


def replies(site: Site, to: NodePlan, person: Person, mark: str) -> list[list[Any]]:
    """The replies of an mx node to one transaction from outside: to MAIL, RCPT and the message, as far as it came."""
    outside = site.outside[0]
    sender = f"full@{outside.domain}"
    told = {
        "address": site.addresses(to.fqdn)[0],
        "port": 25,
        "tls": "starttls",
        "name": to.fqdn,
        "sender": sender,
        "recipients": [person.address],
        "message": mail.coded(mail.message(sender, person.address, mark)),
    }
    (found,) = site.run(outside.id, "smtp", [told])
    assert found["connected"] and not found["error"], found
    return [reply for reply in (found["sender"], *found["recipients"], found["data"]) if reply]


def accepted(answers: list[list[Any]]) -> bool:
    return [code for code, _ in answers] == [250, 250, 250]


def waits(site: Site, at: NodePlan, whom: Person) -> bool:
    """Whether mail for somebody is in a node's queue because its delivery was put off."""
    queue = site.shell(site.machine(at), "postqueue", "-p")
    return whom.address in queue and "dovecot-lmtp] said: 451" in queue


def put_off(answers: list[list[Any]]) -> bool:
    """Whether the sender was told to come again because there is no room (RFC 5321 4.2.3: 452)."""
    code, text = answers[-1]
    return bool(code == 452 and text.startswith("4.3.1"))


@contextmanager
def flowing(site: Site, mark: str, to: list[str]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Mail flows from outside; the call ends it and gives its ledger."""
    outside = site.outside[0]
    ready, stop = f"/run/{mark}.ready", f"/run/{mark}.stop"
    told = {
        "domain": site.plan.fleet.primary_domain,
        "recipients": to,
        "sender": f"flow@{outside.domain}",
        "token": f"{mark}-flow",
        "seed": mark,
        "interval": 0.5,
        "grace": 60,
        "seconds": 300,
        "enough": 3,
        "watched": [],
        "ready": ready,
        "stop": stop,
    }
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(site.run, outside.id, "flow", told, 400)

        def end() -> dict[str, Any]:
            site.shell(outside.id, "touch", stop)
            ledger: dict[str, Any] = future.result()
            return ledger

        try:
            until(lambda: site.shell(outside.id, "sh", "-c", f"ls {ready} || true"), 60, "no mail flows")
            yield end
        finally:
            if not future.done():
                end()


def arrived(site: Site, people: list[Person], mark: str) -> list[str]:
    """The marks of all that the mailboxes of people hold."""
    fleet = site.plan.fleet
    told = [
        {
            "action": "collect",
            "host": names.service_host(fleet, "imap", site.zone(person.home)),
            "user": person.address,
            "password": person.password,
            "token": mark,
        }
        for person in people
    ]
    found = site.run(site.outside[0].id, "mailbox", told, 120)
    assert [item["error"] for item in found] == [""] * len(people)
    return [value for item in found for value in item["values"]]


def test_disks_have_the_size_that_was_declared(site: Site) -> None:
    for region in (HOME, NEAR):
        store = site.machine(node(site, Role.MAILBOX, region))
        # A file system's own tables take a few per cent.
        for folder, size in (("/", ROOM["root"]), ("/srv/mail", ROOM["mail"])):
            shown = int(site.shell(store, "df", "-B1", "--output=size", folder).split()[-1])
            assert 0.95 * size < shown <= size, (region, folder)


def test_full_disks_lose_no_mail(site: Site, fleet_sandbox: Sandbox) -> None:
    mark = mail.token()
    edge, store = node(site, Role.MX, HOME), node(site, Role.MAILBOX, HOME)
    near, far = node(site, Role.MX, NEAR), node(site, Role.MX, FAR)
    native, foreign = person(site, HOME), person(site, FAR)
    taken: list[str] = []

    def offer(to: NodePlan, whom: Person) -> list[list[Any]]:
        number = f"{mark}-{len(taken)}-{to.region}-{whom.home}-{time.monotonic_ns()}"
        answers = replies(site, to, whom, number)
        if answers[-1][0] == 250:
            taken.append(number)
        return answers

    for door in (edge, near, far):
        # Postfix looks for new lookup tables every ten seconds.
        until(lambda door=door: accepted(offer(door, native)), 30, f"{door.fqdn} takes no mail")  # type: ignore[misc]
    with flowing(site, mark, [native.address, foreign.address]) as end:
        with full(site, edge, "/var/spool/postfix"):
            answers = offer(edge, native)
            assert put_off(answers), answers
            # What is not written on the node does not need its disk.
            answers = offer(edge, foreign)
            assert accepted(answers), answers
            with full(site, store, "/srv/mail"):
                # The mailboxes are full, the node's queue is not: it keeps the mail, and delivers it later.
                answers = offer(far, native)
                assert accepted(answers), answers
                until(lambda: waits(site, store, native), 30, "the mail is not in the queue")
                with full(site, store, "/var/spool/postfix"):
                    # From another zone no byte may be kept on the way: the sender hears of it at once.
                    answers = offer(far, native)
                    assert put_off(answers), answers
                    # Within the zone the mail waits in the queue where it came in.
                    answers = offer(near, native)
                    assert accepted(answers), answers
        ledger = end()
    assert ledger["failed"] == [] and ledger["ledger"]
    # A try that was cut off within the message may have got through, and is repeated: twice is not lost.
    taken += [entry["id"] for entry in ledger["ledger"]]
    until(lambda: accepted(offer(edge, native)), 30, "the node takes no mail although there is room again")
    until(
        lambda: set(taken) <= set(arrived(site, [native, foreign], mark)),
        RETRY_SECONDS,
        "accepted mail is lost",
    )
    assert unhealthy(fleet_sandbox) == {}
    for one in (edge, store):
        assert site.shell(site.machine(one), "systemctl", "--failed", "--no-legend") == ""
