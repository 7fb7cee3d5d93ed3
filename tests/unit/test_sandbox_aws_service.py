"""AWS in the daemon: the TLS front, its names, and who a role trusts."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mailinfra.sandbox.aws import service
from mailinfra.sandbox.aws.service import TlsFront, certificate_names, trusts_ec2
from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.pki import Authority


@pytest.fixture
def upstream() -> Iterator[int]:
    """A server that answers each connection with what it was sent, in capitals."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(100):
                    connection.sendall(data.upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.fixture
def front(upstream: int, tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext]]:
    """A front before it: its port, and what trusts it."""
    authority = Authority.ensure(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    made = TlsFront(listener, authority.server_context(certificate_names()), upstream)
    made.start()
    trust = ssl.create_default_context(cadata=authority.certificate_pem)
    yield listener.getsockname()[1], trust
    made.stop()


def test_who_asks_for_aws_waits_for_one_that_is_being_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([None, "http://127.0.0.1:2", "http://127.0.0.1:2", "http://127.0.0.1:2"])
    made = service.Service()
    made._paths, made._endpoint = Paths("x", tmp_path, tmp_path), "http://127.0.0.1:1"

    def running(_: Paths) -> str | None:
        found = next(answers)
        if found is not None:
            made._endpoint = found
        return found

    monkeypatch.setattr(service, "_running", running)
    assert made.info()["endpoint"] == "http://127.0.0.1:2"
    monkeypatch.setattr(service, "_running", lambda _: None)
    monkeypatch.setattr(service, "RESTART_SECONDS", 0.01)
    with pytest.raises(SandboxError, match=r"moto\.log"):
        made.info()


@pytest.mark.parametrize("name", ["kms.eu-central-1.aws.test", "bucket.s3.us-east-1.aws.test"])
def test_bytes_go_through_under_every_services_name(front: tuple[int, ssl.SSLContext], name: str):
    port, trust = front
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname=name) as client,
    ):
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"


def test_a_peer_without_tls_ends_and_the_next_is_served(front: tuple[int, ssl.SSLContext]):
    with socket.create_connection(("127.0.0.1", front[0]), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        # How it ends (closed, reset, after an alert) is the TLS library's business.
        with suppress(ConnectionResetError):
            while plain.recv(100):
                pass
    test_bytes_go_through_under_every_services_name(front, "sts.eu-west-1.aws.test")


def trust_of(**statement: object) -> dict[str, object]:
    return {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", **statement}]}


@pytest.mark.parametrize(
    ("document", "trusts"),
    [
        (trust_of(Principal={"Service": "ec2.amazonaws.com"}), True),
        (
            trust_of(
                Principal={"Service": ["ssm.amazonaws.com", "ec2.amazonaws.com"]}, Action=["sts:AssumeRole"]
            ),
            True,
        ),
        (trust_of(Principal={"Service": "lambda.amazonaws.com"}), False),
        (trust_of(Principal={"AWS": "*"}), False),
        (trust_of(Principal={"Service": "ec2.amazonaws.com"}, Effect="Deny"), False),
        ({}, False),
    ],
)
def test_who_trusts_ec2(document: dict[str, object], trusts: bool):
    assert trusts_ec2(document) is trusts
