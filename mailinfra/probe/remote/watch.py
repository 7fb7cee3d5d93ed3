"""Watches every write to a machine's disks (fanotify(7)) and looks for needles in what was written.

A file is read as it is when its event is taken, also when it has been deleted by then: the event holds it open.
Runs on a node.
"""

import base64
import contextlib
import ctypes
import os
import select
import struct
import time
from pathlib import Path
from typing import Any

NOT_DISKS = frozenset(
    """autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs
    proc pstore ramfs securityfs sysfs tmpfs tracefs""".split()  # noqa: SIM905 - it is read, not edited
)
FAN_CLOEXEC, FAN_NONBLOCK, FAN_UNLIMITED_QUEUE = 0x1, 0x2, 0x10
FAN_MARK_ADD, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM = 0x1, 0x10, 0x100
FAN_MODIFY, FAN_CLOSE_WRITE, FAN_Q_OVERFLOW = 0x2, 0x8, 0x4000
EVENT = struct.Struct("=IBBHQii")
READ_BYTES = 1 << 20
PIECE_BYTES = 1 << 24


def disks() -> dict[str, bool]:
    """Mount points of every file system that is on a disk, and whether the whole of it is mounted there.

    A part that is mounted is somebody else's file system, of which only what goes through this mount counts.
    """
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] not in NOT_DISKS:
            _, _, _, root, point = left.split()[:5]
            found[point] = root == "/"
    return found


def holds(descriptor: int, needles: list[bytes]) -> list[int]:
    """The numbers of the needles that a file holds."""
    found, tail, place = set(), b"", 0
    reach = max(map(len, needles))
    while data := os.pread(descriptor, PIECE_BYTES, place):
        found |= {number for number, needle in enumerate(needles) if needle in tail + data}
        tail, place = data[-reach:], place + len(data)
    return sorted(found)


class Watch:
    """The events so far."""

    def __init__(self, needles: list[bytes]) -> None:
        self.needles = needles
        self.events = 0
        self.lost = False
        self.hits: dict[int, list[str]] = {}
        self.files: dict[str, int] = {}
        libc = ctypes.CDLL(None, use_errno=True)
        self.queue = libc.fanotify_init(FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE, os.O_RDONLY)
        if self.queue < 0:
            raise OSError(ctypes.get_errno(), "fanotify_init")
        for point, whole in disks().items():
            # Services with mounts of their own write to the same file system through another mount.
            how = FAN_MARK_ADD | (FAN_MARK_FILESYSTEM if whole else FAN_MARK_MOUNT)
            mask = ctypes.c_uint64(FAN_MODIFY | FAN_CLOSE_WRITE)
            if libc.fanotify_mark(self.queue, how, mask, -100, point.encode()):
                number = ctypes.get_errno()
                raise OSError(number, f"fanotify_mark of {point}: {os.strerror(number)}")

    def take(self) -> None:
        """Take in what has happened."""
        while True:
            try:
                data = os.read(self.queue, READ_BYTES)
            except BlockingIOError:
                return
            while data:
                length, _, _, _, mask, descriptor, _ = EVENT.unpack_from(data)
                data = data[length:]
                self.lost = self.lost or bool(mask & FAN_Q_OVERFLOW)
                if descriptor >= 0:
                    self.event(descriptor)

    def event(self, descriptor: int) -> None:
        """Look into one file that was written."""
        try:
            name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            self.events += 1
            self.files[name] = self.files.get(name, 0) + 1
            for number in holds(descriptor, self.needles):
                names = self.hits.setdefault(number, [])
                if name not in names:
                    names.append(name)
        finally:
            os.close(descriptor)


def main(told: dict[str, Any]) -> dict[str, Any]:
    """Watch from when the file `ready` appears until `stop` does, at most `seconds`.

    `needles` are base64. A file with `planted` (base64 too, another needle) is written and deleted at once in the
    meantime, to show that such a file is seen. Gives the number of events, the files, where each needle was found
    (by its number; the planted one is the last), and whether events were lost.
    """
    needles = [base64.b64decode(needle) for needle in [*told["needles"], told["planted"]]]
    ready, stop = Path(told["ready"]), Path(told["stop"])
    ready.parent.mkdir(parents=True, exist_ok=True)
    watch = Watch(needles)
    end = time.monotonic() + told["seconds"]
    try:
        ready.touch()
        decoy = Path(told["decoy"])
        decoy.write_bytes(b"before " + needles[-1] + b" after")
        decoy.unlink()
        poll = select.poll()
        poll.register(watch.queue, select.POLLIN)
        while not stop.exists() and time.monotonic() < end:
            poll.poll(50)
            watch.take()
        watch.take()
    finally:
        for file in (ready, stop):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
    return {
        "events": watch.events,
        "lost": watch.lost,
        "hits": watch.hits,
        "files": watch.files,
        "disks": list(disks()),
    }
