"""How a node is looked at; bringing a sandbox up and down is in the system tests."""

import base64
import gzip
import hashlib
from types import SimpleNamespace
from typing import Any

import pytest

from mailinfra.fleet import Role
from mailinfra.publish import PublishError, Stored
from mailinfra.sandbox import lifecycle
from mailinfra.sandbox.control import NotRunning, RemoteError
from mailinfra.sandbox.lifecycle import look

REVISION = "0123456789abcdef"
SCRIPT = f"#cloud-boothook\n#!/bin/bash\nrevision={REVISION}\n".encode()
NODE: Any = SimpleNamespace(roles=(Role.MX,), fqdn="mx-1.nodes.example.test")
ROUTES = "a" * 64
RUNS = {"id": "i-1", "state": "running", "reason": ""}


def looked(machine: Any, answer: Any) -> tuple[str, list[str]]:
    """What a look says where the machine answers so, and what was run on it."""
    ran: list[str] = []

    def call(method: str, **params: Any) -> Any:
        if method == "machines.get":
            return {"spec": {"user_data": base64.b64encode(gzip.compress(SCRIPT)).decode()}}
        ran.extend(params["command"])
        if isinstance(answer, Exception):
            raise answer
        return answer

    sandbox: Any = SimpleNamespace(control=SimpleNamespace(call=call))
    return look(sandbox, machine, NODE, ROUTES), ran


def test_a_node_is_asked_for_the_script_that_it_was_given_last() -> None:
    said, ran = looked(RUNS, {"code": 0, "stdout": "\n", "stderr": ""})
    assert said == ""
    assert (ran[0], ran[-3], ran[-1]) == ("python3", REVISION, ROUTES)
    assert looked(RUNS, {"code": 0, "stdout": "closed: 25\n", "stderr": ""})[0] == "closed: 25"


def test_a_node_that_cannot_be_looked_at_is_not_ready_and_no_error() -> None:
    for error in (NotRunning("machine i-1 does not run"), RemoteError("`python3` took longer than 20 s")):
        said, _ = looked(RUNS, error)
        assert said == f"cannot look: {error}"
    assert looked(RUNS, {"code": 1, "stdout": "", "stderr": "no python3\n"})[0] == "cannot look: no python3"
    assert looked(None, {}) == ("no such machine", [])
    assert looked({**RUNS, "state": "pending", "reason": "it is restarted"}, {}) == (
        "pending it is restarted",
        [],
    )


def test_a_node_is_compared_with_what_lies_in_its_regions_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bucket:
        def __init__(self, body: bytes | None) -> None:
            self.body = body

        def get(self, path: str) -> Stored | None:
            assert path == "directory/routes.jsonl"
            if self.body == b"":
                raise PublishError("no answer")
            return Stored(self.body, "1", 0.0) if self.body else None

    stores = {"here": Bucket(b"routes"), "silent": Bucket(b""), "new": Bucket(None)}
    monkeypatch.setattr(lifecycle, "region_stores", lambda control, regions: stores)
    asked: dict[str, str] = {}

    def look(sandbox: Any, machine: Any, node: Any, routes: str) -> str:
        asked[node.region] = routes
        return "closed: 25" if node.region == "new" else ""

    monkeypatch.setattr(lifecycle, "look", look)
    nodes = [
        SimpleNamespace(region=region, fqdn=region, address=SimpleNamespace(private_ipv4=""))
        for region in stores
    ]
    sandbox: Any = SimpleNamespace(
        control=SimpleNamespace(call=lambda method: []),
        stack=SimpleNamespace(outputs=dict),
        plan=SimpleNamespace(nodes=nodes),
    )
    assert lifecycle.unhealthy(sandbox) == {
        "silent": "no directory can be read in its control bucket",
        "new": "closed: 25",
    }
    assert asked == {"here": hashlib.sha256(b"routes").hexdigest(), "silent": "", "new": ""}
