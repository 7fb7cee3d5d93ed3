"""The HTTP under the sandbox's Google APIs: requests and answers as data, routes, errors as Google words them."""

import json
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

log = logging.getLogger(__name__)

MAX_BODY: Final = 1 << 30
"""Bytes of one request's body at most."""

_STATUS_NAMES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


class ApiError(Exception):
    """An error that the caller sees in Google's JSON form (https://cloud.google.com/apis/design/errors)."""

    def __init__(
        self, code: int, message: str, *, status: str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or _STATUS_NAMES.get(code, "UNKNOWN")
        self.reason = reason or self.status.lower()

    def body(self) -> dict[str, Any]:
        """The JSON body: the newer APIs' `status` beside the older ones' `errors`."""
        detail = {"message": self.message, "domain": "global", "reason": self.reason}
        return {
            "error": {"code": self.code, "message": self.message, "status": self.status, "errors": [detail]}
        }


@dataclass(frozen=True)
class Request:
    """One request. `path` is still percent-encoded (an object's name may hold `%2F`); header names are lower case.

    `principal` is the IAM member that the bearer token names.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    principal: str = ""

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is `{}`. Raises ApiError 400."""
        if not self.body:
            return {}
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise ApiError(400, f"Invalid JSON payload received: {error}") from error
        if not isinstance(value, dict):
            raise ApiError(400, "Invalid JSON payload received: an object is expected")
        return value


@dataclass(frozen=True)
class Response:
    """One answer. A `dict` body is sent as JSON."""

    body: dict[str, Any] | bytes = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def whole(value: object, field: str) -> int:
    """A whole number from a query or a body, where Google writes it as a number or a text. Raises ApiError 400."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | str)
        or not re.fullmatch(r"\d{1,18}", str(value))
    ):
        raise ApiError(400, f"Invalid value at '{field}': {value!r} (a whole number is expected)")
    return int(value)


Handler = Callable[..., Response | dict[str, Any]]


class Router:
    """Finds the function for a method and a path.

    A pattern is a path with `{name}` for one segment; what follows a `:` is Google's custom verb. The function gets
    the request and the segments, decoded, by name.
    """

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        """Adds a route; the first that fits wins."""
        parts = re.split(r"\{(\w+)\}", pattern)
        expression = "".join(_segment(part) if i % 2 else re.escape(part) for i, part in enumerate(parts))
        self._routes.append((method, re.compile(expression), handler))

    def handle(self, request: Request) -> Response:
        """The answer. Raises ApiError, 404 when no route fits."""
        for method, pattern, handler in self._routes:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                answer = handler(request, **{k: unquote(v) for k, v in match.groupdict().items()})
                return answer if isinstance(answer, Response) else Response(answer)
        raise ApiError(404, f"The sandbox has no {request.method} {request.path}")


def _segment(name: str) -> str:
    # Only the name of an object may hold a colon that begins no verb.
    return f"(?P<{name}>{'[^/]+' if name.startswith('object') else '[^/:]+'})"


App = Callable[[Request], Response]


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 300
    disable_nagle_algorithm = True
    server: "Server"

    def _answer(self) -> None:
        length = self.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY or self.headers.get("transfer-encoding"):
            self.close_connection = True
            self._send(ApiError(413, f"A body needs a Content-Length of at most {MAX_BODY}"))
            return
        url = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={k.lower(): v for k, v in self.headers.items()},
            body=self.rfile.read(int(length)),
        )
        try:
            self._send(self.server.app(request))
        except ApiError as error:
            self._send(error)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            self._send(ApiError(500, "The sandbox failed; its log says why"))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815 - the base class's names

    def _send(self, answer: Response | ApiError) -> None:
        response = Response(answer.body(), answer.code) if isinstance(answer, ApiError) else answer
        headers = dict(response.headers)
        if response.status in {204, 304}:  # RFC 9110 15.3.5, 15.4.5: no content
            body = b""
        elif isinstance(response.body, bytes):
            body = response.body
        else:
            body = json.dumps(response.body).encode()
            headers.setdefault("Content-Type", "application/json; charset=UTF-8")
        self.send_response(response.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


class Server(ThreadingHTTPServer):
    """Serves an app on a socket that already listens, in threads, with TLS when a context is given.

    The socket comes from the caller because it may live in another network namespace. The TLS handshake runs in
    the connection's thread: a silent client holds up nobody.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, app: App, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(listener.getsockname()[:2], _Connection, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.app = app
        self._tls = tls
        self._thread = threading.Thread(
            target=self.serve_forever,
            kwargs={"poll_interval": 0.1},
            name=f"gcp-{self.server_address}",
            daemon=True,
        )

    def start(self) -> None:
        """Serves in a thread of its own until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the service and closes the socket."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is not None:
            request.settimeout(_Connection.timeout)
            try:
                request = self._tls.wrap_socket(request, server_side=True)
            except OSError as error:
                log.debug("no TLS with %s: %s", client_address, error)
                return
        try:
            super().finish_request(request, client_address)
        finally:
            if self._tls is not None:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("connection from %s ended", client_address, exc_info=True)


def listen_on_loopback(port: int = 0) -> socket.socket:
    """A listening socket on 127.0.0.1; port 0 takes a free one."""
    return socket.create_server(("127.0.0.1", port), backlog=128, reuse_port=False)
