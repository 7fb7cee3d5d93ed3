import threading
from typing import Any

import pytest

from mailinfra.sandbox.gcp.service import SupervisedMachines
from mailinfra.sandbox.model import MachineSpec
from mailinfra.sandbox.network import Network, NetworkError
from mailinfra.sandbox.supervisor import NoSuchMachine

SPEC = MachineSpec("edge-1", "gcp", "edge-1", "europe-west3", "DE", "203.0.113.70")


class Supervisor:
    """Has machines by id, and fails as it is told."""

    def __init__(self, *specs: MachineSpec, error: Exception | None = None) -> None:
        self.specs = {spec.id: spec for spec in specs}
        self.error = error
        self.updates = 0

    def spec(self, machine: str) -> MachineSpec:
        if machine not in self.specs:
            raise NoSuchMachine(machine)
        return self.specs[machine]

    def create(self, spec: MachineSpec) -> None:
        self.specs[spec.id] = spec

    def update(self, spec: MachineSpec) -> None:
        self.spec(spec.id)
        self.specs[spec.id] = spec
        self.updates += 1
        if self.error:
            raise self.error


def _machines(supervisor: Any) -> SupervisedMachines:
    return SupervisedMachines(supervisor)


def test_a_machine_that_is_gone_is_not_brought_back_by_an_adjustment() -> None:
    supervisor = Supervisor()
    _machines(supervisor).adjust(SPEC)
    assert supervisor.specs == {}
    _machines(supervisor).update(SPEC)
    assert supervisor.specs == {"edge-1": SPEC}, "an update of the server itself makes it again"


def test_what_is_the_same_is_not_touched() -> None:
    supervisor = Supervisor(SPEC)
    _machines(supervisor).adjust(SPEC)
    assert supervisor.updates == 0


def test_a_server_that_is_not_on_the_network_yet_takes_the_change_at_its_boot() -> None:
    # The very error that the network gives: what it says is what tells the case from others.
    network = Network.__new__(Network)
    network._endpoints = {}
    network._lock = threading.RLock()
    with pytest.raises(NetworkError) as raised:
        network.set_firewall("edge-1", ())
    changed = MachineSpec("edge-1", "gcp", "edge-1", "europe-west3", "DE", "203.0.113.70", user_data="eA==")
    supervisor = Supervisor(SPEC, error=raised.value)
    _machines(supervisor).adjust(changed)
    assert supervisor.specs["edge-1"] == changed
    with pytest.raises(NetworkError, match="refused"):
        _machines(Supervisor(SPEC, error=NetworkError("the kernel refused"))).adjust(changed)
