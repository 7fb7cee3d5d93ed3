"""The canonicaliser against dkimpy's, and against time."""

import hashlib
import itertools
import time

import pytest
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st

from mailinfra.dkim.canonical import Body, header

PIECES = [
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b"  ",
    b"x",
    b".",
    b"\0",
    b"\xff",
    b"\x0b",
    b"line",
    b"\r\n\r\n",
]
texts = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)
cuts = st.lists(st.integers(0, 200), max_size=20)


def chunks(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in at), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(texts, cuts)
def test_body_equals_dkimpy_however_it_is_cut(text: bytes, at: list[int]) -> None:
    text += b"\r\n"  # SMTP has no other end; dkimpy keeps the white space of a last line without one
    body = Body()
    for chunk in chunks(text, at):
        body.update(chunk)
    assert body.digest() == hashlib.sha256(Relaxed.canonicalize_body(text)).digest()
    pairs = text.count(b"\r\n")
    assert body.strays == text.count(b"\r") + text.count(b"\n") - 2 * pairs
    assert body.size == len(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b" \t\r\n \r\n", b""),
        (b" ", b""),
        (b"no end", b"no end\r\n"),
        (b"no end \t", b"no end\r\n"),
        (b"stray\r", b"stray\r\r\n"),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),  # the example of RFC 6376 3.4.5
    ],
)
def test_body(text: bytes, canonical: bytes) -> None:
    body = Body()
    body.update(text)
    assert body.digest() == hashlib.sha256(canonical).digest()


@given(
    st.from_regex(rb"[!-9;-~]{1,20}[ \t]{0,3}", fullmatch=True),
    st.lists(
        st.sampled_from([b"\r\n ", b"\r\n\t", b"\n ", b" ", b"\t", b"a", b"B", b"\xc3\xa9"]), max_size=40
    ),
)
def test_header_equals_dkimpy(name: bytes, parts: list[bytes]) -> None:
    value = b"".join(parts)
    ((lower, rest),) = Relaxed.canonicalize_headers([(name, value)])
    assert header(name, value) + b"\r\n" == lower + b":" + rest


def test_header_example_of_the_rfc() -> None:
    assert header(b"A", b" X") == b"a:X"
    assert header(b"B ", b" Y\t\r\n\tZ  ") == b"b:Y Z"


HOSTILE = {
    "spaces": b" " * 4_000_000,
    "spaces, then text": b" " * 4_000_000 + b"x",
    "tabs and spaces": b"\t " * 2_000_000,
    "breaks": b"\r\n" * 2_000_000,
    "breaks, then text": b"\r\n" * 2_000_000 + b"x",
    "blank lines": b" \r\n" * 1_300_000 + b"x",
    "CRs": b"\r" * 4_000_000,
    "LFs": b"\n" * 4_000_000,
    "LF CR": b"\n\r" * 2_000_000,
    "break and CR": b"\r\n\r" * 1_300_000,
    "text": b"words and more words\r\n" * 180_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_linear(name: str) -> None:
    """A text eight times as long takes eight times as long, not 64; twice that is allowed for noise."""

    def seconds(data: bytes) -> float:
        best = float("inf")
        for _ in range(3):
            body, start = Body(), time.process_time()
            for at in range(0, len(data), 65535):
                body.update(data[at : at + 65535])
            body.digest()
            header(b"x", data)
            best = min(best, time.process_time() - start)
        return best

    data = HOSTILE[name]
    long = seconds(data)
    assert long < 16 * max(seconds(data[: len(data) // 8]), 0.002)
    assert long < 2


def test_memory_is_bounded() -> None:
    """What waits for its line's end is two octets and a count, however much blank there is."""
    body = Body()
    for _ in range(200):
        body.update(b" \r\n" * 10_000 + b" " * 10_000)
    assert len(body.tail) <= 2
    assert body.breaks == 200 * 10_000
