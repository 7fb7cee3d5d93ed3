import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from mailinfra.sandbox.gcp.api import GoogleApis
from mailinfra.sandbox.gcp.compute import Compute, compute_agent
from mailinfra.sandbox.gcp.http import ApiError
from mailinfra.sandbox.model import FirewallRule, MachineSpec
from mailinfra.sandbox.paths import SandboxError
from tests.gcp_helpers import PROJECT, account, crypto_key, grant, operator

GLOBAL = f"projects/{PROJECT}/global"
REGION = f"projects/{PROJECT}/regions/europe-west3"
ZONE = f"projects/{PROJECT}/zones/europe-west3-a"


@dataclass
class Machines:
    """Remembers what the supervisor would be asked."""

    specs: dict[str, MachineSpec] = field(default_factory=dict)
    restarted: list[str] = field(default_factory=list)
    volumes_gone: list[str] = field(default_factory=list)
    refuse: str = ""

    def create(self, spec: MachineSpec) -> None:
        if self.refuse:
            raise SandboxError(self.refuse)
        assert spec.id not in self.specs
        self.specs[spec.id] = spec

    def update(self, spec: MachineSpec) -> None:
        self.specs[spec.id] = spec

    def adjust(self, spec: MachineSpec) -> None:
        if spec.id in self.specs:
            self.specs[spec.id] = spec

    def delete(self, machine: str) -> None:
        self.specs.pop(machine, None)

    def restart(self, machine: str) -> None:
        self.restarted.append(machine)

    def delete_volume(self, volume: str) -> None:
        self.volumes_gone.append(volume)


@dataclass
class Names:
    """Remembers what the DNS would be asked."""

    pointers: dict[str, str] = field(default_factory=dict)
    locations: dict[str, str] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def _set(where: dict[str, Any], key: str, value: Any) -> None:
        if value is None:
            where.pop(key, None)
        else:
            where[key] = value

    def set_ptr(self, address: str, name: str | None) -> None:
        self._set(self.pointers, address, name)

    def set_location(self, network: str, region: str | None) -> None:
        self._set(self.locations, network, region)

    def put_health_check(self, name: str, config: dict[str, Any] | None) -> None:
        self._set(self.checks, name, config)


@dataclass
class World:
    """The APIs with a network, a subnetwork and a service account in them."""

    apis: GoogleApis
    machines: Machines
    names: Names
    email: str

    def __call__(
        self, method: str, kind: str, name: str, inputs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return operator(self.apis)(method, f"/sandbox/{kind}/{quote(name, safe='')}", inputs)

    def instance(self, name: str = "edge-1", **inputs: Any) -> dict[str, Any]:
        whole = {
            "name": name,
            "machineType": "e2-small",
            "zone": "europe-west3-a",
            "bootDisk": {"initializeParams": {"image": "debian-12"}},
            "networkInterfaces": [{"subnetwork": "sub", "accessConfigs": [{}]}],
            "serviceAccount": {"email": self.email, "scopes": ["cloud-platform"]},
            **inputs,
        }
        method = "PATCH" if self.apis.store.get("instance", f"{ZONE}/instances/{name}") else "POST"
        return self(method, "instance", f"{ZONE}/instances/{name}", whole)["outputs"]  # type: ignore[no-any-return]


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    apis = GoogleApis(tmp_path_factory.mktemp("gcp"))
    machines, names = Machines(), Names()
    for kind, handler in Compute(apis.store, apis.identity, machines, names).kinds().items():
        apis.resources.add(kind, handler)
    member, _ = account(apis, "edge-nodes")
    made = World(apis, machines, names, member.partition(":")[2])
    made("POST", "network", f"{GLOBAL}/networks/net", {"autoCreateSubnetworks": False})
    made(
        "POST",
        "subnetwork",
        f"{REGION}/subnetworks/sub",
        {
            "network": "net",
            "ipCidrRange": "203.0.113.64/27",
            "stackType": "IPV4_IPV6",
            "ipv6AccessType": "EXTERNAL",
        },
    )
    yield made
    apis.close()


def test_a_server_is_what_was_declared(world: World) -> None:
    address = world("POST", "address", f"{REGION}/addresses/a", {})["outputs"]["address"]
    address6 = world(
        "POST",
        "address",
        f"{REGION}/addresses/a6",
        {"ipVersion": "IPV6", "ipv6EndpointType": "VM", "subnetwork": f"{REGION}/subnetworks/sub"},
    )["outputs"]
    assert address6["prefixLength"] == 96
    world("POST", "disk", f"{ZONE}/disks/mail", {"size": 20})
    world(
        "POST",
        "firewall",
        f"{GLOBAL}/firewalls/smtp",
        {
            "network": "net",
            "allows": [{"protocol": "tcp", "ports": ["25", "1000-2000"]}],
            "sourceRanges": ["0.0.0.0/0"],
            "targetServiceAccounts": [world.email],
        },
    )
    pointer = "edge-1.example.test."
    outputs = world.instance(
        hostname="edge-1.example.test",
        metadata={"startup-script": "#!/bin/sh\ntrue\n", "role": "edge"},
        attachedDisks=[{"source": f"{ZONE}/disks/mail", "deviceName": "mail"}],
        networkInterfaces=[
            {
                "subnetwork": f"{REGION}/subnetworks/sub",
                "networkIp": "203.0.113.70",
                "stackType": "IPV4_IPV6",
                "accessConfigs": [{"natIp": address, "publicPtrDomainName": pointer}],
                "ipv6AccessConfigs": [{"externalIpv6": address6["address"], "publicPtrDomainName": pointer}],
            }
        ],
    )
    spec = world.machines.specs["edge-1"]
    assert (spec.kind, spec.hostname, spec.region, spec.country) == (
        "gcp",
        "edge-1.example.test",
        "europe-west3",
        "DE",
    )
    assert (spec.private_ipv4, spec.public_ipv4, spec.ipv6) == ("203.0.113.70", address, address6["address"])
    assert base64.b64decode(spec.user_data) == b"#!/bin/sh\ntrue\n"
    assert spec.volumes == {"mail": "/dev/disk/by-id/google-mail"}
    assert (spec.volume_bytes, spec.disk_limit) == ({"mail": 20 << 30}, 10 << 30)
    world("PATCH", "disk", f"{ZONE}/disks/mail", {"size": 30})
    assert world.machines.specs["edge-1"].volume_bytes == {"mail": 30 << 30}
    assert spec.egress_port_25 is False
    assert spec.firewall == (
        FirewallRule("tcp", (25, 25), ("0.0.0.0/0",)),
        FirewallRule("tcp", (1000, 2000), ("0.0.0.0/0",)),
    )
    tree = spec.metadata["instance"]
    assert tree["serviceAccounts"]["default"]["email"] == world.email
    assert tree["attributes"]["role"] == "edge"
    assert tree["id"] == int(outputs["instanceId"])
    assert world.names.pointers == {address: pointer, address6["address"]: pointer}
    assert world.names.locations[f"{address}/32"] == "europe-west3"


def test_firewall_rules_follow_tags_accounts_and_changes(world: World) -> None:
    world.instance("edge-1", tags=["mx"])
    world.instance("store-1", tags=["store"], serviceAccount={})
    base = {"network": "net", "allows": [{"protocol": "tcp", "ports": ["2525"]}]}
    world(
        "POST", "firewall", f"{GLOBAL}/firewalls/in", {**base, "targetTags": ["store"], "sourceTags": ["mx"]}
    )
    assert world.machines.specs["edge-1"].firewall == ()
    edge = world.machines.specs["edge-1"]
    wanted = (f"{edge.private_ipv4}/32", f"{edge.public_ipv4}/32")
    assert world.machines.specs["store-1"].firewall == (FirewallRule("tcp", (2525, 2525), wanted),)
    world.instance("edge-2", tags=["mx"])
    assert len(world.machines.specs["store-1"].firewall[0].sources) == 4, "a new peer is let in"
    world("PATCH", "firewall", f"{GLOBAL}/firewalls/in", {**base, "targetTags": ["store"], "disabled": True})
    assert world.machines.specs["store-1"].firewall == ()
    world("PATCH", "firewall", f"{GLOBAL}/firewalls/in", {**base, "sourceRanges": ["192.0.2.0/24"]})
    assert world.machines.specs["edge-1"].firewall == (FirewallRule("tcp", (2525, 2525), ("192.0.2.0/24",)),)
    world("DELETE", "firewall", f"{GLOBAL}/firewalls/in")
    assert all(spec.firewall == () for spec in world.machines.specs.values())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"allows": [{"protocol": "tcp", "ports": ["70000"]}]}, "port or range '70000'"),
        ({"allows": [{"protocol": "tcp", "ports": ["90-80"]}]}, "port or range '90-80'"),
        ({"allows": [{"protocol": "icmp", "ports": ["1"]}]}, "for icmp"),
        ({"allows": [{"protocol": "carrier-pigeon"}]}, "carrier-pigeon"),
        ({"allows": [{"protocol": "tcp"}], "sourceRanges": ["10.0.0.1/8"]}, "host bits"),
        ({}, "Exactly one of allow and deny"),
        ({"denies": [{"protocol": "all"}], "priority": 10}, "comes before the allow rule base"),
        ({"allows": [{"protocol": "tcp"}], "network": "none"}, "does not exist"),
    ],
)
def test_a_firewall_that_cannot_be_is_refused_and_nothing_is_left(
    world: World, inputs: dict[str, Any], message: str
) -> None:
    base = {"network": "net", "allows": [{"protocol": "tcp"}]}
    world("POST", "firewall", f"{GLOBAL}/firewalls/base", base)
    with pytest.raises(ApiError, match=message):
        world("POST", "firewall", f"{GLOBAL}/firewalls/bad", {"network": "net", **inputs})
    assert world.apis.store.get("firewall", f"{GLOBAL}/firewalls/bad") is None


def test_rules_that_come_at_once_all_arrive(world: World) -> None:
    world.instance()
    seen = threading.Barrier(8)

    def add(number: int) -> None:
        seen.wait()
        rule = {"network": "net", "allows": [{"protocol": "tcp", "ports": [str(number)]}]}
        world("POST", "firewall", f"{GLOBAL}/firewalls/f{number}", rule)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {rule.ports for rule in world.machines.specs["edge-1"].firewall} == {(n, n) for n in range(1, 9)}


def test_a_deny_below_every_allow_is_kept(world: World) -> None:
    world(
        "POST", "firewall", f"{GLOBAL}/firewalls/allow", {"network": "net", "allows": [{"protocol": "tcp"}]}
    )
    deny = {"network": "net", "denies": [{"protocol": "all"}], "priority": 65000}
    world("POST", "firewall", f"{GLOBAL}/firewalls/deny", deny)


def test_addresses_are_taken_once_and_given_back(world: World) -> None:
    names = [f"{REGION}/addresses/a{n}" for n in range(126)]
    taken = {world("POST", "address", name, {})["outputs"]["address"] for name in names}
    assert len(taken) == 126
    with pytest.raises(ApiError, match="Quota exceeded"):
        world("POST", "address", f"{REGION}/addresses/more", {})
    world("DELETE", "address", names[5])
    assert world("POST", "address", f"{REGION}/addresses/more", {})["outputs"]["address"] in taken


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"networkInterfaces": [{"subnetwork": "none"}]}, "does not exist"),
        ({"networkInterfaces": [{"network": "net"}]}, "a custom mode network needs one"),
        ({"networkInterfaces": [{"subnetwork": "sub", "networkIp": "10.0.0.1"}]}, "not in the subnetwork"),
        (
            {"networkInterfaces": [{"subnetwork": "sub", "accessConfigs": [{"natIp": "192.0.2.1"}]}]},
            "not reserved",
        ),
        ({"networkInterfaces": [{"subnetwork": "sub", "ipv6AccessConfigs": [{}]}]}, "IPV4_IPV6"),
        ({"serviceAccount": {"email": "nobody@example.test", "scopes": []}}, "does not exist"),
        ({"desiredStatus": "TERMINATED"}, "keeps its servers RUNNING"),
        ({"attachedDisks": [{"source": f"{ZONE}/disks/none"}]}, "does not exist"),
    ],
)
def test_a_server_that_cannot_be_is_refused(world: World, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        world.instance(**inputs)
    assert world.machines.specs == {}


def test_a_server_that_the_sandbox_cannot_boot_leaves_nothing(world: World) -> None:
    world.machines.refuse = "no more machines"
    with pytest.raises(ApiError, match="no more machines"):
        world.instance()
    world.machines.refuse = ""
    world.instance()


def test_changes_in_place_keep_the_addresses_and_stop_only_when_needed(world: World) -> None:
    before = world.instance()
    after = world.instance(metadata={"k": "v"}, tags=["new"])
    assert after["networkInterfaces"] == before["networkInterfaces"]
    assert after["instanceId"] == before["instanceId"]
    assert world.machines.restarted == []
    assert world.machines.specs["edge-1"].metadata["instance"]["attributes"] == {"k": "v"}
    world.instance(machineType="e2-medium")
    assert world.machines.restarted == ["edge-1"]


def test_an_address_can_move_from_server_to_server(world: World) -> None:
    address = world("POST", "address", f"{REGION}/addresses/a", {})["outputs"]["address"]
    card = {"subnetwork": "sub", "accessConfigs": [{"natIp": address, "publicPtrDomainName": "a.test."}]}
    world.instance(networkInterfaces=[card])
    with pytest.raises(ApiError, match="already being used"):
        world.instance("edge-2", networkInterfaces=[card])
    world.instance(networkInterfaces=[{"subnetwork": "sub"}])
    assert world.names.pointers == {}
    world.instance("edge-2", networkInterfaces=[card])
    assert world.names.pointers == {address: "a.test."}
    assert world.machines.specs["edge-1"].public_ipv4 is None


def test_what_is_in_use_cannot_go(world: World) -> None:
    address = world("POST", "address", f"{REGION}/addresses/a", {})["outputs"]["address"]
    world("POST", "disk", f"{ZONE}/disks/mail", {})
    world.instance(networkInterfaces=[{"subnetwork": "sub", "accessConfigs": [{"natIp": address}]}])
    world("POST", "attachedDisk", f"{ZONE}/instances/edge-1/mail", {"disk": "mail", "instance": "edge-1"})
    assert world.machines.specs["edge-1"].volumes == {"mail": "/dev/disk/by-id/google-mail"}
    used = [
        ("address", f"{REGION}/addresses/a"),
        ("disk", f"{ZONE}/disks/mail"),
        ("subnetwork", f"{REGION}/subnetworks/sub"),
        ("network", f"{GLOBAL}/networks/net"),
    ]
    for kind, name in used:
        with pytest.raises(ApiError, match="already being used"):
            world("DELETE", kind, name)
    world("DELETE", "attachedDisk", f"{ZONE}/instances/edge-1/mail")
    assert world.machines.specs["edge-1"].volumes == {}
    world("DELETE", "instance", f"{ZONE}/instances/edge-1")
    for kind, name in used:
        world("DELETE", kind, name)
    assert world.machines.specs == {}
    assert world.machines.volumes_gone == ["mail"]
    assert (world.names.pointers, world.names.locations) == ({}, {})


def test_a_protected_server_stays(world: World) -> None:
    world.instance(deletionProtection=True)
    with pytest.raises(ApiError, match="protected against deletion"):
        world("DELETE", "instance", f"{ZONE}/instances/edge-1")


def test_a_disk_under_a_key_needs_the_agents_permission(world: World) -> None:
    key = crypto_key(world.apis, "disks")
    inputs = {"diskEncryptionKey": {"kmsKeySelfLink": key}}
    with pytest.raises(ApiError, match=compute_agent(PROJECT)):
        world("POST", "disk", f"{ZONE}/disks/mail", inputs)
    with pytest.raises(ApiError, match=compute_agent(PROJECT)):
        world.instance(bootDisk={"kmsKeySelfLink": key})
    role = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
    grant(world.apis, key, role, f"serviceAccount:{compute_agent(PROJECT)}")
    world("POST", "disk", f"{ZONE}/disks/mail", inputs)
    world.instance(bootDisk={"kmsKeySelfLink": key})


def test_subnetworks_of_a_network_do_not_overlap(world: World) -> None:
    with pytest.raises(ApiError, match="conflicts with existing subnetwork"):
        world(
            "POST",
            "subnetwork",
            f"{REGION}/subnetworks/two",
            {"network": "net", "ipCidrRange": "203.0.113.80/28"},
        )


def test_a_health_check_reaches_the_dns(world: World) -> None:
    name = f"{GLOBAL}/healthChecks/smtp"
    world(
        "POST", "healthCheck", name, {"tcpHealthCheck": {"port": 25}, "checkIntervalSec": 30, "timeoutSec": 5}
    )
    ((link, config),) = world.names.checks.items()
    assert link.endswith(name)
    assert (config["type"], config["tcpHealthCheck"]) == ("TCP", {"port": 25})
    world("DELETE", "healthCheck", name)
    assert world.names.checks == {}
    with pytest.raises(ApiError, match="Exactly one"):
        world("POST", "healthCheck", name, {})
