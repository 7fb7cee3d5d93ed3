"""Which messages of a copy a mailbox lacks. Pure functions.

A message is known by its GUID, which Dovecot keeps through flags, moves, copies between folders, replication and
import; for most it is the file's first name, for others `dovecot-uidlist` says it. So a message that is there is
left alone wherever the user has put it, and a restore that is done again adds nothing.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from mailinfra.node.backup.sources import base

TRASH = "Trash"
"""What the user threw away is not kept for a reason: it does not count as being there."""
UIDLIST = re.compile(r"\d+((?: [A-Za-z][^ :]*)*) :(.+)")


@dataclass(frozen=True)
class Copy:
    """A message file in a copy."""

    path: str
    folder: str
    """The maildir's folder as its name on disk: empty for INBOX, else `.Projects`."""
    guid: str
    received: str
    """The file's time as restic says it (ISO 8601), by which the newest is found."""


def guids(uidlist: str) -> dict[str, str]:
    """File name without flags to GUID, of those that `dovecot-uidlist` gives another one than their name."""
    found = {}
    for line in uidlist.splitlines()[1:]:
        if match := UIDLIST.fullmatch(line):
            for extension in match[1].split():
                if extension.startswith("G") and len(extension) > 1:
                    found[base(match[2])] = extension[1:]
    return found


def place(path: str) -> tuple[str, str]:
    """The folder and the name without flags of a message's path."""
    parts = PurePosixPath(path)
    folder = parts.parent.parent.name
    return ("" if folder == "Maildir" else folder), base(parts.name)


def copies(listed: Iterable[tuple[str, str]], uidlists: Mapping[str, str]) -> list[Copy]:
    """The messages in a copy, from (path, time) and the content of each folder's `dovecot-uidlist`."""
    named = {folder: guids(text) for folder, text in uidlists.items()}
    found = []
    for path, received in listed:
        folder, name = place(path)
        found.append(Copy(path, folder, named.get(folder, {}).get(name, name), received))
    return found


def missing(found: Iterable[Copy], live: Iterable[tuple[str, str]], names: Mapping[str, str]) -> list[Copy]:
    """The messages that are to come back, the newest first.

    `live` is (folder's name, GUID) of every message that is there, `names` a folder's name by its name on disk.
    A message that was in two folders and is in one now comes back into the other.
    """
    there = set(live)
    spare = Counter(guid for folder, guid in there if folder != TRASH)
    here: list[Copy] = []
    rest: list[Copy] = []
    for copy in found:
        (here if (names.get(copy.folder, copy.folder), copy.guid) in there else rest).append(copy)
    for copy in here:
        if names.get(copy.folder, copy.folder) != TRASH:
            spare[copy.guid] -= 1
    wanted = []
    for copy in rest:
        if spare[copy.guid] > 0:
            # The user has moved it.
            spare[copy.guid] -= 1
        else:
            wanted.append(copy)
    return sorted(wanted, key=lambda copy: (copy.received, copy.path), reverse=True)
