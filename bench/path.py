"""Mail through the fleet's whole path against one bare Postfix.

An outside machine sends the same messages over as many sessions to (a) another outside machine, a plain Postfix that
delivers into a maildir, (b) an mx node of the recipient's own zone, (c) an mx node of a foreign zone, which streams
them through to the home region. The clock stops when the last message is in the recipient's maildir.
"""

import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mailinfra.console import Steps
from mailinfra.fleet import Role
from mailinfra.placement import homes, mailbox_host
from mailinfra.sandbox import lifecycle
from mailinfra.sandbox.lifecycle import Sandbox
from mailinfra.sandbox.paths import Paths

MESSAGES, SESSIONS, SIZE = 500, 10, 5000
LIMIT_SECONDS = 300.0
PROJECT = Path(__file__).parents[1]
SENDER, BARE = "outside-de", "outside-us"


@contextmanager
def fleet() -> Iterator[Sandbox]:
    """The sandbox's stack on a sandbox of the bench's own."""
    with tempfile.TemporaryDirectory(prefix="mb") as folder:
        before = dict(os.environ)
        os.environ["XDG_STATE_HOME"] = folder
        paths, steps = Paths.of("bench"), Steps()
        try:
            yield lifecycle.up(paths, PROJECT, "sandbox", steps)
        finally:
            lifecycle.down(paths, steps)
            os.environ.clear()
            os.environ.update(before)


def run(sandbox: Sandbox, machine: str, command: str, timeout: float = 200) -> str:
    """A command's output on a machine."""
    done = sandbox.control.call(
        "machines.execute", id=machine, command=["sh", "-c", command], timeout=timeout
    )
    if done["code"]:
        raise RuntimeError(f"{machine}: {command}: {done['stderr']}")
    return str(done["stdout"])


def rate(sandbox: Sandbox, host: str, recipient: str, store: str, folder: str) -> float:
    """Messages a second from the first connection until the last one lies in `folder` on machine `store`."""
    count = f"find {folder} -type f -path '*/new/*' 2>/dev/null | wc -l"
    wanted = int(run(sandbox, store, count)) + MESSAGES
    # The fleet refuses a greeting without a whole name.
    source = (
        f"smtp-source -M $(hostname -f) -s {SESSIONS} -m {MESSAGES} -l {SIZE} "
        f"-f sender@outside-de.test -t {shlex.quote(recipient)}"
    )
    begun = time.monotonic()
    run(sandbox, SENDER, f"{source} {host}:25")
    while int(run(sandbox, store, count)) < wanted:
        if time.monotonic() - begun > LIMIT_SECONDS:
            raise RuntimeError(f"{host}: not all of {MESSAGES} messages arrived within {LIMIT_SECONDS:.0f} s")
        time.sleep(0.1)
    return MESSAGES / (time.monotonic() - begun)


def rows() -> Iterator[dict[str, Any]]:
    """Measure: one bare Postfix, then the two ways through the fleet."""
    with fleet() as sandbox:
        plan, person = sandbox.plan, sandbox.people[0]
        machines = {m["private_ipv4"]: m["id"] for m in sandbox.control.call("machines.list")}
        addresses = sandbox.stack.outputs()["nodes"]
        zone = plan.region(person.home).zone
        host = mailbox_host(person.address, homes(plan.fleet).hosts[person.home])
        store = next(node for node in plan.nodes if node.fqdn == host)
        mx = {
            plan.region(node.region).zone == zone: addresses[node.fqdn]["ipv4"]
            for node in plan.nodes
            if Role.MX in node.roles
        }
        bare_address = next(
            m["private_ipv4"] for m in sandbox.control.call("machines.list") if m["id"] == BARE
        )
        bare = rate(sandbox, bare_address, "bench@outside-us.test", BARE, "/var/mail/outside")
        for title, near in (("of the home zone", True), ("of a foreign zone, streamed", False)):
            ours = rate(sandbox, mx[near], person.address, machines[store.address.private_ipv4], "/srv/mail")
            yield {
                "name": f"outside to mailbox through an mx {title} / one bare Postfix",
                "ours": ours,
                "reference": bare,
                "ratio": ours / bare,
                "unit": "messages/s",
                "better": "higher",
                "limit": None,
            }
