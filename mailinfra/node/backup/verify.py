"""Proves a repository by restoring from it: a random sample of messages, compared with the live ones."""

import hashlib
import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mailinfra.node.backup.restic import Restic
from mailinfra.node.backup.sources import base, is_message

SAMPLE = 50
"""Messages in a sample."""


class MismatchError(Exception):
    """A message that was restored is not the one that was backed up."""


def sample(paths: Iterable[str], size: int, chance: random.Random) -> list[str]:
    """So many of the paths, each as likely as the others, however many there are (reservoir sampling)."""
    chosen: list[str] = []
    for number, path in enumerate(paths):
        if number < size:
            chosen.append(path)
        elif (place := chance.randrange(number + 1)) < size:
            chosen[place] = path
    return chosen


def escaped(path: str) -> str:
    """A path as a pattern of restic's that means itself: users name their folders as they like."""
    return "".join(f"\\{character}" if character in "\\*?[]" else character for character in path)


def files(lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The paths of all files in what `restic ls --json` prints."""
    for line in lines:
        if line.get("struct_type") == "node" and line.get("type") == "file":
            yield str(line["path"])


def live(path: str) -> Path | None:
    """Where a message of a snapshot is now, in the same folder: its flags, and with them its name, may have changed."""
    folder, wanted = Path(path).parents[1], base(Path(path).name)
    for part in ("cur", "new"):
        try:
            for entry in (folder / part).iterdir():
                if base(entry.name) == wanted:
                    return entry
        except OSError:
            continue
    return None


def digest(path: Path) -> bytes:
    """A file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def verify(
    restic: Restic, snapshot: str, target: Path, mail: Path, chance: random.Random | None = None
) -> int:
    """Restore a sample into a private folder and compare: the number of messages that were right.

    restic compares each with the hashes that it recorded (`--verify`), which covers messages that were expunged
    meanwhile; those that are still there are compared with the live file too. Raises `MismatchError`, `ResticError`.
    """
    with restic.run("ls", "--json", snapshot) as done:
        chosen = sample(
            (path for path in files(done.lines()) if is_message(path, mail)),
            SAMPLE,
            chance or random.SystemRandom(),
        )
    if not chosen:
        return 0
    remove(target)
    target.mkdir(mode=0o700)
    try:
        patterns = [f"--include={escaped(path)}" for path in chosen]
        restic.do("restore", snapshot, f"--target={target}", "--verify", *patterns)
        for path in chosen:
            restored = target / path.lstrip("/")
            if not restored.is_file():
                raise MismatchError(f"{user_free(path)} was not restored")
            there = live(path)
            try:
                same = there is None or digest(there) == digest(restored)
            except FileNotFoundError:
                # Expunged, or its flags changed, just now; restic has compared it with what it recorded.
                continue
            if not same:
                raise MismatchError(f"{user_free(path)} is another message than the live one")
    finally:
        remove(target)
    return len(chosen)


def remove(folder: Path) -> None:
    """Remove a folder with mail in it, if it is there. That it cannot be is an error: `OSError`."""
    if folder.exists():
        shutil.rmtree(folder)


def user_free(path: str) -> str:
    """A message's name without its user's: what is wrong is told to the control bucket."""
    return f"message {base(Path(path).name)}"
