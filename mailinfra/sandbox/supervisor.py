"""Keeps the sandbox's servers as they were asked for: boots them, watches them, brings back one that died.

A machine that died comes back by itself, as EC2's auto recovery and GCE's automatic restart do. One that
shut itself down stays off.
"""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mailinfra.sandbox import disks
from mailinfra.sandbox.machine import DiedError, Executed, Machine, NotRunningError, cgroups, clean_up_machine
from mailinfra.sandbox.model import CloudKind, FirewallRule, ImageName, MachineFile, MachineSpec
from mailinfra.sandbox.network import Network
from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.processes import write_atomic

State = Literal["pending", "running", "stopped", "failed"]
BOOT_LIMIT_SECONDS = 180.0
"""How long a boot may take, its user-data included, on a busy machine."""
RESTART_SECONDS = 2.0
"""How long a machine that died stays dead; real clouds need a minute or more."""
POWER_OFF_SECONDS = 10.0
SNAPSHOTS = {"aws": "snap-", "gcp": "gcp-"}
"""What the names of a cloud's snapshots begin with."""
QUICK_DEATHS = 3
"""A machine that died so often without finishing its boot has failed for good."""


class NoSuchMachine(SandboxError):  # noqa: N818 - named as what it tells
    """There is no machine with this id."""


class MachineExists(SandboxError):  # noqa: N818 - named as what it tells
    """The id or an address is in use by another machine."""


@dataclass(frozen=True)
class Status:
    """A machine as it is now.

    `pending` boots, `running` has finished its boot (`reason` then names units that failed), `stopped` shut
    itself down, `failed` did not come up (`reason` says why). `boot_seconds` is how long the last finished
    boot took, `boots` how many there were.
    """

    id: str
    state: State
    reason: str
    boots: int
    boot_seconds: float | None
    kind: str
    hostname: str
    region: str
    country: str
    private_ipv4: str
    public_ipv4: str | None
    ipv6: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def _plain(name: str) -> str:
    """A volume's or snapshot's id, which names its file. Raises `SandboxError` for what could lead elsewhere."""
    if not _PLAIN.fullmatch(name):
        raise SandboxError(f"{name!r}: allowed are letters, digits and . _ -")
    return name


class _Watch:
    """One machine and the thread that keeps it up."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.state: State = "pending"
        self.reason = ""
        self.boots = 0
        self.boot_seconds: float | None = None
        self.dead_seconds = 0.0
        self.unwanted = threading.Event()
        self.again = False
        """Whether it shall start again, whatever the reason that it is off for."""
        self.off = False
        """Whether it shall stay off."""
        self.thread: threading.Thread | None = None


class Supervisor:
    """The servers of one sandbox. What is wanted is kept in `machines.json` of the state root. Safe to use
    by threads.

    `layers` gives an image's layers by name, uppermost first.
    """

    def __init__(
        self,
        paths: Paths,
        network: Network,
        *,
        layers: Callable[[ImageName], tuple[Path, ...]],
        base_files: dict[str, MachineFile],
        authority: str,
        boots_at_once: int,
        boot_limit: float = BOOT_LIMIT_SECONDS,
        restart_delay: float = RESTART_SECONDS,
    ) -> None:
        self._paths = paths
        self._network = network
        self._layers = layers
        self._base_files = base_files
        self._authority = authority
        self._booting = threading.BoundedSemaphore(boots_at_once)
        self._boot_limit = boot_limit
        self._restart_delay = restart_delay
        self._watches: dict[str, _Watch] = {}
        self._earlier = {spec.id: spec for spec in map(MachineSpec.from_json, self._load())}
        """What an earlier daemon had, until it is taken over."""
        self._listeners: list[Callable[[Status], None]] = []
        self._changed = threading.Condition()
        self._copying = threading.Lock()
        """A file system can be held still by one at a time."""

    # What is wanted

    def create(self, spec: MachineSpec) -> Status:
        """Boot a server. Returns while it is `pending`.

        The very same spec again changes nothing. Raises `MachineExists` for another spec under a known id,
        or an address that another machine has.
        """
        self._take_over([spec.id])
        with self._changed:
            known = self._watches.get(spec.id)
            if known is not None:
                if known.machine.spec == spec:
                    return self._status(known)
                raise MachineExists(f"machine {spec.id!r} exists already, with another definition")
            self._check_addresses(spec)
            watch = self._add(spec)
            self._save()
        # Once only: the mapping can be changed while the machine lives, and outlives its restarts.
        if spec.public_ipv4:
            self._network.map_address(spec.public_ipv4, spec.private_ipv4)
        self._start(watch)
        return self.get(spec.id)

    def update(self, spec: MachineSpec) -> Status:
        """Change what both clouds change in place: firewall, egress on port 25, metadata, address mapping,
        volumes and their growth, and user-data, which on AWS the next boot sees first.

        What is part of the disk or the network card (files, addresses) cannot be changed: replacing a server is
        `delete` and `create`. A disk keeps the limit that it was made with. Raises `NoSuchMachine`, and
        `MachineExists` for what cannot be changed.
        """
        with self._changed:
            watch = self._watch(spec.id)
            before = watch.machine.spec
            spec = replace(spec, disk_limit=before.disk_limit)
            fixed = (
                "kind",
                "hostname",
                "region",
                "private_ipv4",
                "ipv6",
                "addresses",
                "files",
                "units",
                "image",
            )
            changed = [name for name in fixed if getattr(before, name) != getattr(spec, name)]
            if changed:
                names = ", ".join(changed)
                raise MachineExists(
                    f"machine {spec.id!r}: {names} cannot be changed in place; delete and create it"
                )
            watch.machine.spec = spec
            self._save()
        self._network.set_firewall(spec.id, spec.firewall, spec.egress_port_25)
        if spec.public_ipv4 != before.public_ipv4:
            if before.public_ipv4 and self._network.mapping.get(before.public_ipv4) == before.private_ipv4:
                self._network.map_address(before.public_ipv4, None)
            if spec.public_ipv4:
                self._network.map_address(spec.public_ipv4, spec.private_ipv4)
        if spec.volume_bytes != before.volume_bytes:
            watch.machine.grow_volumes()
        if watch.machine.running():
            for volume, name in spec.volumes.items():
                if volume not in before.volumes:
                    watch.machine.attach_volume(volume, name)
        return self.get(spec.id)

    def listen(self, listener: Callable[[Status], None]) -> None:
        """Call `listener` with each machine that changed its state, from a thread of the supervisor's.

        Call this before `resume`. The listener must not raise, and not wait for machines.
        """
        self._listeners.append(listener)

    def set_firewall(self, machine: str, rules: Iterable[FirewallRule]) -> Status:
        """Replace a machine's firewall in place."""
        spec = self.spec(machine)
        return self.update(replace(spec, firewall=tuple(rules)))

    def delete(self, machine: str) -> None:
        """Shut a server down and remove it, its disk and its place on the network. Volumes stay. None there:
        no error.
        """
        with self._changed:
            watch = self._watches.get(machine)
            if watch is None:
                return
            watch.unwanted.set()
            self._changed.notify_all()
        watch.machine.power_off(POWER_OFF_SECONDS)
        if watch.thread is not None:
            watch.thread.join()
        # It may have been about to boot when it was asked to power off.
        watch.machine.kill()
        watch.machine.clean_up()
        self._network.detach(machine)
        disks.remove_tree(watch.machine.folder)
        with self._changed:
            self._watches.pop(machine, None)
            self._save()
            self._changed.notify_all()

    def delete_volume(self, volume: str) -> None:
        """Remove a volume and all that is on it. Raises `MachineExists` while a machine has it."""
        with self._changed:
            for watch in self._watches.values():
                if volume in watch.machine.spec.volumes:
                    raise MachineExists(f"volume {volume!r} is in use by machine {watch.machine.spec.id!r}")
        folder = self._paths.folder("volumes")
        disks.detach_loops(folder / f"{volume}.img")
        (folder / f"{volume}.img").unlink(missing_ok=True)
        disks.remove_tree(folder / volume)

    def snapshot_volume(self, volume: str, snapshot: str, size: int) -> None:
        """Keep what is on a volume at this moment as a snapshot. `size` (bytes) is of a volume that was never used.

        Raises `MachineExists` when there is such a snapshot, `SandboxError` for a volume that is a folder.
        """
        source, kept = self._volume_file(volume), self._snapshot_file(snapshot)
        with self._copying:
            if kept.exists():
                raise MachineExists(f"snapshot {snapshot!r} exists already")
            disks.copy_volume(source, kept, size)

    def restore_volume(self, volume: str, snapshot: str, size: int) -> None:
        """Make a volume of `size` bytes with what a snapshot holds. Raises `MachineExists` when the volume holds
        something already, `SandboxError` when there is no such snapshot."""
        kept, target = self._snapshot_file(snapshot), self._volume_file(volume)
        with self._copying:
            if target.exists():
                raise MachineExists(f"volume {volume!r} exists already")
            if not kept.exists():
                raise SandboxError(f"there is no snapshot {snapshot!r}")
            disks.copy_volume(kept, target, size)
            disks.make_volume(target, size)

    def delete_snapshot(self, snapshot: str) -> None:
        """Remove a snapshot. None there: no error."""
        self._snapshot_file(snapshot).unlink(missing_ok=True)

    def _volume_file(self, volume: str) -> Path:
        folder = self._paths.folder("volumes")
        if (folder / _plain(volume)).is_dir():
            raise SandboxError(f"volume {volume!r} is a folder: allowed are snapshots of block devices")
        return folder / f"{volume}.img"

    def _snapshot_file(self, snapshot: str) -> Path:
        return self._paths.folder("snapshots") / f"{_plain(snapshot)}.img"

    def delete_all(self, kind: CloudKind) -> None:
        """Remove every server of a cloud with its addresses and volumes: the cloud has lost what it knew of them."""
        with self._changed:
            earlier = [machine for machine, spec in self._earlier.items() if spec.kind == kind]
        self._take_over(earlier)
        gone = [spec for spec in self.specs() if spec.kind == kind]
        for spec in gone:
            if spec.public_ipv4:
                self._network.map_address(spec.public_ipv4, None)
        with ThreadPoolExecutor(max_workers=max(1, len(gone))) as pool:
            for _ in pool.map(self.delete, [spec.id for spec in gone]):
                pass
        for spec in gone:
            for volume in spec.volumes:
                self.delete_volume(volume)
        for kept in (
            self._paths.folder("snapshots").glob(f"{SNAPSHOTS[kind]}*.img") if kind in SNAPSHOTS else ()
        ):
            kept.unlink()

    # What is

    def get(self, machine: str) -> Status:
        """The machine as it is now. Raises `NoSuchMachine`."""
        with self._changed:
            return self._status(self._watch(machine))

    def statuses(self) -> list[Status]:
        """All machines, by id."""
        with self._changed:
            return [self._status(watch) for _, watch in sorted(self._watches.items())]

    def spec(self, machine: str) -> MachineSpec:
        """What was asked for. Raises `NoSuchMachine`."""
        with self._changed:
            return self._watch(machine).machine.spec

    def specs(self) -> Sequence[MachineSpec]:
        """What was asked for, all machines."""
        with self._changed:
            return [watch.machine.spec for watch in self._watches.values()]

    def upper(self, machine: str) -> Path:
        """The folder on the host with all that the machine has written to its own disk (an overlay's upper
        layer).
        """
        with self._changed:
            return self._watch(machine).machine.upper

    def wait(self, machine: str, states: Sequence[str], timeout: float) -> Status:
        """Wait until the machine is in one of the states, at most `timeout` seconds; the machine as it is
        then.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                status = self._status(self._watch(machine))
                left = deadline - time.monotonic()
                if status.state in states or left <= 0:
                    return status
                self._changed.wait(left)

    def execute(
        self, machine: str, command: Sequence[str], timeout: float = 60, stdin: bytes = b""
    ) -> Executed:
        """Run a command on the machine as root. Raises `NoSuchMachine`, `NotRunningError`, and
        `SandboxError` when it takes longer than `timeout` seconds."""
        with self._changed:
            found = self._watch(machine).machine
        try:
            return found.execute(command, timeout, stdin)
        except subprocess.TimeoutExpired:
            raise SandboxError(f"`{' '.join(command)}` on {machine} took longer than {timeout:g} s") from None

    def kill(self, machine: str, dead_seconds: float = 0) -> None:
        """Cut the machine's power. It comes back by itself after the restart delay, or after `dead_seconds`
        when that is longer. Raises `NotRunningError`.
        """
        with self._changed:
            watch = self._watch(machine)
        if not watch.machine.running():
            raise NotRunningError(f"machine {machine} does not run")
        with self._changed:
            watch.state, watch.reason = "pending", "killed"
            watch.dead_seconds = dead_seconds
            self._changed.notify_all()
        watch.machine.kill()

    def restart(self, machine: str) -> None:
        """Shut the machine down in order and start it again, as the clouds stop and start a server. Returns when it
        is off; one that was off already starts. Raises `NoSuchMachine`.
        """
        with self._changed:
            watch = self._watch(machine)
            watch.off, watch.again = False, True
            self._changed.notify_all()
        if watch.machine.running():
            watch.machine.power_off(POWER_OFF_SECONDS)

    def stop(self, machine: str) -> None:
        """Shut the machine down in order and leave it off until `start`, as the clouds stop a server. Raises
        `NoSuchMachine`, and `SandboxError` when it does not end.
        """
        with self._changed:
            watch = self._watch(machine)
            watch.off, watch.again = True, False
        if watch.machine.running():
            watch.machine.power_off(POWER_OFF_SECONDS)
        status = self.wait(machine, ["stopped", "failed"], 2 * POWER_OFF_SECONDS)
        if status.state == "pending":
            raise SandboxError(f"machine {machine!r} does not stop")

    def start(self, machine: str) -> None:
        """Start a machine that is off; one that runs is left alone. Raises `NoSuchMachine`."""
        with self._changed:
            watch = self._watch(machine)
            watch.off = False
            watch.again = watch.again or watch.state in ("stopped", "failed")
            self._changed.notify_all()

    # The daemon's side

    def resume(self) -> None:
        """Take over what an earlier daemon left: machines that still run are adopted, the others boot."""
        with self._changed:
            known = {self._name(machine) for machine in {*self._earlier, *self._watches}}
        for name in set(cgroups(self._paths.id)) - known:
            clean_up_machine(name)
        self._take_over(list(self._earlier))

    def _take_over(self, machines: Sequence[str]) -> None:
        with self._changed:
            specs = [self._earlier.pop(machine) for machine in machines if machine in self._earlier]
            watches = [self._add(spec) for spec in specs]
        for watch in watches:
            self._start(watch)

    def close(self, power_off: bool) -> None:
        """Stop watching; with `power_off` also end all machines, otherwise they run on for the next
        daemon.
        """
        with self._changed:
            watches = list(self._watches.values())
            for watch in watches:
                watch.unwanted.set()
            self._changed.notify_all()
        if not power_off:
            return
        # Their disks go next, or their owner wants the sandbox gone: no reason to be gentle.
        for watch in watches:
            watch.machine.kill()
        for watch in watches:
            if watch.thread is not None:
                watch.thread.join()
            watch.machine.kill()
            watch.machine.clean_up()

    # Inside

    def _name(self, machine: str) -> str:
        return f"{self._paths.id}-{machine}"

    def _add(self, spec: MachineSpec) -> _Watch:
        image: ImageName = spec.image or ("node" if spec.kind in ("aws", "gcp") else "internet")
        machine = Machine(
            spec,
            name=self._name(spec.id),
            folder=self._paths.folder("machines") / spec.id,
            volumes=self._paths.folder("volumes"),
            layers=self._layers(image),
            namespace=self._network.namespace(spec.id),
        )
        watch = _Watch(machine)
        self._watches[spec.id] = watch
        return watch

    def _start(self, watch: _Watch) -> None:
        watch.thread = threading.Thread(
            target=self._keep, args=(watch,), name=f"keep-{watch.machine.spec.id}", daemon=True
        )
        watch.thread.start()

    def _keep(self, watch: _Watch) -> None:
        """The life of one machine, until it is no longer wanted."""
        deaths = 0
        while not watch.unwanted.is_set():
            watch.again = False
            try:
                finished = self._bring_up(watch)
            except (SandboxError, OSError, subprocess.SubprocessError) as error:
                if watch.unwanted.is_set():
                    return
                watch.machine.kill()
                if watch.off:
                    self._set(watch, "stopped", "it was stopped")
                    self._rest(watch)
                    continue
                deaths += 1
                # One that hangs would hang again, or skip what it did not finish; one that died may have been killed.
                if deaths >= QUICK_DEATHS or not isinstance(error, DiedError):
                    self._set(watch, "failed", str(error))
                    self._rest(watch)
                    deaths = 0
                    continue
                self._set(watch, "pending", str(error))
                self._rest(watch, self._restart_delay)
                continue
            deaths = 0
            self._set(watch, "running", finished)
            # An adopted machine is not our child, so the kernel's word on its end is all there is.
            watch.machine.wait_ended(None)
            if watch.unwanted.is_set():
                return
            if watch.again:
                self._set(watch, "pending", "it is restarted")
            elif watch.off or watch.machine.ended_by_itself:
                self._set(watch, "stopped", "it was stopped" if watch.off else "it shut itself down")
                self._rest(watch)
            else:
                self._set(watch, "pending", "it died; it is restarted")
                self._rest(watch, max(self._restart_delay, watch.dead_seconds))
            watch.dead_seconds = 0.0

    def _rest(self, watch: _Watch, seconds: float | None = None) -> None:
        """Wait until the machine is no longer wanted or shall start again, at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: watch.unwanted.is_set() or watch.again, seconds)

    def _bring_up(self, watch: _Watch) -> str:
        machine = watch.machine
        self._network.attach(machine.spec)
        if machine.adopt():
            return machine.wait_booted(self._boot_limit)
        with self._booting:
            if watch.unwanted.is_set():
                return ""
            machine.clean_up()
            machine.prepare(self._base_files, self._authority)
            began = time.monotonic()
            machine.boot()
            finished = machine.wait_booted(self._boot_limit)
            watch.boot_seconds = round(time.monotonic() - began, 2)
            watch.boots += 1
            return finished

    def _set(self, watch: _Watch, state: State, reason: str) -> None:
        with self._changed:
            watch.state, watch.reason = state, reason
            self._changed.notify_all()
            status = self._status(watch)
        for listener in self._listeners:
            listener(status)

    def _watch(self, machine: str) -> _Watch:
        try:
            return self._watches[machine]
        except KeyError:
            raise NoSuchMachine(
                f"no machine {machine!r}; there are: {', '.join(sorted(self._watches)) or 'none'}"
            ) from None

    def _status(self, watch: _Watch) -> Status:
        spec = watch.machine.spec
        return Status(
            id=spec.id,
            state=watch.state,
            reason=watch.reason,
            boots=watch.boots,
            boot_seconds=watch.boot_seconds,
            kind=spec.kind,
            hostname=spec.hostname,
            region=spec.region,
            country=spec.country,
            private_ipv4=spec.private_ipv4,
            public_ipv4=self._network.public_of(spec.private_ipv4),
            ipv6=spec.ipv6,
        )

    def _check_addresses(self, spec: MachineSpec) -> None:
        for watch in self._watches.values():
            other = watch.machine.spec
            for address in (spec.private_ipv4, spec.ipv6, *spec.addresses):
                if address is not None and address in (other.private_ipv4, other.ipv6, *other.addresses):
                    raise MachineExists(
                        f"machine {spec.id!r}: address {address} belongs to machine {other.id!r}"
                    )

    def _load(self) -> list[dict[str, Any]]:
        try:
            data: list[dict[str, Any]] = json.loads((self._paths.state / "machines.json").read_text())
        except FileNotFoundError:
            return []
        return data

    def _save(self) -> None:
        specs = self._earlier | {machine: watch.machine.spec for machine, watch in self._watches.items()}
        data = [spec.to_json() for _, spec in sorted(specs.items())]
        write_atomic(self._paths.state / "machines.json", json.dumps(data, indent=1))
