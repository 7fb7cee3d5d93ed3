"""A node's repositories in the vault: generations, their passwords, and how they are opened.

Below `<region>/<node>/` each generation is a restic repository of its own, with its password beside it, wrapped by
the vault's KMS key: `<region>/<node>/<generation>/password.wrapped`. Nobody prunes: the bucket's life-cycle rule
takes whole generations away.
"""

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mailinfra.node.agent.node import write
from mailinfra.node.backup.access import Access, AccessError
from mailinfra.node.backup.rest import Backend
from mailinfra.node.backup.restic import Restic
from mailinfra.node.backup.vault import GENERATION_DAYS

FORM = "%Y%m%dT%H%M%SZ"
NAME = re.compile(r"\d{8}T\d{6}Z")
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
WRAPPED = "password.wrapped"


@dataclass(frozen=True)
class Repository:
    """One generation of a node's repository."""

    region: str
    node: str
    generation: str

    @property
    def prefix(self) -> str:
        """Where its objects lie in the vault's bucket."""
        return f"{self.region}/{self.node}/{self.generation}"

    @property
    def began(self) -> datetime:
        """When it was begun."""
        return datetime.strptime(self.generation, FORM).replace(tzinfo=UTC)


@dataclass(frozen=True)
class Current:
    """What a node remembers of the generation that it writes into."""

    generation: str
    vault: str = ""
    """The bucket that it lies in."""
    snapshot: str = ""
    """The last snapshot, from which the next one starts."""
    ready: bool = False
    """Whether the repository was made, beside its password."""


class Passwords:
    """The passwords of the generations that this node has begun: files that only root may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, generation: str) -> str:
        """The password, or nothing."""
        path = self.folder / generation
        return path.read_text() if path.is_file() else ""

    def make(self, generation: str) -> str:
        """A new password, kept."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        password = secrets.token_urlsafe(32)
        write(self.folder / generation, password.encode(), 0o600)
        return password

    def keep(self, generations: set[str]) -> None:
        """Forget the passwords of all other generations."""
        for path in self.folder.glob("*"):
            if path.name not in generations:
                path.unlink()


def read_current(path: Path) -> Current | None:
    """What is remembered; None where there is nothing that can be read."""
    try:
        known = json.loads(path.read_bytes())
        current = Current(**known)
    except (OSError, ValueError, TypeError):
        return None
    return current if NAME.fullmatch(str(current.generation)) else None


def write_current(path: Path, current: Current) -> None:
    """Remember."""
    write(path, json.dumps(asdict(current)).encode(), 0o600)


def stale(current: Current | None, password: str, vault: str, now: datetime) -> str:
    """Why a new generation is to be begun; nothing when the current one is good."""
    if not current:
        return "there is none yet"
    if not password:
        return f"the password of {current.generation} is not there any more"
    if current.vault != vault:
        return f"the vault is now {vault}, no longer {current.vault}"
    age = now - datetime.strptime(current.generation, FORM).replace(tzinfo=UTC)
    if age >= timedelta(days=GENERATION_DAYS):
        return f"{current.generation} is {age.days} days old"
    return ""


def begin(
    access: Access, passwords: Passwords, region: str, node: str, vault: str, now: datetime
) -> tuple[Repository, Current]:
    """Begin a generation: a password, made, wrapped and put beside where the repository will be.

    Raises `AccessError`, `BucketError` and `ExistsError`; then there is a password in a file and nothing else.
    """
    repository = Repository(region, node, now.strftime(FORM))
    password = passwords.make(repository.generation)
    sealed = access.wrap(password.encode(), repository.prefix)
    access.bucket.create(f"{repository.prefix}/{WRAPPED}", sealed)
    return repository, Current(repository.generation, vault)


def password_of(access: Access, passwords: Passwords | None, repository: Repository) -> str:
    """A generation's password: this node's own file, else what the vault's key unwraps.

    Raises `AccessError`, `BucketError`, or `KeyError` where no password lies beside the repository.
    """
    if passwords and (own := passwords.get(repository.generation)):
        return own
    sealed = access.bucket.read(f"{repository.prefix}/{WRAPPED}")
    try:
        return access.unwrap(sealed, repository.prefix).decode()
    except UnicodeDecodeError as error:
        raise AccessError(f"{repository.prefix}/{WRAPPED} holds no password") from error


def repositories(access: Access, region: str) -> list[Repository]:
    """All generations of all nodes of a region that a vault has, the newest first."""
    found = [
        Repository(region, node, generation)
        for node in access.bucket.folders(f"{region}/")
        if LABEL.fullmatch(node)
        for generation in access.bucket.folders(f"{region}/{node}/")
        if NAME.fullmatch(generation)
    ]
    return sorted(found, key=lambda item: (item.generation, item.node), reverse=True)


@contextmanager
def opened(
    access: Access, repository: Repository, password: str, folder: Path, *, writable: bool
) -> Iterator[Restic]:
    """restic on a generation."""
    with Backend(access.bucket, repository.prefix, writable=writable) as backend:
        yield Restic(backend, password, folder)


def ready(current: Current) -> Current:
    """The generation, made."""
    return replace(current, ready=True)
