"""The whole sandbox as `mailinfra sandbox up` makes it, once for all system tests that need it."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mailinfra.console import Steps
from mailinfra.sandbox import lifecycle
from mailinfra.sandbox.lifecycle import Sandbox
from mailinfra.sandbox.paths import Paths
from tests.sandbox_helpers import traces

PROJECT = Path(__file__).parents[2]
STACK = "sandbox"
UP_SECONDS = 1500
"""How long a test may take that is the first to need the fleet: images and engine may have to be made."""


def silent() -> Steps:
    """Steps that nobody sees."""
    return Steps(Console(file=io.StringIO()))


@pytest.fixture(scope="session")
def fleet_sandbox(
    machines_can_boot: None, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[Sandbox]:
    """The fleet of `stacks/Pulumi.sandbox.yaml`, running in a sandbox of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("fleet")))
        patch.setenv("XDG_CACHE_HOME", str(cache.parent))
        paths = Paths.of("fleet")
        try:
            yield lifecycle.up(paths, PROJECT, STACK, silent())
        finally:
            lifecycle.down(paths, silent())
    assert traces(paths) == []
