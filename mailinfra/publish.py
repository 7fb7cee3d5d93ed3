"""Publishing the directory: into the control bucket of every region, on both clouds.

Each document replaces its predecessor whole, or not at all, and only if nobody else replaced it in between; the
buckets keep the versions before. Accounts come before routes, so that no mail is sent to a host that does not know
its user yet. Publishing again carries on where an interrupted run stopped.
"""

import importlib
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol

from mailinfra import names
from mailinfra.directory import (
    Directory,
    Document,
    Move,
    documents,
    hashes,
    mailboxes,
    notes,
    origins,
    read_directory,
    stored_hashes,
)
from mailinfra.errors import UserError
from mailinfra.fleet import Fleet

TIMEOUT_SECONDS = 60
CONTENT_TYPE = "application/jsonl"


class PublishError(UserError):
    """The directory was not, or not everywhere, published; says what to do."""


@dataclass(frozen=True)
class Stored:
    """An object, its version (an ETag at S3, a generation at Cloud Storage), and when it was written (seconds since
    the epoch)."""

    body: bytes
    version: str
    written: float


class Store(Protocol):
    """A region's control bucket."""

    def get(self, path: str) -> Stored | None:
        """The object, or None if there is none. PublishError when the bucket cannot be read."""

    def put(self, path: str, body: bytes, version: str | None) -> None:
        """Replaces the object of this version; None: there is none yet. PublishError when it is another."""


@dataclass(frozen=True)
class Change:
    """What publishing did to one document: whether it was written, and lines added, removed and changed."""

    region: str
    path: str
    written: bool
    added: int
    removed: int
    changed: int


@dataclass(frozen=True)
class Report:
    """What was published, the moves that were allowed, and what the directory lacks."""

    changes: tuple[Change, ...]
    moves: tuple[Move, ...]
    notes: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """The report for a person."""
        return (
            *(
                f"{change.region}: {change.path}: +{change.added} -{change.removed} ~{change.changed}"
                if change.written
                else f"{change.region}: {change.path}: unchanged"
                for change in self.changes
            ),
            *(f"moved: {move}" for move in self.moves),
            *(f"note: {note}" for note in self.notes),
        )


class S3Store:
    """A control bucket on S3. `endpoint` is empty for the public one."""

    def __init__(self, bucket: str, region: str, endpoint: str = "", client: Any = None) -> None:
        self._bucket = bucket
        if client is None:
            import boto3
            from botocore.config import Config

            # A region that is lost does not answer: the others shall not wait for it for minutes.
            patience = Config(
                connect_timeout=10, read_timeout=TIMEOUT_SECONDS, retries={"total_max_attempts": 3}
            )
            client = boto3.client("s3", region_name=region, endpoint_url=endpoint or None, config=patience)
        self._client = client

    def get(self, path: str) -> Stored | None:
        """See `Store`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=path)
            return Stored(answer["Body"].read(), answer["ETag"], answer["LastModified"].timestamp())
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise PublishError(f"s3://{self._bucket}/{path}: {error}") from None
        except BotoCoreError as error:
            raise PublishError(f"s3://{self._bucket}/{path}: {error}") from None

    def put(self, path: str, body: bytes, version: str | None) -> None:
        """See `Store`."""
        from botocore.exceptions import BotoCoreError, ClientError

        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=path, Body=body, ContentType=CONTENT_TYPE, **condition
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise _overtaken(f"s3://{self._bucket}/{path}") from None
            raise PublishError(f"s3://{self._bucket}/{path}: {error}") from None
        except BotoCoreError as error:
            raise PublishError(f"s3://{self._bucket}/{path}: {error}") from None


class GcsStore:
    """A control bucket on Cloud Storage, through its JSON API. `token` gives an access token."""

    def __init__(self, bucket: str, endpoint: str = "", token: Callable[[], str] | None = None) -> None:
        self._bucket = bucket
        self._endpoint = (endpoint or "https://storage.googleapis.com").rstrip("/")
        self._token = token or google_token

    def get(self, path: str) -> Stored | None:
        """See `Store`."""
        url = f"{self._endpoint}/storage/v1/b/{self._bucket}/o/{urllib.parse.quote(path, safe='')}?alt=media"
        return self._call("GET", url, path)

    def put(self, path: str, body: bytes, version: str | None) -> None:
        """See `Store`."""
        query = urllib.parse.urlencode(
            {"uploadType": "media", "name": path, "ifGenerationMatch": version or "0"}
        )
        self._call("POST", f"{self._endpoint}/upload/storage/v1/b/{self._bucket}/o?{query}", path, body)

    def _call(self, method: str, url: str, path: str, body: bytes | None = None) -> Stored | None:
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": CONTENT_TYPE}
        request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - https, checked in config
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                written = parsedate_to_datetime(answer.headers["Last-Modified"]) if method == "GET" else None
                return Stored(
                    answer.read(),
                    answer.headers.get("x-goog-generation", ""),
                    written.timestamp() if written else 0.0,
                )
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404 and method == "GET":
                    return None
                if error.code == 412:
                    raise _overtaken(f"gs://{self._bucket}/{path}") from None
                text = error.read(300).decode(errors="replace")
            raise PublishError(f"gs://{self._bucket}/{path}: {error.code} {text}") from None
        except (urllib.error.URLError, TimeoutError) as error:
            raise PublishError(f"gs://{self._bucket}/{path}: {error}") from None


def google_token() -> str:
    """An access token of whoever is logged in: application default credentials, else the gcloud command."""
    try:
        auth = importlib.import_module("google.auth")
        transport = importlib.import_module("google.auth.transport.requests")
    except ImportError:
        return _gcloud_token()
    try:
        credentials, _ = auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_write"])
        credentials.refresh(transport.Request())
    except auth.exceptions.GoogleAuthError as error:
        raise PublishError(f"Google credentials: {error}") from None
    return str(credentials.token)


def publish_file(
    fleet: Fleet, path: Path, stores: Mapping[str, Store], *, allow_moves: bool = False, **asking: Any
) -> Report:
    """Publishes the users file at `path` to the fleet's control buckets, `stores` by region.

    `asking` goes to `mailinfra.directory.hashes`. Raises ConfigError for a bad file, PublishError else.
    """
    return publish(fleet, read_directory(path, fleet), stores, allow_moves=allow_moves, **asking)


def publish(
    fleet: Fleet,
    directory: Directory,
    stores: Mapping[str, Store],
    *,
    allow_moves: bool = False,
    **asking: Any,
) -> Report:
    """Publishes a directory. PublishError when it would move mailboxes and `allow_moves` is not set: their mail
    would stay behind."""
    current = {
        (region.region, path): stores[region.region].get(path)
        for region in fleet.regions
        for path in (names.ACCOUNTS_KEY, names.ROUTES_KEY)
    }
    passwords = hashes(directory.users, _merged(current, names.ACCOUNTS_KEY, stored_hashes), **asking)
    wanted, moves = documents(
        fleet,
        directory,
        passwords,
        _merged(current, names.ROUTES_KEY, mailboxes),
        _merged(current, names.ROUTES_KEY, origins),
    )
    if moves and not allow_moves:
        shown = "".join(f"\n  {move}" for move in moves[:10])
        more = f"\n  and {len(moves) - 10} more" if len(moves) > 10 else ""
        raise PublishError(
            f"{len(moves)} mailboxes would move, and the mail in them stay behind:{shown}{more}\n"
            "Nothing was published. Move the users first, or allow it if their mailboxes are empty: --allow-moves"
        )
    changes: list[Change] = []
    # All accounts first: see the module's docstring.
    for document in sorted(wanted, key=lambda item: (item.path != names.ACCOUNTS_KEY, item.region)):
        changes.append(
            _replace(stores[document.region], document, current[document.region, document.path], changes)
        )
    return Report(tuple(changes), moves, notes(directory, fleet))


def _replace(store: Store, document: Document, before: Stored | None, done: Sequence[Change]) -> Change:
    change = _difference(document, before.body if before else None)
    if not change.written:
        return change
    try:
        store.put(document.path, document.body, before.version if before else None)
    except PublishError as error:
        written = sum(item.written for item in done)
        raise PublishError(
            f"{error}\n{written} documents were published before; publish again to carry on"
        ) from None
    return change


def _difference(document: Document, before: bytes | None) -> Change:
    key = "user" if document.path == names.ACCOUNTS_KEY else "address"
    old, new = _by_key(before or b"", key), _by_key(document.body, key)
    return Change(
        document.region,
        document.path,
        written=before != document.body,
        added=len(new.keys() - old.keys()),
        removed=len(old.keys() - new.keys()),
        changed=sum(old[name] != new[name] for name in old.keys() & new.keys()),
    )


def _by_key(body: bytes, key: str) -> dict[str, bytes]:
    return {json.loads(line)[key]: line for line in body.splitlines()}


def _merged(
    current: Mapping[tuple[str, str], Stored | None], path: str, read: Callable[[bytes], Mapping[str, Any]]
) -> dict[str, Any]:
    """What all regions say now. An interrupted run, or a region that was away, leaves them different; what was written
    last is believed."""
    found: dict[str, Any] = {}
    said = [(stored, region) for (region, name), stored in current.items() if name == path and stored]
    for stored, region in sorted(said, key=lambda item: -item[0].written):
        try:
            items = read(stored.body)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise PublishError(
                f"{region}: {path} in the control bucket is not a directory of ours; restore an earlier version"
            ) from None
        for item, value in items.items():
            found.setdefault(item, value)
    return found


def _overtaken(where: str) -> PublishError:
    return PublishError(f"{where}: somebody else published meanwhile; publish again")


def _gcloud_token() -> str:
    if shutil.which("gcloud") is None:
        raise PublishError("no Google credentials: install google-auth or gcloud, and log in")
    command = ["gcloud", "auth", "print-access-token"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
    if answer.returncode != 0:
        raise PublishError(f"gcloud auth print-access-token: {answer.stderr.strip()}")
    return answer.stdout.strip()
