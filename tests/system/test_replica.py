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
from tests.node_helpers import DOMAIN, PASSWORD, NodeFleet, Place, node_spec, until
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
LOGIN = r"""
# Appends a draft with this subject through a node's IMAP, as the fleet's proxies would.
import imaplib, json, ssl, sys
host, user, password, mark = json.load(sys.stdin)
tls = "/var/lib/mailinfra/tls"
context = ssl.create_default_context(cafile=f"{tls}/anchors.pem")
context.load_cert_chain(f"{tls}/cert.pem", f"{tls}/key.pem")
box = imaplib.IMAP4_SSL(host, ssl_context=context, timeout=30)
try:
    box.login(user, password)
except imaplib.IMAP4.error:
    print("NO")
else:
    print(box.append("Drafts", None, None, f"Subject: {mark}\r\n\r\nHello\r\n".encode())[0])
    box.logout()
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

    def home(self, machine: str, user: str) -> bool:
        """Whether a machine believes that a user lives there."""
        here = f"postmap -q {user} cdb:/var/lib/mailinfra/directory/current/here || true"
        return self.fleet.shell(machine, here).strip() == "OK"

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


def test_the_replica_takes_no_mail_and_passes_logins_on(stores: Stores) -> None:
    lookups, mark = "/var/lib/mailinfra/directory/current", fresh()
    assert not stores.home(COPY, f"anna@{DOMAIN}")
    assert "451 4.3.0" in stores.fleet.shell(COPY, f"postmap -q anna@{DOMAIN} cdb:{lookups}/here")
    assert f"home:[{HOSTS[HOME]}]" in stores.fleet.shell(
        COPY, f"postmap -q anna@{DOMAIN} cdb:{lookups}/transport"
    )

    def login(password: str) -> str:
        return stores.python(HOME, LOGIN, HOSTS[COPY], f"anna@{DOMAIN}", password, mark)

    # What is changed through the replica is changed at home, at once.
    assert login(PASSWORD) == "OK\n"
    assert ("Drafts", mark) in {
        (folder, subject) for folder, subject, _ in stores.mails(HOME, "anna").values()
    }
    assert login("wrong") == "NO\n"


def test_only_the_home_may_sync_a_user(stores: Stores) -> None:
    def ask(machine: str, line: str, tls: str = TLS, host: str = HOSTS[COPY]) -> str:
        return stores.python(machine, ASK, host, 2527, tls, line)

    anna, bob = f"CHECK anna@{DOMAIN}\n", f"CHECK bob@{DOMAIN}\n"
    good = ask(HOME, anna)
    assert good.startswith("TLSv1.3 OK ")
    # A foreign zone's node, which has bob; the replica itself; a user whose replica is elsewhere, or of nobody.
    for machine, line in (
        (US, anna),
        (US, bob),
        (COPY, anna),
        (HOME, bob),
        (HOME, f"CHECK nobody@{DOMAIN}\n"),
    ):
        assert ask(machine, line).split(" ", 1)[1] == "NO not your user\n\n", (machine, line)
    # The home keeps no replica of its own users, and the replica may not send them back.
    assert "NO not your user" in ask(COPY, anna, host=HOSTS[HOME])
    # With words that are none of ours, and with the memory of another run.
    for line in (
        f"SYNC anna@{DOMAIN}\n",
        "SYNC ../../etc@x\n",
        "GET / HTTP/1.1\r\n",
        "\n",
        "x" * 5000 + "\n",
    ):
        assert "NO " in ask(HOME, line), line
    assert "NO another epoch" in ask(HOME, f"SYNC anna@{DOMAIN} {'0' * 32}\n")
    # Without a certificate, and with one of nobody's.
    stores.fleet.shell(
        US,
        "mkdir -p /tmp/stranger && cd /tmp/stranger && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256"
        " -nodes -keyout key.pem -out cert.pem -days 3 -subj /CN=store-1"
        f" -addext subjectAltName=DNS:{HOSTS[HOME]} 2>&1",
    )
    for tls in ("", "/tmp/stranger"):
        # With TLS 1.3 a client hears of the server's refusal when it reads.
        answer = ask(US, anna, tls)
        assert answer.startswith("refused") or answer == "TLSv1.3 \n", (tls, answer)
    old = ASK.replace("if tls:", "context.maximum_version = ssl.TLSVersion.TLSv1_2\nif tls:")
    assert stores.python(HOME, old, HOSTS[COPY], 2527, TLS, anna).startswith("refused")
    assert ask(HOME, anna) == good


def test_inside_the_node_only_the_two_programs_speak(stores: Stores) -> None:
    ask = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        " s.sendall(sys.argv[2].encode()); print(s.recv(1000))"
    )

    def inside(user: str, path: str, line: str) -> str:
        command = [
            "setpriv",
            f"--reuid={user}",
            "--clear-groups",
            "--regid=nogroup",
            "python3",
            "-c",
            ask,
            path,
            line,
        ]
        code, text = stores.fleet.run(HOME, *command)
        assert code == 0, text
        return text

    gate, dsync = "/run/mailinfra-replica/gate", "/run/mailinfra-replicator/dsync"
    for user in ("nobody", "postfix", "mailinfra", "root"):
        assert "NO not for you" in inside(user, gate, "LIST none\n"), user
    for user in ("nobody", "postfix", "vmail", "root"):
        assert "NO not for you" in inside(user, dsync, f"CHECK anna@{DOMAIN}\n"), user
    assert "USERS " in inside("vmail", gate, "LIST none\n")
    assert "OK " in inside("mailinfra", dsync, f"CHECK anna@{DOMAIN}\n")
    # What reads mail can read neither the key nor the directory, with its hashes.
    for path in (f"{TLS}/key.pem", "/var/lib/mailinfra/directory/current/auth-imap"):
        assert stores.fleet.run(
            HOME, "setpriv", "--reuid=vmail", "--clear-groups", "--regid=vmail", "cat", path
        )[0]


def test_a_replica_that_was_away_catches_up(stores: Stores) -> None:
    before, after = [fresh() for _ in range(5)], [fresh() for _ in range(5)]
    stores.deliver("dora", *before)
    assert len(stores.same("dora")) == 5
    get = stores.fleet.client.call
    boots = get("machines.get", id=COPY)["boots"]
    get("machines.kill", id=COPY, dead_seconds=15)
    stores.deliver("dora", *after)
    stores.doveadm(HOME, "flags", "add", "-u", f"dora@{DOMAIN}", "\\Seen", "subject", before[0])
    stores.doveadm(HOME, "expunge", "-u", f"dora@{DOMAIN}", "mailbox", "INBOX", "subject", before[1])
    until(lambda: stores.status(HOME)["lag_seconds"] > 10, 60, "the lag does not grow")
    told = stores.status(HOME)
    assert told["pending"] == 1
    assert HOSTS[COPY] in told["unreachable"]
    until(lambda: get("machines.get", id=COPY)["boots"] > boots, 120, f"{COPY} does not come back")
    get("machines.wait", id=COPY, states=["running"])
    until(lambda: up(stores.fleet, COPY), 120, f"{COPY} is not ready")
    found = stores.same("dora", 90)
    assert sorted(subject for _, subject, _ in found.values()) == sorted({*before, *after} - {before[1]})
    assert ("INBOX", before[0], "\\Seen") in found.values()
    stores.settled(HOME)
    assert stores.status(HOME)["lag_seconds"] == 0


def test_a_replica_that_came_back_with_less_gets_it_again(stores: Stores) -> None:
    """Its volume is put back to an earlier state while the home remembers a later one, or is empty."""
    old, new, last = [fresh() for _ in range(3)], [fresh() for _ in range(3)], fresh()
    box = f"/srv/mail/{DOMAIN}/emil"
    stores.deliver("emil", *old)
    stores.same("emil")
    stores.fleet.shell(COPY, f"cp -a {box} /srv/mail/emil.old")
    stores.deliver("emil", *new)
    assert len(stores.same("emil")) == 6
    for back in (f"mv /srv/mail/emil.old {box}", "true"):
        stop, start = (f"systemctl {verb} mailinfra-replicator dovecot" for verb in ("stop", "start"))
        stores.fleet.shell(COPY, f"{stop}; rm -rf {box}; {back}; {start}")
        assert len(stores.same("emil", 60)) == 6
    stores.deliver("emil", last)
    assert sorted(s for _, s, _ in stores.same("emil").values()) == sorted([*old, *new, last])


def test_after_a_take_over_and_back_nothing_is_lost_or_doubled(stores: Stores) -> None:
    """Both sides get mail that the other has not: the home before it fails, the replica while it stands in."""
    common, unsent, during = ([fresh() for _ in range(3)] for _ in range(3))
    fred, gina = f"fred@{DOMAIN}", f"gina@{DOMAIN}"
    stores.deliver("fred", *common)
    stores.doveadm(HOME, "mailbox", "create", "-u", fred, "-s", "Work")
    stores.same("fred")
    # The home's last mail does not get out any more; gina's is the first that she has at all.
    stores.fleet.shell(HOME, "systemctl stop mailinfra-replica")
    stores.deliver("fred", *unsent)
    stores.deliver("gina", unsent[0])
    stores.publish(home=COPY, copy=HOME)
    until(lambda: stores.home(COPY, gina), 60, "the replica does not stand in")
    stores.deliver("fred", *during, machine=COPY)
    stores.deliver("gina", during[0], machine=COPY)
    stores.doveadm(COPY, "move", "-u", fred, "Work", "mailbox", "INBOX", "subject", common[0])
    stores.doveadm(COPY, "expunge", "-u", fred, "mailbox", "INBOX", "subject", common[1])
    stores.fleet.shell(HOME, "systemctl start mailinfra-replica")
    stores.settled(COPY, 90)
    found = stores.same("fred", 60)
    assert sorted(subject for _, subject, _ in found.values()) == sorted(
        {*common, *unsent, *during} - {common[1]}
    )
    assert ("Work", common[0], "") in found.values()
    # Both INBOXes of gina's were made apart, which dsync by itself never merges.
    assert sorted(subject for _, subject, _ in stores.same("gina", 60).values()) == sorted(
        [unsent[0], during[0]]
    )
    # And back.
    last = fresh()
    stores.publish(home=HOME, copy=COPY)
    until(lambda: stores.home(HOME, gina), 60, "the home is not home")
    stores.deliver("fred", last)
    stores.settled(HOME, 90)
    assert len(stores.same("fred", 60)) == 9
    assert last in {subject for _, subject, _ in stores.mails(COPY, "fred").values()}


def test_a_new_certificate_is_taken_up(stores: Stores) -> None:
    served = "openssl s_client -connect 127.0.0.1:2527 </dev/null 2>/dev/null | openssl x509 -noout -serial || true"
    before = stores.fleet.shell(COPY, served)
    assert before.startswith("serial=")
    stores.fleet.shell(COPY, f"rm {TLS}/cert.pem {TLS}/key.pem; systemctl restart mailinfra-agent")
    until(
        lambda: stores.fleet.shell(COPY, served) not in ("", before),
        90,
        "the old certificate is still served",
    )
    mark = fresh()
    stores.deliver("hans", mark)
    assert [subject for _, subject, _ in stores.same("hans").values()] == [mark]


def test_nobody_reads_another_zones_mail(stores: Stores) -> None:
    """All that was delivered lies on the two machines of its zone; the third has none of it."""
    mark = fresh()
    stores.deliver("hans", mark)
    stores.same("hans")
    stores.settled(HOME)
    messages = r"find /srv/mail \( -path '*/new/*' -o -path '*/cur/*' \) -type f -exec grep -lF"
    count = {machine: stores.fleet.shell(machine, f"{messages} {mark} {{}} + | wc -l") for machine in HOSTS}
    assert {machine: int(number) for machine, number in count.items()} == {HOME: 1, COPY: 1, US: 0}
    # Neither in an index or a journal, or anywhere.
    everywhere = f"grep -rlF {mark} /srv /var /etc /tmp | wc -l; journalctl | grep -cF {mark} || true"
    assert stores.fleet.shell(US, everywhere).split() == ["0", "0"]


def test_the_units_are_up_and_none_has_failed(stores: Stores) -> None:
    for node in stores.fleet.nodes:
        assert stores.fleet.shell(node.id, "systemctl --failed --no-legend") == ""
        for unit in ("mailinfra-replica", "mailinfra-replicator"):
            text = stores.fleet.shell(node.id, f"journalctl -o cat -u {unit}")
            assert "Traceback" not in text, text
