"""What a part of the cloud (DNS, AWS, GCP) is, and what the daemon gives it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mailinfra.sandbox.model import MachineFile, MachineSpec
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.processes import write_atomic

if TYPE_CHECKING:
    from mailinfra.sandbox.metadata import MetadataService
    from mailinfra.sandbox.network import Network
    from mailinfra.sandbox.pki import Authority
    from mailinfra.sandbox.supervisor import Status, Supervisor

Method = Callable[..., Any]


@dataclass(frozen=True)
class StateFile:
    """A part's own state: one JSON object on disk."""

    path: Path

    def load(self) -> dict[str, Any]:
        """What was saved last; empty before that."""
        try:
            data = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        if not isinstance(data, dict):
            raise ValueError(f"{self.path}: found {type(data).__name__}; allowed: a JSON object")
        return data

    def save(self, data: dict[str, Any]) -> None:
        """Replace what is kept, whole or not at all."""
        write_atomic(self.path, json.dumps(data, indent=1, sort_keys=True))


@dataclass(frozen=True)
class Context:
    """The daemon as its parts see it.

    `network` and `supervisor` are None where machines cannot be booted (`machines` is False): then a part
    listens on loopback only.
    """

    paths: Paths
    authority: "Authority"
    metadata: "MetadataService"
    network: "Network | None"
    supervisor: "Supervisor | None"
    methods: dict[str, Method]
    standing_machines: list[MachineSpec]
    base_files: dict[str, MachineFile]

    @property
    def machines(self) -> bool:
        """Whether machines are booted at all."""
        return self.network is not None

    def add_files(self, files: dict[str, MachineFile]) -> None:
        """Lay these files into every machine made from now on (root hints, trust anchors …); call it in
        `start`.
        """
        self.base_files.update(files)

    def standing(self, spec: MachineSpec) -> None:
        """Declare a machine of the sandbox's own (the internet, outside hosts); call it in `start`.

        It boots when `start` has returned; nothing happens where machines cannot be booted.
        """
        self.standing_machines.append(spec)

    def state(self, name: str) -> StateFile:
        """The named JSON state in the state root."""
        return StateFile(self.paths.folder("services") / f"{name}.json")

    def on_machine(self, machine: str, callback: "Callable[[Status], None]") -> None:
        """Call `callback` with each new state of a machine (`running`: its boot is over). Call it in `start`.

        It runs in a thread of the supervisor's; it must not raise and not wait for machines.
        """

        def heard(status: "Status") -> None:
            if status.id == machine:
                callback(status)

        if self.supervisor is not None:
            self.supervisor.listen(heard)

    def call(self, method: str, /, **params: Any) -> Any:
        """Call another part's method (`dns.records`) in this process. Raises KeyError when nobody offers
        it.
        """
        return self.methods[method](**params)


class Service(Protocol):
    """A part of the cloud, run by the daemon. Its methods are offered as `<name>.<method>` on the control
    socket.
    """

    name: str

    def start(self, context: Context) -> None:
        """Begin to serve. Called once, before any machine boots."""

    def stop(self) -> None:
        """Stop serving and let go of everything."""

    def methods(self) -> dict[str, Method]:
        """What the control socket offers: called with keyword arguments, they return JSON data."""
