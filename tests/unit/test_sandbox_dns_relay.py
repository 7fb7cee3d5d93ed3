"""The relay of DNS questions, on loopback."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from mailinfra.sandbox.dns import relay
from mailinfra.sandbox.dns.relay import Relay

LOCAL = "127.0.0.1"


class Loopback:
    """The router's network, on this host's loopback and free ports."""

    def __init__(self) -> None:
        self.udp = self.datagram(LOCAL, 0)
        self.tcp = self.listen(LOCAL, 0)

    def datagram(self, _host: str, _port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((LOCAL, 0))
        return made

    def listen(self, _host: str, _port: int) -> socket.socket:
        return socket.create_server((LOCAL, 0))

    def connect(self, host: str, port: int, timeout: float) -> socket.socket:
        return socket.create_connection((host, port), timeout)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Loopback, Relay]]:
    """A relay whose resolver answers each question with the question in capitals."""
    tcp = socket.create_server((LOCAL, 0))
    port = tcp.getsockname()[1]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((LOCAL, port))

    def datagrams() -> None:
        while True:
            data, client = udp.recvfrom(65535)
            if data == b"stop":
                return
            udp.sendto(data.upper(), client)

    def stream() -> None:
        client, _ = tcp.accept()
        with client:
            while message := client.recv(65535):
                client.sendall(message.upper())

    threads = [threading.Thread(target=datagrams), threading.Thread(target=stream)]
    for thread in threads:
        thread.start()
    monkeypatch.setattr(relay, "PORT", port)
    network = Loopback()
    monkeypatch.setattr(network, "datagram", lambda *_: network.udp)
    monkeypatch.setattr(network, "listen", lambda *_: network.tcp)
    made = Relay(cast("Any", network), LOCAL)
    made.start((LOCAL,))
    yield network, made
    made.stop()
    udp.sendto(b"stop", udp.getsockname())
    socket.create_connection((LOCAL, port)).close()
    for thread in threads:
        thread.join(5)
    udp.close()
    tcp.close()


def test_datagrams_and_streams_are_handed_on(resolver: tuple[Loopback, Relay]) -> None:
    network, _ = resolver
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(b"question", network.udp.getsockname())
        assert client.recv(100) == b"QUESTION"
    with socket.create_connection(network.tcp.getsockname(), 5) as stream:
        for question in (b"first", b"second, longer"):
            stream.sendall(len(question).to_bytes(2, "big") + question)
            assert stream.recv(2) == len(question).to_bytes(2, "big")
            assert stream.recv(100) == question.upper()
