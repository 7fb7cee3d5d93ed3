"""The machines' disk images: Debian 12 as the clouds' stock images are, made by mmdebstrap once and cached.

An image is a stack of read-only layers (folders) for overlayfs: `stock` is one layer, `node` is that plus one,
`internet` one more. A layer's folder is named by a hash of its recipe, so a changed recipe is another layer, and
is moved into place only when it is whole. Layers of other recipes that nothing uses are removed then.
"""

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mailinfra.sandbox.model import ImageName
from mailinfra.sandbox.paths import BusyError, SandboxError, file_lock

SUITE = "bookworm"
"""Debian 12, whatever the host runs: the stock image that the nodes' bootstrap is written for."""
Progress = Callable[[str, float], None]
"""Called with what is being done and the seconds since it began."""

_REVISION = 2
"""Raise when the way a layer is made changes in a manner that neither packages nor files show."""

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

ARCHIVES = "var/cache/apt/archives"
"""Where the layer `node` holds the packages (.deb) that make it out of `stock`: a Debian mirror's content."""

_STOCK_PACKAGES = (
    # Of what Debian's cloud images have, that which the bootstrap or the sandbox counts on.
    "systemd-sysv dbus cloud-init iproute2 nftables procps ca-certificates curl openssl python3",
)
_NODE_PACKAGES = (
    # What the bootstrap would install; pre-installed so that a boot takes seconds.
    "postfix postfix-pcre postfix-cdb postfix-sqlite",
    "dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-sqlite",
    "unbound dns-root-data python3-cryptography python3-boto3 restic",
)
_INTERNET_PACKAGES = (
    "pdns-server pdns-backend-sqlite3 pdns-backend-geoip pdns-backend-bind sqlite3",
    "swaks bind9-dnsutils ldnsutils python3-dnspython python3-dkim python3-spf opendkim opendkim-tools",
    "python3-authres ssl-cert",
)
_DISABLED = (
    # Packages that a stock image lacks: the bootstrap starts them, not the first boot.
    *("postfix.service", "dovecot.service", "dovecot.socket", "unbound.service", "nftables.service"),
    *("pdns.service", "opendkim.service"),
)
_MASKED = (
    # What only costs time or memory on a machine without console, disk and way out.
    *("systemd-firstboot.service", "systemd-logind.service", "console-getty.service", "getty-static.service"),
    *(
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "fstrim.timer",
    ),
    *("e2scrub_reap.service", "systemd-timesyncd.service", "systemd-networkd-wait-online.service"),
    *("sys-fs-fuse-connections.mount", "dev-hugepages.mount"),
)
_EXCLUDED = tuple(f"/usr/share/{name}/*" for name in ("man", "doc", "locale", "info"))
_FILES = {
    "cloud-init.conf": ("etc/cloud/cloud.cfg.d/90_mailinfra.cfg", 0o644),
    "debian-sources.conf": ("etc/apt/sources.list.d/debian.sources", 0o644),
    "journald.conf": ("etc/systemd/journald.conf.d/90-mailinfra.conf", 0o644),
    "google-startup-scripts.service": ("etc/systemd/system/google-startup-scripts.service", 0o644),
    "google-startup-script.sh": ("usr/local/sbin/google-startup-script", 0o755),
}


def _text(name: str) -> str:
    return resources.files("mailinfra.sandbox").joinpath("image", name).read_text()


@dataclass(frozen=True)
class Layer:
    """One layer's recipe: what is installed on top of `base`. With `keeps` its packages' files stay in `ARCHIVES`."""

    name: ImageName
    packages: tuple[str, ...]
    base: "Layer | None" = None
    keeps: bool = False

    @property
    def hash(self) -> str:
        """Names the recipe and all below it."""
        digest = hashlib.sha256(f"{_REVISION} {SUITE} {self.packages} {_DISABLED} {_MASKED}".encode())
        if self.base is None:
            for source, (target, mode) in sorted(_FILES.items()):
                digest.update(f"{target} {mode} {_text(source)}".encode())
        else:
            digest.update(f"{self.base.hash} {self.keeps} {_DERIVE}".encode())
        return digest.hexdigest()[:12]

    def folder(self, cache: Path) -> Path:
        """Where the finished layer lies."""
        return cache / f"rootfs-{self.name}-{self.hash}"


def _packages(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(package for line in lines for package in line.split())


_STOCK = Layer("stock", _packages(_STOCK_PACKAGES))
_NODE = Layer("node", _packages(_NODE_PACKAGES), _STOCK, keeps=True)
LAYERS: dict[ImageName, Layer] = {
    "stock": _STOCK,
    "node": _NODE,
    "internet": Layer("internet", _packages(_INTERNET_PACKAGES), _NODE),
}


def cached(image: ImageName, cache: Path) -> tuple[Path, ...] | None:
    """The image's layers, uppermost first, if they are all there; else None."""
    found: list[Path] = []
    layer: Layer | None = LAYERS[image]
    while layer is not None:
        if not layer.folder(cache).is_dir():
            return None
        found.append(layer.folder(cache))
        layer = layer.base
    return tuple(found)


def ensure(image: ImageName, cache: Path, progress: Progress) -> tuple[Path, ...]:
    """The image's layers, uppermost first, made if need be (a minute each; needs root and Debian's packages).

    Raises `SandboxError` with the end of the log when a layer cannot be made. Whatever interrupts it leaves
    no mount and no process, and at most a folder that the next call removes.
    """
    layers = cached(image, cache)
    if layers is not None:
        return layers
    cache.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    while True:
        try:
            with file_lock(cache / "rootfs.lock", "the machines' images are being made by another process"):
                return _make(LAYERS[image], cache, progress)
        except BusyError as busy:
            progress(str(busy), time.monotonic() - began)
            time.sleep(1)


def _make(layer: Layer, cache: Path, progress: Progress) -> tuple[Path, ...]:
    below = () if layer.base is None else _make(layer.base, cache, progress)
    folder = layer.folder(cache)
    if folder.is_dir():
        return (folder, *below)
    for leftover in cache.glob("rootfs-*.partial"):
        shutil.rmtree(leftover)
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir()
    tree = partial / "tree"
    log = folder.with_suffix(".log")
    try:
        if layer.base is None:
            _run(_bootstrap_command(layer, tree), log, f"making the {layer.name} image", progress)
            _lay_files(tree)
        else:
            tree.mkdir()
            _run(_derive_command(layer, below, partial), log, f"making the {layer.name} image", progress)
        tree.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log.unlink(missing_ok=True)
    _prune(cache)
    return (folder, *below)


def hold(layers: Iterable[Path]) -> list[int]:
    """Keep layers from being removed for as long as the descriptors that this gives stay open."""
    held = []
    for layer in layers:
        held.append(os.open(layer, os.O_RDONLY | os.O_DIRECTORY))
        fcntl.flock(held[-1], fcntl.LOCK_SH)
    return held


def _prune(cache: Path) -> None:
    """Remove the layers of other recipes that nothing uses. Call it with the images' lock held."""
    current = {layer.folder(cache) for layer in LAYERS.values()}
    mounted = _mounted()
    for folder in cache.glob("rootfs-*-*"):
        if folder in current or not folder.is_dir() or folder.suffix or str(folder) in mounted:
            continue
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Under a name that the next one removes should this be interrupted, and that nobody takes for an image.
            gone = folder.rename(folder.with_name(folder.name + ".partial"))
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
        shutil.rmtree(gone)


def _mounted() -> set[str]:
    """The layers of every overlay that is mounted on this host, in whatever mount namespace: machines run on when
    their daemon was killed.
    """
    found: set[str] = set()
    seen: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            namespace = str((process / "ns/mnt").readlink())
            if namespace in seen:
                continue
            seen.add(namespace)
            mounts = (process / "mountinfo").read_text()
        except OSError:
            continue  # it has ended
        for line in mounts.splitlines():
            for option in line.rpartition(" ")[2].split(","):
                if option.startswith("lowerdir="):
                    found.update(option.removeprefix("lowerdir=").split(":"))
    return found


def sources(suite: str = SUITE) -> list[str]:
    """Lines of a sources.list for `suite`, from the mirrors that the host's own apt uses.

    Empty when the host's apt knows no Debian mirror (another distribution): mmdebstrap then takes its
    default.
    """
    form = "$(SITE)|$(RELEASE)|$(LABEL)"
    targets = _apt("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    base: str | None = None
    security: str | None = None
    for line in targets.splitlines():
        site, release, label = line.split("|")
        if label not in ("Debian", "Debian-Security", "", "$(LABEL)"):
            continue
        if release.endswith("-security") and "debian" in site.lower():
            security = security or site
        elif not release.endswith(("-updates", "-backports", "-proposed-updates")) and (
            label == "Debian" or site.rstrip("/").endswith("/debian")
        ):
            base = base or site
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    lines: list[str] = []
    if base is not None:
        lines += [f"deb {signed}{base} {name} main" for name in (suite, f"{suite}-updates")]
        if security is not None:
            lines.append(f"deb {signed}{security} {suite}-security main")
    return lines


def _apt_options() -> list[str]:
    """How the host's apt reaches its mirrors (proxy, dates), as apt.conf lines."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
    return [
        line
        for line in _apt("apt-config", "dump").splitlines()
        if line.startswith(wanted) and not line.endswith(' "";')
    ]


def _apt(*command: str) -> str:
    """What the host's apt answers; nothing where there is no apt."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _isolated(command: list[str]) -> list[str]:
    """The command in mount and process namespaces of its own, ended together with the caller.

    The kernel then undoes every mount and ends every process of it, however it ends.
    """
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
        *command,
    ]


def _bootstrap_command(layer: Layer, tree: Path) -> list[str]:
    options = [f"--aptopt={line}" for line in _apt_options()]
    hook = "; ".join(
        [
            "set -e",
            # Only what the build needed: how to reach the mirrors (it may hold a proxy's password), and haste.
            'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap',
            'rm -f "$1"/etc/apt/sources.list',
            f'chroot "$1" systemctl disable --quiet {shlex.join(_DISABLED)} 2>/dev/null || true',
            f'chroot "$1" systemctl mask --quiet {shlex.join(_MASKED)}',
            'chroot "$1" systemctl set-default --quiet multi-user.target',
        ]
    )
    return _isolated(
        [
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", *options),
            *(f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED),
            *(
                "--dpkgopt=force-unsafe-io",
                f"--include={','.join(layer.packages)}",
                f"--customize-hook={hook}",
            ),
            *(SUITE, str(tree), *sources()),
        ]
    )


_DERIVE = """
set -eu
root=$1; shift
mount -t overlay overlay -o "$OPTIONS" "$root"
mount -t proc proc "$root/proc"
mount -t devtmpfs dev "$root/dev" 2>/dev/null || mount --rbind /dev "$root/dev"
printf '#!/bin/sh\\nexit 101\\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
printf '%s' "$APT_LINES" > "$root/etc/apt/apt.conf.d/99build"
printf '%s' "$SOURCES" > "$root/etc/apt/build.list"
mv "$root/etc/resolv.conf" "$root/etc/resolv.conf.image" 2>/dev/null || true
cat /etc/resolv.conf > "$root/etc/resolv.conf"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$root" apt-get -q update
chroot "$root" apt-get -q -y -o Dpkg::Options::=--force-unsafe-io --no-install-recommends install "$@"
chroot "$root" systemctl disable --quiet $DISABLED 2>/dev/null || true
test "$KEEPS" || chroot "$root" apt-get clean
rm -rf "$root/usr/sbin/policy-rc.d" "$root/etc/apt/apt.conf.d/99build" "$root/etc/apt/build.list"
rm -rf "$root/etc/resolv.conf" "$root"/var/lib/apt/lists/*
mv "$root/etc/resolv.conf.image" "$root/etc/resolv.conf" 2>/dev/null || true
rm -f "$root"/var/log/apt/* "$root"/var/log/dpkg.log "$root"/var/cache/apt/*.bin
"""


def _derive_command(layer: Layer, below: tuple[Path, ...], partial: Path) -> list[str]:
    work, root = partial / "work", partial / "root"
    work.mkdir()
    root.mkdir()
    options = f"lowerdir={':'.join(map(str, below))},upperdir={partial / 'tree'},workdir={work}"
    lines = [*_apt_options(), *(f'Dpkg::Options:: "--path-exclude={path}";' for path in _EXCLUDED)]
    found = sources()
    if found:
        lines += ['Dir::Etc::SourceList "build.list";', 'Dir::Etc::SourceParts "-";']
    environment = [
        f"OPTIONS={options}",
        "APT_LINES=" + "\n".join([*lines, ""]),
        "SOURCES=" + "\n".join([*found, ""]),
        "KEEPS=" + "yes" * layer.keeps,
        "DISABLED=" + " ".join(_DISABLED),
    ]
    return _isolated(["env", *environment, "sh", "-c", _DERIVE, "derive", str(root), *layer.packages])


def _lay_files(tree: Path) -> None:
    """Put the image's own files into a fresh tree."""
    for source, (target, mode) in _FILES.items():
        path = tree / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(source))
        path.chmod(mode)
    # Empty, not absent: each machine makes its own identity, and no boot counts as the first one
    # (machine-id(5)).
    (tree / "etc/machine-id").write_text("")
    (tree / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    (tree / "etc/hostname").unlink(missing_ok=True)


def _run(command: list[str], log: Path, what: str, progress: Progress) -> None:
    """Run a long step, telling `progress` of it every few seconds. Raises `SandboxError` with the log's
    end.
    """
    began = time.monotonic()
    progress(what, 0.0)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while True:
                try:
                    process.wait(timeout=3)
                    break
                except subprocess.TimeoutExpired:
                    progress(what, time.monotonic() - began)
        finally:
            if process.poll() is None:
                # The namespace's first process dies with it, and all the others with that one.
                process.kill()
                process.wait()
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SandboxError(
            f"{what} failed (exit code {process.returncode}); the whole log is {log}:\n{tail}\n"
            "Needed: root, mmdebstrap, and apt sources of this host that reach a Debian mirror."
        )
    progress(what, time.monotonic() - began)


def size(layers: tuple[Path, ...]) -> int:
    """Bytes on disk of an image's layers."""
    total = 0
    for layer in layers:
        for folder, _, names in os.walk(layer):
            total += sum(Path(folder, name).lstat().st_blocks * 512 for name in names)
    return total
