"""The agent's round."""

import json
import logging
import signal
from pathlib import Path
from typing import Any

import pytest

from mailinfra.node.agent import __main__ as agent
from mailinfra.node.agent import node as node_module
from mailinfra.node.agent.node import load, write
from tests.node_helpers import MemoryBucket, agent_node, node_config, node_spec


class Step:
    """A step that fails as it is told."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)

    def step(self) -> None:
        if error := self.errors.pop(0):
            raise error


def test_a_fault_is_logged_once_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    one, two = OSError("away"), KeyError("x")
    step, last = Step(one, one, two, None, one).step, dict[Any, str]()
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            agent.attempt(step, last)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["step: OSError: away", "step: KeyError: 'x'", "step: OSError: away"]


def test_the_issuer_works_where_the_ca_key_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "control", lambda node: MemoryBucket())
    monkeypatch.setattr("mailinfra.node.agent.kms.ca", lambda node: bytes)

    def names(**changes: Any) -> list[str]:
        steps = agent.steps(agent_node(tmp_path, **changes))
        return [type(step.__self__).__name__ for step in steps]  # type: ignore[attr-defined]

    assert names() == ["Trust", "Enrol", "Directory"]
    assert names(ca_key="key") == ["Trust", "Issuer", "Enrol", "Directory"]


def test_it_goes_on_after_faults_until_it_is_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers: dict[int, Any] = {}
    rounds: list[int] = []

    class Ending:
        def step(self) -> None:
            rounds.append(1)
            if len(rounds) == 3:
                handlers[signal.SIGTERM](signal.SIGTERM, None)
            raise OSError("away")

    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(agent, "load", lambda: agent_node(tmp_path))
    monkeypatch.setattr(agent, "steps", lambda node: [Ending().step])
    monkeypatch.setattr("threading.Event.wait", lambda self, seconds: None)
    agent.main()
    assert len(rounds) == 3


def test_the_node_reads_what_the_bootstrap_writes(tmp_path: Path) -> None:
    spec = node_spec(["mx", "imap"], ca_key="key", entitlements={"store": ("a.test", "b.test")})
    path = tmp_path / "node.json"
    path.write_text(json.dumps(node_config(spec)))
    node = load(path)
    assert node.names == (spec.hostname, *spec.service_names)
    assert node.entitlements == {"store": ("a.test", "b.test"), "edge": spec.service_names}
    assert (node.name, node.strict, str(node.tls)) == ("edge-1", True, "/var/lib/mailinfra/tls")
    assert Path("/etc/mailinfra/node.json") == node_module.CONFIG


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, b"one", 0o600)
    (tmp_path / ".file.new").write_bytes(b"left by a crash")
    write(path, b"two", 0o640)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
