"""What the system tests share: sandboxes of their own beside the user's, torn down to nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailinfra.sandbox import setup
from mailinfra.sandbox.paths import Paths
from tests.sandbox_helpers import Sandbox, machines
from tests.system.fleet import fleet_sandbox  # noqa: F401 - a fixture: one for the whole session


@pytest.fixture(scope="session")
def machines_can_boot() -> None:
    """Skip where no machine can ever be booted; fail where only something is missing."""
    if reasons := setup.obstacles():
        pytest.skip("; ".join(reasons))
    ready = setup.ensure(lambda _: None)
    assert ready.machines, ready.obstacles


@pytest.fixture(scope="session")
def cache() -> Path:
    """The user's own cache: the images are made once."""
    return Paths.of().cache


@pytest.fixture(scope="module")
def sandbox(
    machines_can_boot: None, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[Sandbox]:
    """A sandbox without the clouds' APIs and without machines."""
    with machines("system", (), tmp_path_factory.mktemp("state"), cache) as found:
        yield found


FLEET_FIRST = (
    "test_probe.py",
    "test_backup.py",
    "test_failover.py",
    "test_full_disk.py",
    "test_lifecycle.py",
)
"""The modules that share one fleet, the gentle before the rough: an AWS that loses all gives servers other addresses,
and resolvers keep the old ones for as long as the records' TTL says, as they would anywhere."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the modules that share the fleet in their order, behind the others."""
    order = {name: index for index, name in enumerate(FLEET_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, -1))
