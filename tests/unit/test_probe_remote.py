"""Tests of mailinfra.probe.remote: the scripts that run on machines, against servers of the test's own."""

import asyncio
import base64
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.message
import dns.rrset
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from mailinfra.probe import mail, site
from mailinfra.probe.remote import answers, draws, flow, inbox, links, residue, smtp

DEAD, ALIVE = "198.51.100.1", "198.51.100.2"


@contextmanager
def serving(handler: Any, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """An SMTP-like server on loopback: `handler(reader, writer)` a connection; its port."""
    loop = asyncio.new_event_loop()
    ready: list[int] = []
    started = threading.Event()

    async def main() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
        ready.append(server.sockets[0].getsockname()[1])
        started.set()
        async with server:
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    started.wait(5)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


class Mta:
    """Answers SMTP: refuses recipients whose local part begins with `no`, keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.cut = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 node.test ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-node.test\r\n250 8BITMIME\r\n")
            elif verb == b"RCPT":
                writer.write(b"550 no\r\n" if b"<no" in line else b"250 ok\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                self.messages.append(await reader.readuntil(b"\r\n.\r\n"))
                if self.cut:
                    break
                writer.write(b"250 taken\r\n")
            else:
                writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                if verb == b"QUIT":
                    break
        writer.close()


@pytest.fixture(autouse=True)
def authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "AUTHORITIES", ssl.get_default_verify_paths().openssl_cafile)


def test_a_session_tells_every_reply() -> None:
    mta = Mta()
    message = mail.message("a@outside.test", "yes@example.test", "0123456789abcdef")
    with serving(mta) as port:
        call = {
            "address": "127.0.0.1",
            "port": port,
            "tls": "none",
            "name": "node.test",
            "sender": "a@outside.test",
        }
        call |= {"recipients": ["no@example.test", "yes@example.test"], "message": mail.coded(message)}
        (found,) = smtp.main([call])
    assert [code for code, _ in found["recipients"]] == [550, 250]
    assert found["data"][0] == 250
    assert abs(found["accepted"] - time.time()) < 60
    (received,) = mta.messages
    assert received.replace(b"\r\n..", b"\r\n.").startswith(message[:200])


def test_a_session_without_a_server_says_so() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        call = {"address": "127.0.0.1", "port": closed.getsockname()[1], "tls": "none", "name": "x"}
        (found,) = smtp.main([call])
    assert (found["connected"], found["accepted"]) == (False, None)
    assert "ConnectionRefusedError" in found["error"]


def test_a_message_of_the_probe_has_its_mark_in_every_form() -> None:
    mark = mail.token()
    text = mail.message("a@outside.test", "b@example.test", mark)
    assert text.count(mark.encode()) >= 5
    assert f"Grüße an {mark}".encode() in text
    assert mark.encode() in base64.b64decode(text.rpartition(b"base64\r\n\r\n")[2].partition(b"--cut")[0])
    assert b"\n" not in text.replace(b"\r\n", b"")
    assert max(map(len, text.split(b"\r\n"))) < 100


class Names:
    """The DNS as the scripts see it: what a name answers now."""

    def __init__(self) -> None:
        self.a = [ALIVE]

    def message(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        answer = dns.message.make_response(query)
        if question.rdtype.name == "A":
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", *self.a))
        return answer


def test_a_node_is_followed_out_of_the_answers_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, rounds = Names(), iter(range(10_000))
    script = [[DEAD, ALIVE]] * 3 + [[ALIVE]] * 2 + [[DEAD]] + [[ALIVE]] * 6 + [[DEAD]] * 5

    def udp(query: dns.message.Message, server: str, timeout: float) -> dns.message.Message:
        if query.question[0].rdtype.name == "A":
            names.a = script[min(next(rounds), len(script) - 1)]
        return names.message(query)

    monkeypatch.setattr("dns.query.udp", udp)
    told = {"sources": [["192.0.2.12", "mx1.test"]], "watched": [DEAD], "draws": 1, "pause": 0.001}
    told |= {"quiet_rounds": 4, "seconds": 20, "stop": str(tmp_path / "stop")}
    told["ready"] = str(tmp_path / "ready")
    (found,) = answers.main(told)
    assert found["left"]
    assert found["ttl"] == 60
    assert found["last"] < found["back"]
    # Two rounds without it were not enough to have left; the sixth answer is the last one.
    assert next(rounds) == 13


def test_a_node_that_stays_has_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    names.a = [DEAD]
    monkeypatch.setattr("dns.query.udp", lambda query, server, timeout: names.message(query))
    told = {"sources": [["192.0.2.12", "mx1.test"]], "watched": [DEAD], "draws": 1, "pause": 0.01}
    told |= {"quiet_rounds": 2, "seconds": 0.2, "stop": str(tmp_path / "stop")}
    told["ready"] = str(tmp_path / "ready")
    (found,) = answers.main(told)
    assert (found["left"], found["back"]) == (False, None)


class Resolver:
    """What `dns.resolver.Resolver` gives the flow."""

    def __init__(self, configure: bool = True) -> None:
        self.cache = None
        self.nameservers: list[str] = []

    def resolve(self, name: str, kind: str, raise_on_no_answer: bool = True) -> list[Any]:
        if kind == "MX":
            exchange = SimpleNamespace(to_text=lambda omit_final_dot: "mx1.test")
            return [SimpleNamespace(preference=10, exchange=exchange)]
        addresses = (DEAD, "127.0.0.1") if kind == "A" else ()
        return [SimpleNamespace(to_text=partial(str, address)) for address in addresses]


@pytest.mark.parametrize("cut", [False, True])
def test_a_flow_keeps_a_ledger_of_what_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    monkeypatch.setattr("dns.resolver.Resolver", Resolver)
    monkeypatch.setattr(flow, "RETRY_SECONDS", 0.05)
    mta = Mta()
    mta.cut = cut
    with serving(mta) as port:
        connect = flow.smtplib.SMTP.connect

        def redirected(self: Any, host: str, _: int = 25) -> Any:
            if host == DEAD:
                raise ConnectionRefusedError
            return connect(self, host, port)

        monkeypatch.setattr(flow.smtplib.SMTP, "connect", redirected)
        told = {"domain": "example.test", "recipients": ["a@example.test", "no@example.test"], "seed": "x",
                "sender": "flow@outside.test", "token": "t", "interval": 0.05, "seconds": 0.3, "grace": 0.2,
                "watched": [DEAD], "stop": str(tmp_path / "stop")}  # fmt: skip
        told |= {"ready": str(tmp_path / "ready"), "enough": 1}
        found = flow.main(told)
    assert found["sent"] >= 3
    assert found["resolved"]
    accepted = {entry["id"] for entry in found["ledger"]}
    if cut:
        assert not accepted
        assert {entry["id"] for entry in found["cut"]} >= {"t-0"}
        assert "t-0" in found["failed"]
    else:
        assert accepted == {f"t-{number}" for number in range(0, found["sent"], 2)}
        assert set(found["failed"]) == {f"t-{number}" for number in range(1, found["sent"], 2)}
        assert all(entry["address"] == "127.0.0.1" for entry in found["ledger"])


def test_an_inbox_is_waited_for_and_judged(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    verifier = tmp_path / "verifier"
    verifier.write_text('#!/bin/sh\nprintf \'{"dkim": "%s"}\' "$(grep -c Probe "$1")"\n')
    verifier.chmod(0o755)
    (tmp_path / "new" / "1").write_text("Subject: Probe first\n\nx")
    (tmp_path / "new" / "2").write_text("Subject: something else\n\nx")
    late = threading.Timer(0.3, lambda: (tmp_path / "new" / "3").write_text("Subject: Probe second\n\nx"))
    late.start()
    told = {
        "tokens": ["first", "second", "third"],
        "seconds": 1,
        "folder": str(tmp_path),
        "verifier": str(verifier),
    }
    found = inbox.main(told)
    late.join()
    assert set(found) == {"first", "second"}
    assert found["first"]["verdict"] == {"dkim": "1"}
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["2"]


def test_answers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    names.a = [DEAD, ALIVE]

    class Link:
        def __init__(self, *_: object) -> None:
            self.replies: list[bytes] = []

        def __enter__(self) -> "Link":
            return self

        def __exit__(self, *_: object) -> None: ...

        def connect(self, _: object) -> None: ...

        def settimeout(self, _: float) -> None: ...

        def send(self, data: bytes) -> None:
            # An answer to an older question comes first: it must not count.
            reply = names.message(dns.message.from_wire(data)).to_wire()
            self.replies = [bytes([reply[0] ^ 255]) + reply[1:], reply]

        def recv(self, _: int) -> bytes:
            return self.replies.pop(0)

    monkeypatch.setattr(draws.socket, "socket", Link)
    (found,) = draws.main({"server": "192.0.2.12", "questions": [["mx1.test.", "A", 5]]})
    assert found["counts"] == [{"values": sorted([DEAD, ALIVE]), "times": 5}]


def test_deleted_files_that_are_open_are_searched(tmp_path: Path) -> None:
    token = mail.token().encode()
    with (tmp_path / "gone").open("wb") as file:
        file.write(token)
        file.flush()
        (tmp_path / "gone").unlink()
        looked, found = residue.deleted([token])
    assert looked >= 1
    assert [item for item in found if item.startswith(str(os.getpid()))]
    assert residue.deleted([b"nowhere" + token])[1] == []


def authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox eu-central-1")])
    return issue(name, key, name, key, None), key


def issue(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    host: str | None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(host is None, None), True)
    )
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), False)
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    """A node's certificate, key and anchors, good for `localhost`."""
    root, signer = authority()
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = issue(x509.Name([]), key, root.subject, signer, "localhost")
    (tmp_path / "anchors.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (tmp_path / "cert.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return tmp_path


def server_context(tls: Path, strict: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    if strict:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls / "anchors.pem")
    return context


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_a_strict_server_accepts_only_the_right_credentials_and_a_lax_one_is_found_out(
    tls: Path, strict: bool
) -> None:
    with serving(Mta(), server_context(tls, strict)) as port:
        told = {
            "tls": str(tls),
            "targets": [{"host": "localhost", "port": port, "recipient": "a@example.test"}],
        }
        found = {item["kind"]: item for item in links.main(told)}
    assert found["right"]["outcome"] == "accepted"
    wrong = "refused" if strict else "accepted"
    assert {found[kind]["outcome"] for kind in ("tls12", "no-certificate", "wrong-ca")} == {wrong}
    if strict:
        assert found["right"]["tls"] == "TLSv1.3"


@pytest.mark.parametrize(
    ("answer", "outcome"), [(b"OK 12\n", "accepted"), (b"NO not your user\n", "refused"), (b"", "refused")]
)
@pytest.mark.filterwarnings("ignore")
def test_a_replica_accepts_who_is_told_yes(tls: Path, answer: bytes, outcome: str) -> None:
    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() in (b"CHECK a@example.test\n", b"")
        writer.write(answer)
        writer.close()

    with serving(replica, server_context(tls, True)) as port:
        target = {"host": "localhost", "port": port, "user": "a@example.test"}
        found = links.main({"tls": str(tls), "targets": [target]})
    assert {item["kind"]: item["outcome"] for item in found}["right"] == outcome


@pytest.mark.filterwarnings("ignore")
def test_a_door_behind_which_nobody_is_refuses_nothing(tls: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = {"host": "localhost", "port": closed.getsockname()[1], "recipient": "a@example.test"}
        found = links.main({"tls": str(tls), "targets": [target]})
    assert {item["outcome"] for item in found} == {"unreachable"}


@pytest.mark.parametrize(
    "name",
    [
        "answers",
        "dane",
        "draws",
        "flow",
        "inbox",
        "links",
        "mailbox",
        "residue",
        "resolve",
        "smtp",
        "watch",
        "web",
    ],
)
def test_a_script_stands_alone(name: str) -> None:
    text = site.script(name)
    assert "import mailinfra" not in text
    assert "from mailinfra" not in text
    compile(text, name, "exec")
    assert text.endswith("json.dump(main(json.load(sys.stdin)), sys.stdout)\n")
    assert json.dumps(text)
