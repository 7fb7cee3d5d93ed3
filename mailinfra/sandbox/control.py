"""How the command line and the provider plugins talk to the daemon: JSON over HTTP on a UNIX socket.

A call is `POST /<method>` with a JSON object of keyword arguments; the answer is `{"result": …}` or
`{"error": {"kind": …, "message": …}}`. The socket's mode is the only permission: its owner may do everything.
"""

import contextlib
import http.client
import inspect
import json
import logging
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar

from mailinfra.sandbox.context import Method
from mailinfra.sandbox.paths import SandboxError

DEFAULT_TIMEOUT = 300.0
"""Seconds that a call may take: a machine's boot on a busy host is the longest."""
_JSON = {"Content-Type": "application/json"}
_log = logging.getLogger(__name__)


class ControlError(SandboxError):
    """A call to the daemon failed."""

    kind: ClassVar[str] = "error"


class NotRunning(ControlError):  # noqa: N818 - named as what it tells
    """No daemon answers."""

    kind = "not-running"


class UnknownMethod(ControlError):  # noqa: N818 - named as what it tells
    """The daemon has no such method."""

    kind = "unknown-method"


class InvalidParams(ControlError):  # noqa: N818 - named as what it tells
    """The arguments are not what the method takes; the message names what is wrong."""

    kind = "invalid-params"


class NotFound(ControlError):  # noqa: N818 - named as what it tells
    """What the call is about does not exist."""

    kind = "not-found"


class Conflict(ControlError):  # noqa: N818 - named as what it tells
    """The call contradicts what exists already."""

    kind = "conflict"


class RemoteError(ControlError):
    """The daemon could not do it."""

    kind = "failed"


_KINDS: dict[str, type[ControlError]] = {
    error.kind: error for error in (NotRunning, UnknownMethod, InvalidParams, NotFound, Conflict, RemoteError)
}


class _Connection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class ControlClient:
    """A caller of the daemon behind `path`. Safe to use from threads: each call has a connection of its
    own.
    """

    path: Path
    timeout: float = DEFAULT_TIMEOUT

    def call(self, method: str, /, **params: Any) -> Any:
        """Call a method. Returns its result; raises the `ControlError` that the daemon answered, or
        `NotRunning`.
        """
        connection = _Connection(self.path, self.timeout)
        with contextlib.closing(connection):
            try:
                connection.request("POST", f"/{method}", json.dumps(params), _JSON)
                answer = json.loads(connection.getresponse().read())
            except (FileNotFoundError, ConnectionRefusedError):
                raise NotRunning(
                    f"no sandbox daemon answers at {self.path}; start it with `mailinfra sandbox up`"
                ) from None
            except TimeoutError:
                raise RemoteError(f"{method}: no answer within {self.timeout:g} s") from None
            except (ConnectionError, http.client.HTTPException, ValueError) as error:
                raise NotRunning(
                    f"{method}: the sandbox daemon ended while it worked on this ({error})"
                ) from error
        if "error" in answer:
            raise _KINDS.get(answer["error"]["kind"], RemoteError)(answer["error"]["message"])
        return answer["result"]

    def alive(self) -> bool:
        """Whether a daemon answers."""
        try:
            self.call("status")
        except ControlError:
            return False
        return True


class ControlServer:
    """Offers methods on a UNIX socket that only its owner can use. Replaces a socket that a dead daemon
    left.
    """

    def __init__(self, path: Path, methods: Mapping[str, Method]) -> None:
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = _Server(str(path), _Handler)
        finally:
            os.umask(mask)
        self._path = path
        self._started = False
        self._server.methods = methods

    def start(self) -> None:
        """Serve, in threads."""
        self._started = True
        threading.Thread(target=self._server.serve_forever, name="control", daemon=True).start()

    def stop(self) -> None:
        """Stop serving and remove the socket."""
        if self._started:  # `shutdown` waits for a loop, even for one that never began
            self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


def dispatch(methods: Mapping[str, Method], name: str, params: Any) -> dict[str, Any]:
    """The answer to one call: `{"result": …}` or `{"error": {"kind", "message"}}`. Never raises."""
    try:
        if name not in methods:
            raise UnknownMethod(f"the daemon has no method {name!r}; it has: {', '.join(sorted(methods))}")
        if not isinstance(params, dict):
            raise InvalidParams(f"{name}: found {type(params).__name__}; allowed: a JSON object of arguments")
        try:
            inspect.signature(methods[name]).bind(**params)
        except TypeError as error:
            raise InvalidParams(f"{name}: {error}") from error
        return {"result": methods[name](**params)}
    except ControlError as error:
        return _refusal(error.kind, str(error))
    except SandboxError as error:
        return _refusal(RemoteError.kind, str(error))
    except Exception as error:  # a defect of one method must not end the daemon; its trace is in the log
        _log.exception("%s failed", name)
        return _refusal(RemoteError.kind, f"{name}: {type(error).__name__}: {error}")


def _refusal(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message}}


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        name = self.path.lstrip("/")
        try:
            params = json.loads(body or b"{}")
        except ValueError as error:
            answer = _refusal(InvalidParams.kind, f"{name}: no JSON: {error}")
        else:
            answer = dispatch(self.server.methods, name, params)
        try:
            text = json.dumps(answer)
        except TypeError as error:
            text = json.dumps(_refusal(RemoteError.kind, f"{name}: result is no JSON: {error}"))
        data = text.encode()
        with contextlib.suppress(BrokenPipeError):  # the caller did not wait
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: arguments can hold what must not be in a log."""

    def address_string(self) -> str:
        return "control"


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
    methods: Mapping[str, Method] = {}
