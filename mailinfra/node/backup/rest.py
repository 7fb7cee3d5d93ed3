"""The vault's bucket as restic sees it: restic's REST protocol, version 2, on the loopback interface.

https://restic.readthedocs.io/en/stable/REST_backend.html, append-only: what is there is never changed or deleted.
Locks are kept here in memory: a repository has one writer, and a locked bucket would keep every lock for weeks.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from mailinfra.node.agent.bucket import Archive, BucketError, ExistsError
from mailinfra.node.agent.google import ApiError
from mailinfra.node.backup.access import AccessError

BODY_LIMIT = 256 * 1024 * 1024
"""The largest object that is taken, in bytes; restic's are about 16 MiB."""
PATIENCE_SECONDS = 120.0
"""How long the bucket may give no answer until a run is given up. restic itself would try for 15 minutes."""
V2 = "application/vnd.x.restic.rest.v2"
OBJECT = re.compile(r"/(data|keys|locks|snapshots|index)/([0-9a-f]{64})")
FOLDER = re.compile(r"/(data|keys|locks|snapshots|index)/?")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
REFUSED = (401, 403)


class Trouble:
    """What the bucket has answered of late: whether a run has any hope."""

    def __init__(self) -> None:
        self.text = ""
        """The last failure."""
        self._since = 0.0
        self._refused = False
        self._lock = threading.Lock()

    def failed(self, error: Exception) -> None:
        """A call has failed."""
        with self._lock:
            self.text = str(error)
            self._since = self._since or time.monotonic()
            self._refused |= isinstance(error, AccessError) or getattr(error, "status", 0) in REFUSED

    def worked(self) -> None:
        """A call has been answered."""
        with self._lock:
            self._since = 0.0

    @property
    def hopeless(self) -> bool:
        """Whether the bucket refuses this node, or has not answered for too long."""
        with self._lock:
            return self._refused or bool(self._since and time.monotonic() - self._since > PATIENCE_SECONDS)


class Backend:
    """Serves one repository for as long as it is entered."""

    def __init__(self, bucket: Archive, prefix: str, *, writable: bool) -> None:
        self.bucket, self.prefix, self.writable = bucket, prefix.rstrip("/"), writable
        self.trouble = Trouble()
        self.locks: dict[str, bytes] = {}
        self.login = f"restic:{secrets.token_urlsafe(24)}"
        handler = type("Handler", (_Handler,), {"backend": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def url(self) -> str:
        """The repository's address with its password: for the environment, never for a command line."""
        return f"rest:http://{self.login}@127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> "Backend":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    backend: Backend
    protocol_version = "HTTP/1.1"
    timeout = 600

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_HEAD(self) -> None:
        self._guarded(self._head)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def do_DELETE(self) -> None:
        self._guarded(self._delete)

    def _guarded(self, serve: Callable[[str], None]) -> None:
        given = self.headers.get("Authorization", "")
        wanted = "Basic " + base64.b64encode(self.backend.login.encode()).decode()
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            self.close_connection = True
            return self._answer(HTTPStatus.UNAUTHORIZED)
        try:
            serve(urlsplit(self.path).path)
        except KeyError:
            self.backend.trouble.worked()
            self._answer(HTTPStatus.NOT_FOUND)
        except (BucketError, ApiError, AccessError) as error:
            self.backend.trouble.failed(error)
            # A body that was not read would be taken for the next request.
            self.close_connection = True
            self._answer(HTTPStatus.BAD_GATEWAY)
        return None

    def _key(self, path: str) -> str:
        """The object's key in the bucket. Raises `KeyError` for what is no object of a repository."""
        if path != "/config" and not OBJECT.fullmatch(path):
            raise KeyError(path)
        return self.backend.prefix + path

    def _get(self, path: str) -> None:
        if match := FOLDER.fullmatch(path):
            return self._list(match[1])
        if path.startswith("/locks/"):
            return self._answer(HTTPStatus.OK, self.backend.locks[path])
        part = RANGE.fullmatch(self.headers.get("Range", ""))
        first, last = (int(part[1]), int(part[2]) if part[2] else None) if part else (0, None)
        data = self.backend.bucket.read(self._key(path), first, last)
        self.backend.trouble.worked()
        if not part:
            return self._answer(HTTPStatus.OK, data)
        # Nobody here knows the whole length, and restic does not ask for it (RFC 9110 14.4).
        span = f"bytes {first}-{first + len(data) - 1}/*"
        return self._answer(HTTPStatus.PARTIAL_CONTENT, data, Content_Range=span)

    def _list(self, kind: str) -> None:
        if kind == "locks":
            found = {path: len(data) for path, data in self.backend.locks.items()}
        else:
            found = self.backend.bucket.sizes(f"{self.backend.prefix}/{kind}/")
            self.backend.trouble.worked()
        items = [{"name": key.rpartition("/")[2], "size": size} for key, size in sorted(found.items())]
        if V2 in self.headers.get("Accept", ""):
            return self._answer(HTTPStatus.OK, json.dumps(items).encode(), Content_Type=V2)
        names = json.dumps([item["name"] for item in items]).encode()
        return self._answer(HTTPStatus.OK, names, Content_Type="application/vnd.x.restic.rest.v1")

    def _head(self, path: str) -> None:
        if path.startswith("/locks/"):
            return self._answer(HTTPStatus.OK, self.backend.locks[path])
        size = self.backend.bucket.size(self._key(path))
        self.backend.trouble.worked()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        return None

    def _post(self, path: str) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_LIMIT:
            self.close_connection = True
            return self._answer(HTTPStatus.LENGTH_REQUIRED)
        data = self.rfile.read(int(length))
        if len(data) != int(length):
            self.close_connection = True
            return self._answer(HTTPStatus.BAD_REQUEST)
        if path == "/":
            # `?create=true`: there is nothing to prepare in a bucket.
            return self._answer(HTTPStatus.OK)
        key = self._key(path)
        if path != "/config" and path.rpartition("/")[2] != hashlib.sha256(data).hexdigest():
            return self._answer(HTTPStatus.BAD_REQUEST)
        if path.startswith("/locks/"):
            self.backend.locks[path] = data
            return self._answer(HTTPStatus.OK)
        if not self.backend.writable:
            return self._answer(HTTPStatus.FORBIDDEN)
        try:
            self.backend.bucket.create(key, data)
        except ExistsError:
            self.backend.trouble.worked()
            # The answer to an earlier try was lost: a name is the content's hash, so it is the same one.
            same = path != "/config" and self.backend.bucket.size(key) == len(data)
            return self._answer(HTTPStatus.OK if same else HTTPStatus.FORBIDDEN)
        self.backend.trouble.worked()
        return self._answer(HTTPStatus.OK)

    def _delete(self, path: str) -> None:
        if not path.startswith("/locks/"):
            return self._answer(HTTPStatus.FORBIDDEN)
        del self.backend.locks[path]
        return self._answer(HTTPStatus.OK)

    def _answer(self, status: HTTPStatus, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not every request; what fails is in `Trouble`."""
