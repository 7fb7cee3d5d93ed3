"""Reads mailboxes over IMAPS and POP3S as a mail program does. Runs on an outside host."""

import imaplib
import poplib
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

AUTHORITIES = "/etc/mailinfra-sandbox/public-authorities.pem"
PAUSE_SECONDS = 0.1
"""Between two looks at a mailbox."""
HEADER = "X-Mailinfra-Probe"


def protocol(link: object) -> str:
    """The TLS version of a connection."""
    return str(link.version()) if isinstance(link, ssl.SSLSocket) else "no TLS"


def imap(told: dict[str, Any]) -> tuple[bytes, float, str]:
    """The message with `token` in the probe's header, the time when it was seen, and the TLS version."""
    context = ssl.create_default_context(cafile=AUTHORITIES)
    with imaplib.IMAP4_SSL(told["host"], 993, ssl_context=context, timeout=20) as client:
        client.login(told["user"], told["password"])
        version = protocol(client.sock)
        end = time.monotonic() + told["seconds"]
        while True:
            client.select("INBOX", readonly=True)
            found = client.search(None, "HEADER", HEADER, f'"{told["token"]}"')[1][0].split()
            if found:
                seen = time.time()
                data = client.fetch(found[-1], "(BODY.PEEK[])")[1]
                return data[0][1], seen, version  # type: ignore[index, return-value]
            if time.monotonic() > end:
                raise TimeoutError(f"{told['user']} has not got it after {told['seconds']} s")
            time.sleep(PAUSE_SECONDS)


def pop3(told: dict[str, Any]) -> tuple[bytes, float, str]:
    """The same over POP3S, newest message first."""
    context = ssl.create_default_context(cafile=AUTHORITIES)
    end = time.monotonic() + told["seconds"]
    while True:
        client = poplib.POP3_SSL(told["host"], 995, context=context, timeout=20)
        try:
            client.user(told["user"])
            client.pass_(told["password"])
            version = protocol(client.sock)
            for number in range(client.stat()[0], 0, -1):
                if told["token"].encode() in b"\n".join(client.top(number, 0)[1]):
                    text = b"\r\n".join(client.retr(number)[1]) + b"\r\n"
                    return text, time.time(), version
        finally:
            client.quit()
        if time.monotonic() > end:
            raise TimeoutError(f"{told['user']} has not got it after {told['seconds']} s")
        time.sleep(PAUSE_SECONDS)


def collect(told: dict[str, Any]) -> list[str]:
    """The values of the probe's header that begin with `token`, of all messages; they are removed then."""
    context = ssl.create_default_context(cafile=AUTHORITIES)
    with imaplib.IMAP4_SSL(told["host"], 993, ssl_context=context, timeout=30) as client:
        client.login(told["user"], told["password"])
        client.select("INBOX")
        numbers = client.search(None, "HEADER", HEADER, f'"{told["token"]}"')[1][0].split()
        if not numbers:
            return []
        which = b",".join(numbers).decode()
        data = client.fetch(which, f"(BODY.PEEK[HEADER.FIELDS ({HEADER})])")[1]
        values = [part[1].decode().partition(":")[2].strip() for part in data if isinstance(part, tuple)]
        if told.get("remove"):
            client.store(which, "+FLAGS", r"(\Deleted)")
            client.expunge()
        return values


FAILURES = (OSError, imaplib.IMAP4.error, poplib.error_proto, EOFError)


def read(told: dict[str, Any], protocol: str) -> dict[str, Any]:
    """When the message was read, over which TLS, and whether all `parts` are in it; `error` says why not."""
    try:
        host = told["hosts"][protocol]
        text, seen, version = (imap if protocol == "imap" else pop3)({**told, "host": host})
    except FAILURES as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "seen": seen,
        "tls": version,
        "complete": all(part.encode() in text for part in told["parts"]),
        "error": "",
    }


def one(told: dict[str, Any]) -> dict[str, Any]:
    """What one reader found."""
    if told["action"] == "collect":
        try:
            return {"values": collect(told), "error": ""}
        except FAILURES as error:
            return {"values": [], "error": f"{type(error).__name__}: {error}"}
    # One after the other: a POP3 session sees what was there when it began, so it would have to log in again and again.
    return {protocol: read(told, protocol) for protocol in ("imap", "pop3")}


def main(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All readers, side by side. Each has a `user`, a `password` and a `token`.

    `action` is `read` (one message, from `hosts` by protocol, waited for at most `seconds`) or `collect` (what the
    IMAP server `host` has).
    """
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(one, told))
