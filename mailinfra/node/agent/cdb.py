"""Constant databases (https://cr.yp.to/cdb/cdb.txt): one file, never changed, that Postfix reads as `cdb:`."""

import struct
from collections.abc import Iterable

HEADER = 2048
PAIR = struct.Struct("<II")


def _hash(key: bytes) -> int:
    value = 5381
    for byte in key:
        value = (value * 33 & 0xFFFFFFFF) ^ byte
    return value


def make(items: Iterable[tuple[str, str]]) -> bytes:
    """A database of these keys and values (UTF-8). At most 4 GiB."""
    data = bytearray(HEADER)
    tables: list[list[tuple[int, int]]] = [[] for _ in range(256)]
    for key, value in items:
        one, two = key.encode(), value.encode()
        digest = _hash(one)
        tables[digest & 255].append((digest, len(data)))
        data += PAIR.pack(len(one), len(two)) + one + two
    for number, table in enumerate(tables):
        size = 2 * len(table)
        slots = [(0, 0)] * size
        for digest, place in table:
            slot = (digest >> 8) % size
            while slots[slot][1]:
                slot = (slot + 1) % size
            slots[slot] = digest, place
        PAIR.pack_into(data, 8 * number, len(data), size)
        data += b"".join(PAIR.pack(*slot) for slot in slots)
    return bytes(data)


def get(data: bytes, key: str) -> str | None:
    """The value of a key in a database (bytes or a memory map), or None."""
    wanted = key.encode()
    digest = _hash(wanted)
    start, size = PAIR.unpack_from(data, 8 * (digest & 255))
    for step in range(size):
        found, place = PAIR.unpack_from(data, start + 8 * (((digest >> 8) + step) % size))
        if not place:
            break
        if found == digest:
            one, two = PAIR.unpack_from(data, place)
            middle = place + 8 + one
            if data[place + 8 : middle] == wanted:
                return data[middle : middle + two].decode()
    return None
