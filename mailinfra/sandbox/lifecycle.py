"""`mailinfra sandbox up` and `down`: every step from a bare machine to a mail system that runs, and back."""

import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailinfra import names
from mailinfra.console import Progress, Steps
from mailinfra.network import inbound
from mailinfra.node.bootstrap import STATE, revision
from mailinfra.plan import FleetPlan, NodePlan, plan
from mailinfra.project import Project
from mailinfra.publish import PublishError, publish
from mailinfra.sandbox import people, rootfs, setup
from mailinfra.sandbox.aws.moto_server import PROCESS_FILE
from mailinfra.sandbox.cloud import start_cloud, stop_cloud
from mailinfra.sandbox.control import ControlClient, ControlError
from mailinfra.sandbox.engine import ensure_engine
from mailinfra.sandbox.paths import Paths, SandboxError, sandbox_lock
from mailinfra.sandbox.stack import SandboxStack, cloud_environment
from mailinfra.sandbox.stores import region_stores

HEALTHY_SECONDS = 420.0
"""How long the nodes may take from the end of `pulumi up` until all their services run, on a busy machine."""
POLL_SECONDS = 1.0
SEEN_CLOUDS = "clouds-of-last-up.json"


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that runs, with one stack on it."""

    paths: Paths
    control: ControlClient
    stack: SandboxStack
    plan: FleetPlan

    @property
    def booted(self) -> bool:
        """Whether servers are booted here; without root, or not on Linux, they are only recorded."""
        return bool(self.control.call("status")["machines_booted"])

    @property
    def people_file(self) -> Path:
        """Where the sandbox's users are kept (0600)."""
        return self.paths.state / "people.json"

    @property
    def people(self) -> tuple[people.Person, ...]:
        """The sandbox's users."""
        return people.load_or_invent(self.plan.fleet, self.people_file)


def up(paths: Paths, project: Path, stack: str, steps: Steps, *, wait: bool = True) -> Sandbox:
    """Bring the sandbox up, or up to date. Safe to repeat, also after a crash anywhere in it.

    Raises `SandboxError` (`BusyError` when another `up` or `down` runs) with what the user can do.
    """
    with sandbox_lock(paths):
        return _up(paths, project, stack, steps, wait)


def _up(paths: Paths, project: Path, stack: str, steps: Steps, wait: bool) -> Sandbox:
    # Before anything is started: a config that is refused leaves nothing behind.
    planned = plan(Project(project).fleet(stack))
    with steps.step("host") as progress:
        host = setup.ensure(progress)
    for obstacle in host.obstacles:
        steps.say(f"  no servers are booted, they are only recorded: {obstacle}")
    with steps.step("Pulumi engine") as progress:
        engine = ensure_engine(progress)
    if host.machines:
        for image in rootfs.LAYERS:
            with steps.step(f"machine image {image!r}") as progress:
                rootfs.ensure(image, paths.cache, timed(progress))
    with steps.step("clouds") as progress:
        control = start_cloud(paths, host.machines, timed(progress))
    running = SandboxStack(paths, engine, project, stack, cloud_environment(control))
    sandbox = Sandbox(paths, control, running, planned)
    with steps.step(f"pulumi up, stack {stack}") as progress:
        running.prepare()
        running.up(Counter(progress).on_event, refresh=clouds_forgot(paths))
        remember_clouds(paths)
    with steps.step("user directory"):
        publish_people(sandbox)
    if host.machines and wait:
        with steps.step("mail servers") as progress:
            wait_healthy(sandbox, progress)
    return sandbox


def connect(paths: Paths, project: Path, stack: str) -> Sandbox:
    """The sandbox that runs already. Raises `SandboxError` when none does."""
    control = ControlClient(paths.control_socket)
    clouds = cloud_environment(control)
    # Only now: where no sandbox runs, nobody wants to wait for an engine to be built.
    running = SandboxStack(paths, ensure_engine(lambda _: None), project, stack, clouds)
    return Sandbox(paths, control, running, plan(Project(project).fleet(stack)))


def down(paths: Paths, steps: Steps) -> None:
    """Take everything of the sandbox away: machines, namespaces, mounts, processes, folders. Safe to repeat."""
    with sandbox_lock(paths), steps.step("sandbox down"):
        stop_cloud(paths)


def clouds_forgot(paths: Paths) -> bool:
    """Whether AWS was started anew since the last finished `up`: it keeps nothing, so the state may be ahead of it."""
    seen = paths.state / SEEN_CLOUDS
    return seen.exists() and seen.read_bytes() != (paths.state / "aws" / PROCESS_FILE).read_bytes()


def remember_clouds(paths: Paths) -> None:
    """Keep which AWS this `up` was finished on."""
    (paths.state / SEEN_CLOUDS).write_bytes((paths.state / "aws" / PROCESS_FILE).read_bytes())


def timed(progress: Progress) -> Callable[[str, float], None]:
    """A progress that is told a message and the seconds since it began."""
    return lambda message, seconds: progress(f"{message}, {seconds:.0f} s")


class Counter:
    """Counts the engine's events for the step's line."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.done = 0

    def on_event(self, event: Mapping[str, Any]) -> None:
        """One engine event."""
        if "resOutputsEvent" in event:
            self.done += 1
            urn = str(event["resOutputsEvent"]["metadata"]["urn"])
            self.progress(f"{self.done} resources, {urn.rsplit('::', 1)[-1]}")


def publish_people(sandbox: Sandbox) -> None:
    """Publish the sandbox's users into every region's directory."""
    fleet = sandbox.plan.fleet
    directory, passwords = people.as_directory(sandbox.people, fleet)
    stores = region_stores(sandbox.control, sandbox.stack.outputs()["regions"])
    # Nobody's mail can stay behind where the fleet was changed to place people elsewhere: they are invented.
    publish(fleet, directory, stores, allow_moves=True, environment=passwords)


def wait_healthy(sandbox: Sandbox, progress: Progress, limit: float = HEALTHY_SECONDS) -> None:
    """Wait until every node is through its bootstrap and listens. Raises `SandboxError` naming those that are not."""
    end = time.monotonic() + limit
    while still := unhealthy(sandbox):
        host, why = min(still.items())
        progress(f"{len(still)} of {len(sandbox.plan.nodes)} not ready yet ({host}: {why})")
        if time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            continue
        lines = "\n  ".join(f"{host}: {why}" for host, why in sorted(still.items()))
        raise SandboxError(f"after {limit:.0f} s these nodes are not ready:\n  {lines}")


def unhealthy(sandbox: Sandbox) -> dict[str, str]:
    """The nodes that do not serve yet, and why: what a look at them says, not what was asked for."""
    # By address: at AWS a server's host name is the cloud's until its bootstrap gave it its own.
    machines = {machine["private_ipv4"]: machine for machine in sandbox.control.call("machines.list")}
    routes = published_routes(sandbox)

    def reason(node: NodePlan) -> str:
        problem = look(sandbox, machines.get(node.address.private_ipv4), node, routes.get(node.region, ""))
        return problem or ("" if node.region in routes else "no directory can be read in its control bucket")

    with ThreadPoolExecutor(max_workers=8) as pool:
        reasons = pool.map(reason, sandbox.plan.nodes)
        return {node.fqdn: why for node, why in zip(sandbox.plan.nodes, reasons, strict=True) if why}


def published_routes(sandbox: Sandbox) -> dict[str, str]:
    """The SHA-256 of the routes in each region's control bucket; a region is left out where none can be read."""
    found = {}
    for region, store in region_stores(sandbox.control, sandbox.stack.outputs().get("regions", {})).items():
        # A cloud that does not answer is no reason to be silent about the servers of the others.
        with suppress(PublishError):
            if stored := store.get(names.ROUTES_KEY):
                found[region] = hashlib.sha256(stored.body).hexdigest()
    return found


def look(sandbox: Sandbox, machine: Mapping[str, Any] | None, node: NodePlan, routes: str) -> str:
    """Why a node does not serve; empty when it does: booted, through the bootstrap that it was given last, every port
    of its roles open, and its mail routed by the directory that was published last (`routes`: its SHA-256; empty: it is
    not known).
    """
    if machine is None:
        return "no such machine"
    if machine["state"] != "running":
        return f"{machine['state']} {machine['reason']}".strip()
    ports = ",".join(str(rule.port) for rule in inbound(node.roles) if rule.port is not None)
    try:
        given = sandbox.control.call("machines.get", id=machine["id"])["spec"]["user_data"]
        wanted = revision(base64.b64decode(given))
        command = ["python3", "-c", LOOK, ports, wanted, f"{STATE}/directory/current/routes.jsonl", routes]
        done = sandbox.control.call("machines.execute", id=machine["id"], command=command, timeout=20)
    except ControlError as error:
        # It may have gone off meanwhile, for it is given another script, or be too busy to answer.
        return f"cannot look: {str(error)[-200:]}"
    return (
        str(done["stdout"]).strip() if done["code"] == 0 else f"cannot look: {done['stderr'].strip()[-200:]}"
    )


LOOK = """
import hashlib, socket, subprocess, sys
from pathlib import Path
begun = Path("/run/mailinfra-revision")
if begun.exists() and begun.read_text().strip() != sys.argv[2]:
    print("still has bootstrap", begun.read_text().strip(), "instead of", sys.argv[2])
    sys.exit()
state = subprocess.run(["systemctl", "is-active", "mailinfra-bootstrap"], capture_output=True, text=True).stdout.strip()
if state != "active":
    print("bootstrap is", state)
    sys.exit()
closed = []
for port in sys.argv[1].split(","):
    try:
        socket.create_connection(("127.0.0.1", int(port)), 2).close()
    except OSError:
        closed.append(port)
if closed:
    print("closed:", *closed)
elif sys.argv[4] and hashlib.sha256(Path(sys.argv[3]).read_bytes()).hexdigest() != sys.argv[4]:
    print("still has an older directory")
"""
"""Run on a node: prints what is not as it should be."""
