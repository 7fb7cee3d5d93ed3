"""The sandbox as the probe sees it: its machines, addresses and users, and scripts run on the machines."""

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from mailinfra.fleet import Role
from mailinfra.plan import FleetPlan, NodePlan
from mailinfra.probe.row import ProbeError
from mailinfra.sandbox.control import ControlClient
from mailinfra.sandbox.dns.outside import AUTHORITIES, OUTSIDE_HOSTS, OutsideHost
from mailinfra.sandbox.lifecycle import Sandbox
from mailinfra.sandbox.people import Person
from mailinfra.sandbox.processes import Process

T = TypeVar("T")
A = TypeVar("A")

PARALLEL = 8
"""Scripts that run on machines at the same time for one measurement."""
SCRIPT_SECONDS = 60.0
CALL_SECONDS = 30.0
"""What the daemon may take beyond the script itself."""
_RUN = "\nimport json, sys\njson.dump(main(json.load(sys.stdin)), sys.stdout)\n"


def script(name: str) -> str:
    """The program for a machine's python3: module `remote.<name>`, with what runs its `main` on standard input."""
    return resources.files("mailinfra.probe.remote").joinpath(f"{name}.py").read_text() + _RUN


class Site:
    """See the module. Safe to use from threads."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._lock = threading.Lock()
        self._known: dict[Callable[[Site], Any], Future[Any]] = {}

    @property
    def control(self) -> ControlClient:
        """The daemon."""
        return self.sandbox.control

    @property
    def plan(self) -> FleetPlan:
        """The fleet's plan."""
        return self.sandbox.plan

    @cached_property
    def people(self) -> tuple[Person, ...]:
        """The sandbox's users."""
        return self.sandbox.people

    @property
    def outside(self) -> tuple[OutsideHost, ...]:
        """The hosts outside the fleet."""
        return OUTSIDE_HOSTS

    def once(self, work: "Callable[[Site], T]") -> T:
        """What `work` gives for this site, done once and shared by all who ask, its failure too."""
        with self._lock:
            future: Future[T] | None = self._known.get(work)
            mine = future is None
            if future is None:
                future = self._known[work] = Future()
        if mine:
            try:
                future.set_result(work(self))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    @property
    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        return self.once(_outputs)

    @property
    def machines(self) -> dict[str, str]:
        """Node FQDN to machine id."""
        return self.once(_machines)

    def machine(self, node: NodePlan) -> str:
        """The machine that is this node."""
        try:
            return self.machines[node.fqdn]
        except KeyError:
            raise ProbeError(f"{node.fqdn}: there is no such machine") from None

    def addresses(self, fqdn: str) -> tuple[str, ...]:
        """A node's public addresses, IPv4 first."""
        known = self.outputs["nodes"].get(fqdn)
        if known is None:
            raise ProbeError(f"the stack's outputs have no node {fqdn}")
        return tuple(known[family] for family in ("ipv4", "ipv6") if known.get(family))

    def owner(self, address: str) -> str:
        """Whose public address it is; empty when no node's."""
        return self.once(_owners).get(address, "")

    def nodes(self, role: Role) -> tuple[NodePlan, ...]:
        """The nodes with a role."""
        return tuple(node for node in self.plan.nodes if role in node.roles)

    def zone(self, region: str) -> str:
        """A region's residency zone."""
        return self.plan.region(region).zone

    def run(self, machine: str, name: str, payload: Any, seconds: float = SCRIPT_SECONDS) -> Any:
        """What `remote.<name>` gives on a machine. What it is told goes through its standard input, so that no
        secret is seen in a process list. Raises `ProbeError`."""
        done = self._execute(machine, ["python3", "-c", script(name)], json.dumps(payload), seconds)
        if done["code"] != 0:
            last = (done["stderr"].strip().splitlines() or [f"exit code {done['code']}"])[-1]
            raise ProbeError(f"{name} on {machine}: {last}")
        return json.loads(done["stdout"])

    def _execute(self, machine: str, command: Sequence[str], stdin: str, seconds: float) -> dict[str, Any]:
        client = replace(self.control, timeout=seconds + CALL_SECONDS)
        done: dict[str, Any] = client.call(
            "machines.execute", id=machine, command=list(command), timeout=seconds, stdin=stdin
        )
        return done

    def shell(self, machine: str, *command: str, stdin: str = "", seconds: float = SCRIPT_SECONDS) -> str:
        """A command's output on a machine. Raises `ProbeError` when it fails."""
        done = self._execute(machine, command, stdin, seconds)
        if done["code"] != 0:
            raise ProbeError(f"`{command[0]}` on {machine}: {done['stderr'].strip()[-300:]}")
        return str(done["stdout"])

    def folders(self, machine: str) -> tuple[Path, ...]:
        """On the host: all that a machine has on its own disks, as folders of files and images of volumes.

        What the kernel still keeps of volumes in memory is written out first: else a search of their images
        would miss it.
        """
        spec = self.control.call("machines.get", id=machine)["spec"]
        home = self.sandbox.paths.folder("machines") / machine
        disk = home / "disk" / "upper"
        if spec.get("disk_limit") is not None:
            # An image of its own size, mounted where only the machine's processes see it.
            process = Process.load(home / "process.json")
            if process is None:
                raise ProbeError(f"{machine} does not run, so its disk cannot be looked at")
            disk = Path(f"/proc/{process.pid}/root{disk}")
        folder = self.sandbox.paths.folder("volumes")
        volumes = [
            folder / (f"{volume}.img" if name.startswith("/dev/") else volume)
            for volume, name in spec.get("volumes", {}).items()
        ]
        if volumes:
            os.sync()
        return (disk, *volumes)

    def prepare(self) -> None:
        """Let the outside hosts trust the fleet's authorities, as they would trust a public one."""
        each(lambda host: _trust(self, host), self.outside)


def each(work: Callable[[A], T], items: Iterable[A], parallel: int = PARALLEL) -> list[T]:
    """`work` of every item, side by side, in the items' order. The first failure is raised when all are done."""
    with ThreadPoolExecutor(max_workers=parallel) as pool:
        return [future.result() for future in [pool.submit(work, item) for item in items]]


def door(address: str, port: int) -> str:
    """An address with a port, as people read it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _outputs(site: Site) -> dict[str, Any]:
    return site.sandbox.stack.outputs()


def _machines(site: Site) -> dict[str, str]:
    # A machine's own idea of its name is the cloud's affair; its public address is what the fleet knows it by.
    listed: list[Mapping[str, Any]] = site.control.call("machines.list")
    by_address = {machine["public_ipv4"]: str(machine["id"]) for machine in listed}
    nodes = site.outputs["nodes"]
    return {fqdn: by_address[node["ipv4"]] for fqdn, node in nodes.items() if node.get("ipv4") in by_address}


def _owners(site: Site) -> dict[str, str]:
    return {address: fqdn for fqdn in site.outputs["nodes"] for address in site.addresses(fqdn)}


_APPEND = """
import sys
path, text = sys.argv[1], sys.stdin.read()
with open(path, "r+") as file:
    if text not in file.read():
        file.write(text)
"""


def _trust(site: Site, host: OutsideHost) -> None:
    anchors = str(site.outputs["anchors"])
    site.shell(host.id, "python3", "-c", _APPEND, AUTHORITIES, stdin=anchors)
