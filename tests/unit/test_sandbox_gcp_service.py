import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.http import ApiError
from mailinfra.sandbox.gcp.service import HOST_NAMES, AwsSts, Service, SupervisedMachines
from mailinfra.sandbox.model import MachineSpec
from mailinfra.sandbox.network import Network, NetworkError
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.supervisor import NoSuchMachine
from mailinfra.sandbox.web_identity import CERTS_FILE, verify
from tests.gcp_helpers import PROJECT, operator

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


def test_a_server_proves_its_account_to_an_audience(tmp_path: Path) -> None:
    service, apis = Service(), GoogleApis(tmp_path)
    service._apis = apis
    owner = operator(apis)
    made = owner("POST", f"/v1/projects/{PROJECT}/serviceAccounts", {"accountId": "store-nodes"})
    metadata = {
        "instance": {
            "id": 7,
            "name": "store-1",
            "zone": "projects/0/zones/europe-west3-a",
            "serviceAccounts": {"default": {"email": made["email"]}},
        },
        "project": {"projectId": PROJECT, "numericProjectId": 9},
    }
    spec = replace(SPEC, metadata=metadata)
    certs = json.loads((tmp_path / CERTS_FILE).read_text())
    claims = verify(service._identity(spec, "vault-1", False), certs)
    who = {"aud": "vault-1", "azp": made["uniqueId"], "sub": made["uniqueId"]}
    assert {k: v for k, v in claims.items() if k not in {"iss", "iat", "exp"}} == who
    full = verify(service._identity(spec, "vault-1", True), certs)
    assert (full["email"], full["email_verified"], full["sub"]) == (made["email"], True, made["uniqueId"])
    assert full["google"]["compute_engine"] == {
        "instance_id": "7",
        "instance_name": "store-1",
        "project_id": PROJECT,
        "project_number": 9,
        "zone": "europe-west3-a",
    }
    with pytest.raises(LookupError, match="no service account"):
        service._identity(SPEC, "vault-1", False)
    owner("PATCH", f"/v1/{made['name']}", {"serviceAccount": {"disabled": True}})
    with pytest.raises(ApiError, match="disabled"):
        service._identity(spec, "vault-1", False)
    apis.close()


def test_an_aws_that_does_not_run_proves_nothing(tmp_path: Path) -> None:
    paths = replace(Paths.of("nothing"), state=tmp_path)
    assert AwsSts(paths)("POST", "/", {"host": "sts.amazonaws.com"}) is None


def test_the_exchange_has_a_name_of_its_own() -> None:
    assert "sts.googleapis.test" in HOST_NAMES
