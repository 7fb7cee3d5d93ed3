"""The plugins' executables and their installation."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.providers.guard import MARK
from mailinfra.sandbox.providers.install import archive, install, pulumi_home, shim


def test_the_archive_holds_one_executable_and_is_reproducible(tmp_path: Path):
    archive("aws", tmp_path / "a.tgz", python="/opt/my python/bin/python")
    with tarfile.open(tmp_path / "a.tgz") as tar:
        (member,) = tar.getmembers()
        assert (member.name, member.mode) == ("pulumi-resource-aws", 0o755)
        content = tar.extractfile(member)
        assert content is not None
        assert b"'/opt/my python/bin/python' -m mailinfra.sandbox.providers aws" in content.read()


def test_the_shim_runs(tmp_path: Path):
    path = tmp_path / "pulumi-resource-aws"
    path.write_bytes(shim("aws"))
    done = subprocess.run(
        ["sh", str(path), "127.0.0.1:1"], capture_output=True, text=True, env={"HOME": "/"}, check=False
    )
    assert done.returncode == 1 and "MAILINFRA_SANDBOX is not set" in done.stderr


FAKE_ENGINE = """#!{python}
import os, pathlib, sys, tarfile
_, plugin, command, kind, name, version, _, path, _ = sys.argv
folder = pathlib.Path(os.environ["PULUMI_HOME"]) / "plugins" / f"{{kind}}-{{name}}-v{{version}}"
folder.mkdir(parents=True, exist_ok=True)
tarfile.open(path).extractall(folder, filter="data")
with open(os.environ["LOG"], "a") as log:
    log.write(f"{{name}}\\n")
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "pulumi"
    path.write_text(FAKE_ENGINE.format(python=sys.executable))
    path.chmod(0o755)
    return path


def test_what_is_installed_and_the_same_is_left_alone(tmp_path: Path, engine: Path):
    paths = Paths("t", tmp_path / "state", tmp_path / "cache")
    environment = {"LOG": str(tmp_path / "log"), "PULUMI_HOME": "/elsewhere"}
    versions = install(paths, engine, environment, ["aws", "gcp"])
    assert versions["aws"] == "7.51.1"
    assert (paths.state / MARK).is_file()
    plugin = pulumi_home(paths) / "plugins" / "resource-aws-v7.51.1" / "pulumi-resource-aws"
    assert plugin.read_bytes() == shim("aws")
    install(paths, engine, environment, ["aws", "gcp"])
    plugin.write_text("old")
    install(paths, engine, environment, ["aws", "gcp"])
    assert (tmp_path / "log").read_text().split() == ["aws", "gcp", "aws"]


def test_an_engine_that_refuses_is_quoted(tmp_path: Path):
    engine = tmp_path / "pulumi"
    engine.write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    engine.chmod(0o755)
    paths = Paths("t", tmp_path / "state", tmp_path / "cache")
    with pytest.raises(SandboxError, match="the aws provider could not be installed: no space left"):
        install(paths, engine, {}, ["aws"])
