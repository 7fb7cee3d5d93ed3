"""What the sandbox's parts say to each other: plain frozen data, JSON on the wire (see `control.py`)."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

CloudKind = Literal["aws", "gcp", "internet", "outside"]
Protocol = Literal["tcp", "udp", "icmp", "icmpv6", "all"]


@dataclass(frozen=True)
class FirewallRule:
    """One allowed kind of incoming traffic. What no rule allows is dropped, as in both clouds.

    `ports` is an inclusive range, `sources` are CIDRs of either family.
    """

    protocol: Protocol
    ports: tuple[int, int] | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class MachineSpec:
    """A server to boot.

    `id` is the cloud's own identifier (`i-0abc…`, a GCE instance name) and unique in the sandbox.
    Addresses are without prefix length. `public_ipv4` is mapped one to one to `private_ipv4` by the router, as
    both clouds do; outside machines have no NAT and carry their public address as `private_ipv4`.
    `user_data` is what the component gave, base64 of the bytes (AWS user-data or GCP startup-script).
    `metadata` is what the cloud's metadata service answers for this server (identity, tags, attributes).
    `volumes` maps a volume's cloud id to the device's mount name on the machine.
    """

    id: str
    kind: CloudKind
    hostname: str
    region: str
    country: str
    private_ipv4: str
    public_ipv4: str | None = None
    ipv6: str | None = None
    user_data: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    firewall: tuple[FirewallRule, ...] = ()
    egress_port_25: bool = False
    volumes: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "MachineSpec":
        """The spec from what `to_json` gave."""
        rules = tuple(
            FirewallRule(
                protocol=r["protocol"],
                ports=tuple(r["ports"]) if r.get("ports") is not None else None,
                sources=tuple(r["sources"]),
            )
            for r in data.get("firewall", ())
        )
        return cls(**{**data, "firewall": rules})
