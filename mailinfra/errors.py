"""Errors that a user can mend: each problem names its place, what was found there and what is allowed."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in the input.

    `path` is the config path (`regions[2].zone`), `found` what stood there, `allowed` what may stand there.
    """

    path: str
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.path}: found {self.found}; allowed: {self.allowed}"


class UserError(Exception):
    """What a user can mend. Its text is meant for them: the command line prints it, and no trace."""


class ConfigError(UserError, ValueError):
    """The input is refused. Carries every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem], where: str = "the fleet's config") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in {where}:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))
