"""Files laid over an image before a machine's first boot."""

import os
from pathlib import Path

import pytest

from mailinfra.sandbox import disks
from mailinfra.sandbox.disks import Overlay
from mailinfra.sandbox.model import MachineFile
from mailinfra.sandbox.paths import SandboxError


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    upper, top, base = (tmp_path / name for name in ("upper", "top", "base"))
    for folder in (
        upper,
        top / "etc",
        base / "etc",
        base / "usr/lib/systemd",
        base / "var/lib/secret",
        base / "run",
    ):
        folder.mkdir(parents=True)
    (base / "lib").symlink_to("usr/lib")
    (base / "var/run").symlink_to("/run")
    (base / "out").symlink_to("../../../../etc")
    (base / "loop").symlink_to("loop")
    (base / "var/lib/secret").chmod(0o711)
    (base / "etc/passwd").write_text(f"root:x:0:0::/:/\nme:x:{os.getuid()}:{os.getgid()}::/:/bin/sh\n")
    (base / "etc/both").write_text("base")
    (top / "etc/both").write_text("top")
    return Overlay(upper, (top, base))


def test_the_upper_layer_hides_the_lower_ones(overlay: Overlay) -> None:
    assert overlay.read("/etc/both") == b"top"
    overlay.write("/etc/both", MachineFile.text("mine", owner="me"))
    assert overlay.read("/etc/both") == b"mine"
    assert overlay.read("/etc/absent") is None


def test_folders_on_the_way_are_as_in_the_image(overlay: Overlay) -> None:
    overlay.write("/var/lib/secret/new/file", MachineFile.raw(b"\0\xff", 0o600, "me"))
    upper = overlay.upper
    assert (upper / "var/lib/secret/new/file").read_bytes() == b"\0\xff"
    assert oct((upper / "var/lib/secret/new/file").stat().st_mode & 0o7777) == "0o600"
    assert oct((upper / "var/lib/secret").stat().st_mode & 0o777) == "0o711"
    assert oct((upper / "var/lib/secret/new").stat().st_mode & 0o777) == "0o755"


def test_links_of_the_image_are_followed_inside_the_machine(overlay: Overlay) -> None:
    overlay.write("/lib/systemd/x", MachineFile.text("x", owner="me"))
    assert (overlay.upper / "usr/lib/systemd/x").read_text() == "x"
    assert not (overlay.upper / "lib").exists()
    overlay.write("/var/run/y", MachineFile.text("y", owner="me"))
    assert (overlay.upper / "run/y").read_text() == "y"
    overlay.write("/out/z", MachineFile.text("z", owner="me"))
    assert (overlay.upper / "etc/z").read_text() == "z"
    with pytest.raises(SandboxError, match="too many symbolic links"):
        overlay.write("/loop/a", MachineFile.text("", owner="me"))


def test_a_link_is_laid(overlay: Overlay) -> None:
    overlay.link("/etc/systemd/wants/unit", "/lib/unit")
    overlay.link("/etc/systemd/wants/unit", "/lib/other")
    assert (overlay.upper / "etc/systemd/wants/unit").readlink() == Path("/lib/other")


@pytest.mark.parametrize("path", ["relative", "/etc/../../x", ""])
def test_a_path_out_of_the_machine_is_refused(overlay: Overlay, path: str) -> None:
    with pytest.raises(SandboxError, match="allowed is an absolute path without"):
        overlay.write(path, MachineFile.text("", owner="me"))


def test_an_unknown_owner_is_refused(overlay: Overlay) -> None:
    with pytest.raises(SandboxError, match="its image has no user 'nobody-here'"):
        overlay.write("/etc/f", MachineFile.text("", owner="nobody-here"))


def test_volumes_are_files_or_folders_by_their_name_on_the_machine(tmp_path: Path) -> None:
    files = disks.volume_files({"vol-1": "/dev/sdf", "vol-2": "/srv/mail"}, tmp_path)
    assert files == {"vol-1": tmp_path / "vol-1.img", "vol-2": tmp_path / "vol-2"}
    disks.make_volume(files["vol-1"])
    assert files["vol-1"].stat().st_size == disks.VOLUME_BYTES
    assert files["vol-1"].stat().st_blocks * 512 < 1 << 20, "sparse"
    with files["vol-1"].open("r+b") as volume:
        volume.write(b"data")
    disks.make_volume(files["vol-1"])
    with files["vol-1"].open("rb") as volume:
        assert volume.read(4) == b"data", "a volume that exists is kept"
    disks.make_volume(files["vol-1"], disks.VOLUME_BYTES * 2)
    disks.make_volume(files["vol-1"], disks.VOLUME_BYTES)
    assert files["vol-1"].stat().st_size == disks.VOLUME_BYTES * 2, "a volume grows, and never shrinks"
    disks.make_volume(tmp_path / "small.img", 1 << 20)
    assert (tmp_path / "small.img").stat().st_size == 1 << 20


def test_a_disk_of_any_size_takes_little_room_on_the_host(tmp_path: Path) -> None:
    folder, image = tmp_path / "disk", tmp_path / "disk.img"
    (folder / "upper").mkdir(parents=True)
    (folder / "upper/file").write_text("x")
    disks.make_limited_disk(image, folder, 20 << 30)
    assert list(folder.iterdir()) == []
    assert image.stat().st_size == 20 << 30
    assert image.stat().st_blocks * 512 < 16 << 20


def test_a_tree_is_removed_and_one_with_a_mount_is_not(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    disks.remove_tree(tmp_path / "a")
    disks.remove_tree(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert Path("/proc") in disks.mounts_below(Path("/proc"))
    with pytest.raises(SandboxError, match="/proc cannot be removed: still mounted"):
        disks.remove_tree(Path("/proc"))
    assert disks.loops(tmp_path) == []


def test_a_copy_of_a_volume_is_whole_and_sparse(tmp_path: Path) -> None:
    source, target = tmp_path / "volume.img", tmp_path / "copy.img"
    disks.make_volume(source, 64 << 20)
    with source.open("r+b") as volume:
        volume.seek(32 << 20)
        volume.write(b"data")
    disks.copy_volume(source, target, 1)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20, "sparse"
    assert target.stat().st_mode & 0o777 == 0o600
    disks.copy_volume(tmp_path / "never-used.img", tmp_path / "empty.img", 1 << 20)
    assert (tmp_path / "empty.img").stat().st_size == 1 << 20


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SandboxError, match=r"`cp .*` failed"):
        disks.copy_volume(tmp_path / "folder", tmp_path / "copy.img", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
