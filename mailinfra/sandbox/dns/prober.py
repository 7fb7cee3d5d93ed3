"""Probes health checks, on the machine that plays the internet. Runs there under Debian's python3, stdlib
only.

A check starts healthy (a fresh record answers at once, as Route 53 has it), turns unhealthy after `fall`
failed probes in a row and healthy again after `rise` good ones. A failing check is a file in the folder DOWN,
which `routing.lua` looks at. HTTP, with the API key: `PUT /checks` (all checks by name), `GET /health`, `PUT
/geoip` (a new database).

Usage: prober.py ADDRESS PORT KEYFILE STATEDIR RUNDIR [COMMAND…]; COMMAND makes the name servers read a new
database.
"""

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BODY_LIMIT = 5120
REQUEST_LIMIT = 64 * 1024 * 1024


class Check:
    """One health check and what its probes found."""

    def __init__(self, name: str, spec: dict[str, Any], down: Path) -> None:
        self.name, self.spec, self.file = name, spec, down / name
        self.passing = True
        self.streak = 0
        self.since = time.time()
        self.probed = False
        self.detail = "not probed yet"
        self.task: asyncio.Task[None] | None = None
        self.show()

    @property
    def healthy(self) -> bool:
        return self.passing != bool(self.spec.get("inverted"))

    def show(self) -> None:
        """Let the name servers see the state."""
        if self.healthy:
            self.file.unlink(missing_ok=True)
        else:
            self.file.touch()

    def note(self, passed: bool, detail: str) -> None:
        """Take in the outcome of one probe."""
        self.probed, self.detail = True, detail
        if passed == self.passing:
            self.streak = 0
            return
        self.streak += 1
        if self.streak >= int(self.spec["rise" if passed else "fall"]):
            self.passing, self.streak, self.since = passed, 0, time.time()
            self.show()

    def report(self) -> dict[str, Any]:
        return {"healthy": self.healthy, "since": self.since, "probed": self.probed, "detail": self.detail}


async def probe(spec: dict[str, Any]) -> str:
    """Probe an endpoint once. Returns what was seen; raises if it is not well."""
    endpoint = spec.get("address") or spec["host"]
    secure = None
    if spec["kind"] == "https":
        # As Route 53 and Cloud DNS do, the certificate is not validated: the check is of reachability.
        secure = ssl.create_default_context()
        secure.check_hostname, secure.verify_mode = False, ssl.CERT_NONE
    name = (spec.get("host") or endpoint) if secure else None
    reader, writer = await asyncio.open_connection(endpoint, spec["port"], ssl=secure, server_hostname=name)
    try:
        if spec["kind"] == "tcp":
            return "connected"
        host = spec.get("host") or endpoint
        request = f"GET {spec['path']} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("ascii", "replace"))
        await writer.drain()
        status = (await reader.readline()).split()
        code = int(status[1]) if len(status) > 1 and status[1].isdigit() else 0
        if not 200 <= code < 400:
            raise ConnectionError(f"HTTP status {code}")
        if spec.get("match") is not None:
            while (await reader.readline()).strip():
                pass
            body = b""
            while len(body) < BODY_LIMIT and (more := await reader.read(BODY_LIMIT - len(body))):
                body += more
            if spec["match"].encode() not in body:
                raise ConnectionError("the text looked for is not in the answer")
        return f"HTTP status {code}"
    finally:
        writer.close()
        with contextlib.suppress(Exception):
            await writer.wait_closed()


class Prober:
    """All checks, their tasks and their HTTP interface."""

    def __init__(self, key: str, state: Path, run: Path, reload: list[str]) -> None:
        self.key, self.reload = key, reload
        self.saved, self.geoip, self.down = state / "checks.json", state / "geo.mmdb", run / "down"
        self.down.mkdir(parents=True, exist_ok=True)
        self.checks: dict[str, Check] = {}

    def set(self, specs: dict[str, dict[str, Any]]) -> None:
        """Probe these checks and no others; one whose settings stay keeps its state."""
        for name in [n for n, c in self.checks.items() if specs.get(n) != c.spec]:
            gone = self.checks.pop(name)
            if gone.task is not None:
                gone.task.cancel()
        for name, spec in specs.items():
            if name not in self.checks:
                check = self.checks[name] = Check(name, spec, self.down)
                check.task = asyncio.create_task(self.follow(check))
        for file in self.down.iterdir():
            if file.name not in self.checks:
                file.unlink(missing_ok=True)

    async def follow(self, check: Check) -> None:
        """Probe one check for as long as it exists."""
        spec = check.spec
        while self.checks.get(check.name) is check:
            started = time.monotonic()
            if spec["kind"] == "calculated":
                good = sum(c in self.checks and self.checks[c].healthy for c in spec["children"])
                good += sum(
                    c not in self.checks for c in spec["children"]
                )  # a disabled child counts as healthy
                check.note(good >= spec["threshold"], f"{good} of {len(spec['children'])} healthy")
                await asyncio.sleep(1)
                continue
            try:
                # Not wait_for: in Python 3.11 it can swallow a cancellation.
                async with asyncio.timeout(spec["timeout"]):
                    seen = await probe(spec)
                check.note(True, seen)
            except TimeoutError:
                check.note(False, f"no answer within {spec['timeout']:g} s")
            except (OSError, ValueError, EOFError) as error:
                check.note(False, str(error) or type(error).__name__)
            await asyncio.sleep(max(0.0, spec["interval"] - (time.monotonic() - started)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one HTTP request."""
        try:
            status, body = await self.answer(reader)
        except (ValueError, KeyError, TypeError, OSError, EOFError, asyncio.LimitOverrunError) as error:
            status, body = 400, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
        with contextlib.suppress(OSError):
            head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    async def answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        """Read a request and act on it."""
        method, path, _ = (await reader.readline()).decode("ascii").split()
        headers = {}
        while line := (await reader.readline()).decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        if not 0 <= length <= REQUEST_LIMIT:
            return 413, b""
        body = await reader.readexactly(length)
        if headers.get("x-api-key") != self.key:
            return 401, b""
        if (method, path) == ("PUT", "/checks"):
            specs = json.loads(body)
            self.set(specs)
            replace(self.saved, body)
            return 200, b"{}"
        if (method, path) == ("GET", "/health"):
            return 200, json.dumps({n: c.report() for n, c in self.checks.items()}).encode()
        if (method, path) == ("PUT", "/geoip"):
            replace(self.geoip, body)
            done = await asyncio.to_thread(subprocess.run, self.reload, capture_output=True, check=False)
            if done.returncode != 0:
                return 500, done.stderr
            return 200, b"{}"
        return 404, b""


def replace(path: Path, data: bytes) -> None:
    """Replace a file, whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.chmod(0o644)
    new.replace(path)


async def main(arguments: list[str]) -> None:
    """Serve for ever."""
    address, port, key_file, state, run, *reload = arguments
    prober = Prober(Path(key_file).read_text().strip(), Path(state), Path(run), reload)
    if prober.saved.exists():
        prober.set(json.loads(prober.saved.read_bytes()))
    server = await asyncio.start_server(prober.serve, address, int(port))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
