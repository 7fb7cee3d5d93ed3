"""Whose mail is signed."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.dkim.policy import RefusedError, author, judge

DOMAINS = {"example.test": 1, "xn--bcher-kva.test": 2, "bücher.test": 2}


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"user@example.test", (b"user", "example.test")),
        (b" <user@EXAMPLE.test> ", (b"user", "example.test")),
        (b"A User <user@example.test>", (b"user", "example.test")),
        (b'"User, A" <user@example.test>', (b"user", "example.test")),
        (b'"ceo@bank.test" <user@example.test>', (b"user", "example.test")),
        (b'"a \\" <x@y.test>" <user@example.test>', (b"user", "example.test")),
        (b"=?utf-8?q?M=C3=BCller?= <user@example.test>", (b"user", "example.test")),
        (b"John Q. Public (Sales) <user@example.test>", (b"user", "example.test")),
        (b"user@example.test (Cron Daemon)", (b"user", "example.test")),
        (b"A\n very\r\n\tlong name\n <user@example.test>", (b"user", "example.test")),
        (b'"quoted local"@example.test', (b'"quoted local"', "example.test")),
        ("Bücher <info@bücher.test>".encode(), (b"info", "bücher.test")),
        (b"\xff\xfe <user@example.test>", (b"user", "example.test")),
    ],
)
def test_one_author(value: bytes, address: tuple[bytes, str]) -> None:
    assert author([value]) == address


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"<>",
        b"user",
        b"user@",
        b"@example.test",
        b"a@example.test, b@example.test",
        b"Doe, John <user@example.test>",
        b"undisclosed: a@example.test;",
        b"group:;",
        b"ceo@bank.test <user@example.test>",
        b"<a@example.test> <b@example.test>",
        b"<user@example.test>, <b@evil.test>",
        b"user@evil.test@example.test",
        b"<@route.test:user@example.test>",
        b'"open <user@example.test>',
        b"A (nested (comment)) <user@example.test>",
        b"A (x@evil.test) <user@example.test>",
        b"user@example.test <",
        b"user@[192.0.2.1]",
        b"A\0 <user@example.test>",
        b"user@example.test x",
        b"user @example.test",
    ],
)
def test_not_one_author(value: bytes) -> None:
    with pytest.raises(RefusedError, match=r"^550 5\.7\.1 From: is not exactly one"):
        author([value])


@pytest.mark.parametrize("count", [0, 2, 3])
def test_exactly_one_from(count: int) -> None:
    with pytest.raises(RefusedError, match=rf"^550 5\.7\.1 {count} From: header fields"):
        author([b"user@example.test"] * count)


@given(st.lists(st.sampled_from(['"', "\\", "<", ">", "(", ")", "@", ",", "a", " ", ".", "é", "\t"])))
def test_any_from_has_an_author_or_is_refused(parts: list[str]) -> None:
    try:
        local, domain = author(["".join(parts).encode()])
    except RefusedError:
        return
    assert local
    assert domain


@pytest.mark.parametrize("part", [b'"', b"\\", b"<", b"(", b"a", b"a ", b'""', b"()", b'"\\', b"a@", b'"a" '])
def test_time_is_linear(part: bytes) -> None:
    start = time.process_time()
    for end in (b"", b"<", b"@", b"user@example.test>"):
        with pytest.raises(RefusedError):
            author([part * (200_000 // len(part)) + end])
    assert time.process_time() - start < 1


def ask(
    from_: bytes = b"user@example.test",
    sender: bytes = b"<user@example.test>",
    login: bytes = b"",
    auth: bool = False,
    match: bool = False,
) -> int:
    return judge(DOMAINS, [from_], sender, login, auth=auth, match=match)


def test_the_domain_decides() -> None:
    assert ask() == 1
    assert ask(b"a@xn--bcher-kva.test") == 2
    assert ask("a@Bücher.test".encode()) == 2
    assert ask(sender=b"<>") == 1
    assert ask(sender=b"<other@xn--bcher-kva.TEST>") == 1


@pytest.mark.parametrize(
    "from_",
    [b"a@other.test", b"a@sub.example.test", b"a@example.test.", b"a@notexample.test", b"a@\xff.test"],
)
def test_foreign_author(from_: bytes) -> None:
    with pytest.raises(RefusedError, match=r"^550 5\.7\.1 The address in From"):
        ask(from_)


@pytest.mark.parametrize(
    "sender", [b"<a@other.test>", b"<a>", b"<a@example.test@other.test>", b"<@>", b"< >"]
)
def test_foreign_envelope(sender: bytes) -> None:
    with pytest.raises(RefusedError, match=r"^550 5\.7\.1 The envelope sender"):
        ask(sender=sender)


def test_login() -> None:
    with pytest.raises(RefusedError, match=r"^530 5\.7\.0"):
        ask(auth=True)
    assert ask(auth=True, login=b"anybody") == 1


def test_match() -> None:
    assert ask(match=True) == 1
    assert ask(b"USER@example.test", match=True) == 1
    assert ask(b"user@example.test", b"<alias@example.test>", login=b"user@example.test", match=True) == 1
    assert ask(b"MAILER-DAEMON@example.test", b"<>", match=True) == 1
    assert ask(b"user@example.test", b"<>", login=b"user@example.test", match=True) == 1
    for from_, sender in ((b"ceo@example.test", b"<user@example.test>"), (b"ceo@example.test", b"<>")):
        with pytest.raises(RefusedError, match="not the sender's own"):
            ask(from_, sender, match=True)
    with pytest.raises(RefusedError, match="not the sender's own"):
        ask(b"postmaster@example.test", b"<user@example.test>", match=True)
