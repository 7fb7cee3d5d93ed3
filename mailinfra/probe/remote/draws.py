"""Asks a name server the same questions many times over and counts the answers. Runs on an outside host."""

import socket
import struct
import time
from collections import Counter
from typing import Any

import dns.message
import dns.rdatatype

REPLY_SECONDS = 2.0
TRIES = 5


def answer(link: socket.socket, query: bytes, number: int) -> bytes:
    """The reply to a query sent under this number; asked again when it is lost."""
    for _ in range(TRIES):
        link.send(struct.pack("!H", number) + query[2:])
        end = time.monotonic() + REPLY_SECONDS
        while (left := end - time.monotonic()) > 0:
            link.settimeout(left)
            try:
                reply = link.recv(4096)
            except TimeoutError:
                break
            if reply[:2] == struct.pack("!H", number):
                return reply
    raise TimeoutError(f"no answer after {TRIES} tries")


def main(told: dict[str, Any]) -> list[dict[str, Any]]:
    """For each of `questions` (name, type, how often): how often which set of values was answered."""
    found = []
    with socket.socket(
        socket.AF_INET6 if ":" in told["server"] else socket.AF_INET, socket.SOCK_DGRAM
    ) as link:
        link.connect((told["server"], 53))
        for name, kind, times in told["questions"]:
            query = dns.message.make_query(name, kind).to_wire()
            wanted = dns.rdatatype.from_text(kind)
            counted: Counter[tuple[str, ...]] = Counter()
            for number in range(times):
                message = dns.message.from_wire(answer(link, query, number % 65536))
                values = [r.to_text() for rrset in message.answer if rrset.rdtype == wanted for r in rrset]
                counted[tuple(sorted(values))] += 1
            counts = [{"values": list(values), "times": times} for values, times in counted.items()]
            found.append({"name": name, "type": kind, "counts": counts})
    return found
