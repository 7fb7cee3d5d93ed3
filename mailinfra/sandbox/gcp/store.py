"""Where the sandbox's Google Cloud keeps its resources: JSON documents in one SQLite file that survives crashes."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def now() -> datetime:
    """The present time, aware."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as Google writes it; sorts as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_timestamp(text: str) -> datetime:
    """The reverse of `timestamp`; takes any RFC 3339 text. Raises ValueError."""
    return datetime.fromisoformat(text)


class Store:
    """Documents by kind and name. Safe to use from threads; `transaction` makes several steps one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._depth = 0
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS document "
            "(kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID"
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing; other threads wait."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth > 1:
                    yield
                    return
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            finally:
                self._depth -= 1

    def get(self, kind: str, name: str) -> Document | None:
        """The document, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT body FROM document WHERE kind = ? AND name = ?", (kind, name)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, kind: str, name: str, body: Document) -> None:
        """Writes the document, over one that is there."""
        with self._lock:
            self._db.execute("REPLACE INTO document VALUES (?, ?, ?)", (kind, name, json.dumps(body)))

    def delete(self, kind: str, name: str) -> None:
        """Removes the document; one that is gone already is fine."""
        with self._lock:
            self._db.execute("DELETE FROM document WHERE kind = ? AND name = ?", (kind, name))

    def list(self, kind: str, prefix: str = "") -> list[tuple[str, Document]]:
        """Names and documents whose name begins with `prefix`, in order of the names' UTF-8 octets."""
        with self._lock:
            rows = self._db.execute(
                "SELECT name, body FROM document WHERE kind = ? AND name >= ? AND substr(name, 1, ?) = ? ORDER BY name",
                (kind, prefix, len(prefix), prefix),
            ).fetchall()
        return [(name, json.loads(body)) for name, body in rows]

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()
