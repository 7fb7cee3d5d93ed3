"""The client of PowerDNS's API, against a server that says what it was asked."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mailinfra.sandbox.dns.keys import ZoneKey
from mailinfra.sandbox.dns.pdns import NameServer, ServerError
from mailinfra.sandbox.dns.translate import RRset

asked: list[tuple[str, str, Any]] = []
answers: dict[tuple[str, str], tuple[int, Any]] = {}
BASE = "/api/v1/servers/localhost"


class Api(BaseHTTPRequestHandler):
    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix(BASE)
        assert self.headers["X-API-Key"] == "key"
        asked.append((self.command, path, json.loads(body) if body else None))
        status, data = answers.get((self.command, path), (200, {}))
        payload = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the base class names them so

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[NameServer]:
    asked.clear()
    answers.clear()
    with HTTPServer(("127.0.0.1", 0), Api) as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        port = api.server_address[1]
        yield NameServer(lambda host, _: socket.create_connection((host, port), 5), "127.0.0.1", "key", port)
        api.shutdown()
        thread.join()


def test_changes_are_one_request(server: NameServer) -> None:
    server.change("z.test.", [RRset("a.z.test.", "A", 60, ("192.0.2.1",))], [("b.z.test.", "A")])
    server.change("z.test.", [], [])
    ((method, path, body),) = asked
    assert (method, path) == ("PATCH", "/zones/z.test.")
    assert [(r["name"], r["changetype"]) for r in body["rrsets"]] == [
        ("b.z.test.", "DELETE"),
        ("a.z.test.", "REPLACE"),
    ]


def test_the_root_has_a_name_of_its_own(server: NameServer) -> None:
    server.remove(".")
    server.remove("_a.test.")
    assert [path for _, path, _ in asked] == ["/zones/=2E", "/zones/=5Fa.test."]


def test_a_zone_that_is_not_there_has_no_contents(server: NameServer) -> None:
    answers["GET", "/zones/z.test."] = (404, {"error": "Not Found"})
    assert server.contents("z.test.") is None
    answers["GET", "/zones/z.test."] = (200, {"rrsets": [{"name": "z.test.", "type": "NS"}]})
    assert server.contents("z.test.") == [("z.test.", "NS")]


def test_signing_leaves_exactly_the_key_asked_for(server: NameServer) -> None:
    key, other = ZoneKey.make(), ZoneKey.make()
    keys = "/zones/z.test./cryptokeys"
    answers["GET", keys] = (200, [{"id": 1, "active": True, "dnskey": other.dnskey()}])
    server.sign("z.test.", key)
    assert [(m, p) for m, p, _ in asked] == [
        ("GET", keys),
        ("DELETE", f"{keys}/1"),
        ("POST", keys),
        ("PUT", "/zones/z.test./rectify"),
    ]
    assert asked[2][2]["content"] == key.private_key_file()
    asked.clear()
    answers["GET", keys] = (200, [{"id": 2, "active": True, "dnskey": key.dnskey()}])
    server.sign("z.test.", key)
    assert [m for m, _, _ in asked] == ["GET", "PUT"]


def test_errors_name_the_server_and_what_it_said(server: NameServer) -> None:
    answers["GET", "/zones"] = (500, {"error": "database is locked"})
    with pytest.raises(ServerError, match=r"127\.0\.0\.1: GET /zones: 500 .*database is locked"):
        server.zones()


def test_nobody_there_is_an_error_too() -> None:
    def refuse(_host: str, _port: int) -> socket.socket:
        raise ConnectionRefusedError("refused")

    with pytest.raises(ServerError, match="refused"):
        NameServer(refuse, "192.0.2.1", "key").zones()
