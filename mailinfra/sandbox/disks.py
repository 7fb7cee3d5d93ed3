"""What machines keep: the writable layer over the image, and volumes that outlive the machine."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mailinfra.sandbox.model import MachineFile
from mailinfra.sandbox.paths import SandboxError

VOLUME_BYTES = 4 << 30
"""Size of a volume's block device where none was asked for. Sparse: only what is written takes room."""
_SYMLINKS_LIMIT = 40


@dataclass(frozen=True)
class Overlay:
    """A machine's writable layer before it is mounted: plain files in `upper`, shown over `layers`
    (uppermost first).

    Folders made on the way take owner and mode from the image, symbolic links of the image are followed.
    """

    upper: Path
    layers: tuple[Path, ...]

    def write(self, path: str, file: MachineFile) -> None:
        """Lay a file at an absolute path. Raises `SandboxError` for an owner whom the image does not know."""
        target = self._place(path)
        target.unlink(missing_ok=True)
        target.write_bytes(file.data())
        user, group = self._owner(file.owner, path)
        os.chown(target, user, group)
        target.chmod(file.mode)

    def link(self, path: str, to: str) -> None:
        """Lay a symbolic link at an absolute path."""
        target = self._place(path)
        target.unlink(missing_ok=True)
        target.symlink_to(to)

    def read(self, path: str) -> bytes | None:
        """What the machine would find there; None if nothing."""
        inside = self._resolve(PurePosixPath(path))
        found = self._find(inside)
        return found.read_bytes() if found is not None and found.is_file() else None

    def _place(self, path: str) -> Path:
        pure = PurePosixPath(path)
        if not pure.is_absolute() or ".." in pure.parts:
            raise SandboxError(f"file {path!r} of a machine: allowed is an absolute path without '..'")
        inside = self._resolve(pure.parent)
        for folder in [*reversed(inside.parents), inside]:
            here = self.upper / folder.relative_to("/")
            if here.is_dir():
                continue
            below = self._find(folder)
            here.mkdir()
            if below is not None:
                status = below.stat()
                os.chown(here, status.st_uid, status.st_gid)
                here.chmod(stat.S_IMODE(status.st_mode))
            else:
                here.chmod(0o755)
        return self.upper / inside.relative_to("/") / pure.name

    def _find(self, inside: PurePosixPath) -> Path | None:
        for layer in (self.upper, *self.layers):
            path = layer / inside.relative_to("/")
            if path.is_symlink() or path.exists():
                return path
        return None

    def _resolve(self, path: PurePosixPath) -> PurePosixPath:
        """The path with the image's symbolic links followed, never out of the machine."""
        done = PurePosixPath("/")
        todo = list(path.parts[1:])
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                done = done.parent
                continue
            found = self._find(done / part)
            if found is None or not found.is_symlink():
                done /= part
                continue
            links += 1
            if links > _SYMLINKS_LIMIT:
                raise SandboxError(f"{path}: too many symbolic links in the image")
            target = PurePosixPath(found.readlink())
            if target.is_absolute():
                done = PurePosixPath("/")
                todo = [*target.parts[1:], *todo]
            else:
                todo = [*target.parts, *todo]
        return done

    def _owner(self, name: str, path: str) -> tuple[int, int]:
        if name == "root":
            return 0, 0
        for line in (self.read("/etc/passwd") or b"").decode().splitlines():
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2]), int(fields[3])
        raise SandboxError(f"file {path!r} of a machine: its image has no user {name!r}")


def make_limited_disk(image: Path, folder: Path, size: int) -> None:
    """Move what lies in `folder` into a file system of `size` bytes in the file `image`; `folder` is empty
    then.
    """
    _sparse(image, size)
    # A power cut of a machine is no crash of the host, so the file system is always left whole: no journal, which
    # would be written twice, here and in the host's. All is initialised now, by holes, not by writes later.
    options = ["-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0"]
    _command(["mkfs.ext4", "-q", "-F", *options, "-d", str(folder), str(image)])
    shutil.rmtree(folder)
    folder.mkdir()


def make_volume(file: Path, size: int = VOLUME_BYTES) -> None:
    """An empty volume (a sparse file without a file system). One that exists keeps what it holds, for a volume
    outlives machines; it grows to `size` bytes, and never shrinks.
    """
    if not file.exists():
        _sparse(file, size)
    elif file.stat().st_size < size:
        os.truncate(file, size)
        for device in loops(file):
            _command(["losetup", "--set-capacity", str(device)])


def copy_volume(source: Path, target: Path, size: int) -> None:
    """Copy a volume's file as it is at one moment to `target`, whole or not at all; holes stay holes. One that was
    never used has no file: its copy is empty, of `size` bytes.

    While it is copied the file system on it stands still: who writes there waits. What a program had not yet given to
    the kernel is not in the copy, as in no cloud's snapshot.
    """
    draft = target.with_name(f"{target.name}.part")
    try:
        if source.exists():
            with frozen(source):
                _command(
                    ["cp", "--reflink=auto", "--sparse=auto", "--no-preserve=all", str(source), str(draft)]
                )
        else:
            _sparse(draft, size)
        draft.chmod(0o600)
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)


_STILL = """
cd "$1"
fsfreeze --freeze .
echo frozen
cat > /dev/null || true
fsfreeze --unfreeze .
"""
"""Holds a file system still until its input ends. A process of its own: whatever becomes of us, it lets go."""


@contextmanager
def frozen(file: Path) -> Iterator[None]:
    """Hold the file system on a volume still, wherever it is mounted; nothing is done where it is not mounted at all.

    The kernel writes out all that it holds back and lets nobody write: a copy of the volume is then one moment's, and
    needs no repair (fsfreeze(8)). Raises `SandboxError` when that cannot be done.
    """
    point = _mount_point(loops(file))
    if point is None:
        yield
        return
    holder = subprocess.Popen(
        ["sh", "-euc", _STILL, "sh", str(point)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    with holder:
        if holder.stdin is None or holder.stdout is None or holder.stderr is None:
            raise RuntimeError("pipes were asked for")
        if not holder.stdout.readline():
            raise SandboxError(f"{file.name} cannot be held still: {holder.stderr.read().decode().strip()}")
        try:
            yield
        finally:
            holder.stdin.close()
            if holder.wait() != 0:
                raise SandboxError(f"{file.name} stands still: {holder.stderr.read().decode().strip()}")


def _mount_point(devices: list[Path]) -> Path | None:
    """Where a file system on one of the devices is mounted, in whatever mount namespace, as a path of ours."""
    numbers = {f"{os.major(n)}:{os.minor(n)}" for n in (device.stat().st_rdev for device in devices)}
    seen = set()
    for entry in Path("/proc").glob("[0-9]*") if numbers else ():
        try:
            namespace = (entry / "ns" / "mnt").readlink()
            if namespace in seen:
                continue
            lines = (entry / "mountinfo").read_text().splitlines()
        except OSError:
            continue  # it has just ended
        for fields in (line.split() for line in lines):
            if fields[2] in numbers:
                point = fields[4].encode().decode("unicode_escape")
                return entry / "root" / point.lstrip("/")
        seen.add(namespace)
    return None


def attach_loop(file: Path) -> Path:
    """The block device of a volume's file, made if need be."""
    present = loops(file)
    if present:
        return present[0]
    return Path(_command(["losetup", "--find", "--show", str(file)]).strip())


def loops(where: Path) -> list[Path]:
    """The loop devices whose file is `where` or lies below it."""
    found = []
    for entry in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        # The kernel marks a removed file with a suffix.
        backing = Path(entry.read_text().strip().removesuffix(" (deleted)"))
        if backing == where or where in backing.parents:
            found.append(Path("/dev") / entry.parts[3])
    return found


def detach_loops(where: Path) -> None:
    """Let go of the loop devices of a file, or of all files below a folder."""
    for device in loops(where):
        _command(["losetup", "--detach", str(device)])


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours. Raises `SandboxError` when something is mounted in it: nothing of that is
    touched.
    """
    mounts = mounts_below(folder)
    if mounts:
        raise SandboxError(f"{folder} cannot be removed: still mounted there: {', '.join(map(str, mounts))}")

    def failed(function: Callable[..., object], path: str, error: Any) -> None:
        # What a process that is just ending takes away itself is gone as well.
        if not isinstance(error[1], FileNotFoundError):
            raise SandboxError(f"{path} cannot be removed: {error[1]}") from error[1]

    if folder.exists():
        shutil.rmtree(folder, onerror=failed)


def mounts_below(folder: Path) -> list[Path]:
    """Mount points at or below a folder, in the caller's mount namespace."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if point == folder or folder in point.parents:
            found.append(point)
    return found


def volume_files(volumes: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Where each volume's content lies on the host, by the volume's cloud id."""
    return {
        volume: folder / (f"{volume}.img" if name.startswith("/dev/") else volume)
        for volume, name in volumes.items()
    }


def _sparse(file: Path, size: int) -> None:
    with file.open("wb") as made:
        made.truncate(size)
    file.chmod(0o600)


def _command(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout
