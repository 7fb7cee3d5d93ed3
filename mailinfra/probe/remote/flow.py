"""Sends a steady flow of messages as a mail server does, and keeps a ledger. Runs on an outside host.

Every message looks the MX up anew through the host's own resolver, tries the hosts by preference (RFC 5321 5.1,
those of equal preference in random order), each host's addresses in turn, and is tried again later when nobody
takes it.
"""

import random
import smtplib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.resolver

HEADER = "X-Mailinfra-Probe"
RETRY_SECONDS = 2.0
STEP_SECONDS = 15.0


class Flow:
    """The sender's state: its ledger, and what the DNS told it when."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.random = random.Random(told["seed"])  # noqa: S311 - only a choice of host
        self.lock = threading.Lock()
        self.stop = Path(told["stop"])
        self.resolver = dns.resolver.Resolver(configure=False)
        self.resolver.nameservers = [told.get("server", "127.0.0.1")]
        self.resolver.cache = None
        self.accepted: list[dict[str, Any]] = []
        self.cut: list[dict[str, Any]] = []
        self.failed: list[str] = []
        self.told_addresses: list[list[Any]] = []

    def hosts(self) -> list[str]:
        """The MX hosts in the order of this try."""
        answer = self.resolver.resolve(self.told["domain"], "MX")
        pairs = [
            (r.preference, self.random.random(), r.exchange.to_text(omit_final_dot=True)) for r in answer
        ]
        return [host for _, _, host in sorted(pairs)]

    def addresses(self, host: str) -> list[str]:
        """A host's addresses by the resolver; when a watched one is among them, that is noted."""
        found = []
        for kind in ("A", "AAAA"):
            asked = time.time()
            answer = self.resolver.resolve(host, kind, raise_on_no_answer=False)
            values = [r.to_text() for r in answer]
            found += values
            if any(value in self.told["watched"] for value in values):
                with self.lock:
                    self.told_addresses.append([asked, host])
        return found

    def offer(self, address: str, number: str, recipient: str) -> bool:
        """One try at one address. Whether the message was accepted."""
        begun, sent = time.time(), False
        client = smtplib.SMTP(timeout=STEP_SECONDS, local_hostname=socket.getfqdn())
        try:
            client.connect(address, 25)
            client.ehlo()
            client.mail(self.told["sender"])
            if client.rcpt(recipient)[0] != 250:
                return False
            sent = True
            text = (
                f"From: <{self.told['sender']}>\r\nTo: <{recipient}>\r\nSubject: flow {number}\r\n"
                f"{HEADER}: {number}\r\nMessage-ID: <{number}@{self.told['sender'].partition('@')[2]}>\r\n"
                f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S +0000', time.gmtime())}\r\n\r\nOne of a flow.\r\n"
            )
            if client.data(text.encode())[0] != 250:
                return False
            with self.lock:
                self.accepted.append({"id": number, "at": time.time(), "address": address, "to": recipient})
                if len(self.accepted) == self.told["enough"]:
                    Path(self.told["ready"]).touch()
            return True
        except (OSError, smtplib.SMTPException):
            if sent:
                with self.lock:
                    self.cut.append({"id": number, "at": begun, "address": address})
            return False
        finally:
            client.close()

    def send(self, number: str, recipient: str, deadline: float) -> None:
        """Send one message, trying again until somebody has taken it."""
        while True:
            try:
                for host in self.hosts():
                    for address in self.addresses(host):
                        if self.offer(address, number, recipient):
                            return
            except Exception:  # noqa: S110 - a look-up that failed is tried again like anything else
                pass
            if time.monotonic() > deadline:
                with self.lock:
                    self.failed.append(number)
                return
            time.sleep(RETRY_SECONDS)


def main(told: dict[str, Any]) -> dict[str, Any]:
    """Send a message every `interval` seconds until the file `stop` is there, at most for `seconds`. When `enough`
    have been accepted, the file `ready` is there.

    `ledger` says of every message who accepted it when; `cut` are tries that ended within the message, `failed`
    what nobody took, `resolved` says when the resolver gave one of the `watched` addresses. Times are seconds of the
    host's clock.
    """
    flow = Flow(told)
    flow.stop.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + told["seconds"]
    number, following = 0, time.monotonic()
    with ThreadPoolExecutor(max_workers=16) as pool:
        while not flow.stop.exists() and time.monotonic() < deadline:
            recipient = told["recipients"][number % len(told["recipients"])]
            pool.submit(flow.send, f"{told['token']}-{number}", recipient, deadline + told["grace"])
            number += 1
            following += told["interval"]
            time.sleep(max(0.0, following - time.monotonic()))
    for file in (flow.stop, Path(told["ready"])):
        file.unlink(missing_ok=True)
    return {
        "sent": number,
        "ledger": flow.accepted,
        "cut": flow.cut,
        "failed": flow.failed,
        "resolved": flow.told_addresses,
    }
