"""What the sandbox's parts say to each other."""

import json
from dataclasses import FrozenInstanceError

import pytest

from mailinfra.sandbox.model import FirewallRule, MachineFile, MachineSpec

FULL = MachineSpec(
    id="i-1",
    kind="aws",
    hostname="mx-1.example.test",
    region="eu-central-1",
    country="DE",
    private_ipv4="203.0.113.4",
    public_ipv4="198.51.100.4",
    ipv6="2001:db8::4",
    user_data="YQ==",
    metadata={"tags": {"a": "b"}},
    firewall=(FirewallRule("tcp", (25, 25), ("0.0.0.0/0",)), FirewallRule("icmp", None, ("::/0",))),
    egress_port_25=True,
    volumes={"vol-1": "/dev/sdf"},
    files={"/etc/x": MachineFile.raw(b"\0\xff", 0o600, "postfix"), "/etc/y": MachineFile.text("ä")},
    units=("a.service",),
    disk_limit=1 << 20,
    image="stock",
    volume_bytes={"vol-1": 1 << 30},
    addresses=("192.0.2.9",),
)
BARE = MachineSpec("i-2", "outside", "h", "r", "US", "192.0.2.1")


@pytest.mark.parametrize("spec", [FULL, BARE])
def test_a_machine_survives_the_wire(spec: MachineSpec) -> None:
    assert MachineSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_files_are_bytes() -> None:
    assert FULL.files["/etc/x"].data() == b"\0\xff"
    assert FULL.files["/etc/y"].data().decode() == "ä"


def test_a_machine_is_not_changed_but_replaced() -> None:
    with pytest.raises(FrozenInstanceError):
        FULL.id = "other"  # type: ignore[misc]
