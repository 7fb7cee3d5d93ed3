"""The supervisor's decisions, with machines that only pretend to boot."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mailinfra.sandbox import supervisor as module
from mailinfra.sandbox.machine import BootError, DiedError, NotRunningError
from mailinfra.sandbox.model import FirewallRule, MachineSpec
from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.supervisor import MachineExists, NoSuchMachine, Status, Supervisor

SPEC = MachineSpec("i-1", "aws", "mx-1.example.test", "r", "DE", "203.0.113.4", public_ipv4="198.51.100.4")
OTHER = replace(SPEC, id="i-2", private_ipv4="203.0.113.5", public_ipv4=None)


class FakeMachine:
    """A machine whose boot ends as the test says (`outcome`), and which dies when the test says."""

    made: ClassVar[list["FakeMachine"]] = []
    outcome: ClassVar[Callable[["FakeMachine"], str]] = staticmethod(lambda _: "")
    adopted: ClassVar[set[str]] = set()

    def __init__(self, spec: MachineSpec, **given: Any) -> None:
        self.spec = spec
        self.folder: Path = given["folder"]
        self.upper = self.folder / "disk/upper"
        self.boots = 0
        self.prepared = 0
        self.attached: list[str] = []
        self.grown = self.powered_off = self.killed = 0
        self.ended = threading.Event()
        self.ended.set()
        self.ended_by_itself = False
        FakeMachine.made.append(self)

    def adopt(self) -> bool:
        if self.spec.id in FakeMachine.adopted and self.boots == 0:
            self.ended.clear()
            return True
        return False

    def prepare(self, _files: Any, _authority: str) -> None:
        self.prepared += 1

    def boot(self) -> None:
        self.boots += 1
        self.ended.clear()

    def wait_booted(self, _limit: float) -> str:
        return FakeMachine.outcome(self)

    def running(self) -> bool:
        return not self.ended.is_set()

    def wait_ended(self, timeout: float | None) -> bool:
        return self.ended.wait(timeout)

    def kill(self) -> None:
        self.killed += 1
        self.ended.set()

    def power_off(self, timeout: float) -> None:
        self.powered_off += 1
        self.ended.set()

    def grow_volumes(self) -> None:
        self.grown += 1

    def clean_up(self) -> None:
        pass

    def attach_volume(self, volume: str, name: str) -> None:
        self.attached.append(f"{volume}:{name}")


class FakeNetwork:
    def __init__(self) -> None:
        self.mapping: dict[str, str] = {}
        self.firewalls: dict[str, tuple[FirewallRule, ...]] = {}
        self.attached: list[str] = []

    def namespace(self, machine: str) -> Path:
        return Path("/run/netns") / machine

    def attach(self, spec: MachineSpec) -> None:
        self.attached.append(spec.id)

    def detach(self, machine: str) -> None:
        self.attached.remove(machine)

    def map_address(self, public: str, private: str | None) -> None:
        self.mapping.pop(public, None)
        if private:
            self.mapping[public] = private

    def public_of(self, private: str) -> str | None:
        return next((a for a, b in self.mapping.items() if b == private), None)

    def set_firewall(
        self, machine: str, rules: tuple[FirewallRule, ...], egress_port_25: bool | None = None
    ) -> None:
        self.firewalls[machine] = rules


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths("unit", tmp_path / "state", tmp_path / "cache")


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def make(
    paths: Paths, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Supervisor]]:
    monkeypatch.setattr(module, "Machine", FakeMachine)
    monkeypatch.setattr(module, "cgroups", lambda _: {})
    monkeypatch.setattr(FakeMachine, "made", [])
    monkeypatch.setattr(FakeMachine, "adopted", set())
    monkeypatch.setattr(FakeMachine, "outcome", staticmethod(lambda _: ""))
    made: list[Supervisor] = []

    def build(restart_delay: float = 0.01) -> Supervisor:
        paths.folder("machines")
        supervisor = Supervisor(
            paths,
            network,  # type: ignore[arg-type]
            layers=lambda _: (),
            base_files={},
            authority="",
            boots_at_once=1,
            restart_delay=restart_delay,
        )
        made.append(supervisor)
        return supervisor

    yield build
    for supervisor in made:
        supervisor.close(power_off=True)


def settled(
    supervisor: Supervisor, machine: str = "i-1", states: tuple[str, ...] = ("running", "failed")
) -> Status:
    return supervisor.wait(machine, states, 5)


def test_a_machine_boots_and_its_failed_units_are_told(
    make: Callable[..., Supervisor], network: FakeNetwork
) -> None:
    FakeMachine.outcome = staticmethod(lambda _: "failed on the machine: x.service")
    supervisor = make()
    supervisor.create(SPEC)
    status = settled(supervisor)
    assert (status.state, status.reason, status.boots) == ("running", "failed on the machine: x.service", 1)
    assert status.public_ipv4 == "198.51.100.4"
    assert network.attached == ["i-1"]
    assert supervisor.create(SPEC).boots == 1, "the same again changes nothing"


def test_one_that_dies_comes_back_and_keeps_its_mapping(
    make: Callable[..., Supervisor], network: FakeNetwork
) -> None:
    supervisor = make()
    supervisor.create(SPEC)
    settled(supervisor)
    network.map_address("198.51.100.4", None)
    supervisor.kill("i-1")
    status = settled(supervisor)
    assert (status.state, status.boots) == ("running", 2)
    assert status.public_ipv4 is None, "an address taken away does not come back with a boot"
    assert FakeMachine.made[0].prepared == 2


def test_one_that_shuts_itself_down_stays_off(make: Callable[..., Supervisor]) -> None:
    supervisor = make()
    supervisor.create(SPEC)
    settled(supervisor)
    FakeMachine.made[0].ended_by_itself = True
    FakeMachine.made[0].ended.set()
    assert settled(supervisor, states=("stopped",)).state == "stopped"
    with pytest.raises(NotRunningError):
        supervisor.kill("i-1")
    supervisor.delete("i-1")


def test_one_that_dies_during_each_boot_fails_after_three(make: Callable[..., Supervisor]) -> None:
    def die(machine: FakeMachine) -> str:
        raise DiedError(f"died in boot {machine.boots}")

    FakeMachine.outcome = staticmethod(die)
    supervisor = make()
    supervisor.create(SPEC)
    status = settled(supervisor)
    assert (status.state, status.reason) == ("failed", "died in boot 3")


@pytest.mark.parametrize("error", [BootError("no end in sight"), SandboxError("no disk"), OSError("no room")])
def test_what_another_boot_would_not_mend_fails_at_once(
    make: Callable[..., Supervisor], error: Exception
) -> None:
    def fail(_: FakeMachine) -> str:
        raise error

    FakeMachine.outcome = staticmethod(fail)
    supervisor = make()
    supervisor.create(SPEC)
    assert (settled(supervisor).state, FakeMachine.made[0].boots) == ("failed", 1)
    assert str(error) in settled(supervisor).reason
    supervisor.delete("i-1")
    assert supervisor.statuses() == []


def test_clashes_and_strangers_are_refused(make: Callable[..., Supervisor]) -> None:
    supervisor = make()
    supervisor.create(SPEC)
    with pytest.raises(MachineExists, match="with another definition"):
        supervisor.create(replace(SPEC, country="US"))
    with pytest.raises(MachineExists, match=r"203\.0\.113\.4 belongs to machine 'i-1'"):
        supervisor.create(replace(SPEC, id="i-9"))
    with pytest.raises(MachineExists, match="hostname, region cannot be changed in place"):
        supervisor.update(replace(SPEC, hostname="x", region="y"))
    for call in (supervisor.get, supervisor.spec, supervisor.upper, supervisor.kill):
        with pytest.raises(NoSuchMachine, match="no machine 'i-2'; there are: i-1"):
            call("i-2")
    supervisor.delete("i-2")


def test_what_clouds_change_in_place_is_changed_in_place(
    make: Callable[..., Supervisor], network: FakeNetwork
) -> None:
    supervisor = make()
    supervisor.create(SPEC)
    settled(supervisor)
    rule = FirewallRule("tcp", (25, 25), ("0.0.0.0/0",))
    assert supervisor.set_firewall("i-1", [rule]).state == "running"
    assert network.firewalls["i-1"] == (rule,)
    supervisor.update(replace(SPEC, firewall=(rule,), public_ipv4="198.51.100.9", volumes={"v": "/dev/sdf"}))
    assert network.mapping == {"198.51.100.9": "203.0.113.4"}
    assert FakeMachine.made[0].attached == ["v:/dev/sdf"]
    assert FakeMachine.made[0].boots == 1
    with pytest.raises(MachineExists, match="in use by machine 'i-1'"):
        supervisor.delete_volume("v")


def test_the_next_daemon_takes_over(make: Callable[..., Supervisor], paths: Paths) -> None:
    first = make()
    first.create(SPEC)
    first.create(OTHER)
    settled(first), settled(first, "i-2")
    saved = json.loads((paths.state / "machines.json").read_text())
    assert [MachineSpec.from_json(data) for data in saved] == [SPEC, OTHER]
    first.close(power_off=False)
    FakeMachine.adopted = {"i-1"}
    second = make()
    # A part's machine is declared before the others are taken over: none may be forgotten by that.
    second.create(OTHER)
    assert len(json.loads((paths.state / "machines.json").read_text())) == 2
    second.resume()
    assert (settled(second).boots, settled(second, "i-2").boots) == (0, 1), "one ran on, the other was booted"
    with pytest.raises(MachineExists):
        second.create(replace(OTHER, country="US"))
    second.delete("i-1")
    assert [data["id"] for data in json.loads((paths.state / "machines.json").read_text())] == ["i-2"]


def test_states_are_told_in_their_order(make: Callable[..., Supervisor]) -> None:
    supervisor = make()
    heard: list[tuple[str, str]] = []
    died = threading.Event()

    def hear(status: Status) -> None:
        heard.append((status.id, status.state))
        if len(heard) == 3:
            died.set()

    supervisor.listen(hear)
    supervisor.create(SPEC)
    settled(supervisor)
    FakeMachine.made[0].ended.set()
    assert died.wait(5)
    assert heard == [("i-1", "running"), ("i-1", "pending"), ("i-1", "running")]


def test_no_more_boots_at_once_than_allowed(make: Callable[..., Supervisor]) -> None:
    inside = threading.Semaphore(1)
    clashes: list[str] = []

    def boot(machine: FakeMachine) -> str:
        if not inside.acquire(blocking=False):
            clashes.append(machine.spec.id)
        else:
            threading.Event().wait(0.02)
            inside.release()
        return ""

    FakeMachine.outcome = staticmethod(boot)
    supervisor = make()
    for number in range(6):
        supervisor.create(replace(OTHER, id=f"n-{number}", private_ipv4=f"203.0.113.{number + 10}"))
    for number in range(6):
        assert settled(supervisor, f"n-{number}").state == "running"
    assert clashes == []


def test_a_restart_is_orderly_and_starts_what_was_off(make: Callable[..., Supervisor]) -> None:
    supervisor = make(restart_delay=30)
    supervisor.create(SPEC)
    settled(supervisor)
    (machine,) = FakeMachine.made
    supervisor.restart("i-1")
    assert supervisor.wait("i-1", ["pending"], 0.01).boots <= 2
    assert until_boots(supervisor, 2).state == "running"
    assert (machine.powered_off, machine.killed) == (1, 0)
    machine.ended_by_itself = True
    machine.ended.set()
    assert supervisor.wait("i-1", ["stopped"], 5).state == "stopped"
    supervisor.restart("i-1")
    assert until_boots(supervisor, 3).state == "running"
    assert machine.powered_off == 1


def until_boots(supervisor: Supervisor, boots: int) -> Status:
    """The machine after so many boots, within five seconds."""
    end = time.monotonic() + 5
    while (status := supervisor.get("i-1")).boots < boots or status.state != "running":
        assert time.monotonic() < end, status
        time.sleep(0.01)
    return status


def test_a_cloud_that_lost_all_loses_its_servers_and_their_volumes(
    make: Callable[..., Supervisor], paths: Paths, network: FakeNetwork
) -> None:
    first = make()
    first.create(replace(SPEC, public_ipv4="198.51.100.4", volumes={"vol-1": "/dev/sdf"}))
    first.create(replace(OTHER, kind="gcp"))
    settled(first)
    settled(first, OTHER.id)
    volume = paths.folder("volumes") / "vol-1.img"
    volume.touch()
    first.close(power_off=False)
    # Neither those that an earlier daemon had, nor one of its own, is left.
    second = make()
    second.create(replace(SPEC, id="i-9", private_ipv4="203.0.113.99", volumes={}))
    second.delete_all("aws")
    assert [status.id for status in second.statuses()] == []
    second.resume()
    assert [status.id for status in second.statuses()] == [OTHER.id]
    assert "198.51.100.4" not in network.mapping
    assert not volume.exists()


def test_volumes_grow_in_place_and_a_disk_stays_as_it_was_made(make: Callable[..., Supervisor]) -> None:
    supervisor = make()
    supervisor.create(replace(SPEC, disk_limit=1 << 30))
    settled(supervisor)
    supervisor.update(replace(SPEC, disk_limit=2 << 30, volume_bytes={"vol-1": 5 << 30}))
    assert supervisor.spec("i-1").disk_limit == 1 << 30
    assert FakeMachine.made[0].grown == 1


def test_waiting_has_a_limit(make: Callable[..., Supervisor]) -> None:
    supervisor = make(restart_delay=30)
    supervisor.create(SPEC)
    settled(supervisor)
    supervisor.kill("i-1")
    assert supervisor.wait("i-1", ["running"], 0.05).state == "pending"
    supervisor.delete("i-1")
    assert supervisor.statuses() == []


def test_a_volume_is_kept_as_a_snapshot_and_made_again_of_it(
    make: Callable[..., Supervisor], paths: Paths
) -> None:
    supervisor = make()
    volumes, kept = paths.folder("volumes"), paths.folder("snapshots")
    (volumes / "vol-1.img").write_bytes(b"mail")
    supervisor.snapshot_volume("vol-1", "snap-1", 1 << 20)
    with pytest.raises(MachineExists, match="'snap-1' exists already"):
        supervisor.snapshot_volume("vol-1", "snap-1", 1 << 20)
    (volumes / "vol-1.img").write_bytes(b"lost")
    supervisor.restore_volume("vol-2", "snap-1", 1 << 20)
    assert (volumes / "vol-2.img").read_bytes().rstrip(b"\0") == b"mail"
    assert (volumes / "vol-2.img").stat().st_size == 1 << 20
    with pytest.raises(MachineExists, match="'vol-1' exists already"):
        supervisor.restore_volume("vol-1", "snap-1", 1 << 20)
    supervisor.delete_snapshot("snap-1")
    supervisor.delete_snapshot("snap-1")
    assert list(kept.iterdir()) == []
    with pytest.raises(SandboxError, match="no snapshot 'snap-1'"):
        supervisor.restore_volume("vol-3", "snap-1", 1 << 20)


@pytest.mark.parametrize("name", ["../machines", "", ".hidden", "a/b"])
def test_a_snapshots_name_leads_nowhere_else(make: Callable[..., Supervisor], name: str) -> None:
    with pytest.raises(SandboxError, match="allowed are letters"):
        make().delete_snapshot(name)


def test_folders_have_no_snapshots(make: Callable[..., Supervisor], paths: Paths) -> None:
    (paths.folder("volumes") / "vol-1").mkdir()
    with pytest.raises(SandboxError, match="is a folder"):
        make().snapshot_volume("vol-1", "snap-1", 1)


def test_a_cloud_that_lost_all_has_lost_its_snapshots(make: Callable[..., Supervisor], paths: Paths) -> None:
    supervisor = make()
    for name in ("snap-1", "gcp-mail"):
        supervisor.snapshot_volume("never-used", name, 1)
    supervisor.delete_all("aws")
    assert [path.name for path in paths.folder("snapshots").iterdir()] == ["gcp-mail.img"]


def test_a_stopped_machine_stays_off_until_it_is_started(make: Callable[..., Supervisor]) -> None:
    supervisor = make()
    supervisor.create(SPEC)
    assert supervisor.wait("i-1", ["running"], 5).state == "running"
    supervisor.stop("i-1")
    status = supervisor.get("i-1")
    assert (status.state, status.reason, status.boots) == ("stopped", "it was stopped", 1)
    supervisor.stop("i-1")
    time.sleep(0.1)
    assert supervisor.get("i-1").state == "stopped", "it does not come back by itself"
    supervisor.start("i-1")
    assert supervisor.wait("i-1", ["running"], 5).boots == 2
    supervisor.start("i-1")
    time.sleep(0.05)
    assert supervisor.get("i-1").boots == 2, "one that runs is left alone"
