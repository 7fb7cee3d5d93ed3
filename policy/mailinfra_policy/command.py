"""`mailinfra check`: the pack's rules on a program or a file, with no engine, no credentials and no network.

The program's interpreter is started first, and our own rules are imported while it begins: what is above the functions
here keeps it waiting.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mailinfra.errors import ConfigError, Problem
from mailinfra_policy.sources import process
from mailinfra_policy.sources.loaded import SourceError

if TYPE_CHECKING:
    from mailinfra_policy.formats.outcome import Outcome


@dataclass(frozen=True)
class Request:
    """What is to be checked. One of `stack` (in `project`), `program` and `file` at least; `settings` is `--config`."""

    stack: str = ""
    project: Path = Path()
    program: Path | None = None
    file: Path | None = None
    settings: Path | None = None


def check(request: Request, form: str = "text", report: Path | None = None, today: date | None = None) -> int:
    """Judges, prints, writes the report; the exit code: 0 clean, 1 findings, 2 it could not be judged."""
    try:
        with _runner(request) as running:
            from mailinfra_policy import checking
            from mailinfra_policy.formats import FORMATS

            if form not in FORMATS:
                raise ConfigError([Problem("--format", form, ", ".join(FORMATS))], "the command line")
            outcome = checking.outcome(request, running, today or datetime.now(UTC).date())
        if report is not None:
            checking.write(outcome, report)
    except (ConfigError, SourceError) as error:
        from mailinfra_policy.formats.outcome import NOT_JUDGED, safe

        text = "\n".join(safe(line) for line in str(error).splitlines())
        sys.stderr.write(f"mailinfra: {text}\n")
        return NOT_JUDGED
    sys.stdout.write(FORMATS[form](outcome))
    return outcome.exit_code


def judged(request: Request, today: date) -> "Outcome":
    """The outcome of a check. Raises ConfigError and SourceError where there can be none."""
    with _runner(request) as running:
        from mailinfra_policy import checking

        return checking.outcome(request, running, today)


@contextmanager
def _runner(request: Request) -> Iterator[process.Process | None]:
    """What is there to run the program; nothing for a file."""
    if request.program is not None and request.file is not None:
        raise ConfigError(
            [Problem("--file", str(request.file), "either --file or --program")], "the command line"
        )
    if request.file is not None:
        yield None
        return
    with process.started(request.program or request.project) as running:
        yield running
