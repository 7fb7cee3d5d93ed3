"""A client of PowerDNS's HTTP API: a zone is brought to what it should hold in one transaction.

Source: PowerDNS Authoritative Server 4.7, "Built-in Webserver and HTTP API".
"""

import http.client
import json
import socket
from collections.abc import Callable, Iterable
from typing import Any

from mailinfra.sandbox.dns.keys import ZoneKey
from mailinfra.sandbox.dns.translate import RRset

Connect = Callable[[str, int], socket.socket]
"""Opens a TCP connection to an address and port of the sandbox."""


class ServerError(RuntimeError):
    """The name server (or the prober beside it) refused a request, or cannot be reached."""


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a socket that somebody else opens: the sandbox's network is another namespace's."""

    def __init__(self, host: str, port: int, connect: Connect, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._open = connect

    def connect(self) -> None:
        """Open the socket."""
        self.sock = self._open(self.host, self.port)
        self.sock.settimeout(self.timeout)


def request(
    connect: Connect,
    address: tuple[str, int],
    key: str,
    method: str,
    path: str,
    body: object = None,
    *,
    timeout: float = 20,
) -> tuple[int, bytes]:
    """One HTTP request with an API key; JSON unless the body is bytes.

    Raises `ServerError` if nobody answers.
    """
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    connection = SocketConnection(*address, connect, timeout)
    try:
        connection.request(method, path, data, {"X-API-Key": key, "Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"{address[0]}:{address[1]} {method} {path}: {error}") from error
    finally:
        connection.close()


class NameServer:
    """One PowerDNS server. `address` is that of its API."""

    def __init__(self, connect: Connect, address: str, key: str, port: int = 8081) -> None:
        self._connect, self._address, self._key = connect, (address, port), key

    def _call(
        self, method: str, path: str, body: object = None, allowed: Iterable[int] = ()
    ) -> tuple[int, Any]:
        status, data = request(
            self._connect, self._address, self._key, method, f"/api/v1/servers/localhost{path}", body
        )
        if status >= 400 and status not in tuple(allowed):
            raise ServerError(
                f"PowerDNS at {self._address[0]}: {method} {path}: {status} {data.decode(errors='replace')}"
            )
        return status, json.loads(data) if data and status < 400 else None

    def zones(self) -> list[str]:
        """The zones it serves."""
        return [z["name"] for z in self._call("GET", "/zones")[1]]

    def remove(self, zone: str) -> None:
        """Serve a zone no more, if it did."""
        self._call("DELETE", f"/zones/{_path(zone)}", allowed=(404,))

    def contents(self, zone: str) -> list[tuple[str, str]] | None:
        """Names and types of the record sets that the zone holds; None if it is not served."""
        status, data = self._call("GET", f"/zones/{_path(zone)}", allowed=(404,))
        return None if status == 404 else [(r["name"], r["type"]) for r in data["rrsets"]]

    def create(self, zone: str, soa: str, rrsets: Iterable[RRset]) -> None:
        """Serve a new zone."""
        body = {
            "name": zone,
            "kind": "Native",
            "soa_edit_api": "INCREASE",
            "rrsets": [_json(RRset(zone, "SOA", _SOA_TTL, (soa,))), *map(_json, rrsets)],
        }
        self._call("POST", "/zones", body)

    def change(self, zone: str, replace: Iterable[RRset], remove: Iterable[tuple[str, str]]) -> None:
        """Put record sets in the place of what is there, and remove others, all at once or not at all."""
        changes = [*({"name": n, "type": t, "changetype": "DELETE"} for n, t in remove), *map(_json, replace)]
        if changes:
            self._call("PATCH", f"/zones/{_path(zone)}", {"rrsets": changes})

    def sign(self, zone: str, key: ZoneKey | None) -> None:
        """Sign the zone with this key only; with None not at all."""
        _, keys = self._call("GET", f"/zones/{_path(zone)}/cryptokeys")
        wanted = key.dnskey() if key is not None else None
        have = False
        for entry in keys:
            if entry["active"] and entry.get("dnskey") == wanted:
                have = True
            else:
                self._call("DELETE", f"/zones/{_path(zone)}/cryptokeys/{entry['id']}")
        if key is not None and not have:
            body = {"keytype": "csk", "active": True, "published": True, "content": key.private_key_file()}
            self._call("POST", f"/zones/{_path(zone)}/cryptokeys", body)
        self.rectify(zone)

    def rectify(self, zone: str) -> None:
        """Bring order and empty non-terminals up to date, which a signed zone's denials need."""
        self._call("PUT", f"/zones/{_path(zone)}/rectify", allowed=(422,))


_SOA_TTL = 60


def _path(zone: str) -> str:
    """PowerDNS's zone id: what is no letter, digit, dot or hyphen is `=XX`; the root is `=2E`."""
    if zone == ".":
        return "=2E"
    return "".join(c if c.isalnum() or c in ".-" else f"={ord(c):02X}" for c in zone)


def _json(r: RRset) -> dict[str, Any]:
    return {
        "name": r.name,
        "type": r.rtype,
        "ttl": r.ttl,
        "changetype": "REPLACE",
        "records": [{"content": c, "disabled": False} for c in r.contents],
    }
