"""What a person sees while something long goes on: one line for each step, with its time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

Progress = Callable[[str], None]
"""Told what a step is doing now."""
QUIET_SECONDS = 15.0
"""Where output is not a terminal: seconds between two lines of a step that takes long."""


class Steps:
    """Prints steps as they go: a spinner on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.started = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        """One step. The progress that it gives is told what happens meanwhile; failing leaves a ✗."""
        begun = time.monotonic()
        spoke = begun
        if not self.console.is_terminal:
            self.console.print(f"  {escape(title)} …")
        with self.console.status(escape(title)) as status:

            def progress(message: str) -> None:
                nonlocal spoke
                now = time.monotonic()
                status.update(f"{escape(title)} [dim]{escape(message)}[/dim]")
                if not self.console.is_terminal and now - spoke >= QUIET_SECONDS:
                    spoke = now
                    self.console.print(f"    {now - begun:5.0f} s  {escape(message)}")

            try:
                yield progress
            except BaseException:
                self.console.print(
                    f"[red]✗[/red] {escape(title)}  [dim]{time.monotonic() - begun:.1f} s[/dim]"
                )
                raise
        self.console.print(f"[green]✓[/green] {escape(title)}  [dim]{time.monotonic() - begun:.1f} s[/dim]")

    def say(self, message: str) -> None:
        """A line between steps."""
        self.console.print(escape(message))

    @property
    def seconds(self) -> float:
        """Seconds since the first step began."""
        return time.monotonic() - self.started
