"""Looks for needles where a search of a disk's files does not see them: the journal, and deleted files that are
still open. Runs on a node.
"""

import base64
import os
import stat
import subprocess
from pathlib import Path
from typing import Any


def journal(needles: list[bytes], since: float) -> tuple[int, list[int]]:
    """How many bytes of journal there were since a time, and the numbers of the needles in it."""
    command = ["journalctl", "--all", "--output=export", f"--since=@{since:.0f}"]
    text = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    return len(text), [number for number, needle in enumerate(needles) if needle in text]


def deleted(needles: list[bytes]) -> tuple[int, list[str]]:
    """How many deleted files are still open, and those that hold a needle."""
    looked, found = 0, []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
            if not target.endswith(" (deleted)") or not stat.S_ISREG(link.stat().st_mode):
                continue
            data = link.read_bytes()
        except OSError:
            continue
        looked += 1
        if any(needle in data for needle in needles):
            found.append(f"{link.parts[2]} {target}")
    return looked, found


def main(told: dict[str, Any]) -> dict[str, Any]:
    """`needles` are base64, `since` is seconds of the host's clock."""
    needles = [base64.b64decode(needle) for needle in told["needles"]]
    size, in_journal = journal(needles, told["since"])
    looked, in_deleted = deleted(needles)
    return {
        "journal_bytes": size,
        "journal": in_journal,
        "open": looked,
        "deleted": in_deleted,
        "pid": os.getpid(),
    }
