"""Looks for operators' requests in the control bucket and does them, one after the other, the oldest first.

A request is done when this node's status says so. One that was interrupted is begun again: what it has restored
already is there then, and left alone.
"""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime

from mailinfra.node.agent.bucket import Bucket, BucketError, control
from mailinfra.node.agent.directory import ADDRESS, HOST, ROUTES
from mailinfra.node.agent.google import ApiError
from mailinfra.node.agent.node import Node
from mailinfra.node.backup import vault as vaults
from mailinfra.node.backup.access import Access, access
from mailinfra.node.backup.requests import (
    ID,
    MAX_AGE,
    REQUESTS,
    Progress,
    Request,
    dump_progress,
    parse,
    parse_progress,
    progress_key,
)
from mailinfra.node.backup.restore import Dovecot, Restore, RestoreError
from mailinfra.node.backup.run import EXPECTED, Place, place, utc
from mailinfra.node.backup.vault import Vault

log = logging.getLogger("restore")

INTERVAL = 10.0
"""Seconds between two looks at the bucket."""
SPEAK = 3.0
"""Seconds between two words on how far it is."""


def users(request: Request, node: Node, routes: bytes) -> list[str]:
    """The users of a request whose mailboxes are here: at home, or, for users of the source, as replica."""
    found = []
    for line in routes.splitlines():
        known = json.loads(line)
        address, host, replica = (known.get(name, "") for name in ("address", "mailbox_host", "replica"))
        if known.get("kind") != "user" or known.get("user") != address or not ADDRESS.fullmatch(address):
            continue
        if not HOST.fullmatch(host) or not request.covers(address):
            continue
        follows = replica == node.hostname and host.split(".")[1] == request.source
        # Somebody else's at home here who never was at the source has no copy there, and is passed over later.
        if host == node.hostname or follows:
            found.append(address)
    return sorted(found)


class Restores:
    """What a node has to do with requests."""

    def __init__(
        self,
        node: Node,
        where: Place,
        bucket: Bucket,
        enter: Callable[[Node, Vault], Access] = access,
        clock: Callable[[], datetime] = utc,
        dovecot: Dovecot | None = None,
    ) -> None:
        self.node, self.where, self.bucket, self.enter = node, where, bucket, enter
        self.clock, self.dovecot = clock, dovecot
        self.finished: set[str] = set()

    def step(self) -> None:
        """Do what is there to do."""
        waiting: list[Request] = []
        for key in self.bucket.list(REQUESTS):
            name = key.removeprefix(REQUESTS).removesuffix(".json")
            if name in self.finished or not ID.fullmatch(name) or not key.endswith(".json"):
                continue
            if request := self.read(key, name):
                waiting.append(request)
        for request in sorted(waiting, key=lambda item: (item.created, item.id)):
            self.do(request)

    def read(self, key: str, name: str) -> Request | None:
        """The request of a key, if it is for this node and not done yet."""
        try:
            stored = self.bucket.get(key)
            request = parse(stored.data if stored else b"")
            if request.id != name:
                raise ValueError(f"request: id is {request.id}")
        except (KeyError, ValueError) as error:
            log.warning("%s: %s", key, error)
            self.finished.add(name)
            return None
        if request.target != self.node.region or self.clock() - request.created > MAX_AGE or self.over(name):
            self.finished.add(name)
            return None
        return request

    def over(self, name: str) -> bool:
        """Whether this node has done a request."""
        try:
            stored = self.bucket.get(progress_key(self.node.group, name, self.node.name))
            return bool(stored and parse_progress(stored.data).state != "running")
        except (KeyError, ValueError):
            return False

    def vault(self, request: Request) -> Vault:
        """Where the copies of a request's source are. `RestoreError` where this region may not read them."""
        key = vaults.key(request.source, self.node.region)
        try:
            stored = self.bucket.get(key)
        except KeyError:
            raise RestoreError(f"{self.node.region} has no vault with the mail of {request.source}") from None
        return vaults.parse(stored.data if stored else b"")

    def do(self, request: Request) -> None:
        """Do one request to its end, whatever that is."""
        chosen = users(request, self.node, (self.where.lookups / ROUTES).read_bytes())
        spoke = 0.0

        def say(progress: Progress) -> None:
            nonlocal spoke
            if progress.state != "running" or time.monotonic() - spoke > SPEAK:
                self.bucket.put(
                    progress_key(self.node.group, request.id, self.node.name), dump_progress(progress)
                )
                spoke = time.monotonic()

        log.info("%s: %d mailboxes", request.id, len(chosen))
        restore = Restore(self.node, self.where, request, say, self.dovecot)
        state, error = "done", ""
        try:
            if chosen:
                restore.run(chosen, self.enter(self.node, self.vault(request)))
        except (RestoreError, *EXPECTED, OSError, KeyError, ValueError) as problem:
            state, error = "failed", f"{type(problem).__name__}: {problem}"
            log.warning("%s: %s", request.id, error)
        restore.told(state=state, error=error)
        self.finished.add(request.id)


def main(node: Node) -> int:
    """Work until SIGTERM."""
    os.umask(0o077)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    work, last = Restores(node, place(node), control(node)), ""
    while not stop.is_set():
        text = ""
        try:
            work.step()
        except (BucketError, ApiError, OSError, ValueError) as error:
            text = f"{type(error).__name__}: {error}"
        if text and text != last:
            log.warning("%s", text)
        last = text
        stop.wait(INTERVAL)
    return 0
