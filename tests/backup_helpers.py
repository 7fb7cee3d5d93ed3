"""A vault in memory, restic where there is one, and a node whose mail lies in a folder."""

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailinfra.node.agent.bucket import BucketError, ExistsError
from mailinfra.node.backup.access import Access, AccessError
from mailinfra.node.backup.vault import Vault, from_json
from mailinfra.sandbox import rootfs
from mailinfra.sandbox.paths import Paths

USER = "anna@example.test"
VAULT: dict[str, Any] = {
    "cloud": "gcp",
    "region": "europe-west3",
    "bucket": "vault-eu",
    "key": "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/vault",
    "access": {
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/a"
    },
    "endpoints": {"storage": "", "kms": "", "sts": ""},
    "rpo_minutes": 15,
    "retention_days": 35,
    "verify_hours": 24,
}


def vault(**changes: Any) -> Vault:
    """A vault as the components would tell of it."""
    return from_json({**VAULT, **changes})


def restic_binary() -> Path | None:
    """restic: the host's, or the one of the machines' image."""
    if found := shutil.which("restic"):
        return Path(found)
    layers = rootfs.cached("node", Paths.of().cache) or ()
    return next((path for layer in layers if (path := layer / "usr/bin/restic").is_file()), None)


@pytest.fixture
def restic_program(monkeypatch: pytest.MonkeyPatch) -> str:
    """restic for the code under test; skips where there is none."""
    program = restic_binary()
    if program is None:
        pytest.skip("neither this host nor the machines' image has restic")
    monkeypatch.setattr("mailinfra.node.backup.restic.RESTIC", str(program))
    return str(program)


@dataclass
class MemoryArchive:
    """A locked bucket in memory. While `status` is set it refuses everything with it."""

    objects: dict[str, bytes] = field(default_factory=dict)
    status: int | None = None
    calls: list[str] = field(default_factory=list)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.status is not None:
            raise BucketError("refused for the test", self.status)

    def create(self, key: str, data: bytes) -> None:
        """See `Archive.create`."""
        self._call(f"create {key}")
        if key in self.objects:
            raise ExistsError(key)
        self.objects[key] = data

    def read(self, key: str, first: int = 0, last: int | None = None) -> bytes:
        """See `Archive.read`."""
        self._call(f"read {key}")
        return self.objects[key][first : None if last is None else last + 1]

    def size(self, key: str) -> int:
        """See `Archive.size`."""
        self._call(f"size {key}")
        return len(self.objects[key])

    def sizes(self, prefix: str) -> dict[str, int]:
        """See `Archive.sizes`."""
        self._call(f"sizes {prefix}")
        return {key: len(data) for key, data in self.objects.items() if key.startswith(prefix)}

    def folders(self, prefix: str) -> list[str]:
        """See `Archive.folders`."""
        self._call(f"folders {prefix}")
        rests = [key[len(prefix) :] for key in self.objects if key.startswith(prefix)]
        return sorted({rest.partition("/")[0] for rest in rests if "/" in rest})


@dataclass
class MemoryVault:
    """A vault in memory: its bucket and its key."""

    bucket: MemoryArchive = field(default_factory=MemoryArchive)
    key_works: bool = True

    def _sealed(self, data: bytes, name: str) -> bytes:
        if not self.key_works:
            raise AccessError("the vault's key: KMSInvalidStateException: pending deletion")
        return bytes(byte ^ 0x5A for byte in data) + b"|" + name.encode()

    def _opened(self, data: bytes, name: str) -> bytes:
        sealed, _, bound = data.rpartition(b"|")
        if bound != name.encode() or not self.key_works:
            raise AccessError("the vault's key: it was not sealed for this name")
        return bytes(byte ^ 0x5A for byte in sealed)

    @property
    def access(self) -> Access:
        """As the backup uses it."""
        return Access(self.bucket, self._sealed, self._opened)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def ahead(self, **much: float) -> None:
        """Set it forward (or back)."""
        self.now += timedelta(**much)


def route(address: str, host: str, **more: str) -> str:
    """A user's line in `routes.jsonl`."""
    line = {"address": address, "kind": "user", "user": address, "zone": "eu", "mailbox_host": host, **more}
    return json.dumps(line) + "\n"


def deliver(mail: Path, address: str, number: int, folder: str = "", text: str = "") -> Path:
    """A message in a user's maildir."""
    local, _, domain = address.partition("@")
    box = mail / domain / local / "Maildir" / folder
    (box / "cur").mkdir(parents=True, exist_ok=True)
    path = box / "cur" / f"17954492{number:02}.M{number}P1.store-1,S=48,W=53:2,S"
    path.write_text(f"From: a@b.test\nMessage-ID: <m{number}@x>\nSubject: {number}\n\n{text or number}\n")
    return path
