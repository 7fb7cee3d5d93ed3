"""Follows a node in the answers of name servers: until when it was there, and since when it is there again. Runs on
an outside host.
"""

import time
from pathlib import Path
from typing import Any

from dns import message, query


class Host:
    """One steered name at one name server."""

    def __init__(self, server: str, name: str) -> None:
        self.server, self.name = server, name
        self.last: float | None = None
        self.ttl = 0
        self.quiet = 0
        self.left = False
        self.back: float | None = None

    def ask(self, watched: set[str], draws: int, quiet_rounds: int) -> None:
        """One round of questions."""
        asked, seen, answered = time.time(), False, 0
        for kind in ("A", "AAAA"):
            for _ in range(draws):
                try:
                    answer = query.udp(message.make_query(self.name, kind), self.server, timeout=2)
                except Exception:  # noqa: S112 - a lost packet is no answer, which is counted
                    continue
                answered += 1
                for rrset in answer.answer:
                    if any(r.to_text() in watched for r in rrset):
                        seen, self.ttl = True, max(self.ttl, rrset.ttl)
        if seen and self.left:
            self.back = self.back or asked
        elif seen:
            self.last, self.quiet = asked, 0
        elif answered:
            self.quiet += 1
            self.left = self.left or (self.last is not None and self.quiet >= quiet_rounds)


def main(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask for `watched` addresses at `sources` (server and name), `draws` times a round and family, a round every
    `pause` seconds, until the node has left every answer that it was in and is back in one, at most for `seconds` or
    until the file `stop` is there. The file `ready` is there once all have been asked.

    `last` is when it was last answered before it had left, `ttl` the longest TTL of that, `left` whether
    `quiet_rounds` went by without it, `back` when it was answered again. Times are seconds of the host's clock.
    """
    hosts = [Host(server, name) for server, name in told["sources"]]
    watched, stop, ready = set(told["watched"]), Path(told["stop"]), Path(told["ready"])
    ready.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + told["seconds"]
    while time.monotonic() < end and not stop.exists():
        began = time.monotonic()
        for host in hosts:
            host.ask(watched, told["draws"], told["quiet_rounds"])
        ready.touch()
        there = [host for host in hosts if host.last is not None]
        if there and all(host.left for host in there) and any(host.back for host in there):
            break
        time.sleep(max(0.0, told["pause"] - (time.monotonic() - began)))
    ready.unlink(missing_ok=True)
    return [{"host": h.name, "last": h.last, "ttl": h.ttl, "left": h.left, "back": h.back} for h in hosts]
