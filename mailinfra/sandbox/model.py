"""What the sandbox's parts say to each other: plain frozen data, JSON on the wire (see `control.py`)."""

import base64
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

CloudKind = Literal["aws", "gcp", "internet", "outside"]
ImageName = Literal["stock", "node", "internet"]
"""What a machine's disk has on it at first: Debian as the clouds publish it; that with the packages that a node
installs; that with what the internet's machines need.
"""
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
class MachineFile:
    """A file laid into a machine's disk before its first boot. `content` is base64 of the bytes."""

    content: str
    mode: int = 0o644
    owner: str = "root"
    """User name on the machine; its primary group goes with it."""

    @classmethod
    def text(cls, text: str, mode: int = 0o644, owner: str = "root") -> "MachineFile":
        """A file with this text."""
        return cls.raw(text.encode(), mode, owner)

    @classmethod
    def raw(cls, data: bytes, mode: int = 0o644, owner: str = "root") -> "MachineFile":
        """A file with these bytes."""
        return cls(base64.b64encode(data).decode(), mode, owner)

    def data(self) -> bytes:
        """The content."""
        return base64.b64decode(self.content)


@dataclass(frozen=True)
class MachineSpec:
    """A server to boot.

    `id` is the cloud's own identifier (`i-0abc…`, a GCE instance name) and unique in the sandbox.
    Addresses are without prefix length. `public_ipv4` is mapped one to one to `private_ipv4` by the router,
    as both clouds do; outside machines have no NAT and carry their public address as `private_ipv4`.
    `user_data` is what the component gave, base64 of the bytes (AWS user-data or GCP startup-script).
    `metadata` is what the cloud's metadata service answers for this server (identity, tags, attributes).
    `volumes` maps a volume's cloud id to its name on the machine: a path under `/dev/` is a block device,
    any other absolute path a folder. Both outlive the machine. `volume_bytes` is the size of block devices.
    `files` (by absolute path) and `units` (systemd unit names to enable) are laid into the disk before the
    first boot. `addresses` are further ones (either family) that the router leads to the machine, without
    NAT; only machines of the internet have such. `disk_limit` is how many bytes the machine can write to
    its disk before it is full; None means the host's. Image and disk are counted apart: what the image holds
    takes no room. `image` is what the disk begins with; None means `node` in the clouds, else `internet`.
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
    volume_bytes: dict[str, int] = field(default_factory=dict)
    files: dict[str, MachineFile] = field(default_factory=dict)
    units: tuple[str, ...] = ()
    disk_limit: int | None = None
    image: ImageName | None = None
    addresses: tuple[str, ...] = ()

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
        lists = {name: tuple(data.get(name, ())) for name in ("units", "addresses")}
        files = {path: MachineFile(**file) for path, file in data.get("files", {}).items()}
        return cls(**{**data, "firewall": rules, "files": files, **lists})
