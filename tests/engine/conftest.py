"""A ready engine for the tests that run the real one."""

import os
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailinfra.sandbox.engine import Engine, console, ensure_engine
from tests.recorded import RecordedSandbox, recorded


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The installed or cached engine; built at the first use on a machine, which takes minutes."""
    progress, interval = console(sys.stderr)
    return ensure_engine(progress, interval=interval)


@pytest.fixture(scope="session")
def recorded_sandbox(engine: Engine) -> Iterator[RecordedSandbox]:
    """The sandbox's clouds, its servers recorded; nothing of it is left at the end."""
    with recorded(engine) as sandbox:
        yield sandbox


@pytest.fixture
def engine_env(engine: Engine, tmp_path: Path) -> dict[str, str]:
    """The environment for runs of the engine with a Pulumi home and a state of this test's own."""
    state = tmp_path / "state"
    state.mkdir()
    return engine.env(tmp_path / "home", state)


@pytest.fixture
def venv_dir(tmp_path: Path) -> Path:
    """A virtual environment of this test's own, into which the packages of the tests' own are linked."""
    folder = tmp_path / "venv"
    venv.create(folder, symlinks=True, with_pip=False)
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    # addsitedir also reads that folder's own .pth files, which editable installs need.
    (packages / "tests.pth").write_text(
        f"import site; site.addsitedir({os.fspath(sysconfig.get_path('purelib'))!r})\n"
    )
    return folder
