"""A region is lost: its users go on with their replicas, and come home with all of their mail when it is back."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mailinfra.failover import fail_back, fail_over
from mailinfra.fleet import Role
from mailinfra.plan import NodePlan
from mailinfra.probe import mail
from mailinfra.probe.site import Site
from mailinfra.publish import Store
from mailinfra.sandbox import lifecycle
from mailinfra.sandbox.lifecycle import Sandbox, publish_people, unhealthy
from mailinfra.sandbox.people import Person
from mailinfra.sandbox.stores import region_stores
from tests.node_helpers import until
from tests.system.fleet import UP_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.timeout(UP_SECONDS)]
LOST, REPLICA = "eu-central-1", "europe-west3"
DEAD_SECONDS = 3600.0
"""How long the machines stay dead unless they are restarted."""
TOLD_SECONDS = 120.0
"""What a new directory may take to every node and its programs, and mail that waited for it."""
LOOK_SECONDS = 4.0
"""What a change may take to be seen by the replicator."""
SYNC_SECONDS = 120.0
"""What replicas may take to be alike, on a busy host."""


@pytest.fixture(scope="module")
def site(fleet_sandbox: Sandbox) -> Iterator[Site]:
    """The fleet as the probe sees it; afterwards everybody is at home again, and every machine runs."""
    site = Site(fleet_sandbox)
    site.prepare()
    yield site
    for machine in site.control.call("machines.list"):
        if machine["state"] != "running":
            site.control.call("machines.restart", id=machine["id"])
    publish_people(fleet_sandbox)
    lifecycle.wait_healthy(fleet_sandbox, lambda _: None)


def node(site: Site, role: Role, region: str) -> NodePlan:
    return next(node for node in site.nodes(role) if node.region == region)


def stores(site: Site) -> dict[str, Store]:
    return region_stores(site.control, site.outputs["regions"])


def send(site: Site, region: str, whom: Person) -> str:
    """Send a message from outside through a region's mx, trying again until it is accepted; its mark."""
    outside, mark = site.outside[0], mail.token()
    sender = f"away@{outside.domain}"
    door = node(site, Role.MX, region)
    told = {
        "address": site.addresses(door.fqdn)[0],
        "port": 25,
        "tls": "starttls",
        "name": door.fqdn,
        "sender": sender,
        "recipients": [whom.address],
        "message": mail.coded(mail.message(sender, whom.address, mark)),
    }

    def accepted() -> bool:
        return bool(site.run(outside.id, "smtp", [told])[0]["accepted"])

    until(accepted, TOLD_SECONDS, f"{door.fqdn} accepts no mail for {whom.address}")
    return mark


def read(site: Site, region: str, whom: Person, marks: list[str]) -> list[str]:
    """Which of the marked messages somebody's mailbox has, over a region's IMAP, each as often as it is there; nothing
    when nobody answers."""
    told = {
        "action": "collect",
        "host": node(site, Role.IMAP, region).fqdn,
        "user": whom.address,
        "password": whom.password,
        "token": "",
    }
    (found,) = site.run(site.outside[0].id, "mailbox", [told])
    return sorted(mark for mark in found["values"] if mark in marks)


def settled(site: Site, region: str, since: float) -> bool:
    """Whether a region's mailbox node says that all of its users' mail of a moment (seconds since 1970) is on their
    replicas."""
    machine = site.machine(node(site, Role.MAILBOX, region))
    told: dict[str, Any] = json.loads(site.shell(machine, "cat", "/var/lib/mailinfra/replica/status.json"))
    # What it wrote sooner, it wrote before it had looked.
    looked = told["time"] > since + LOOK_SECONDS
    return looked and not any(told[name] for name in ("pending", "unchecked", "failing", "unreachable"))


def test_the_users_of_a_lost_region_go_on_and_come_home_with_all_of_their_mail(site: Site) -> None:
    whom = next(person for person in site.people if person.home == LOST)
    dead = [site.machine(node) for node in site.plan.nodes if node.region == LOST]
    fleet = site.plan.fleet
    marks = [send(site, region, whom) for region in (LOST, REPLICA, "us-east-1")]
    until(lambda: read(site, LOST, whom, marks) == sorted(marks), TOLD_SECONDS, "mail does not arrive")
    now = time.time()
    until(lambda: settled(site, LOST, now), SYNC_SECONDS, "the replica is behind")

    for machine in dead:
        site.control.call("machines.kill", id=machine, dead_seconds=DEAD_SECONDS)
    there = {region: store for region, store in stores(site).items() if region != LOST}
    outcome = fail_over(fleet, there, [LOST])
    assert outcome.whole
    assert set(outcome.moved) == {(LOST, REPLICA)}
    marks.append(send(site, REPLICA, whom))
    marks.append(send(site, "us-east-1", whom))
    until(
        lambda: read(site, REPLICA, whom, marks) == sorted(marks),
        TOLD_SECONDS,
        "the replica has not all, or something twice",
    )

    # It comes back, and still believes that the user lives there: what it takes in then is not lost.
    for machine in dead:
        site.control.call("machines.restart", id=machine)
    lifecycle.wait_healthy(site.sandbox, lambda _: None)
    assert unhealthy(site.sandbox) == {}
    marks.append(send(site, LOST, whom))
    assert LOST in fail_over(fleet, stores(site), [LOST]).told
    until(
        lambda: read(site, REPLICA, whom, marks) == sorted(marks),
        SYNC_SECONDS,
        "what the old home took in does not come over",
    )

    again = time.time()
    until(lambda: settled(site, REPLICA, again), SYNC_SECONDS, "the old home is behind")
    assert fail_back(fleet, stores(site), [LOST]).untold == {}
    marks.append(send(site, REPLICA, whom))
    until(
        lambda: read(site, LOST, whom, marks) == sorted(marks),
        SYNC_SECONDS,
        "at home there is not all, or something twice",
    )
