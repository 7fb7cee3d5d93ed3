"""The clouds' resolver address on every server's link: questions are handed on to the sandbox's resolver.

A server asks it until its own resolver runs (the AWS VPC resolver; on GCE the metadata server answers too).
"""

import contextlib
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailinfra.sandbox.network import Network

log = logging.getLogger(__name__)

PORT = 53
TIMEOUT = 5.0
MESSAGE_LIMIT = 65_535
WORKERS = 8


class Relay:
    """DNS over UDP and TCP from the link-local addresses to `resolver`."""

    def __init__(self, network: "Network", resolver: str) -> None:
        self._network, self._resolver = network, resolver
        self._sockets: list[socket.socket] = []
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="dns-relay")
        self._stopping = threading.Event()

    def start(self, addresses: tuple[str, ...]) -> None:
        """Answer on these addresses of the router's."""
        for address in addresses:
            udp = self._network.datagram(address, PORT)
            tcp = self._network.listen(address, PORT)
            self._sockets += [udp, tcp]
            threading.Thread(
                target=self._datagrams, args=(udp,), name=f"dns-udp-{address}", daemon=True
            ).start()
            threading.Thread(
                target=self._streams, args=(tcp,), name=f"dns-tcp-{address}", daemon=True
            ).start()

    def stop(self) -> None:
        """Answer no more."""
        self._stopping.set()
        for listener in self._sockets:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _datagrams(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                question, client = listener.recvfrom(MESSAGE_LIMIT)
                self._pool.submit(self._ask, listener, question, client)
            except (OSError, RuntimeError) as error:
                if self._stopping.is_set():
                    return
                log.debug("relay: %s", error)

    def _ask(self, listener: socket.socket, question: bytes, client: tuple[str, int]) -> None:
        # A client that gets no answer asks again: a failure here is only worth a debug line.
        try:
            upstream = self._network.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
            with upstream:
                upstream.settimeout(TIMEOUT)
                upstream.connect((self._resolver, PORT))
                upstream.send(question)
                listener.sendto(upstream.recv(MESSAGE_LIMIT), client)
        except OSError as error:
            log.debug("relay to %s: %s", self._resolver, error)

    def _streams(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = listener.accept()
                self._pool.submit(self._carry, client)
            except (OSError, RuntimeError) as error:
                if self._stopping.is_set():
                    return
                log.debug("relay: %s", error)

    def _carry(self, client: socket.socket) -> None:
        """One TCP conversation:

        questions with a two-octet length in front, answered in turn (RFC 1035 4.2.2).
        """
        try:
            with client, self._network.connect(self._resolver, PORT, timeout=TIMEOUT) as upstream:
                client.settimeout(TIMEOUT)
                while message := _read_message(client):
                    upstream.sendall(message)
                    client.sendall(_read_message(upstream))
        except OSError as error:
            log.debug("relay to %s over TCP: %s", self._resolver, error)


def _read_message(stream: socket.socket) -> bytes:
    """A message with its length; empty at the end of the stream."""
    head = _read(stream, 2)
    return head + _read(stream, int.from_bytes(head, "big")) if len(head) == 2 else b""


def _read(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := stream.recv(size - len(data))):
        data += more
    return data
