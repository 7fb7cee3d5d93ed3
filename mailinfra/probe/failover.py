"""The claim about failure: an mx node's machine dies while mail flows, leaves the answers, and comes back by itself,
and no accepted message is lost.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mailinfra import names
from mailinfra.fleet import Role
from mailinfra.plan import NodePlan
from mailinfra.probe import mail
from mailinfra.probe.row import Claim, Finding, ProbeError, Stage, listed
from mailinfra.probe.site import Site
from mailinfra.probe.steering import SERVERS, detection_seconds, near_regions, settled
from mailinfra.routing import SteeringPlan
from mailinfra.sandbox.dns.outside import OutsideHost

INTERVAL_SECONDS = 1.0
"""Between two messages of one outside sender."""
PAUSE_SECONDS = 0.5
"""Between two rounds of questions at the name servers."""
DRAWS, QUIET_ROUNDS = 4, 10
"""Questions a round, name and family, and how many rounds without a node mean that it is out of the answers: one with
a tenth of them would be missed by chance in one of 4,000 probes."""
BEFORE_MESSAGES = 3
"""How many messages of each sender are accepted before the kill."""
READY_SECONDS = 60.0
"""How long the flow may take to get going."""
BOOT_SECONDS = 180.0
"""What a machine may take to boot and serve, on a busy host."""
DRAIN_SECONDS = 60.0
"""How long after the end of the flow all that was accepted may take to its mailboxes."""
FOLDER = "/run/mailinfra-probe"


@dataclass(frozen=True)
class Outage:
    """One kill; `killed` is seconds of the host's clock. `flows` and `answers` are what `remote.flow` and
    `remote.answers` gave, by outside host."""

    node: NodePlan
    killed: float
    flows: dict[str, dict[str, Any]]
    answers: dict[str, list[dict[str, Any]]]
    collected: list[str]
    problems: list[str]

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """Every message that was accepted."""
        return [entry for flow in self.flows.values() for entry in flow["ledger"]]

    def of(self, steering: SteeringPlan) -> list[dict[str, Any]]:
        """What was answered for a steering zone's names in which the node had been."""
        return [
            answer
            for answers in self.answers.values()
            for answer in answers
            if answer["host"] in steering.mx_hosts and answer["last"] is not None
        ]

    @property
    def back(self) -> float | None:
        """When the node was first answered again."""
        times = [answer["back"] for found in self.answers.values() for answer in found if answer["back"]]
        return min(times, default=None)


def longest_ttl(steering: SteeringPlan) -> int:
    """The longest TTL of a steered set, seconds."""
    return max(one.ttl for one in steering.sets)


def victim(site: Site) -> NodePlan:
    """The mx node to kill: of a region with another one near, and one that does the fewest other things."""
    nodes = site.nodes(Role.MX)
    if len({node.region for node in nodes}) < 2:
        raise ProbeError("the fleet has mx nodes in one region only, so none can stand in")
    near = near_regions(site.plan, site.outside[0].country)
    chosen = [node for node in nodes if node.region in near] or list(nodes)
    return min(chosen, key=lambda node: (Role.MAILBOX in node.roles, len(node.roles)))


def outage(site: Site) -> Outage:
    """Let mail flow, kill the node, wait until it has left every answer and is back in one, and count."""
    site.once(settled)
    node, mark = victim(site), mail.token()
    steerings = site.plan.steering
    dead = max(map(detection_seconds, steerings))
    longest = READY_SECONDS + dead + BOOT_SECONDS + dead
    common = {"watched": list(site.addresses(node.fqdn)), "seconds": longest, "stop": f"{FOLDER}/{mark}.stop"}
    ready = [f"{FOLDER}/{mark}.{script}" for script in ("answers", "flow")]
    watching = common | {
        "ready": ready[0],
        "sources": [
            [SERVERS[steering.provider], host] for steering in steerings for host in steering.mx_hosts
        ],
        "draws": DRAWS,
        "pause": PAUSE_SECONDS,
        "quiet_rounds": QUIET_ROUNDS,
    }

    def flowing(number: int, outside: OutsideHost) -> dict[str, Any]:
        return common | {
            "ready": ready[1],
            "enough": BEFORE_MESSAGES,
            "domain": site.plan.fleet.primary_domain,
            "recipients": [person.address for person in site.people],
            "sender": f"flow@{outside.domain}",
            "token": f"{mark}-{number}",
            "seed": mark,
            "interval": INTERVAL_SECONDS,
            "grace": DRAIN_SECONDS,
        }

    limit = longest + DRAIN_SECONDS + 30
    with ThreadPoolExecutor(max_workers=2 * len(site.outside)) as pool:
        flows = {
            outside.id: pool.submit(site.run, outside.id, "flow", flowing(number, outside), limit)
            for number, outside in enumerate(site.outside)
        }
        answers = {
            outside.id: pool.submit(site.run, outside.id, "answers", watching, limit)
            for outside in site.outside
        }
        try:
            _wait_flowing(site, ready)
            site.control.call("machines.kill", id=site.machine(node), dead_seconds=dead)
            killed = time.time()
            answered = {host: future.result() for host, future in answers.items()}
        finally:
            for outside in site.outside:
                site.shell(outside.id, "touch", str(common["stop"]))
        sent = {host: future.result() for host, future in flows.items()}
    accepted = [entry["id"] for flow in sent.values() for entry in flow["ledger"]]
    return Outage(node, killed, sent, answered, *_collect(site, mark, accepted))


def _wait_flowing(site: Site, ready: Sequence[str]) -> None:
    """Wait until every outside host sends and watches."""
    look = " && ".join(f"test -e {path}" for path in ready)
    end = time.monotonic() + READY_SECONDS
    waiting = list(site.outside)
    while waiting:
        looks = [
            site.control.call("machines.execute", id=outside.id, command=["sh", "-c", look], timeout=10)
            for outside in waiting
        ]
        waiting = [outside for outside, done in zip(waiting, looks, strict=True) if done["code"] != 0]
        if waiting and time.monotonic() > end:
            still = ", ".join(outside.id for outside in waiting)
            raise ProbeError(f"no mail flowed after {READY_SECONDS:g} s from {still}")
        time.sleep(PAUSE_SECONDS if waiting else 0)


def _collect(site: Site, mark: str, accepted: Sequence[str]) -> tuple[list[str], list[str]]:
    """What of the flow is in the mailboxes, waited for until all of it is, and what could not be read."""
    told = [
        {
            "action": "collect",
            "host": names.service_host(site.plan.fleet, "imap", site.zone(person.home)),
            "user": person.address,
            "password": person.password,
            "token": mark,
        }
        for person in site.people
    ]
    end = time.monotonic() + DRAIN_SECONDS
    while True:
        found = site.run(site.outside[0].id, "mailbox", told, 120)
        values = [value for item in found for value in item["values"]]
        problems = [f"{t['user']}: {f['error']}" for t, f in zip(told, found, strict=True) if f["error"]]
        if (not set(accepted) - set(values) and not problems) or time.monotonic() > end:
            # All of the probe's mail, what other claims left too.
            tidy = [{**item, "token": "", "remove": True} for item in told]
            site.run(site.outside[0].id, "mailbox", tidy, 120)
            return values, problems
        time.sleep(PAUSE_SECONDS)


def leaves(site: Site) -> Iterable[Finding]:
    """For each steering zone: how long a resolver could still be sent to the dead node. That is when its name server
    last said so, and the TTL that it gave."""
    done = site.once(outage)
    for steering in site.plan.steering:
        found = done.of(steering)
        staying = [answer["host"] for answer in found if not answer["left"]]
        limit = detection_seconds(steering) + longest_ttl(steering)
        if not found or staying:
            why = f"still there: {', '.join(staying)}" if staying else f"{done.node.fqdn} was never answered"
            yield Finding(False, "it did not leave", limit, "s", steering.zone, why)
            continue
        last = max(max(answer["last"] - done.killed, 0.0) for answer in found)
        ttl = max(answer["ttl"] for answer in found)
        detail = f"{done.node.fqdn}: last answered {last:.1f} s after the kill, with a TTL of {ttl} s"
        # In whole seconds, as TTLs are: probes that are due every ten seconds come a little late on a busy machine.
        gone = round(last + ttl)
        yield Finding(gone <= limit, gone, limit, "s", steering.zone, detail)


def senders_turn(site: Site) -> Iterable[Finding]:
    """When the outside senders' own resolvers last sent them to the dead node, before it was back."""
    done = site.once(outage)
    end = done.back or float("inf")
    times = [
        asked - done.killed
        for flow in done.flows.values()
        for asked, _ in flow["resolved"]
        if done.killed <= asked < end
    ]
    limit = max(detection_seconds(s) + longest_ttl(s) for s in site.plan.steering)
    last = max(times, default=0.0)
    yield Finding(last <= limit, round(last, 1), limit, "s", detail=f"{len(times)} look-ups led there")


def comes_back(site: Site) -> Iterable[Finding]:
    """The machine restarts without anybody's help, and the node is answered again."""
    done = site.once(outage)
    dead = max(map(detection_seconds, site.plan.steering))
    limit = dead + BOOT_SECONDS + dead
    if done.back is None:
        yield Finding(False, "not back", limit, "s after the kill", detail=done.node.fqdn)
        return
    detail = f"its machine was kept dead for {dead:g} s, as a cloud needs a while to replace one"
    yield Finding(done.back - done.killed <= limit, round(done.back - done.killed, 1), limit, "s after the kill",
                  detail=detail)  # fmt: skip


def nothing_lost(site: Site) -> Iterable[Finding]:
    """Every message that was answered 250 is in its mailbox."""
    done = site.once(outage)
    ledger = done.ledger
    lost = sorted({entry["id"] for entry in ledger} - set(done.collected))
    yield Finding(
        not lost and bool(ledger) and not done.problems,
        len(lost),
        0,
        f"lost of {len(ledger)} accepted",
        detail=listed([*done.problems, *lost]) or f"{done.node.fqdn} was killed",
    )


def all_taken(site: Site) -> Iterable[Finding]:
    """Every message of the flow found a server that took it, while one was dead."""
    done = site.once(outage)
    failed = [number for flow in done.flows.values() for number in flow["failed"]]
    sent = sum(flow["sent"] for flow in done.flows.values())
    yield Finding(not failed and sent > 0, len(failed), 0, f"refused of {sent} sent", detail=listed(failed))


def doubled(site: Site) -> Iterable[Finding]:
    """Messages that are there more than once. SMTP allows it where a reply was lost (RFC 5321 4.5.3.2.6): only those
    that the dead node had a hand in."""
    done = site.once(outage)
    addresses = set(site.addresses(done.node.fqdn))
    touched = {
        entry["id"]
        for flow in done.flows.values()
        for entry in [*flow["ledger"], *flow["cut"]]
        if entry["address"] in addresses and entry["at"] <= done.killed
    }
    twice = {number: times for number, times in Counter(done.collected).items() if times > 1}
    strange = sorted(set(twice) - touched)
    cut = sum(len(flow["cut"]) for flow in done.flows.values())
    yield Finding(
        not strange,
        sum(times - 1 for times in twice.values()),
        len(touched),
        "copies too many",
        detail=f"not explained by the dead node: {listed(strange)}"
        if strange
        else f"{cut} sessions were cut",
    )


CLAIMS = (
    Claim("failover.leaves", "A killed mx node leaves the answers", ("R11", "R12"), leaves, Stage.LAST),
    Claim(
        "failover.senders",
        "No outside sender is led there any more",
        ("R11", "R12"),
        senders_turn,
        Stage.LAST,
    ),
    Claim("failover.back", "It is back in the answers by itself", ("R12",), comes_back, Stage.LAST),
    Claim("failover.lost", "Accepted messages lost", ("R01",), nothing_lost, Stage.LAST),
    Claim("failover.taken", "Messages that no server took", ("R01",), all_taken, Stage.LAST),
    Claim("failover.doubled", "Messages delivered twice", ("R01",), doubled, Stage.LAST),
)
