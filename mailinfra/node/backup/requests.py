"""What an operator asks a region's mailbox nodes to restore: an object in the region's control bucket.

Operators write below `restore/requests/`, where nodes may only read; nodes write how far they are below
`restore/status/<group>/`, each group below its own name.
"""

import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from mailinfra.node.agent.directory import ADDRESS, DOMAIN, LABEL

REQUESTS = "restore/requests/"
STATUS = "restore/status/"
ID = re.compile(r"[0-9a-f]{16}")
REGION = re.compile(LABEL)
DOMAIN_NAME = re.compile(DOMAIN)
MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")
SIZE_LIMIT = 16_384
"""A request's largest size, in bytes."""
MAX_AGE = timedelta(days=7)
"""Older requests are passed over."""
FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Request:
    """What is to be restored, from where, and where to. Exactly one of `mailbox`, `domain` and `everything`."""

    id: str
    created: datetime
    at: datetime
    """The newest copy that is not later than this is taken."""
    source: str
    """The region whose repositories it comes from."""
    target: str
    """The region whose mailbox nodes do it, and hold the mailboxes that it goes into."""
    apply: bool
    """False: only say what would be restored."""
    mailbox: str = ""
    """One user's address."""
    message: str = ""
    """With `mailbox`: only the message of this Message-ID."""
    domain: str = ""
    everything: bool = False
    """All mailboxes of the source region."""

    def covers(self, user: str) -> bool:
        """Whether a user is meant."""
        return (
            self.everything
            or (bool(self.mailbox) and user == self.mailbox)
            or (bool(self.domain) and user.endswith(f"@{self.domain}"))
        )


def parse(data: bytes) -> Request:
    """The request in an object. `ValueError` says what is wrong; nothing is guessed and nothing unknown is let by."""
    if len(data) > SIZE_LIMIT:
        raise ValueError(f"request: {len(data)} bytes, at most {SIZE_LIMIT}")
    known = json.loads(data)
    if not isinstance(known, dict):
        raise ValueError("request: not an object")
    if unknown := known.keys() - {field.name for field in fields(Request)}:
        raise ValueError(f"request: unknown {sorted(unknown)}")
    request = Request(
        id=_text(known, "id", ID),
        created=_time(known, "created"),
        at=_time(known, "at"),
        source=_text(known, "source", REGION),
        target=_text(known, "target", REGION),
        apply=_flag(known, "apply"),
        mailbox=_text(known, "mailbox", ADDRESS, optional=True),
        message=_text(known, "message", MESSAGE_ID, optional=True),
        domain=_text(known, "domain", DOMAIN_NAME, optional=True),
        everything=_flag(known, "everything"),
    )
    if [bool(request.mailbox), bool(request.domain), request.everything].count(True) != 1:
        raise ValueError("request: exactly one of mailbox, domain and everything")
    if request.message and not request.mailbox:
        raise ValueError("request: message without mailbox")
    return request


def dump(request: Request) -> bytes:
    """A request as `parse` reads it."""
    times = {name: getattr(request, name).strftime(FORM) for name in ("created", "at")}
    return json.dumps({**vars(request), **times}, indent=1).encode()


@dataclass(frozen=True)
class Progress:
    """How far one node is with a request. Counts are of messages but for the users'."""

    id: str
    node: str
    state: str
    """`running`, `done` or `failed`."""
    users: int = 0
    users_done: int = 0
    copied: int = 0
    """In the copies that were looked at."""
    missing: int = 0
    """Of these not in the mailboxes: what is restored, or would be."""
    restored: int = 0
    copy: str = ""
    """When the oldest copy that was used was made."""
    error: str = ""


def progress_key(group: str, request: str, node: str) -> str:
    """Where a node says how far it is."""
    return f"{STATUS}{group}/{request}/{node}.json"


def dump_progress(progress: Progress) -> bytes:
    """Progress as `parse_progress` reads it."""
    return (json.dumps(asdict(progress), indent=1) + "\n").encode()


def parse_progress(data: bytes) -> Progress:
    """What a node said. `ValueError` when it is not understood."""
    known = json.loads(data)
    if not isinstance(known, dict) or known.keys() != {field.name for field in fields(Progress)}:
        raise ValueError("status of a restore: not what a node writes")
    progress = Progress(**known)
    if progress.state not in ("running", "done", "failed"):
        raise ValueError(f"status of a restore: state is {progress.state!r}")
    return progress


def _text(known: dict[str, Any], name: str, pattern: re.Pattern[str], optional: bool = False) -> str:
    value = known.get(name, "" if optional else None)
    if not isinstance(value, str) or not (pattern.fullmatch(value) or (optional and not value)):
        raise ValueError(f"request: {name} is {value!r}")
    return value


def _flag(known: dict[str, Any], name: str) -> bool:
    value = known.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"request: {name} is {value!r}")
    return value


def _time(known: dict[str, Any], name: str) -> datetime:
    value = known.get(name)
    if not isinstance(value, str):
        raise ValueError(f"request: {name} is {value!r}")
    return datetime.strptime(value, FORM).replace(tzinfo=UTC)
