"""What can go wrong in a provider, in words that the person at `pulumi up` can act on."""

from typing import Any


class ProviderError(Exception):
    """A failure that the engine reports as one line: the operation, the code, the message."""


class Unfinished(ProviderError):  # noqa: N818 - what it says of the resource
    """The resource exists but its set-up failed: the engine keeps it and the next `up` goes on from there.

    `id` and `outputs` are what there is of it by now.
    """

    def __init__(self, reason: str, id: str, outputs: dict[str, Any]) -> None:
        super().__init__(reason)
        self.id = id
        self.outputs = outputs


class GuardError(ProviderError):
    """The provider was loaded where it must not be."""
