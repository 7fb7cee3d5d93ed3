"""The mirror that a stock machine installs from: an index of what is there, and nothing else."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from mailinfra.sandbox.debian import Repository
from mailinfra.sandbox.paths import SandboxError


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: one\nVersion: 1:2\nArchitecture: all\nMaintainer: A <a@example.test>\nDescription: x\n long\n"
    (tree / "DEBIAN/control").write_text(control)
    folder = tmp_path / "archives"
    folder.mkdir()
    subprocess.run(["dpkg-deb", "--build", str(tree), str(folder / "one_1%3a2_all.deb")], check=True)
    (folder / "lock").touch()
    return Repository(folder)


def test_the_index_names_every_package_with_its_digest(repository: Repository) -> None:
    file = repository.get("pool/one_1%3a2_all.deb")
    assert isinstance(file, Path)
    (path,) = [path for path in repository.indexes if path.endswith("Packages")]
    packages = repository.get(path)
    assert isinstance(packages, bytes)
    text = packages.decode()
    assert "Package: one\nVersion: 1:2\n" in text
    assert "Filename: pool/one_1%3a2_all.deb\n" in text
    assert f"SHA256: {hashlib.sha256(file.read_bytes()).hexdigest()}\n" in text
    release = repository.get("dists/bookworm/Release")
    assert isinstance(release, bytes)
    inside = path.removeprefix("dists/bookworm/")
    assert f" {hashlib.sha256(packages).hexdigest()} {len(packages)} {inside}\n" in release.decode()


@pytest.mark.parametrize(
    "path", ["", "pool/lock", "pool/../archives/one_1%3a2_all.deb", "pool/none.deb", "etc/passwd"]
)
def test_nothing_else_is_there(repository: Repository, path: str) -> None:
    assert repository.get(path) is None


def test_a_broken_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.deb").write_text("no package")
    with pytest.raises(SandboxError, match=r"bad\.deb"):
        Repository(tmp_path).get("dists/bookworm/Release")
