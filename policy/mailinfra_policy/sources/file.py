"""A file of the engine's, recognised by what is in it."""

import json
from pathlib import Path

from mailinfra_policy import values
from mailinfra_policy.sources import preview, state
from mailinfra_policy.sources.loaded import Loaded, SourceError

TAKEN = "what `pulumi stack export` or `pulumi preview --json --show-sames` writes, or a stack's state file"


def load(path: Path) -> Loaded:
    """The resources in a file. Raises SourceError that names the file and what was found in it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}; allowed: {TAKEN}") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: found no JSON ({error}); allowed: {TAKEN}") from None
    if not isinstance(document, dict):
        raise SourceError(f"{path}: found {values.show(document, 60)}; allowed: {TAKEN}")
    if "steps" in document or "changeSummary" in document:
        read = preview.load
    elif "deployment" in document or "checkpoint" in document:
        read = state.load
    else:
        keys = ", ".join(map(repr, list(document)[:5])) or "nothing"
        raise SourceError(f"{path}: found an object with {keys}; allowed: {TAKEN}")
    try:
        return read(document)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from None
