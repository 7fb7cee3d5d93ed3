"""Asks a resolver. Runs on an outside host."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode


def ask(server: str, name: str, kind: str, checking_disabled: bool) -> dict[str, Any]:
    """One answer: its code, whether the resolver validated it (AD), its TTL in seconds and values as text.

    `values` are those of the asked type, wherever a CNAME led; `error` says why there is no answer.
    """
    query = dns.message.make_query(name, kind, want_dnssec=True)
    if checking_disabled:
        query.flags |= dns.flags.CD
    try:
        answer = dns.query.udp_with_fallback(query, server, timeout=10)[0]
    except Exception as error:
        return {
            "name": name,
            "type": kind,
            "rcode": "",
            "ad": False,
            "ttl": 0,
            "values": [],
            "error": str(error),
        }
    wanted = query.question[0].rdtype
    found = [r for rrset in answer.answer if rrset.rdtype == wanted for r in rrset]
    values = [b"".join(r.strings).decode("ascii", "replace") if kind == "TXT" else r.to_text() for r in found]
    return {
        "name": name,
        "type": kind,
        "rcode": dns.rcode.to_text(answer.rcode()),
        "ad": bool(answer.flags & dns.flags.AD),
        "ttl": min((rrset.ttl for rrset in answer.answer), default=0),
        "values": values,
        "error": "",
    }


def main(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to `queries` (name and type pairs), in their order."""
    server, disabled = told.get("server", "127.0.0.1"), bool(told.get("checking_disabled"))
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(lambda query: ask(server, query[0], query[1], disabled), told["queries"]))
