"""Looks for byte strings on machines' disks, from the host: folders of files, and images of volumes."""

import base64
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PIECE_BYTES = 1 << 26
OVERLAP_BYTES = 1 << 16
"""What two pieces of a large file share: nothing longer is looked for."""


@dataclass(frozen=True)
class Hit:
    """Where something was found."""

    file: Path
    what: str

    def __str__(self) -> str:
        return f"{self.what} in {self.file}"


def forms(token: str) -> dict[str, bytes]:
    """A token as it may be written: plain, in base64 wherever it falls, hexadecimal, UTF-16.

    A token of letters and digits is the same in quoted-printable and in any 8-bit character set.
    """
    plain = token.encode("ascii")
    found = {"plain": plain, "hexadecimal": plain.hex().encode(), "UTF-16": token.encode("utf-16-le")}
    for shift in range(3):
        found[f"base64, shifted by {shift}"] = base64_core(plain, shift)
    return found


def base64_core(data: bytes, shift: int) -> bytes:
    """The characters of base64 that `data` alone decides when `shift` (0 to 2) bytes of a group stand before it."""
    text = base64.b64encode(bytes(shift) + data)
    first = -(-shift * 4 // 3)
    return text[first : (shift + len(data)) * 8 // 6]


FORMS = tuple(forms("0"))
"""The names of the forms."""


def pieces(places: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    """The content of every file at or below `places`, large files in overlapping pieces without their holes.

    A file that goes away meanwhile is passed over.
    """
    for place in places:
        for file in [place] if place.is_file() else _files(place):
            try:
                yield from _content(file)
            except FileNotFoundError:
                continue


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


def _content(file: Path) -> Iterator[tuple[Path, bytes]]:
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return
    if status.st_size <= PIECE_BYTES:
        yield file, file.read_bytes()
        return
    with file.open("rb") as opened:
        for start, end in _extents(opened.fileno(), status.st_size):
            for place in range(start, end, PIECE_BYTES - OVERLAP_BYTES):
                yield file, os.pread(opened.fileno(), min(PIECE_BYTES, end - place), place)


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a sparse file has data (lseek(2), SEEK_DATA)."""
    place = 0
    while place < size:
        try:
            start = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError:
            return  # nothing but a hole is left
        place = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, place


def find(places: Iterable[Path], needles: dict[str, bytes]) -> list[Hit]:
    """Every file that holds a needle, with the needle's name."""
    return [
        Hit(file, name)
        for file, data in pieces(places)
        for name, needle in needles.items()
        if data.find(needle) >= 0
    ]


def spots(data: bytes, needle: bytes) -> Iterator[int]:
    """Where a needle begins, everywhere."""
    place = data.find(needle)
    while place >= 0:
        yield place
        place = data.find(needle, place + 1)
