"""A fleet as the probe sees it, with made-up answers from its machines."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import yaml

from mailinfra.fleet import Fleet
from mailinfra.plan import FleetPlan, plan
from mailinfra.probe.site import Site
from mailinfra.sandbox.people import invent

STACK = Path(__file__).parents[1] / "stacks" / "Pulumi.sandbox.yaml"
Answer = Callable[[str, Any], Any]


def planned(**changes: Any) -> FleetPlan:
    """The sandbox's fleet, with parts of its declaration replaced."""
    declared = yaml.safe_load(STACK.read_text())["config"]["mailinfra:fleet"]
    return plan(Fleet.load({**declared, **changes}))


class Control:
    """The daemon: its answers by method."""

    timeout = 1.0

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def call(self, method: str, /, **params: Any) -> Any:
        """What was made up for a method."""
        self.calls.append((method, params))
        answer = self.answers.get(method)
        return answer(**params) if callable(answer) else answer


@dataclass
class Made:
    """A site whose machines answer what `scripts` says (by the script's name, called with machine and payload)."""

    whole: FleetPlan = field(default_factory=planned)
    scripts: dict[str, Answer] = field(default_factory=dict)
    control: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def site(self, folder: Path = Path("/nonexistent")) -> Site:
        """The site, with its state in `folder`."""
        nodes = {
            node.fqdn: {"ipv4": f"198.51.100.{number}", "ipv6": f"2001:db8:a::{number:x}"}
            for number, node in enumerate(self.whole.nodes, 1)
        }
        listed = [
            {"id": f"i-{number}", "public_ipv4": known["ipv4"], "state": "running", "hostname": "x"}
            for number, known in enumerate(nodes.values(), 1)
        ]
        stack = SimpleNamespace(outputs=lambda: {"nodes": nodes, "anchors": "PEM"}, state=lambda: self.state)
        paths = SimpleNamespace(
            state=folder, daemon_log=folder / "cloud.log", folder=lambda name: _made(folder / name)
        )
        sandbox = SimpleNamespace(
            plan=self.whole,
            people=invent(self.whole.fleet),
            stack=stack,
            paths=paths,
            control=Control({"machines.list": listed, **self.control}),
        )
        found = Site(cast(Any, sandbox))
        lock = threading.Lock()

        def run(machine: str, name: str, payload: Any, seconds: float = 0) -> Any:
            with lock:
                self.asked.append((machine, name, payload))
            return self.scripts[name](machine, payload)

        found.run = run  # type: ignore[method-assign]
        return found


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
