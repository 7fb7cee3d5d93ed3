"""Relaxed canonicalisation (RFC 6376 3.4.2, 3.4.4) in linear time, as the message comes in.

`simple` is not here: the fleet signs relaxed/relaxed only, which survives what relays do.
"""

import hashlib
import re

NEWLINE = b"\r\n"
TABS = bytes.maketrans(b"\t", b" ")
BREAKS_BACKWARDS = re.compile(rb"(?:\n\r)*+")
PIECE = 32768


def squeeze(data: bytes) -> bytes:
    """Return data with each run of spaces and tabs as one space. O(n): a round halves each run."""
    data = data.translate(TABS)
    while b"  " in data:
        data = data.replace(b"  ", b" ")
    return data


def header(name: bytes, value: bytes) -> bytes:
    """Return a header field in relaxed form, without its final CRLF. Folds may be LF or CRLF."""
    unfolded = value.replace(NEWLINE, b"").replace(b"\n", b"")
    return name.rstrip(b" \t").lower() + b":" + squeeze(unfolded).strip(b" ")


class Body:
    """The SHA-256 of a relaxed body that comes in chunks, cut anywhere."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.size = 0
        """Octets taken in."""
        self.strays = 0
        """CRs and LFs that were no part of a CRLF; certain once `digest` was called."""
        self.empty = True
        self.breaks = 0
        self.tail = b""

    def update(self, chunk: bytes) -> None:
        """Take the next octets in."""
        self.size += len(chunk)
        data = squeeze(self.tail + chunk)
        # What may yet turn out to be the end of a line or of the body waits: a space, a CR, some breaks.
        end = len(data) - data.endswith(b"\r")
        end -= data.endswith(b" ", 0, end)
        self.tail, data = data[end:], data[:end].replace(b" \r\n", NEWLINE)
        self.strays += data.count(b"\r") + data.count(b"\n") - 2 * data.count(NEWLINE)
        ending = data[len(data.rstrip(NEWLINE)) :]
        found = BREAKS_BACKWARDS.match(ending[::-1])
        breaks = found.end() // 2 if found else 0
        self.write(data[: len(data) - 2 * breaks])
        self.breaks += breaks

    def write(self, text: bytes) -> None:
        """Hash text, and before it the line breaks that waited for it."""
        if text:
            self.empty = False
            while self.breaks:
                count = min(self.breaks, PIECE)
                self.hash.update(NEWLINE * count)
                self.breaks -= count
            self.hash.update(text)

    def digest(self) -> bytes:
        """End the body and return its hash. Blank ends go, a last line without CRLF gets one (3.4.4)."""
        if self.tail.endswith(b"\r"):
            self.strays += 1
            self.write(self.tail)
        if not self.empty:
            self.hash.update(NEWLINE)
        return self.hash.digest()
