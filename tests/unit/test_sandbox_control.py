"""The daemon's control socket."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.control import (
    Conflict,
    ControlClient,
    ControlError,
    ControlServer,
    InvalidParams,
    NotFound,
    NotRunning,
    RemoteError,
    UnknownMethod,
)
from mailinfra.sandbox.paths import SandboxError


def fail(kind: str) -> None:
    errors: dict[str, Exception] = {
        "not-found": NotFound("no such thing"),
        "conflict": Conflict("in use"),
        "params": InvalidParams("port: found 0"),
        "sandbox": SandboxError("the disk is gone"),
        "defect": ZeroDivisionError("division by zero"),
    }
    raise errors[kind]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ControlClient]:
    release = threading.Event()
    methods: dict[str, Any] = {
        "status": lambda: {"pid": os.getpid()},
        "add": lambda left, right=1: left + right,
        "fail": fail,
        "no-json": lambda: {1, 2},
        "hang": lambda: release.wait(10),
    }
    server = ControlServer(tmp_path / "c.sock", methods)
    server.start()
    yield ControlClient(tmp_path / "c.sock", timeout=5)
    release.set()
    server.stop()
    assert not (tmp_path / "c.sock").exists()


def test_calls_and_results(client: ControlClient) -> None:
    assert client.call("add", left=2) == 3
    assert client.call("add", left="ä", right="ö") == "äö"
    assert client.alive()
    assert oct(client.path.stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("not-found", NotFound, "no such thing"),
        ("conflict", Conflict, "in use"),
        ("params", InvalidParams, "port: found 0"),
        ("sandbox", RemoteError, "the disk is gone"),
        ("defect", RemoteError, "fail: ZeroDivisionError: division by zero"),
    ],
)
def test_errors_keep_their_type(
    client: ControlClient,
    kind: str,
    error: type[ControlError],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(error, match=message):
        client.call("fail", kind=kind)
    assert bool(caplog.records) is (kind == "defect"), "a trace for a defect, and for nothing else"
    assert client.alive()


def test_what_is_called_wrongly_is_named(client: ControlClient) -> None:
    with pytest.raises(UnknownMethod, match="no method 'nothing'; it has: add, fail, hang, no-json, status"):
        client.call("nothing")
    with pytest.raises(InvalidParams, match="add: missing a required argument: 'left'"):
        client.call("add")
    with pytest.raises(InvalidParams, match="unexpected keyword argument 'more'"):
        client.call("add", left=1, more=2)
    with pytest.raises(RemoteError, match="no-json: result is no JSON"):
        client.call("no-json")


@pytest.mark.parametrize(
    ("body", "found"), [(b"{", "no JSON"), (b"[1]", "found list; allowed: a JSON object")]
)
def test_a_body_that_is_no_object_is_refused(client: ControlClient, body: bytes, found: str) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(client.path))
        raw.sendall(b"POST /add HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = b""
        while part := raw.recv(4096):
            answer += part
    assert b'"invalid-params"' in answer
    assert found.encode() in answer


def test_a_call_has_a_limit(client: ControlClient) -> None:
    with pytest.raises(RemoteError, match=r"hang: no answer within 0\.2 s"):
        ControlClient(client.path, timeout=0.2).call("hang")


def test_many_callers_at_once(client: ControlClient) -> None:
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(client.call("add", left=n))) for n in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 51))


def test_no_daemon(tmp_path: Path) -> None:
    absent = ControlClient(tmp_path / "absent.sock")
    assert not absent.alive()
    with pytest.raises(NotRunning, match="start it with `mailinfra sandbox up`"):
        absent.call("status")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(NotRunning):
        ControlClient(tmp_path / "dead.sock").call("status")
    # What a killed daemon left is taken over.
    server = ControlServer(tmp_path / "dead.sock", {"status": lambda: 1})
    server.start()
    assert ControlClient(tmp_path / "dead.sock").call("status") == 1
    server.stop()


def test_a_daemon_that_dies_during_a_call(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def die() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()

        thread = threading.Thread(target=die)
        thread.start()
        with pytest.raises(NotRunning, match="ended while it worked on this"):
            ControlClient(tmp_path / "s", timeout=5).call("status")
        thread.join()
