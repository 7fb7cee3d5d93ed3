"""Real nodes: booted from their own user-data, tried with real mail, broken, and booted again."""

import json
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailinfra.sandbox.cloud import start_cloud, stop_cloud
from mailinfra.sandbox.control import ControlError
from mailinfra.sandbox.debian import SOURCES
from mailinfra.sandbox.model import MachineFile
from mailinfra.sandbox.paths import Paths, sandbox_lock
from tests.node_helpers import DOMAIN, PASSWORD, NodeFleet, Place, node_spec, until
from tests.sandbox_helpers import quiet, traces

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

STORE, EDGE, US = "eu-central-1-store-1", "eu-central-1-edge-1", "us-east-1-all-1"
OUTSIDE = "outside-de"
INBOX = "/var/mail/outside/inbox"
TLS = "/var/lib/mailinfra/tls"

SEND = r"""
import json, smtplib, ssl, sys
host, sender, recipients, data, login, port = json.load(sys.stdin)
context = ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt")
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
replies = []
if port == 465:
    smtp = smtplib.SMTP_SSL(host, port, timeout=90, context=context, local_hostname="mail.outside-de.test")
else:
    smtp = smtplib.SMTP(host, port, timeout=90, local_hostname="mail.outside-de.test")
    smtp.starttls(context=context)
smtp.ehlo()
try:
    if login:
        smtp.login(*login)
    replies.append(smtp.docmd("MAIL", f"FROM:<{sender}>"))
    replies += [smtp.docmd("RCPT", f"TO:<{recipient}>") for recipient in recipients]
    if any(code == 250 for code, _ in replies[1:]):
        replies.append(smtp.docmd("DATA"))
        smtp.send(data.encode("latin-1"))
        replies.append(smtp.getreply())
    smtp.close()
except smtplib.SMTPAuthenticationError as error:
    replies.append((error.smtp_code, error.smtp_error))
print(json.dumps([(code, text.decode()) for code, text in replies]))
"""
READ = r"""
import imaplib, json, poplib, ssl, sys
host, user, password, protocol, marker = json.load(sys.stdin)
context = ssl._create_unverified_context()
if protocol == "imap":
    box = imaplib.IMAP4_SSL(host, ssl_context=context, timeout=30)
    box.login(user, password)
    box.select("INBOX", readonly=True)
    numbers = box.search(None, "SUBJECT", marker)[1][0].split()
    found = [box.fetch(number, "(BODY.PEEK[])")[1][0][1] for number in numbers]
    version = box.socket().version()
else:
    box = poplib.POP3_SSL(host, context=context, timeout=30)
    version = box.sock.version()
    box.user(user)
    box.pass_(password)
    every = [b"\r\n".join(box.retr(number + 1)[1]) for number in range(box.stat()[0])]
    found = [mail for mail in every if marker.encode() in mail]
box.quit() if protocol == "pop3" else box.logout()
print(json.dumps([version, [mail.decode("latin-1") for mail in found]]))
"""
HANDSHAKE = r"""
import json, socket, ssl, sys
host, port, cert, newest, line = json.load(sys.stdin)
context = ssl.create_default_context(cafile="/var/lib/mailinfra/tls/anchors.pem")
if cert:
    context.load_cert_chain(f"{cert}/cert.pem", f"{cert}/key.pem")
context.maximum_version = ssl.TLSVersion[newest]
try:
    with socket.create_connection((host, port), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname=host) as link:
            text = link.recv(2000)
            link.sendall(line.encode())
            text += link.recv(2000)
            print(link.version(), text.decode())
except (OSError, ssl.SSLError) as error:
    print("refused", error)
"""


class Mail:
    """The fleet, and what one does with it from outside."""

    def __init__(self, fleet: NodeFleet) -> None:
        self.fleet = fleet

    def python(self, machine: str, script: str, *arguments: Any, timeout: float = 120) -> str:
        """What a Python script prints on a machine that is given these arguments."""
        self.fleet.shell(machine, f"cat >/tmp/script.py <<'THE_END'\n{script}\nTHE_END")
        code, text = self.fleet.run(
            machine, "python3", "/tmp/script.py", stdin=json.dumps(arguments), timeout=timeout
        )
        assert code == 0, text
        return text

    def send(
        self,
        to: str | list[str],
        data: str,
        *,
        host: str = "edge-1.eu-central-1",
        sender: str = "x@outside-de.test",
        login: tuple[str, str] | None = None,
        port: int = 25,
    ) -> list[tuple[int, str]]:
        """The replies to a transaction that comes from outside: to MAIL, to each RCPT, to DATA, to its end."""
        recipients = [to] if isinstance(to, str) else to
        full = f"{host}.nodes.{DOMAIN}"
        if not data.endswith(".\r\n"):
            data += ".\r\n"
        found: list[tuple[int, str]] = json.loads(
            self.python(OUTSIDE, SEND, full, sender, recipients, data, login, port)
        )
        return found

    def read(
        self, user: str, marker: str, protocol: str = "imap", host: str = "edge-1.eu-central-1"
    ) -> list[str]:
        """A user's mail whose subject holds a marker."""
        text = self.python(
            OUTSIDE, READ, f"{host}.nodes.{DOMAIN}", f"{user}@{DOMAIN}", PASSWORD, protocol, marker
        )
        version, found = json.loads(text)
        assert version == "TLSv1.3"
        mails: list[str] = found
        return mails

    def arrives(self, user: str, marker: str, protocol: str = "imap", seconds: float = 60) -> str:
        """The one mail with a marker, as soon as it is there."""
        found = until(lambda: self.read(user, marker, protocol), seconds, f"no mail {marker} for {user}")
        assert len(found) == 1
        mail: str = found[0]
        return mail

    def outside(self, marker: str, machine: str = OUTSIDE) -> dict[str, Any]:
        """What an independent verifier says of the one mail with a marker that came outside."""
        found = until(
            lambda: self.fleet.shell(machine, f"grep -rlF {marker} {INBOX}/new 2>/dev/null || true").split(),
            90,
            f"no mail {marker} outside",
        )
        assert len(found) == 1
        verdict: dict[str, Any] = json.loads(self.fleet.shell(machine, f"verify-message <{found[0]} || true"))
        return verdict


def message(
    marker: str, *, sender: str = "x@outside-de.test", to: str = f"anna@{DOMAIN}", body: str = "Hello\r\n"
) -> str:
    """A plain message whose subject is the marker."""
    head = f"From: {sender}\r\nTo: {to}\r\nSubject: {marker}\r\nDate: Mon, 23 Nov 2026 09:00:00 +0000\r\n"
    return f"{head}Message-ID: <{marker}@test>\r\n\r\n{body}"


def fresh() -> str:
    """A marker that nothing else holds."""
    return f"marker{secrets.token_hex(8)}"


def ready(fleet: NodeFleet, machine: str) -> bool:
    """Whether a node's bootstrap is through and its services run."""
    units = "mailinfra-bootstrap mailinfra-agent postfix@- dovecot"
    return fleet.run(machine, "sh", "-c", f"systemctl is-active --quiet {units}")[0] == 0 and (
        fleet.run(
            machine, "sh", "-c", f"for u in {units}; do systemctl is-active --quiet $u || exit 1; done"
        )[0]
        == 0
    )


def killed(mail: Mail, machine: str) -> None:
    """Pull the plug of a machine, and wait until it has come back."""
    boots = mail.fleet.client.call("machines.get", id=machine)["boots"]
    mail.fleet.client.call("machines.kill", id=machine)
    get = mail.fleet.client.call
    until(lambda: get("machines.get", id=machine)["boots"] > boots, 120, f"{machine} does not come back")
    get("machines.wait", id=machine, states=["running"])


def read(path: Path) -> bytes:
    """A file's content; nothing for what is no plain file."""
    return path.read_bytes() if path.is_file() and not path.is_symlink() else b""


@pytest.fixture(scope="module")
def mail(machines_can_boot: None, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Mail]:
    store = Place(node_spec(["mailbox"], group="store"), "203.0.113.5", "198.51.100.5", "DE")
    edge = Place(
        node_spec(["mx", "submission", "egress", "imap", "pop3"]), "203.0.113.4", "198.51.100.4", "DE"
    )
    roles = ["mx", "mailbox", "submission", "egress"]
    both = Place(
        node_spec(roles, group="all", region="us-east-1", zone="us"), "203.0.113.36", "198.51.100.6", "US"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("n")))
        patch.setenv("XDG_CACHE_HOME", str(cache.parent))
        paths = Paths.of("nodes")
        with sandbox_lock(paths):
            client = start_cloud(paths, with_machines=True, progress=quiet)
        try:
            fleet = NodeFleet(client, [store, edge, both], {"anna": store, "carl": store, "bob": both})
            fleet.prepare()
            fleet.boot()
            for node in fleet.nodes:
                until(lambda node=node: ready(fleet, node.id), 240, f"{node.id} is not ready")  # type: ignore[misc]
            yield Mail(fleet)
        finally:
            with sandbox_lock(paths):
                stop_cloud(paths)
        assert traces(paths) == []


def test_units_are_up_and_none_has_failed(mail: Mail) -> None:
    for node in mail.fleet.nodes:
        assert mail.fleet.shell(node.id, "systemctl --failed --no-legend") == ""
        assert (
            "warning"
            not in mail.fleet.shell(node.id, "postfix check 2>&1; doveconf -n 2>&1 >/dev/null").lower()
        )


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
@pytest.mark.parametrize("host", ["edge-1.eu-central-1", "all-1.us-east-1"])
@pytest.mark.parametrize("user", ["anna", "bob"])
def test_mail_that_comes_in_anywhere_is_read_at_home(mail: Mail, user: str, host: str, protocol: str) -> None:
    marker = fresh()
    replies = mail.send(f"{user}@{DOMAIN}", message(marker), host=host)
    assert [code for code, _ in replies] == [250, 250, 354, 250]
    # bob's home is in another zone than the proxy that he logs in at.
    assert "Hello" in mail.arrives(user, marker, protocol)


def test_a_foreign_zone_writes_nothing(mail: Mail) -> None:
    marker, planted = fresh(), fresh()
    assert mail.send(f"bob@{DOMAIN}", message(marker, body=f"{marker}\r\n" * 20_000))[-1][0] == 250
    assert mail.arrives("bob", marker)
    mail.fleet.shell(EDGE, f"echo {planted} >/var/tmp/planted; sync")
    upper = Paths.of("nodes").state / "machines" / EDGE / "disk" / "upper"
    found: dict[str, list[Path]] = {marker: [], planted: []}
    for path in upper.rglob("*"):
        data = read(path)
        for name, paths in found.items():
            if name.encode() in data:
                paths.append(path)
    assert found[marker] == []
    assert len(found[planted]) == 1


def test_recipients_with_two_homes_get_it_in_two_transactions(mail: Mail) -> None:
    marker = fresh()
    replies = mail.send([f"bob@{DOMAIN}", f"anna@{DOMAIN}"], message(marker))
    assert [code for code, _ in replies] == [250, 250, 452, 354, 250]
    assert replies[2][1].startswith("4.5.3")


def test_unknown_recipients_and_strangers_domains_are_refused_everywhere(mail: Mail) -> None:
    for host in ("edge-1.eu-central-1", "all-1.us-east-1"):
        for ports in (25,):
            for to, code in (
                (f"nobody@{DOMAIN}", 550),
                ("x@outside-us.test", 554),
                (f"x%outside-us.test@{DOMAIN}", 554),
            ):
                replies = mail.send(to, message(fresh()), host=host, port=ports)
                assert replies[-1][0] == code, (host, to, replies)
        for port in (465, 587):
            for sender, to in (
                ("x@outside-de.test", "x@outside-us.test"),
                (f"anna@{DOMAIN}", f"bob@{DOMAIN}"),
                ("", f"anna@{DOMAIN}"),
                ("", "x@outside-us.test"),
            ):
                replies = mail.send(to, message(fresh()), host=host, port=port, sender=sender)
                assert replies[-1][0] in (553, 554), (host, port, sender, replies)


@pytest.mark.parametrize("port", [465, 587])
def test_what_users_submit_arrives_outside_signed(mail: Mail, port: int) -> None:
    marker, anna = fresh(), f"anna@{DOMAIN}"
    body = "w\u00f6rld\r\n" + "x" * 3000 + "\r\n..dots\r\n"
    text = message(marker, sender=anna, to="friend@outside-us.test", body=body)
    text = text.replace(
        "\r\n\r\n",
        "\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=latin-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
        1,
    )
    replies = mail.send("friend@outside-us.test", text, sender=anna, login=(anna, PASSWORD), port=port)
    assert replies[-1][0] == 250, replies
    verdict = mail.outside(marker, "outside-us")
    assert [(item["domain"], item["valid"]) for item in verdict["dkim"]] == [(DOMAIN, True)]
    assert verdict["opendkim"]["valid"]
    assert verdict["spf"]["result"] == "pass"
    assert verdict["dmarc"]["pass"]
    assert verdict["dmarc"]["dkim_aligned"]


def test_users_write_to_each_other_without_leaving_the_fleet(mail: Mail) -> None:
    marker, anna = fresh(), f"anna@{DOMAIN}"
    text = message(marker, sender=anna, to=f"bob@{DOMAIN}")
    assert mail.send(f"bob@{DOMAIN}", text, sender=anna, login=(anna, PASSWORD), port=465)[-1][0] == 250
    assert "DKIM-Signature: " in mail.arrives("bob", marker)


def test_nobody_submits_as_another(mail: Mail) -> None:
    anna, marker = f"anna@{DOMAIN}", fresh()
    out = "friend@outside-us.test"
    login = (anna, PASSWORD)
    for sender in (f"carl@{DOMAIN}", "x@outside-us.test", ""):
        replies = mail.send(out, message(marker, sender=anna), sender=sender, login=login, port=465)
        assert replies[-1][0] in (553, 554)
    # The author is looked at when the mail is signed; the user gets it back.
    text = message(marker, sender=f"carl@{DOMAIN}")
    assert mail.send(out, text, sender=anna, login=login, port=465)[-1][0] == 250
    bounce = until(
        lambda: [item for item in mail.read("anna", "Undelivered") if marker in item],
        60,
        "no bounce for anna",
    )
    assert "5.7.1" in bounce[0]
    assert not mail.fleet.run("outside-us", "sh", "-c", f"grep -rlF {marker} {INBOX} || true")[1]


@pytest.mark.parametrize("login", [("anna", "wrong"), ("nobody", PASSWORD), ("bob", PASSWORD)])
def test_only_users_of_the_zone_submit(mail: Mail, login: tuple[str, str]) -> None:
    user = f"{login[0]}@{DOMAIN}"
    replies = mail.send("x@outside-us.test", "x\r\n", sender=user, login=(user, login[1]), port=465)
    # 454: Dovecot lets an address that fails again and again wait for longer than Postfix does.
    assert replies[0][0] in (535, 454)


@pytest.mark.parametrize("machine", [STORE, US])
@pytest.mark.parametrize(
    ("port", "line"), [(2525, "EHLO x\r\n"), (993, f'a login anna@{DOMAIN} "{PASSWORD}"\r\n')]
)
def test_between_nodes_only_tls_1_3_with_the_fleets_certificates(
    mail: Mail, machine: str, port: int, line: str
) -> None:
    host = next(node.spec.hostname for node in mail.fleet.nodes if node.id == machine)
    name = "edge-1.eu-central-1.nodes.example.test"
    mail.fleet.shell(
        EDGE,
        "mkdir -p /tmp/stranger && cd /tmp/stranger && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256"
        f" -nodes -keyout key.pem -out cert.pem -days 3 -subj /CN=edge-1 -addext subjectAltName=DNS:{name} 2>&1",
    )

    def shake(cert: str, newest: str = "TLSv1_3") -> str:
        return mail.python(EDGE, HANDSHAKE, host, port, cert, newest, line)

    good = shake(TLS)
    assert good.startswith("TLSv1.3 ")
    if port == 2525:
        assert "220 " in good
        assert "250" in good
    elif machine == STORE:
        assert "a OK" in good
    assert shake(TLS, "TLSv1_2").startswith("refused")
    for cert in ("", "/tmp/stranger"):
        answer = shake(cert)
        assert "250" not in answer
        assert "a OK" not in answer
        assert "421 4.7.1" in answer if port == 2525 else "a NO" in answer


def test_mta_sts_is_served(mail: Mail) -> None:
    command = f"curl -sS --cacert {TLS}/anchors.pem --resolve mta-sts.{DOMAIN}:443:198.51.100.4"
    url = f"https://mta-sts.{DOMAIN}/.well-known/mta-sts.txt"
    spec = next(node.spec for node in mail.fleet.nodes if node.id == EDGE)
    # RFC 8461 3.2 allows both line ends; what is served has CRLF.
    assert mail.fleet.shell(EDGE, f"{command} {url}").replace("\r\n", "\n") == spec.mta_sts_policy


HOSTILE = {
    "bare LF before the dot": "x\n.\r\nMAIL FROM:<evil@x.test>\r\nRCPT TO:<carl@example.test>\r\nDATA\r\nsmuggled\r\n",
    "bare LF after the dot": "x\r\n.\nMAIL FROM:<evil@x.test>\r\nRCPT TO:<carl@example.test>\r\nDATA\r\nsmuggled\r\n",
    "bare LFs": "x\n.\nMAIL FROM:<evil@x.test>\nRCPT TO:<carl@example.test>\nDATA\nsmuggled\r\n",
    "bare CR": "x\r.\rMAIL FROM:<evil@x.test>\r\nx\r\n",
    "NUL": "a\0b\r\n",
    "8-bit": "\xe4\xf6\xfc\r\n",
    "long line": "x" * 100_000 + "\r\n",
    "dots": "..\r\n...\r\n..x\r\n",
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("user", ["anna", "bob"])
def test_hostile_mail_is_one_mail_or_none(mail: Mail, case: str, user: str) -> None:
    marker = fresh()
    replies = mail.send(f"{user}@{DOMAIN}", message(marker, body=HOSTILE[case] + f"end-{marker}\r\n"))
    assert replies[-1][0] in (250, 550, 554, 521), replies
    if replies[-1][0] == 250:
        # All of it, up to its own end, is in the one mail.
        assert f"end-{marker}" in mail.arrives(user, marker)
    assert not mail.read("carl", marker)
    assert mail.send(f"{user}@{DOMAIN}", message(fresh()))[-1][0] == 250


@pytest.mark.parametrize("user", ["anna", "bob"])
def test_thirty_megabytes(mail: Mail, user: str) -> None:
    marker = fresh()
    # The message is made on the outside machine: 30 MB do not go through the control socket.
    big = SEND.replace(
        "smtp.send(data", "data = data[:-3] + ('x' * 75 + '\\r\\n') * 400_000 + '.\\r\\n'; smtp.send(data"
    )
    text = mail.python(
        OUTSIDE,
        big,
        f"edge-1.eu-central-1.nodes.{DOMAIN}",
        "x@outside-de.test",
        [f"{user}@{DOMAIN}"],
        message(marker) + ".\r\n",
        None,
        25,
    )
    assert json.loads(text)[-1][0] == 250, text
    size = "find /srv/mail -size +25M | wc -l"
    machine = STORE if user == "anna" else US
    until(lambda: mail.fleet.shell(machine, size).strip() != "0", 60, "the large mail did not arrive")
    peak = mail.fleet.shell(EDGE, "grep VmHWM /proc/$(systemctl show -P MainPID mailinfra-homeward)/status")
    assert int(peak.split()[1]) < 80_000  # KiB, with Python itself


def test_too_large_is_refused(mail: Mail) -> None:
    replies = mail.send(f"anna@{DOMAIN}> SIZE=60000000 X=<", message(fresh()))
    assert replies[1][0] in (501, 555)
    spec = mail.fleet.nodes[0].spec
    assert f"message_size_limit = {spec.message_bytes}" in mail.fleet.shell(
        EDGE, "postconf message_size_limit"
    )


def test_a_thousand_recipients(mail: Mail) -> None:
    marker = fresh()
    recipients = [f"bob+{number}@{DOMAIN}" for number in range(1000)]
    replies = mail.send([*recipients, f"bob@{DOMAIN}"], message(marker))
    assert [code for code, _ in replies] == [250, *([250] * 1000), 452, 354, 250]


def test_a_new_user_gets_mail_soon(mail: Mail) -> None:
    marker = fresh()
    mail.fleet.users["dora"] = mail.fleet.users["anna"]
    mail.fleet.publish(
        [{"address": f"team@{DOMAIN}", "kind": "alias", "targets": [f"dora@{DOMAIN}", f"bob@{DOMAIN}"]}]
    )
    start = time.monotonic()
    until(lambda: mail.send(f"team@{DOMAIN}", message(marker))[1][0] == 250, 45, "team@ stays unknown")
    assert time.monotonic() - start < 40
    for user in ("dora", "bob"):
        # A program of Postfix that has not seen the new directory yet makes it wait for the next queue run.
        assert mail.arrives(user, marker, seconds=180)


def test_a_bounce_to_a_stranger_is_signed(mail: Mail) -> None:
    """The mailbox node gives up what it has accepted, and has no signing key."""
    marker = fresh()
    # In this order, for each would start the next one again.
    for units in ("mailinfra-reload.timer mailinfra-reload.path", "mailinfra-reload.service", "dovecot"):
        mail.fleet.shell(STORE, f"systemctl stop {units}")
    try:
        assert mail.send(f"anna@{DOMAIN}", message(marker))[-1][0] == 250
        until(lambda: "anna@" in mail.fleet.shell(STORE, "postqueue -p"), 40, "it is not in the queue")
        mail.fleet.shell(STORE, "postconf -e maximal_queue_lifetime=0 && postfix reload && postqueue -f")
        verdict = mail.outside(marker)
    finally:
        mail.fleet.shell(STORE, "postconf -e maximal_queue_lifetime=120h && postfix reload")
        mail.fleet.shell(STORE, "systemctl start dovecot mailinfra-reload.timer mailinfra-reload.path")
    assert [(item["domain"], item["valid"]) for item in verdict["dkim"]] == [(DOMAIN, True)]
    assert verdict["dmarc"]["pass"]


def test_what_changes_during_a_reload_is_taken_up_at_once(mail: Mail) -> None:
    folder = "/run/systemd/system/mailinfra-reload.service.d"
    # The one change comes before the reload, the other after its last look and before systemd has heard of its end.
    late = f"ExecStartPost=/bin/sh -c 'test -e /run/late || touch /run/late {TLS}/changed'"
    mail.fleet.shell(EDGE, f'mkdir -p {folder}; printf "[Service]\\n%s\\n" "{late}" >{folder}/late.conf')
    mail.fleet.shell(EDGE, "systemctl daemon-reload; systemctl stop mailinfra-reload.timer")
    try:
        mail.fleet.shell(EDGE, f"touch {TLS}/changed")
        taken = f"test -e /run/late -a ! -e {TLS}/changed"
        until(lambda: mail.fleet.run(EDGE, "sh", "-c", taken)[0] == 0, 30, "it is not seen")
    finally:
        mail.fleet.shell(EDGE, f"rm -rf {folder} /run/late; systemctl daemon-reload")
        mail.fleet.shell(EDGE, "systemctl start mailinfra-reload.timer")


def test_a_new_certificate_is_taken_up_without_a_break(mail: Mail) -> None:
    serial = f"openssl x509 -noout -serial -in {TLS}/cert.pem"
    served = "openssl s_client -connect 127.0.0.1:993 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    before = mail.fleet.shell(EDGE, serial)
    assert mail.fleet.shell(EDGE, served) == before
    # A node whose certificate is gone gets its standing one; a new key gets a new one.
    mail.fleet.shell(EDGE, f"rm {TLS}/cert.pem {TLS}/key.pem; systemctl restart mailinfra-agent")
    until(
        lambda: (
            mail.fleet.run(EDGE, "sh", "-c", serial)[1] not in ("", before)
            and mail.fleet.run(EDGE, "sh", "-c", serial)[0] == 0
        ),
        60,
        "no new certificate",
    )
    after = mail.fleet.shell(EDGE, serial)
    until(lambda: mail.fleet.shell(EDGE, served) == after, 30, "Dovecot serves the old certificate")
    marker = fresh()
    assert mail.send(f"bob@{DOMAIN}", message(marker))[-1][0] == 250
    assert mail.arrives("bob", marker)


FILES = (
    "find /etc /usr/local /var/lib/mailinfra -xdev -type f ! -path '*/directory/*' ! -path '*/replica/*'"
    " ! -name '*.db' ! -name prng_exch"
    " ! -path '/etc/machine-id' -printf '%p %m %u ' -exec sha256sum {} ';' | sort"
)


def test_a_second_boot_changes_nothing(mail: Mail) -> None:
    before = {node.id: mail.fleet.shell(node.id, FILES) for node in mail.fleet.nodes}
    marker = fresh()
    assert mail.send(f"anna@{DOMAIN}", message(marker))[-1][0] == 250
    for node in mail.fleet.nodes:
        killed(mail, node.id)
    for node in mail.fleet.nodes:
        until(lambda node=node: ready(mail.fleet, node.id), 120, f"{node.id} is not ready")  # type: ignore[misc]
        journal = mail.fleet.shell(node.id, "journalctl -b -o cat -u mailinfra-bootstrap")
        assert "mailinfra: done" in journal
        assert "wrote" not in journal
        assert "restarting" not in journal
        assert "installing" not in journal
        assert mail.fleet.shell(node.id, FILES) == before[node.id]
    # What was accepted before is there.
    assert mail.arrives("anna", marker, seconds=180)


DONE = "journalctl -b -o cat -u mailinfra-bootstrap | grep -q 'mailinfra: done'"
FOLDERS = "/etc/postfix /etc/dovecot /etc/mailinfra /etc/unbound /etc/systemd/system"
LISTING = f"find {FOLDERS} -type f -printf '%p %m\n' | sort"
PARTS = re.compile(r"^/etc/(dovecot/conf\.d|postfix/(dynamicmaps|postfix-files)\.(cf\.)?d)/")
LISTENS = "ss -ltnH | awk '{ print $4 }' | sort -u"
RUNS = "systemctl list-units --state=active --type=service --plain --no-legend | awk '{ print $1 }' | sort"


def beside(mail: Mail, machine: str, name: str, private: str, public: str) -> Place:
    """A further node like another; the region's issuer signs for it if the group in its name is known."""
    like = next(node for node in mail.fleet.nodes if node.id == machine)
    hostname = f"{name}.{like.spec.hostname.partition('.')[2]}"
    group = name.rpartition("-")[0]
    spec = replace(like.spec, group=group, hostname=hostname, ca_key="", entitlements={})
    return Place(spec, private, public, like.country)


def doing(mail: Mail, machine: str, what: str) -> bool:
    """Whether a process runs on a machine whose command line fits a pattern."""
    try:
        return mail.fleet.run(machine, "pgrep", "-f", "--", what)[0] == 0
    except ControlError:
        return False  # it has not begun to boot


def lines(mail: Mail, machine: str, command: str) -> set[str]:
    """The lines that a command prints on a machine."""
    return set(mail.fleet.shell(machine, command).splitlines())


def assert_alike(mail: Mail, stock: str, like: str) -> None:
    """What was made of the stock image is what the pre-installed one became."""
    # The policy's server begins when its first certificate is there.
    until(
        lambda: lines(mail, stock, LISTENS) == lines(mail, like, LISTENS),
        90,
        f"{stock} listens elsewhere than {like}",
    )
    assert lines(mail, stock, RUNS) == lines(mail, like, RUNS)
    more, less = (lines(mail, machine, LISTING) for machine in (like, stock))
    assert less <= more
    # The image has every role's packages, a node only those of its own roles.
    assert [line for line in more - less if not PARTS.search(line)] == []
    assert mail.fleet.shell(stock, "systemctl --failed --no-legend; dpkg --audit") == ""


MOMENTS = ("dpkg .*--unpack", "dpkg .*--configure")
"""What runs when the power fails: the unpacking of packages, their being set up."""


@pytest.mark.parametrize("like", [STORE, EDGE])
def test_debians_own_image_becomes_the_same_node(mail: Mail, like: str) -> None:
    """Every package comes from a Debian mirror; the power fails while they are installed; and at last once more."""
    number = (STORE, EDGE).index(like)
    name = ("store-2", "edge-2")[number]
    node = beside(mail, like, name, f"203.0.113.{8 + number}", f"198.51.100.{8 + number}")
    machine = replace(
        mail.fleet.machine(node),
        image="stock",
        files={
            "/etc/apt/sources.list.d/debian.sources": MachineFile.text(""),
            "/etc/apt/sources.list": MachineFile.text(SOURCES),
            # This internet has a root of its own, which the package dns-root-data must not replace.
            "/etc/dpkg/dpkg.cfg.d/sandbox": MachineFile.text("path-exclude=/usr/share/dns/*\n"),
        },
    )
    mail.fleet.client.call("machines.create", spec=machine.to_json())
    for moment in MOMENTS if like == STORE else ():
        until(lambda moment=moment: doing(mail, node.id, moment), 90, f"never: {moment}")  # type: ignore[misc]
        assert mail.fleet.run(node.id, "sh", "-c", DONE)[0] != 0
        mail.fleet.client.call("machines.kill", id=node.id)
    # Its boot is over when its bootstrap is.
    mail.fleet.client.call("machines.wait", id=node.id, states=["running", "failed"])
    until(lambda: ready(mail.fleet, node.id), 120, f"{node.id} is not ready")
    assert "installing" in mail.fleet.shell(node.id, "journalctl -o cat -u mailinfra-bootstrap")
    assert_alike(mail, node.id, like)
    killed(mail, node.id)
    until(lambda: ready(mail.fleet, node.id), 120, f"{node.id} is not ready")
    assert "installing" not in mail.fleet.shell(node.id, "journalctl -b -o cat -u mailinfra-bootstrap")
    assert_alike(mail, node.id, like)
    mail.fleet.client.call("machines.delete", id=node.id)


def test_a_bootstrap_that_is_killed_again_and_again_ends_the_same(mail: Mail) -> None:
    spare = beside(mail, EDGE, "spare-1", "203.0.113.6", "198.51.100.7")
    mail.fleet.client.call("machines.create", spec=mail.fleet.machine(spare).to_json())
    mail.fleet.client.call("machines.wait", id=spare.id, states=["running"])
    # From before its first step to after its last; a run takes about ten seconds.
    for seconds in (0.5, 1, 2, 4, 7):
        until(
            lambda: mail.fleet.run(spare.id, "test", "-e", "/usr/local/sbin/mailinfra-bootstrap")[0] == 0,
            60,
            "boot",
        )
        time.sleep(seconds)
        killed(mail, spare.id)
    until(lambda: mail.fleet.run(spare.id, "sh", "-c", DONE)[0] == 0, 120, "the bootstrap does not end")
    assert mail.fleet.shell(spare.id, LISTING) == mail.fleet.shell(EDGE, LISTING)
    assert not mail.fleet.shell(spare.id, "find / -xdev -name '*.new~' 2>/dev/null || true")
    # The region's issuer does not know its group: it waits, and nothing listens.
    assert "ConditionPathExists" in mail.fleet.shell(spare.id, "systemctl cat postfix@-")
    assert not mail.fleet.shell(spare.id, "ss -ltnH '( sport = :25 or sport = :465 or sport = :993 )'")
