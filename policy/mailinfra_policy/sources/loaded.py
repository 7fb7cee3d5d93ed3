"""What a source gives: the resources, and what keeps them from being judged whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mailinfra_policy.resource import Stack


class SourceError(Exception):
    """Nothing can be judged. The message says what was found, and what the source takes."""


@dataclass(frozen=True, order=True)
class Gap:
    """Something that was not judged: which resource or call (with its line, where known), and why.

    A `blocking` gap may hide a violation of a rule, so that a run with one never ends well.
    """

    place: str
    reason: str
    blocking: bool = True


@dataclass(frozen=True)
class Loaded:
    """A stack as a source found it. `config` is the stack's own configuration, by full key, where the source has it."""

    stack: Stack
    gaps: tuple[Gap, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
