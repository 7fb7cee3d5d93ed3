"""Property values as rules see them: plain Python data in which what is not known yet is `UNKNOWN`.

Comparing or testing `UNKNOWN` never raises and never equals anything else, so a rule cannot pass by accident: the
helpers of `mailinfra_policy.expect` turn it into a finding of its own.
"""

import json
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any, Final


class Unknown(Enum):
    """A value that only the update will know."""

    UNKNOWN = "not known before the update"

    def __bool__(self) -> bool:
        raise TypeError("a value that is not known was used as a condition; ask `is UNKNOWN` first")

    def __str__(self) -> str:
        return self.value


UNKNOWN: Final = Unknown.UNKNOWN

Value = Any
"""None, bool, int, float, str, list, dict with str keys, or `UNKNOWN` at any depth."""

# sdk/go/common/resource/plugin/rpc.go: how the engine writes an unknown string, number, …
_SENTINELS = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
# sdk/go/common/resource/sig/sig.go: what marks a dict as something else than a dict.
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 (a type's mark)
_OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_ASSET = "c44067f5952c0a294b673a41bacd8c17"
_RESOURCE = "5cf8f73096256a8f31e491e813e4eb8e"


def plain(value: Value) -> Value:
    """A value of the engine's wire or of a state file as rules see it.

    Secrets are opened where the text is at hand and `UNKNOWN` where only the cipher is; an asset becomes its text
    (`UNKNOWN` for files and addresses: their content is not part of the inputs); whole numbers become int.
    """
    if isinstance(value, str):
        return UNKNOWN if value in _SENTINELS else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return (
            _marked(value) if _SIGNATURE in value else {str(key): plain(item) for key, item in value.items()}
        )
    return value


def secret(value: Value) -> bool:
    """Whether a value of the wire or of a state file is a secret, or holds one at any depth."""
    if isinstance(value, Mapping):
        return value.get(_SIGNATURE) == _SECRET or any(secret(item) for item in value.values())
    return isinstance(value, list | tuple) and any(secret(item) for item in value)


def _marked(value: Mapping[str, Value]) -> Value:
    mark = value[_SIGNATURE]
    if mark == _SECRET:
        if "value" in value:
            return plain(value["value"])
        return plain(json.loads(value["plaintext"])) if "plaintext" in value else UNKNOWN
    if mark == _OUTPUT:
        return plain(value["value"]) if "value" in value else UNKNOWN
    if mark == _ASSET:
        return value.get("text", UNKNOWN)
    if mark == _RESOURCE:
        return value.get("urn", UNKNOWN)
    return UNKNOWN


_STEP = re.compile(r'\[(\d+|\*)\]|\["([^"]+)"\]|\.?([^.\[\]]+)')


@cache
def steps(path: str) -> tuple[str | int | None, ...]:
    """A path taken apart: `a.b[0].c` is ("a", "b", 0, "c"); `[*]` is None, `tags["x.y"]` quotes a key with dots."""
    found: list[str | int | None] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f"not a property path: {path!r}")
        index, quoted, name = match.groups()
        found.append((None if index == "*" else int(index)) if index else quoted or name)
        position = match.end()
    return tuple(found)


def each(value: Value, path: str) -> Iterator[tuple[str, Value]]:
    """Every value at a path that may hold `[*]`, with its concrete path.

    What is not there gives None at the path, an empty list under `[*]` gives nothing, and whatever lies below
    something unknown is `UNKNOWN`.
    """
    return _walk(value, steps(path), "")


def _walk(value: Value, steps: tuple[str | int | None, ...], at: str) -> Iterator[tuple[str, Value]]:
    if not steps:
        yield at, value
        return
    step, rest = steps[0], steps[1:]
    if value is UNKNOWN:
        yield join(at, "*" if step is None else step), UNKNOWN
        return
    if step is None:
        for index, item in enumerate(value if isinstance(value, list) else []):
            yield from _walk(item, rest, join(at, index))
        return
    inner = None
    if isinstance(step, int):
        inner = value[step] if isinstance(value, list) and step < len(value) else None
    elif isinstance(value, Mapping):
        inner = value.get(step)
    yield from _walk(inner, rest, join(at, step))


def texts(value: Value, at: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a value, at any depth, with its concrete path."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(item, join(at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, join(at, index))


def join(path: str, step: str | int) -> str:
    """A path one step longer: `join("a", 0)` is `a[0]`, `join("a", "b")` is `a.b`."""
    if isinstance(step, int) or step == "*":
        return f"{path}[{step}]"
    if not re.fullmatch(r"[^.\[\]]+", step):
        return f'{path}["{step}"]'
    return f"{path}.{step}" if path else step


def get(value: Value, path: str) -> Value:
    """The value at a path without `[*]`: None where nothing is, `UNKNOWN` at or below something unknown."""
    return next(each(value, path))[1]


def known(value: Value) -> bool:
    """Whether nothing in the value, at any depth, is unknown."""
    if isinstance(value, Mapping):
        return all(known(item) for item in value.values())
    if isinstance(value, list):
        return all(known(item) for item in value)
    return value is not UNKNOWN


def show(value: Value, limit: int = 160) -> str:
    """A value for a message: JSON, cut to `limit` characters; nothing at all is "nothing"."""
    if value is None:
        return "nothing"
    if value is UNKNOWN:
        return str(UNKNOWN)
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def document(value: Value) -> Value:
    """The JSON document in a string property (a policy, a container definition): `UNKNOWN` stays `UNKNOWN`.

    Raises ValueError where a string is no JSON.
    """
    return plain(json.loads(value)) if isinstance(value, str) else value
