"""The DKIM-Signature field, judged by dkimpy."""

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.dkim.canonical import Body, header
from mailinfra.dkim.sign import SIGNED, finish, fold, prepare
from tests.dkim_helpers import MESSAGE, MemorySigner, verify
from tests.milter_client import split


def signed(message: bytes, **how: int) -> bytes:
    """Sign a message with the parts under test alone."""
    fields, text = split(message)
    body = Body()
    body.update(text)
    chosen = [(name.lower(), header(name, value)) for name, value in fields if name.lower() in SIGNED]
    value, digest = prepare(
        chosen, body.digest(), domain="example.test", selector="s1", **{"now": int(time.time()), **how}
    )
    whole = finish(value, MemorySigner().sign(digest))
    return b"DKIM-Signature: " + whole.replace("\n", "\r\n").encode() + b"\r\n" + message


def test_signature_is_valid() -> None:
    assert verify(signed(MESSAGE))


def test_only_the_digest_is_signed() -> None:
    _, digest = prepare([(b"from", b"from:a")], b"\0" * 32, domain="example.test", selector="s1", now=1)
    assert len(digest) == hashlib.sha256().digest_size


@pytest.mark.parametrize(
    "added",
    [
        b"From: evil@example.test",
        b"Subject: other",
        b"Reply-To: evil@evil.test",
        b"Cc: more@evil.test",
        b"Content-Type: text/html",
        b"Date: Tue, 2 Jun 2026 10:00:00 +0000",
        b"Content-Transfer-Encoding: 7bit",
    ],
)
def test_oversigned_fields_cannot_be_added(added: bytes) -> None:
    message = signed(MESSAGE)
    assert not verify(added + b"\r\n" + message)
    head, _, body = message.partition(b"\r\n\r\n")
    assert not verify(head + b"\r\n" + added + b"\r\n\r\n" + body)


@pytest.mark.parametrize("added", [b"Received: by relay", b"List-Id: <list.example.test>", b"X-Any: thing"])
def test_what_relays_and_lists_add_does_no_harm(added: bytes) -> None:
    assert verify(added + b"\r\n" + signed(MESSAGE))


@pytest.mark.parametrize("missing", [b"Date", b"Message-ID"])
def test_a_relay_may_add_what_was_missing(missing: bytes) -> None:
    lines = [line for line in MESSAGE.split(b"\r\n") if not line.startswith(missing + b":")]
    assert verify(missing + b": added\r\n" + signed(b"\r\n".join(lines)))


@pytest.mark.parametrize(
    "change",
    [(b"A. User", b"B. User"), (b"last line", b"lost line"), (b"outside.test", b"outsider.test")],
)
def test_a_change_breaks_it(change: tuple[bytes, bytes]) -> None:
    assert not verify(signed(MESSAGE).replace(*change))


def test_expiry() -> None:
    now = int(time.time())
    assert b" x=%d;" % (now + 60) in signed(MESSAGE, now=now, life=60)
    assert verify(signed(MESSAGE, now=now, life=60))
    assert not verify(signed(MESSAGE, now=now - 200_000, life=60))


def test_lines_are_short() -> None:
    longest = "a" * 60
    fields = [(name, b"%s:x" % name) for name in sorted(SIGNED) for _ in range(3)]
    value, _ = prepare(fields, b"\0" * 32, domain=f"{longest}.test", selector=longest, now=1)
    assert max(map(len, finish(value, b"\xff" * 512).split("\n\t"))) < 150
    assert max(map(len, finish(value, b"\xff" * 512).split("\n\t")[2:])) <= 78


@given(st.lists(st.text("abc:;", min_size=1, max_size=30), max_size=30))
def test_fold_loses_nothing(words: list[str]) -> None:
    assert fold(words).replace("\n\t", "") == "".join(words)


NAMES = [
    b"From",
    b"TO",
    b"Subject",
    b"List-Id",
    b"Received",
    b"X-Other",
    b"Content-Type",
    b"Resent-To",
    b"cc",
]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.text("aé \t", max_size=20)), max_size=12),
    st.lists(st.sampled_from([b"text", b" ", b"\t", b"\r\n", b"\r\n\r\n", b"\xff", b"."]), max_size=30),
)
def test_any_message_verifies(fields: list[tuple[bytes, str]], body: list[bytes]) -> None:
    lines = [b"From: user@example.test", *(name + b": x" + value.encode() for name, value in fields)]
    assert verify(signed(b"\r\n".join(lines) + b"\r\n\r\n" + b"".join(body) + b"\r\n"))
