"""A Debian mirror inside the sandbox's network: what a node that boots from Debian's own image installs.

It has the packages that make the image `node` out of `stock`, kept when the image was made, as one suite of a
repository (https://wiki.debian.org/DebianRepository/Format), over HTTPS like Debian's own. It is not signed, for
only Debian can: machines name it as trusted.
"""

import hashlib
import subprocess
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mailinfra.sandbox import rootfs
from mailinfra.sandbox.context import Context
from mailinfra.sandbox.paths import SandboxError

ADDRESS = "192.0.2.24"
NAME = "deb.debian.test"
SOURCES = f"deb [trusted=yes] https://{NAME}/debian {rootfs.SUITE} main\n"
"""The line for a machine's sources.list."""
ROOT = "/debian"


class Repository:
    """A repository of the packages in a folder: path below the repository's root to what is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def get(self, path: str) -> bytes | Path | None:
        """The content at a path, or the file that has it; None if there is nothing."""
        if path.startswith("pool/"):
            file = self.folder / path.removeprefix("pool/")
            return file if file.parent == self.folder and file.suffix == ".deb" and file.is_file() else None
        with self._lock:
            return self.indexes.get(path)

    @cached_property
    def indexes(self) -> Mapping[str, bytes]:
        """The suite's indexes. Raises `SandboxError` for a package that cannot be read."""
        architecture = _output(["dpkg", "--print-architecture"]).strip()
        path = f"main/binary-{architecture}/Packages"
        packages = "\n".join(map(_paragraph, sorted(self.folder.glob("*.deb")))).encode()
        base = f"dists/{rootfs.SUITE}"
        return {f"{base}/{path}": packages, f"{base}/Release": _release(architecture, path, packages)}


def _paragraph(file: Path) -> str:
    """A package's entry of the index: its own control data, and where and what the file is."""
    data = file.read_bytes()
    control = _output(["dpkg-deb", "--field", str(file)]).rstrip("\n")
    return f"{control}\nFilename: pool/{file.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"


def _release(architecture: str, path: str, packages: bytes) -> bytes:
    lines = [
        "Origin: mailinfra sandbox",
        f"Suite: {rootfs.SUITE}",
        f"Codename: {rootfs.SUITE}",
        f"Architectures: {architecture}",
        "Components: main",
        "SHA256:",
        f" {hashlib.sha256(packages).hexdigest()} {len(packages)} {path}",
    ]
    return "\n".join([*lines, ""]).encode()


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repository: Repository

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        found = self.repository.get(path.removeprefix(f"{ROOT}/")) if path.startswith(f"{ROOT}/") else None
        data = found.read_bytes() if isinstance(found, Path) else found
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what machines fetch is in their own logs."""


class Service:
    """The daemon's part `debian`."""

    name = "debian"

    def __init__(self) -> None:
        self._server: ThreadingHTTPServer | None = None

    def start(self, context: Context) -> None:
        """Serve inside the sandbox's network; nothing where there are no machines."""
        layers = rootfs.cached("node", context.paths.cache)
        if context.network is None or layers is None:
            return
        context.network.add_service_address(ADDRESS)
        listener = context.network.listen(ADDRESS, 443)
        handler = type("Handler", (_Handler,), {"repository": Repository(layers[0] / rootfs.ARCHIVES)})
        self._server = ThreadingHTTPServer((ADDRESS, 443), handler, bind_and_activate=False)
        self._server.socket.close()
        # The handshake is each connection's own affair, in its own thread: it begins with the first read.
        self._server.socket = context.authority.server_context([NAME]).wrap_socket(
            listener, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self._server.serve_forever, name="debian", daemon=True).start()
        context.call("dns.set_hosts", name=NAME, records=[{"type": "A", "ttl": 300, "values": [ADDRESS]}])

    def stop(self) -> None:
        """Stop serving and close the socket."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def methods(self) -> dict[str, Callable[..., Any]]:
        """What the control socket offers: nothing."""
        return {}
