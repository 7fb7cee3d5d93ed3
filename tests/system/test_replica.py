"""Replicas between real mailbox nodes: two of one zone in different regions, and a stranger in another zone."""

import json
import secrets
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.cloud import start_cloud, stop_cloud
from mailinfra.sandbox.paths import Paths, sandbox_lock
from tests.node_helpers import DOMAIN, NodeFleet, Place, node_spec, until
from tests.sandbox_helpers import quiet, traces

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

HOME, COPY, US = "eu-central-1-store-1", "eu-west-1-store-1", "us-east-1-store-1"
HOSTS = {name: f"store-1.{name.removesuffix('-store-1')}.nodes.{DOMAIN}" for name in (HOME, COPY, US)}
TLS = "/var/lib/mailinfra/tls"
SECONDS = 20.0
"""What a change may take to the replica here: two cores may boot machines meanwhile."""

DELIVER = r"""
import json, smtplib, sys
user, marks = json.load(sys.stdin)
lmtp = smtplib.LMTP("/var/spool/postfix/private/dovecot-lmtp")
lmtp.ehlo()
for mark in marks:
    head = f"From: x@outside.test\r\nTo: {user}\r\nSubject: {mark}\r\nMessage-ID: <{mark}@test>\r\n\r\n"
    assert not lmtp.sendmail("x@outside.test", [user], head + "Hello\r\n")
lmtp.quit()
"""
SPEED = r"""
# When each of so many messages, delivered one by one on the home, was there; the replica watches with `WAIT`.
import json, smtplib, sys, time
user, marks, pause = json.load(sys.stdin)
lmtp = smtplib.LMTP("/var/spool/postfix/private/dovecot-lmtp")
lmtp.ehlo()
found = {}
for mark in marks:
    head = f"From: x@outside.test\r\nTo: {user}\r\nSubject: {mark}\r\n\r\n"
    assert not lmtp.sendmail("x@outside.test", [user], head + "Hello\r\n")
    found[mark] = time.time()
    time.sleep(pause)
print(json.dumps(found))
"""
WAIT = r"""
import json, os, sys, time
folder, marks, seconds = json.load(sys.stdin)
found, known, end = {}, set(), time.time() + seconds
while len(found) < len(marks) and time.time() < end:
    for part in ("new", "cur"):
        try:
            names = set(os.listdir(f"{folder}/{part}")) - known
        except FileNotFoundError:
            continue
        for name in names:
            try:
                text, at = open(f"{folder}/{part}/{name}").read(), time.time()
            except FileNotFoundError:
                continue
            known.add(name)
            found.update({mark: at for mark in marks if f"Subject: {mark}\n" in text.replace("\r", "")})
    time.sleep(0.02)
print(json.dumps(found))
"""
ASK = r"""
import json, socket, ssl, sys
host, port, tls, line = json.load(sys.stdin)
context = ssl.create_default_context(cafile="/var/lib/mailinfra/tls/anchors.pem")
if tls:
    context.load_cert_chain(f"{tls}/cert.pem", f"{tls}/key.pem")
try:
    with socket.create_connection((host, port), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname=host) as link:
            link.sendall(line.encode())
            text = b""
            while piece := link.recv(2000):
                text += piece
            print(link.version(), text.decode(errors="replace"))
except (OSError, ssl.SSLError) as error:
    print("refused", error)
"""


class Stores:
    """The fleet, and what one does with mailboxes in it."""

    def __init__(self, fleet: NodeFleet) -> None:
        self.fleet = fleet

    def python(self, machine: str, script: str, *arguments: Any, timeout: float = 120) -> str:
        """What a Python script prints on a machine that is given these arguments."""
        code, text = self.fleet.run(
            machine, "python3", "-c", script, stdin=json.dumps(arguments), timeout=timeout
        )
        assert code == 0, text
        return text

    def deliver(self, user: str, *marks: str, machine: str = HOME) -> None:
        """Deliver messages with these subjects as Postfix would."""
        self.python(machine, DELIVER, f"{user}@{DOMAIN}", marks)

    def doveadm(self, machine: str, *command: str) -> str:
        """What doveadm prints."""
        code, text = self.fleet.run(machine, "doveadm", *command)
        assert code == 0, text
        return text

    def mails(self, machine: str, user: str) -> dict[str, tuple[str, str, str]]:
        """GUID to folder, subject and flags of a user's mail."""
        text = self.doveadm(
            machine,
            *("-f", "json", "fetch", "-u", f"{user}@{DOMAIN}"),
            *("guid mailbox hdr.subject flags", "ALL"),
        )
        lines = json.loads(text)
        found = {
            line["guid"]: (
                line["mailbox"],
                line["hdr.subject"],
                " ".join(sorted(set(line["flags"].split()) - {"\\Recent"})),
            )
            for line in lines
        }
        assert len(found) == len(lines)  # no GUID is there twice
        return found

    def folders(self, machine: str, user: str, *flags: str) -> set[str]:
        """The names of a user's folders; with `-s` those that are subscribed to."""
        return set(self.doveadm(machine, "mailbox", "list", *flags, "-u", f"{user}@{DOMAIN}").split())

    def same(self, user: str, seconds: float = SECONDS) -> dict[str, tuple[str, str, str]]:
        """Wait until both sides have the same of a user: what that is."""

        def both() -> bool:
            return (
                self.mails(HOME, user) == self.mails(COPY, user)
                and self.folders(HOME, user) == self.folders(COPY, user)
                and self.folders(HOME, user, "-s") == self.folders(COPY, user, "-s")
            )

        until(both, seconds, f"the replica of {user} is not like the home: {self.status(HOME)}")
        return self.mails(HOME, user)

    def status(self, machine: str) -> dict[str, Any]:
        """How replication goes, as the machine tells."""
        told: dict[str, Any] = json.loads(
            self.fleet.shell(machine, "cat /var/lib/mailinfra/replica/status.json")
        )
        return told

    def settled(self, machine: str, seconds: float = 60.0) -> None:
        """Wait until a machine says that all of its users are on their replicas."""

        def check() -> bool:
            told = self.status(machine)
            return not any(told[name] for name in ("pending", "unchecked", "failing", "unreachable"))

        until(check, seconds, f"{machine} has not settled: {self.status(machine)}")

    def publish(self, home: str, copy: str) -> None:
        """Have all users but bob live on one machine and be followed by another."""
        places = {node.id: node for node in self.fleet.nodes}
        for user in self.fleet.users:
            if user != "bob":
                self.fleet.users[user] = places[home]
        self.fleet.replicas = {HOSTS[home]: HOSTS[copy]}
        self.fleet.publish()


def fresh() -> str:
    """A marker that nothing else holds."""
    return f"marker{secrets.token_hex(8)}"


def up(fleet: NodeFleet, machine: str) -> bool:
    """Whether a node's bootstrap is through and its services run."""
    units = "mailinfra-bootstrap mailinfra-agent dovecot mailinfra-replica mailinfra-replicator"
    check = f"for u in {units}; do systemctl is-active --quiet $u || exit 1; done"
    return fleet.run(machine, "sh", "-c", check)[0] == 0


@pytest.fixture(scope="module")
def stores(
    machines_can_boot: None, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[Stores]:
    home = Place(node_spec(["mailbox"], group="store"), "203.0.113.5", "198.51.100.5", "DE")
    copy = Place(
        node_spec(["mailbox"], group="store", region="eu-west-1"), "203.0.113.36", "198.51.100.6", "IE"
    )
    away = Place(
        node_spec(["mailbox"], group="store", region="us-east-1", zone="us"),
        *("203.0.113.68", "198.51.100.7", "US"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("r")))
        patch.setenv("XDG_CACHE_HOME", str(cache.parent))
        paths = Paths.of("replicas")
        with sandbox_lock(paths):
            client = start_cloud(paths, with_machines=True, progress=quiet)
        try:
            users = dict.fromkeys(("anna", "carl", "dora", "emil", "fred", "gina", "hans"), home)
            fleet = NodeFleet(client, [home, copy, away], {**users, "bob": away})
            fleet.replicas = {HOSTS[HOME]: HOSTS[COPY]}
            fleet.prepare()
            fleet.boot()
            for node in fleet.nodes:
                until(lambda node=node: up(fleet, node.id), 240, f"{node.id} is not ready")  # type: ignore[misc]
            made = Stores(fleet)
            made.settled(HOME)
            yield made
        finally:
            with sandbox_lock(paths):
                stop_cloud(paths)
        assert traces(paths) == []


def test_what_happens_at_home_happens_on_the_replica(stores: Stores) -> None:
    marks, anna = [fresh() for _ in range(4)], f"anna@{DOMAIN}"
    stores.deliver("anna", *marks)
    found = stores.same("anna")
    assert sorted(subject for _, subject, _ in found.values()) == sorted(marks)
    # A flag and a keyword.
    stores.doveadm(HOME, "flags", "add", "-u", anna, "\\Seen $Label1", "subject", marks[0])
    assert {flags for _, subject, flags in stores.same("anna").values() if subject == marks[0]} == {
        "$Label1 \\Seen"
    }
    stores.doveadm(HOME, "flags", "remove", "-u", anna, "\\Seen", "subject", marks[0])
    assert ("INBOX", marks[0], "$Label1") in stores.same("anna").values()
    # A folder, a subscription, a message in it.
    stores.doveadm(HOME, "mailbox", "create", "-u", anna, "-s", "Work.Deep")
    stores.doveadm(HOME, "move", "-u", anna, "Work.Deep", "mailbox", "INBOX", "subject", marks[1])
    assert ("Work.Deep", marks[1], "") in stores.same("anna").values()
    assert "Work.Deep" in stores.folders(COPY, "anna", "-s")
    # An expunge; a rename; an end of a subscription; the end of a folder.
    stores.doveadm(HOME, "expunge", "-u", anna, "mailbox", "INBOX", "subject", marks[2])
    assert marks[2] not in {subject for _, subject, _ in stores.same("anna").values()}
    stores.doveadm(HOME, "mailbox", "rename", "-u", anna, "Work.Deep", "Play")
    assert ("Play", marks[1], "") in stores.same("anna").values()
    stores.doveadm(HOME, "mailbox", "unsubscribe", "-u", anna, "Play")
    stores.same("anna")
    stores.doveadm(HOME, "mailbox", "delete", "-u", anna, "Play")
    assert {subject for _, subject, _ in stores.same("anna").values()} == {marks[0], marks[3]}
    assert "Play" not in stores.folders(COPY, "anna")


def test_fifty_messages_take_seconds(stores: Stores, record_testsuite_property: Any) -> None:
    marks, user = [fresh() for _ in range(50)], f"carl@{DOMAIN}"
    folder = f"/srv/mail/{DOMAIN}/carl/Maildir"
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(stores.python, COPY, WAIT, folder, marks, 100, timeout=110)
        sent = json.loads(stores.python(HOME, SPEED, user, marks, 0.7))
        found = json.loads(waiting.result())
    assert set(found) == set(marks)
    seconds = sorted(found[mark] - sent[mark] for mark in marks)
    record_testsuite_property(
        "replica",
        f"p50 {statistics.median(seconds):.2f} s, p95 {seconds[47]:.2f} s, most {seconds[-1]:.2f} s",
    )
    assert statistics.median(seconds) < 5
    assert seconds[47] < SECONDS
    assert len(stores.same("carl")) == 50
