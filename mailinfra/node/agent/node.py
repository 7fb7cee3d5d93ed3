"""The node's own description: /etc/mailinfra/node.json, as the bootstrap wrote it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

CONFIG = Path("/etc/mailinfra/node.json")


@dataclass(frozen=True)
class Node:
    """What the agent knows about its node; see `mailinfra.node.spec.NodeSpec` for the fields."""

    fleet: str
    cloud: str
    region: str
    zone: str
    group: str
    hostname: str
    roles: tuple[str, ...]
    domains: tuple[str, ...]
    strict: bool
    bucket: str
    ca_key: str
    names: tuple[str, ...]
    """Every name that the node's certificate must be good for, its own first."""
    entitlements: dict[str, tuple[str, ...]]
    endpoints: dict[str, str]
    state: Path
    """The folder of all that the agent keeps."""

    @property
    def name(self) -> str:
        """The node's name in its region: `edge-1`."""
        return self.hostname.partition(".")[0]

    @property
    def tls(self) -> Path:
        """The folder of the node's key and certificates."""
        return self.state / "tls"


def load(path: Path = CONFIG) -> Node:
    """The node that a JSON file describes."""
    data = json.loads(path.read_text())
    lists = {name: tuple(data[name]) for name in ("roles", "domains", "names")}
    entitlements = {group: tuple(names) for group, names in data["entitlements"].items()}
    return Node(**{**data, **lists, "entitlements": entitlements, "state": Path(data["state"])})


def announce(tls: Path) -> None:
    """Have the services take up what has changed: mailinfra-reload runs for as long as this file is there.

    It removes the file before it looks, so what changes while it runs is seen by the next run.
    """
    (tls / "changed").touch()


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file as a whole: after a crash there is the old one or the new one, never a part."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
