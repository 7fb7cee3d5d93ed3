"""How a check's outcome is written: for a person, for a program, for a code scanner, for a test report."""

from collections.abc import Callable, Mapping

from mailinfra_policy.formats import document, junit, sarif, text
from mailinfra_policy.formats.outcome import Outcome

FORMATS: Mapping[str, Callable[[Outcome], str]] = {
    "text": text.render,
    "json": document.render,
    "sarif": sarif.render,
    "junit": junit.render,
}
"""Each form by its name on the command line."""
