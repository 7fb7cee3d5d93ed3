"""The daemon that plays the clouds: one process for each sandbox, started by `mailinfra sandbox up`.

`python -m mailinfra.sandbox.cloud --name NAME [--no-machines]` runs it in the foreground.
"""

import argparse
import faulthandler
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from mailinfra.sandbox import disks, network, rootfs, setup
from mailinfra.sandbox.context import Context, Method, Service, StateFile
from mailinfra.sandbox.control import (
    Conflict,
    ControlClient,
    ControlError,
    ControlServer,
    InvalidParams,
    NotFound,
    NotRunning,
    RemoteError,
)
from mailinfra.sandbox.machine import NotRunningError, cgroups, clean_up_machine
from mailinfra.sandbox.metadata import Caller, MetadataService
from mailinfra.sandbox.model import FirewallRule, ImageName, MachineSpec
from mailinfra.sandbox.paths import DEFAULT_NAME, Paths, SandboxError, file_lock
from mailinfra.sandbox.pki import Authority
from mailinfra.sandbox.processes import Process
from mailinfra.sandbox.supervisor import MachineExists, NoSuchMachine, Supervisor

SERVICES = {
    "dns": "mailinfra.sandbox.dns.service",
    "debian": "mailinfra.sandbox.debian",
    "aws": "mailinfra.sandbox.aws.service",
    "gcp": "mailinfra.sandbox.gcp.service",
    "schedules": "mailinfra.sandbox.schedules",
}
"""The parts of the cloud, in the order in which they start; each module has a class `Service`."""
START_SECONDS = 120.0
STOP_SECONDS = 60.0
SERVICE_STOP_SECONDS = 10.0
WAIT_LIMIT_SECONDS = 240.0
"""Longest wait of one `machines.wait` call, below the client's own limit."""
EXECUTE_LIMIT_SECONDS = 900.0
"""Longest run of one `machines.execute` call; who needs it that long gives its client as much time."""
Progress = Callable[[str, float], None]
_log = logging.getLogger("mailinfra.sandbox.cloud")


class Cloud:
    """All of the daemon's parts, and the order in which they come up and go down."""

    def __init__(self, paths: Paths, with_machines: bool, parts: Sequence[str]) -> None:
        self.paths = paths
        self._parts = parts
        self._stopping = threading.Event()
        self._power_off = False
        self._methods: dict[str, Method] = {
            "status": self._status,
            "shutdown": self._shutdown,
        }
        authority = Authority.ensure(paths.folder("pki"))
        self._network: network.Network | None = None
        self._supervisor: Supervisor | None = None
        base_files: dict[str, Any] = {}
        if with_machines:
            node = _layers(paths, "node")
            # For the life of this process: who makes images of other recipes removes those that nobody uses.
            rootfs.hold(_layers(paths, "internet"))
            state = StateFile(paths.folder("services") / "network.json")
            self._network = network.Network(paths.id, node[-1], state)
            self._supervisor = Supervisor(
                paths,
                self._network,
                layers=lambda image: _layers(paths, image),
                base_files=base_files,
                authority=authority.certificate_pem,
                boots_at_once=os.cpu_count() or 1,
            )
            self._methods |= _machine_methods(self._supervisor) | _network_methods(
                self._supervisor, self._network
            )
        self._context = Context(
            paths=paths,
            authority=authority,
            metadata=MetadataService(),
            network=self._network,
            supervisor=self._supervisor,
            methods=self._methods,
            standing_machines=[],
            base_files=base_files,
        )
        self._services: list[Service] = []

    def run(self) -> None:
        """Come up, serve until told to stop, go down."""
        server = ControlServer(self.paths.control_socket, self._methods)
        try:
            self._start()
            # Only now does anybody get an answer: who can reach the daemon can use all of it.
            server.start()
            _log.info("ready")
            self._stopping.wait()
        finally:
            self._stop()
            server.stop()

    def stop(self, power_off: bool) -> None:
        """Make `run` end; with `power_off` machines go off as well."""
        self._power_off = self._power_off or power_off
        self._stopping.set()

    def _start(self) -> None:
        if self._network is not None and self._supervisor is not None:
            supervisor, router = self._supervisor, self._network
            router.start()
            self._context.metadata.find = lambda address: _caller(supervisor, router, address)
            self._context.metadata.start(router.listen(network.METADATA, 80))
        for part in self._parts:
            service = cast("Service", importlib.import_module(SERVICES[part]).Service())
            for key, call in service.methods().items():
                self._methods[f"{service.name}.{key}"] = call
            self._services.append(service)
        for service in self._services:
            _log.info("starting %s", service.name)
            service.start(self._context)
            if self._supervisor is not None:
                # At once: a part that starts later may need what this part's machines serve.
                for spec in self._context.standing_machines:
                    _stand(self._supervisor, spec)
            self._context.standing_machines.clear()
        if self._supervisor is not None:
            self._supervisor.resume()

    def _stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close(power_off=self._power_off)
        self._context.metadata.stop()
        for service in reversed(self._services):
            # In a thread: one part that hangs must not keep the others from being stopped.
            thread = threading.Thread(target=_stop_service, args=(service,), daemon=True)
            thread.start()
            thread.join(SERVICE_STOP_SECONDS)
            if thread.is_alive():
                _log.error("%s did not stop within %.0f s", service.name, SERVICE_STOP_SECONDS)

    def _status(self) -> dict[str, Any]:
        """What runs: the daemon's process id, its parts, its machines, and whether machines are booted at
        all.
        """
        machines = [] if self._supervisor is None else self._supervisor.statuses()
        return {
            "name": self.paths.name,
            "id": self.paths.id,
            "pid": os.getpid(),
            "machines_booted": self._supervisor is not None,
            "services": [service.name for service in self._services],
            "machines": [machine.to_json() for machine in machines],
        }

    def _shutdown(self, power_off: bool = True) -> None:
        """End the daemon, after this answer; machines with it unless told otherwise."""
        threading.Timer(0.1, self.stop, (power_off,)).start()


def _stop_service(service: Service) -> None:
    try:
        service.stop()
    except Exception:  # the others must be stopped too
        _log.exception("%s did not stop", service.name)


def _stand(supervisor: Supervisor, spec: MachineSpec) -> None:
    """Have a machine of the sandbox's own; one from before with another definition is replaced."""
    try:
        supervisor.create(spec)
    except MachineExists:
        supervisor.delete(spec.id)
        supervisor.create(spec)


def _layers(paths: Paths, image: ImageName) -> tuple[Path, ...]:
    """An image that `up` has made. The daemon never makes one: that takes minutes."""
    layers = rootfs.cached(image, paths.cache)
    if layers is None:
        raise SandboxError(
            f"the machines' image {image!r} is missing in {paths.cache}; run `mailinfra sandbox up`"
        )
    return layers


def _caller(supervisor: Supervisor, router: network.Network, address: str) -> Caller | None:
    for spec in supervisor.specs():
        if spec.private_ipv4 == address:
            return Caller(spec, router.public_of(address))
    return None


@contextmanager
def _translated() -> Iterator[None]:
    """The supervisor's errors as those of the control socket."""
    try:
        yield
    except NoSuchMachine as error:
        raise NotFound(str(error)) from error
    except MachineExists as error:
        raise Conflict(str(error)) from error
    except NotRunningError as error:
        raise RemoteError(str(error)) from error


def _spec(data: dict[str, Any]) -> MachineSpec:
    try:
        return MachineSpec.from_json(data)
    except (TypeError, KeyError) as error:
        raise InvalidParams(f"not a machine: {error}") from error


def _rules(data: list[dict[str, Any]]) -> tuple[FirewallRule, ...]:
    try:
        return tuple(
            FirewallRule(
                rule["protocol"], tuple(rule["ports"]) if rule.get("ports") else None, tuple(rule["sources"])
            )
            for rule in data
        )
    except (TypeError, KeyError) as error:
        raise InvalidParams(f"not firewall rules: {error}") from error


def _machine_methods(supervisor: Supervisor) -> dict[str, Method]:
    def create(spec: dict[str, Any]) -> dict[str, Any]:
        with _translated():
            return supervisor.create(_spec(spec)).to_json()

    def update(spec: dict[str, Any]) -> dict[str, Any]:
        with _translated():
            return supervisor.update(_spec(spec)).to_json()

    def delete(id: str) -> None:
        with _translated():
            supervisor.delete(id)

    def get(id: str) -> dict[str, Any]:
        with _translated():
            return {**supervisor.get(id).to_json(), "spec": supervisor.spec(id).to_json()}

    def statuses() -> list[dict[str, Any]]:
        return [status.to_json() for status in supervisor.statuses()]

    def kill(id: str, dead_seconds: float = 0) -> None:
        with _translated():
            supervisor.kill(id, dead_seconds)

    def restart(id: str) -> None:
        with _translated():
            supervisor.restart(id)

    def execute(id: str, command: list[str], timeout: float = 60, stdin: str = "") -> dict[str, Any]:
        with _translated():
            return supervisor.execute(
                id, command, min(timeout, EXECUTE_LIMIT_SECONDS), stdin.encode()
            ).to_json()

    def wait(id: str, states: list[str], timeout: float = 180) -> dict[str, Any]:
        with _translated():
            return supervisor.wait(id, states, min(timeout, WAIT_LIMIT_SECONDS)).to_json()

    def delete_volume(volume: str) -> None:
        with _translated():
            supervisor.delete_volume(volume)

    def stop(id: str) -> None:
        with _translated():
            supervisor.stop(id)

    def start(id: str) -> None:
        with _translated():
            supervisor.start(id)

    def snapshot_volume(volume: str, snapshot: str, size: int) -> None:
        with _translated():
            supervisor.snapshot_volume(volume, snapshot, size)

    def restore_volume(volume: str, snapshot: str, size: int) -> None:
        with _translated():
            supervisor.restore_volume(volume, snapshot, size)

    return {
        "machines.create": create,
        "machines.update": update,
        "machines.delete": delete,
        "machines.get": get,
        "machines.list": statuses,
        "machines.kill": kill,
        "machines.restart": restart,
        "machines.execute": execute,
        "machines.wait": wait,
        "machines.delete_volume": delete_volume,
        "machines.stop": stop,
        "machines.start": start,
        "machines.snapshot_volume": snapshot_volume,
        "machines.restore_volume": restore_volume,
        "machines.delete_snapshot": supervisor.delete_snapshot,
    }


def _network_methods(supervisor: Supervisor, router: network.Network) -> dict[str, Method]:
    def set_firewall(id: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
        with _translated():
            return supervisor.set_firewall(id, _rules(rules)).to_json()

    def map_address(public: str, private: str | None = None) -> None:
        try:
            router.map_address(public, private)
        except ValueError as error:
            raise InvalidParams(str(error)) from error

    return {
        "network.set_firewall": set_firewall,
        "network.map_address": map_address,
        "network.mapping": lambda: router.mapping,
    }


# From outside: the daemon as a process


def start_cloud(
    paths: Paths, with_machines: bool, progress: Progress, parts: Sequence[str] = tuple(SERVICES)
) -> ControlClient:
    """Start the daemon and wait until it answers; a daemon that answers already is left as it is.

    `parts` are the parts of the cloud to start (names in `SERVICES`).

    The caller holds `sandbox_lock`. Raises `SandboxError` with the log's end when it does not come up.
    """
    client = ControlClient(paths.control_socket)
    # Short, because a daemon that is still starting lets its callers wait.
    probe = ControlClient(paths.control_socket, timeout=1)
    if Process.load(paths.daemon_pid) is not None and probe.alive():
        return client
    _end(Process.load(paths.daemon_pid))
    paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if with_machines:
        if (raised := setup.raise_limits()) is not None:
            progress(f"kernel limit raised, {raised}", 0.0)
        for image in rootfs.LAYERS:
            rootfs.ensure(image, paths.cache, progress)
    command = [sys.executable, "-m", "mailinfra.sandbox.cloud", "--name", paths.name, "--parts", *parts]
    if not with_machines:
        command.append("--no-machines")
    position = paths.daemon_log.stat().st_size if paths.daemon_log.exists() else 0
    began = time.monotonic()
    process = _spawn(command, paths.daemon_log)
    process.save(paths.daemon_pid)
    while not probe.alive():
        elapsed = time.monotonic() - began
        ended = not process.alive()
        if ended or elapsed > START_SECONDS:
            _end(process)
            with paths.daemon_log.open("rb") as log:
                log.seek(position)
                tail = "\n".join(log.read().decode(errors="replace").splitlines()[-15:])
            what = "ended at once" if ended else f"did not answer within {START_SECONDS:.0f} s"
            raise SandboxError(f"the sandbox's daemon {what}; its log is {paths.daemon_log}:\n{tail}")
        progress("starting the clouds", elapsed)
        time.sleep(0.1)
    return client


def _spawn(command: list[str], log: Path) -> Process:
    """Start a process in a session of its own that outlives the caller; its output goes to the end of `log`."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ,
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    # It is our child, so its id cannot be another's before we have waited for it.
    return Process.of(pid) or Process(pid, -1)


def stop_cloud(paths: Paths) -> None:
    """End the daemon and all that it or a dead predecessor left: processes, namespaces, mounts, folders.

    The caller holds `sandbox_lock`. Whatever is gone already is no error. Raises `SandboxError` naming what
    is left.
    """
    process = Process.load(paths.daemon_pid)
    try:
        ControlClient(paths.control_socket, timeout=STOP_SECONDS).call("shutdown", power_off=True)
    except NotRunning:
        pass
    except ControlError as error:
        _log.warning("the daemon did not shut down as asked: %s", error)
    if process is not None and not process.wait(STOP_SECONDS):
        _end(process)
    # Each part notes the processes it starts with `Process.save` in its own folder.
    for noted in sorted([*paths.state.glob("*/*.json"), *paths.state.glob("machines/*/process.json")]):
        _end(Process.load(noted))
    if os.geteuid() == 0:
        for name in cgroups(paths.id):
            clean_up_machine(name)
        network.remove_all(paths.id)
        disks.detach_loops(paths.state)
    disks.remove_tree(paths.state)
    left = leftovers(paths)
    if left:
        raise SandboxError(f"not all of the sandbox {paths.name!r} could be removed; left: {', '.join(left)}")


def leftovers(paths: Paths) -> list[str]:
    """What there still is of a sandbox on this host, by listing: one line each."""
    left = []
    if paths.state.exists():
        left.append(f"folder {paths.state}")
    left += [f"network namespace {path.name}" for path in network.namespaces(paths.id)]
    left += [f"control group {path}" for path in cgroups(paths.id).values()]
    left += [f"mount {path}" for path in disks.mounts_below(paths.state)]
    left += [f"loop device {path}" for path in disks.loops(paths.state)]
    left += [f"process {pid}: {command}" for pid, command in _processes(paths)]
    left += [f"folder {path}" for path in Path("/run/systemd/nspawn").glob(f"*/{paths.id}-*")]
    return left


def _processes(paths: Paths) -> list[tuple[int, str]]:
    """Processes of ours that work on the sandbox: its machines' nspawn, its parts' helpers.

    A user's own, such as a pager that shows a log of the sandbox, is not among them.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        machine = any(argument.startswith(f"--machine={paths.id}-") for argument in arguments)
        ours = any(argument.startswith("mailinfra.sandbox") for argument in arguments)
        inside = ours and any(argument.startswith(f"{paths.state}/") for argument in arguments)
        if (machine or inside) and int(entry.name) != os.getpid():
            found.append((int(entry.name), " ".join(arguments).strip()))
    return found


def _end(process: Process | None) -> None:
    """End a process that is certainly ours: kindly, then hard."""
    if process is None:
        return
    if process.send(signal.SIGTERM) and not process.wait(10):
        process.send(signal.SIGKILL)
        process.wait(10)


def main() -> int:
    """Run the daemon."""
    parser = argparse.ArgumentParser(description="The clouds of a mailinfra sandbox.")
    parser.add_argument("--name", default=DEFAULT_NAME)
    parser.add_argument("--no-machines", action="store_true", help="boot no servers (no root needed)")
    parser.add_argument("--parts", nargs="*", choices=list(SERVICES), default=list(SERVICES))
    arguments = parser.parse_args()
    # `kill -USR1` shows in the log what each thread does.
    faulthandler.register(signal.SIGUSR1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        paths = Paths.of(arguments.name)
        paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chdir("/")
        with file_lock(paths.state / "cloud.lock", f"the daemon of sandbox {paths.name!r} runs already"):
            cloud = Cloud(paths, not arguments.no_machines, arguments.parts)
            for number in (signal.SIGTERM, signal.SIGINT):
                # A daemon that is only ended leaves its machines to the next one.
                signal.signal(number, lambda *_: cloud.stop(power_off=False))
            cloud.run()
    except SandboxError as error:
        _log.error("%s", error)
        return 1
    except Exception:
        _log.exception("the clouds cannot run")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
