"""What the sandbox needs of the host: looked for, installed where that is possible, named where it is not."""

import ctypes.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mailinfra.sandbox.machine import cgroup_roots
from mailinfra.sandbox.paths import Paths, SandboxError

_SOFTHSM = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


INOTIFY_INSTANCES = 4096


@dataclass(frozen=True)
class Need:
    """A thing that must be on the host: how to see it, the Debian package that has it, what it is needed
    for.
    """

    name: str
    package: str
    present: Callable[[], bool]
    machines: bool
    """Whether only booting machines needs it."""


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def _softhsm() -> bool:
    wanted = os.environ.get("SOFTHSM2_MODULE")
    places = (wanted,) if wanted else _SOFTHSM
    return any(Path(place).is_file() for place in places) or ctypes.util.find_library("softhsm2") is not None


NEEDS = (
    Need("the SoftHSM library", "libsofthsm2", _softhsm, machines=False),
    Need("mmdebstrap", "mmdebstrap", _program("mmdebstrap"), machines=True),
    Need("systemd-nspawn", "systemd-container", _program("systemd-nspawn"), machines=True),
    Need("ip", "iproute2", _program("ip"), machines=True),
    Need("nsenter", "util-linux", _program("nsenter"), machines=True),
    Need("losetup", "mount", _program("losetup"), machines=True),
    Need("mkfs.ext4", "e2fsprogs", _program("mkfs.ext4"), machines=True),
)


@dataclass(frozen=True)
class Readiness:
    """What the host can do. `obstacles` says, one line each, why machines cannot be booted; empty when they
    can.
    """

    obstacles: tuple[str, ...]

    @property
    def machines(self) -> bool:
        """Whether machines can be booted."""
        return not self.obstacles


def obstacles() -> list[str]:
    """Why no machine can ever be booted here, whatever is installed."""
    found = []
    if platform.system() != "Linux":
        return [f"machines need Linux; this is {platform.system()}"]
    if os.geteuid() != 0:
        found.append("machines need root: network namespaces, mounts and control groups; run `up` as root")
        return found
    if "overlay" not in Path("/proc/filesystems").read_text() and not _loads("overlay"):
        found.append("machines need overlayfs, which this kernel has not")
    if not _succeeds("unshare", "--mount", "--net", "--pid", "--fork", "true"):
        found.append(
            "machines need namespaces of their own, which this host refuses (an unprivileged container?)"
        )
    if not Path("/run/systemd/system").is_dir() and not any(
        os.access(root, os.W_OK) for root in cgroup_roots()
    ):
        found.append(
            "machines need control groups, which cannot be written here (an unprivileged container?)"
        )
    state = Paths.of().state
    if file_system(state) == "overlay":
        found.append(
            f"machines need a state root that is not on overlayfs, as {state} is; set XDG_STATE_HOME"
        )
    return found


def file_system(path: Path) -> str:
    """The type of the file system that a path is on, or would be on once it is made."""
    kind, best = "", -1
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = Path(left.split()[4].encode().decode("unicode_escape"))
        if (point == path or point in path.parents) and len(point.parts) >= best:
            kind, best = right.split()[0], len(point.parts)
    return kind


def _loads(module: str) -> bool:
    """Whether the kernel can be given a module."""
    return _succeeds("modprobe", module)


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def raise_limits() -> str | None:
    """Raise the kernel limit that a dozen machines would hit; what was changed, None if nothing had to be.

    Each machine's systemd, D-Bus and journal hold about seven inotify instances, all of them root's, of whom
    the kernel allows 128 by default (inotify(7)); beyond that a boot hangs half-way. The limit stays raised:
    it costs nothing, and other programs may have come to need it meanwhile.
    """
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    found = int(limit.read_text())
    if found >= INOTIFY_INSTANCES:
        return None
    limit.write_text(f"{INOTIFY_INSTANCES}\n")
    return f"fs.inotify.max_user_instances: {found} -> {INOTIFY_INSTANCES}"


def ensure(progress: Callable[[str], None], want_machines: bool = True) -> Readiness:
    """Bring the host to where the sandbox can run, and say how far that went.

    Missing Debian packages are installed when that is possible (root, apt). Raises `SandboxError` when
    something is missing that the sandbox cannot do without; what only machines need becomes an obstacle
    instead.
    """
    reasons = obstacles()
    wanted = [need for need in NEEDS if not need.machines or (want_machines and not reasons)]
    missing = [need for need in wanted if not need.present()]
    if missing and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        packages = sorted({need.package for need in missing})
        progress(f"installing {', '.join(packages)} (apt)")
        _apt(packages)
        missing = [need for need in wanted if not need.present()]
    hard = [need for need in missing if not need.machines]
    if hard:
        raise SandboxError(f"missing: {_names(hard)}; {_advice(hard)}")
    if missing:
        reasons.append(f"machines need {_names(missing)}; {_advice(missing)}")
    return Readiness(tuple(reasons))


def _names(needs: list[Need]) -> str:
    return ", ".join(need.name for need in needs)


def _advice(needs: list[Need]) -> str:
    packages = " ".join(sorted({need.package for need in needs}))
    return f"on Debian as root: apt-get install {packages}"


def _apt(packages: list[str]) -> None:
    """Install packages; a stale or empty package list is renewed first if need be."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], env=environment, capture_output=True, check=False)
        done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise SandboxError(f"apt could not install {' '.join(packages)}:\n{tail}")
