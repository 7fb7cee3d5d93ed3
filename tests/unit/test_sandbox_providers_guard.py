"""The locks between the sandbox's providers and real stacks."""

from pathlib import Path

import pytest

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.__main__ import main
from mailinfra.sandbox.providers.errors import GuardError
from mailinfra.sandbox.providers.guard import MARK, VARIABLE, require_sandbox_backend, sandbox_paths


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / MARK).touch()
    return tmp_path


def test_a_plugin_finds_its_sandbox(root: Path):
    paths = sandbox_paths({VARIABLE: str(root)})
    assert (paths.state, paths.name) == (root, root.name)


def test_no_sandbox_named():
    with pytest.raises(GuardError, match=f"{VARIABLE} is not set"):
        sandbox_paths({})


@pytest.mark.parametrize("value", ["relative", "/nowhere"])
def test_a_folder_that_is_no_sandbox(value: str):
    with pytest.raises(GuardError, match=f"{VARIABLE}={value}: found no sandbox"):
        sandbox_paths({VARIABLE: value})


def test_state_inside_the_sandbox_is_let_in(root: Path):
    paths = Paths("t", root, root / "cache")
    require_sandbox_backend(paths, {"PULUMI_BACKEND_URL": f"file://{root}/stacks"})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://api.pulumi.com",
        "s3://bucket",
        "file:///tmp",
        "file://~",
        "file://{root}/../x",
        "file://{root}x",
    ],
)
def test_state_elsewhere_is_refused(root: Path, url: str):
    paths = Paths("t", root, root / "cache")
    with pytest.raises(GuardError, match="must not run on the sandbox's providers"):
        require_sandbox_backend(paths, {"PULUMI_BACKEND_URL": url.format(root=root)})


def test_the_process_refuses_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main(["aws", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["azure"]) == 1
    assert "found azure; allowed: aws, gcp, cloudflare" in capsys.readouterr().err
