"""Remembers what was made until the engine shows that it knows: so an `up` that was cut off loses nothing.

When a plugin or the engine dies between the cloud's answer and the engine's note of it, the resource exists
and no state names it; the next `up` would make it twice, or clash with its name. The journal holds each new
resource until the engine first asks about its id, or has ended well. A create of the same resource takes it up instead.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from mailinfra.sandbox.providers.values import Object


class Journal:
    """New resources of one cloud, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, urn: str) -> Path:
        return self._folder / f"{hashlib.sha256(urn.encode()).hexdigest()[:32]}.json"

    def note(self, urn: str, identifier: str, inputs: Object) -> None:
        """A resource was made from these inputs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(urn)
        # What dies is this process, not the host: a rename is enough, no fsync for every resource of a fleet.
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({"urn": urn, "id": identifier, "inputs": inputs}))
        temporary.replace(path)

    def known(self, urn: str, identifier: str) -> None:
        """The engine names the resource by its id, so its state has it."""
        if self._load(urn).get("id") == identifier:
            self._path(urn).unlink(missing_ok=True)

    def orphan(self, urn: str) -> tuple[str, Object] | tuple[None, Object]:
        """The id of a resource that the engine never named, and the inputs that it was made from."""
        entry = self._load(urn)
        return (str(entry["id"]), entry["inputs"]) if entry else (None, {})

    def _load(self, urn: str) -> Object:
        with suppress(FileNotFoundError):
            entry: Object = json.loads(self._path(urn).read_text())
            return entry
        return {}


def settle(folder: Path, stack: str) -> None:
    """Forget what was noted for a stack in the journals of all clouds, which are below `folder`: its engine has ended
    well, so the state has it. Else what stays in a cloud when it leaves the stack, and was not seen since it was made,
    would be taken up again.
    """
    for path in folder.glob("*/*.json"):
        if json.loads(path.read_text())["urn"].startswith(f"urn:pulumi:{stack}::"):
            path.unlink()
