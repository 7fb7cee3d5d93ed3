"""Installs the sandbox's providers into the sandbox's own Pulumi home, where no other stack finds them."""

import importlib.metadata
import io
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mailinfra.sandbox.paths import Paths, SandboxError
from mailinfra.sandbox.providers.__main__ import CLOUDS
from mailinfra.sandbox.providers.guard import MARK


def pulumi_home(paths: Paths) -> Path:
    """The sandbox's PULUMI_HOME."""
    return paths.folder("pulumi")


def shim(cloud: str, python: str = sys.executable) -> bytes:
    """The plugin's executable: a script that becomes this Python environment's provider of the cloud."""
    command = f"exec {shlex.quote(python)} -m mailinfra.sandbox.providers {cloud}"
    return f'#!/bin/sh\n{command} "$@"\n'.encode()


def archive(cloud: str, target: Path, python: str = sys.executable) -> None:
    """Write the plugin as the archive that `pulumi plugin install --file` takes (reproducible)."""
    content = shim(cloud, python)
    with tarfile.open(target, "w:gz") as tar:
        member = tarfile.TarInfo(f"pulumi-resource-{cloud}")
        member.size = len(content)
        member.mode = 0o755
        tar.addfile(member, io.BytesIO(content))


def install(
    paths: Paths, pulumi: Path | str, environment: Mapping[str, str], clouds: Sequence[str] = CLOUDS
) -> dict[str, str]:
    """Mark the state root as a sandbox's and install each cloud's plugin in the version that the SDK asks for.

    What is installed already and the same is left alone. `environment` is the engine's (PATH and so on); its
    PULUMI_HOME is overridden. Returns the versions by cloud. Raises `SandboxError` with the engine's words.
    """
    (paths.folder(".") / MARK).touch()
    home = pulumi_home(paths)
    versions = {}
    for cloud in clouds:
        version = importlib.metadata.version(f"pulumi-{cloud}")
        versions[cloud] = version
        installed = home / "plugins" / f"resource-{cloud}-v{version}" / f"pulumi-resource-{cloud}"
        if installed.exists() and installed.read_bytes() == shim(cloud):
            continue
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / f"{cloud}.tgz"
            archive(cloud, package)
            done = subprocess.run(
                [
                    str(pulumi),
                    "plugin",
                    "install",
                    "resource",
                    cloud,
                    version,
                    "--file",
                    str(package),
                    "--reinstall",
                ],
                env={**environment, "PULUMI_HOME": str(home)},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise SandboxError(
                f"the {cloud} provider could not be installed: {done.stderr.strip() or done.stdout.strip()}"
            )
    return versions
