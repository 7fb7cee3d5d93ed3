"""How the backup of a node is doing: a file, and the same in the control bucket for whoever watches the fleet."""

import json
import logging
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from mailinfra.node.agent.bucket import Bucket, BucketError
from mailinfra.node.agent.google import ApiError
from mailinfra.node.agent.node import Node, write

log = logging.getLogger("backup")


@dataclass(frozen=True)
class Status:
    """The state of a node's backup. Times are ISO 8601 in UTC, empty for never."""

    node: str = ""
    last_run: str = ""
    """When the last run began."""
    last_success: str = ""
    """When the last run began that ended well: mail that was there then is in the vault."""
    seconds: float = 0.0
    """How long that one took."""
    generation: str = ""
    snapshot: str = ""
    bytes: int = 0
    """What the last snapshot holds."""
    added: int = 0
    """Bytes that the last run added."""
    unread: int = 0
    """Files that the last run could not read: renamed or gone while it looked, the next run has them."""
    last_verified: str = ""
    """When a sample was last restored and found to be as it should."""
    verified: int = 0
    """Messages in that sample."""
    notes: tuple[str, ...] = ()
    """What happened in the last run that is no failure: a new generation, and why."""
    error: str = ""
    """Why the last run, or the last verification, failed; empty when all is well."""


def stamp(moment: datetime) -> str:
    """A time as it is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime | None:
    """The time that is written; None for never."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) if text else None


def load(path: Path) -> Status:
    """The last status; an empty one where none can be read."""
    names = {field.name for field in fields(Status)}
    try:
        known = json.loads(path.read_bytes())
        status = Status(**{name: value for name, value in known.items() if name in names})
        moment(status.last_run), moment(status.last_success), moment(status.last_verified)
    except (OSError, ValueError, TypeError, AttributeError):
        return Status()
    return status


def key(node: Node) -> str:
    """Where a node's status lies in its control bucket."""
    return f"backup/status/{node.group}/{node.name}.json"


def report(node: Node, bucket: Bucket, path: Path, status: Status) -> None:
    """Write the status to both places. That one of them fails is logged, and is no failure of the backup."""
    data = (json.dumps(asdict(status), indent=1) + "\n").encode()
    try:
        write(path, data)
    except OSError as error:
        log.warning("%s: %s", path, error)
    try:
        bucket.put(key(node), data)
    except (BucketError, ApiError) as error:
        log.warning("control bucket: %s", error)
