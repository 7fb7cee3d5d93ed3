"""Postfix's and Dovecot's settings read."""

import pytest

from mailinfra_policy.mailconf import Setting, dovecot, lowest, postfix, reaches, uses
from mailinfra_policy.userdata import File, UserData


@pytest.mark.parametrize(
    ("value", "floor"),
    [
        (">=TLSv1.2", "1.2"),
        (">=TLSv1.3", "1.3"),
        ("!SSLv2, !SSLv3, !TLSv1, !TLSv1.1", "1.2"),
        ("!SSLv3:!TLSv1:!TLSv1.1:!TLSv1.2", "1.3"),
        ("TLSv1.2 TLSv1.3", "1.2"),
        (">=TLSv1.2, !TLSv1.2", "1.3"),
        ("<=TLSv1.2", "SSLv3"),
        ("!SSLv2", "SSLv3"),
        ("", "SSLv3"),
        ("LATEST", "1.3"),
        ("ANY", None),
        (">=TLSv1.2x", None),
        (">= TLSv1.2", None),
        ("TLSv12", None),
        ("<=TLSv1.2, >=TLSv1.3", None),
    ],
)
def test_the_lowest_version(value: str, floor: str | None) -> None:
    assert lowest(value) == floor


def test_reaching_a_floor() -> None:
    assert reaches(">=TLSv1.3", "1.2")
    assert not reaches(">=TLSv1.2", "1.3")
    assert not reaches("ANY", "1.2")


def test_main_cf_with_continued_lines_comments_and_macros() -> None:
    text = "a = 1\n# b = 2\nc = x,\n  # between\n  y\nd = $a ${c} $nothing\nsmtp_x = $smtp_x\n"
    found = postfix(UserData(files=[File("/etc/postfix/main.cf", text)]))
    assert [(item.name, item.value) for item in found.settings][:2] == [("a", "1"), ("c", "x, y")]
    assert found.get("d") == "1 x, y $nothing"
    assert found.get("smtp_x") == "$smtp_x"
    assert found.get("b") is None


def test_master_cf() -> None:
    text = "smtp inet n - n - - smtpd\n  -o a=b\n# no\n  -o { c = d e }\n\nx unix - - n - - smtp -o f=\n"
    found = postfix(UserData(files=[File("/etc/postfix/master.cf", text)]))
    assert [(item.name, item.type, item.command, dict(item.options)) for item in found.services] == [
        ("smtp", "inet", "smtpd", {"a": "b", "c": "d e"}),
        ("x", "unix", "smtp", {"f": ""}),
    ]


def test_postconf() -> None:
    data = UserData(
        commands=[
            "sudo postconf -e 'a = b' c=d",
            "postconf -P submission/inet/e=f",
            "echo 'smtp_tls_x = y' >> /etc/postfix/main.cf",
        ]
    )
    found = postfix(data)
    assert [(item.name, item.value) for item in found.settings] == [
        ("a", "b"),
        ("c", "d"),
        ("smtp_tls_x", "y"),
    ]
    assert [(item.name, dict(item.options)) for item in found.services] == [("submission", {"e": "f"})]


def test_dovecot_with_blocks() -> None:
    text = "ssl = required # yes\nprotocol imap {\n  ssl_min_protocol = TLSv1.2\n}\n# x = y\n"
    assert dovecot(UserData(files=[File("/etc/dovecot/dovecot.conf", text)])) == [
        Setting("ssl", "required", "dovecot.conf"),
        Setting("ssl_min_protocol", "TLSv1.2", "protocol imap"),
    ]


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (UserData(commands=["apt-get install -y postfix"]), True),
        (UserData(commands=["apt-get install postfix-cdb;"]), True),
        (UserData(commands=['PACKAGES="postfix nginx"']), True),
        (UserData(commands=["systemctl restart postfix.service"]), True),
        (UserData(commands=["apt-get purge -y postfix"]), False),
        (UserData(packages=["postfix"]), True),
        (UserData(files=[File("/etc/postfix/main.cf", "")]), True),
        (UserData(commands=["apt-get install nginx"], files=[File("/x/postfixer", "")]), False),
    ],
)
def test_whether_postfix_is_there(data: UserData, answer: bool) -> None:
    assert uses(data, "postfix") is answer
