"""One server of the sandbox: a real Debian under systemd-nspawn, in its own network namespace, hard to kill
by accident.

Its disk is an overlay over the shared image and outlives a crash; its mounts live in a mount namespace of
their own and end with it, so nothing of a machine is ever mounted on the host.
"""

import base64
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mailinfra.sandbox import disks
from mailinfra.sandbox.model import MachineFile, MachineSpec
from mailinfra.sandbox.paths import SandboxError
from mailinfra.sandbox.processes import Process, children

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
CA_FILE = "/usr/local/share/ca-certificates/mailinfra-sandbox.crt"
POLL_SECONDS = 0.05
_POWER_OFF = signal.SIGRTMIN + 4
"""Asks systemd as the first process to power off (systemd(1), SIGNALS)."""
_SEED = "/var/lib/cloud/seed/nocloud"
_ANEW = """[Service]
# EC2's data source asks for user-data at every boot; the one that reads a seed believes what it has kept.
ExecStartPre=/bin/rm -f /var/lib/cloud/instance/obj.pkl
"""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class BootError(SandboxError):
    """A machine did not come up; the message has the end of its console."""


class DiedError(BootError):
    """A machine ended while it booted."""


class NotRunningError(SandboxError):
    """Something was asked of a machine that does not run."""


@dataclass(frozen=True)
class Executed:
    """What a command on a machine did. `code` is its exit code, negative the number of the signal that ended
    it.
    """

    code: int
    stdout: str
    stderr: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


class Machine:
    """A server. `name` is its name on the host, `folder` where all that is its own lies.

    Not safe to use from threads, `execute` and `kill` aside.
    """

    def __init__(
        self,
        spec: MachineSpec,
        *,
        name: str,
        folder: Path,
        volumes: Path,
        layers: tuple[Path, ...],
        namespace: Path,
    ) -> None:
        self.spec = spec
        self.name = name
        self.folder = folder
        self._volumes = volumes
        self._layers = layers
        self._namespace = namespace
        self._process: Process | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def console(self) -> Path:
        """All that the machine ever printed on its console."""
        return self.folder / "console.log"

    @property
    def upper(self) -> Path:
        """The machine's own files over the image. Not for writing while it runs; empty when its disk has a
        limit.
        """
        return self.folder / "disk" / "upper"

    def prepare(self, base_files: dict[str, MachineFile], authority: str) -> None:
        """Make the disk, once: identity, the sandbox's authority (PEM), `base_files`, the spec's files, the
        cloud's seed.
        """
        marker = self.folder / "prepared"
        if marker.exists():
            return
        disks.remove_tree(self.folder)
        for folder in (self.folder, self.folder / "root", self.upper, self.upper.with_name("work")):
            folder.mkdir(mode=0o755, parents=True)
        self.folder.chmod(0o700)
        overlay = disks.Overlay(self.upper, self._layers)
        _lay_identity(overlay, self.spec)
        _lay_seed(overlay, self.spec)
        bundle = overlay.read(CA_BUNDLE) or b""
        overlay.write(CA_BUNDLE, MachineFile.raw(bundle + authority.encode()))
        overlay.write(CA_FILE, MachineFile.text(authority))
        for path, file in {**base_files, **self.spec.files}.items():
            overlay.write(path, file)
        for unit in self.spec.units:
            _enable(overlay, unit)
        if self.spec.disk_limit is not None:
            disks.make_limited_disk(self.folder / "disk.img", self.upper.parent, self.spec.disk_limit)
        marker.touch()

    def adopt(self) -> bool:
        """Take over a machine that an earlier daemon started. Whether there is one."""
        self._process = Process.load(self.folder / "process.json")
        return self._process is not None

    def boot(self) -> None:
        """Switch the machine on. Returns at once; see `wait_booted`."""
        groups = _make_cgroups(self.name)
        script = [
            "set -eu",
            *(f"echo $$ > {group}/cgroup.procs" for group in groups),
            # Own mounts and nothing on the host; they end with the machine.
            f"exec unshare --mount --propagation slave sh -eu {self.folder}/boot.sh",
        ]
        limited = self.spec.disk_limit is not None
        mounts = [f"mount -o loop {self.folder}/disk.img {self.upper.parent}"] if limited else []
        root = self.folder / "root"
        layers = ":".join(map(str, self._layers))
        options = f"lowerdir={layers},upperdir={self.upper},workdir={self.upper.parent}/work"
        nspawn = [
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={root}", f"--machine={self.name}"),
            *("--register=no", "--keep-unit", f"--network-namespace-path={self._namespace}", "--settings=no"),
            *("--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=read-only"),
            *(
                f"--hostname={self.spec.hostname.split('.')[0]}",
                *self._user_data_bind(),
                *self._volume_binds(),
            ),
        ]
        overlay = f"mount -t overlay overlay -o {options} {root}"
        lines = ["set -eu", *mounts, overlay, f"exec {' '.join(nspawn)}", ""]
        (self.folder / "boot.sh").write_text("\n".join(lines))
        scope: list[str] = []
        if _host_has_systemd():
            scope = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={self.name}"]
            scope += ["--property=Delegate=yes", "--"]
        with self.console.open("ab") as console:
            self._child = subprocess.Popen(
                [*scope, "sh", "-c", "\n".join(script)],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True, cwd="/",
            )  # fmt: skip
        self._process = Process.of(self._child.pid)
        if self._process is not None:
            self._process.save(self.folder / "process.json")

    def _user_data_bind(self) -> list[str]:
        """What cloud-init reads at this boot: the user-data that the spec has by now, as EC2's metadata service would
        answer.
        """
        if self.spec.kind != "aws":
            return []
        file = self.folder / "user-data"
        file.touch(mode=0o600)
        file.write_bytes(base64.b64decode(self.spec.user_data) or b"#cloud-config\n{}\n")
        return [f"--bind-ro={file}:{_SEED}/user-data"]

    def _volume_binds(self) -> list[str]:
        binds = []
        files = disks.volume_files(self.spec.volumes, self._volumes)
        for volume, name in self.spec.volumes.items():
            file = files[volume]
            if name.startswith("/dev/"):
                disks.make_volume(file, self._volume_size(volume))
                binds.append(f"--bind={disks.attach_loop(file)}:{name}")
            else:
                file.mkdir(mode=0o755, parents=True, exist_ok=True)
                binds.append(f"--bind={file}:{name}")
        return binds

    def _volume_size(self, volume: str) -> int:
        return self.spec.volume_bytes.get(volume, disks.VOLUME_BYTES)

    def grow_volumes(self) -> None:
        """Bring the block devices to the size that the spec has now."""
        files = disks.volume_files(self.spec.volumes, self._volumes)
        for volume, file in files.items():
            if file.exists() and self.spec.volumes[volume].startswith("/dev/"):
                disks.make_volume(file, self._volume_size(volume))

    def attach_volume(self, volume: str, name: str) -> None:
        """Give a running machine one more block device, as both clouds do. Raises `SandboxError` for a
        folder.
        """
        if not name.startswith("/dev/"):
            raise SandboxError(
                f"volume {volume}: found {name!r}; on a running machine allowed is a path under /dev/"
            )
        file = disks.volume_files({volume: name}, self._volumes)[volume]
        disks.make_volume(file, self._volume_size(volume))
        number = disks.attach_loop(file).stat().st_rdev
        made = self.execute(
            ["sh", "-euc", 'mkdir -p "${1%/*}"; test -b "$1" || mknod -m 0660 "$1" b "$2" "$3"', "sh",
             name, str(os.major(number)), str(os.minor(number))],
            timeout=10,
        )  # fmt: skip
        if made.code != 0:
            raise SandboxError(f"volume {volume} cannot be attached to {self.spec.id}: {made.stderr.strip()}")

    def running(self) -> bool:
        """Whether it is switched on."""
        if self._child is not None and self._child.poll() is not None:
            return False
        return self._process is not None and self._process.alive()

    def wait_ended(self, timeout: float | None) -> bool:
        """Wait until it is off, at most `timeout` seconds. Whether it is."""
        if self._process is None or not self._process.wait(timeout):
            return self._process is None
        if self._child is not None:
            self._child.wait()
        return True

    @property
    def ended_by_itself(self) -> bool:
        """Whether the machine powered itself off, rather than died. Known only of machines that this process
        booted.
        """
        return self._child is not None and self._child.poll() == 0

    def leader(self) -> Process | None:
        """The machine's first process as the host sees it; None until it is there."""
        if self._process is None:
            return None
        for child in children(self._process.pid):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{child}/status").read_text()
                numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
                if len(numbers) > 1 and numbers[-1] == "1":
                    return Process.of(child)
        return None

    def wait_booted(self, limit: float) -> str:
        """Wait until the machine's boot is over, at most `limit` seconds; what did not start, empty when all
        did.

        Raises `BootError` with the console's end.
        """
        deadline = time.monotonic() + limit
        while True:
            leader = self.leader()
            if leader is not None and Path(f"/proc/{leader.pid}/root/run/systemd/private").exists():
                break
            self._check_boot(deadline, limit)
            time.sleep(POLL_SECONDS)
        while True:
            left = deadline - time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired, NotRunningError):
                state = self.execute(["systemctl", "is-system-running", "--wait"], max(0.1, left)).stdout
                if state.strip() == "running":
                    return ""
                if state.strip() == "degraded":
                    listed = self.execute(
                        ["systemctl", "list-units", "--failed", "--plain", "--no-legend"], 10
                    )
                    failed = [row.split()[0] for row in listed.stdout.splitlines() if row.strip()]
                    return "failed on the machine: " + ", ".join(failed)
            self._check_boot(deadline, limit)
            time.sleep(POLL_SECONDS)

    def _check_boot(self, deadline: float, limit: float) -> None:
        if not self.running():
            raise DiedError(
                f"machine {self.spec.id} ended while it booted; its console:\n{self.console_tail()}"
            )
        if time.monotonic() > deadline:
            raise BootError(
                f"machine {self.spec.id} did not finish its boot in {limit:.0f} s; its console:\n{self.console_tail()}"
            )

    def console_tail(self, lines: int = 20) -> str:
        """The last lines of the console."""
        try:
            with self.console.open("rb") as file:
                file.seek(max(0, self.console.stat().st_size - 16384))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(line.rstrip() for line in text.splitlines()[-lines:])

    def execute(self, command: Sequence[str], timeout: float, stdin: bytes = b"") -> Executed:
        """Run a command on the machine as root, in its namespaces and on its disk.

        Raises `NotRunningError`, and `subprocess.TimeoutExpired` after `timeout` seconds (the command is
        ended).
        """
        leader = self.leader()
        if leader is None:
            raise NotRunningError(f"machine {self.spec.id} does not run")
        enter = [
            "nsenter",
            f"--target={leader.pid}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd",
        ]
        process = subprocess.Popen(
            [*enter, "--", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=_ENVIRONMENT, start_new_session=True,
        )  # fmt: skip
        try:
            output, errors = process.communicate(stdin, timeout)
        except BaseException:
            # The command itself is nsenter's child, in the same session.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return Executed(process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))

    def kill(self) -> None:
        """End the machine at once, as a power cut does."""
        leader = self.leader()
        if leader is not None:
            leader.send(signal.SIGKILL)
            if self.wait_ended(5):
                return
        if self._process is not None:
            self._process.send(signal.SIGKILL)
            self.wait_ended(5)

    def power_off(self, timeout: float) -> None:
        """Ask the machine to shut down; after `timeout` seconds end it."""
        leader = self.leader()
        if leader is None or not leader.send(_POWER_OFF) or not self.wait_ended(timeout):
            self.kill()

    def clean_up(self) -> None:
        """Remove what a machine that is off leaves with the kernel (its control groups and nspawn's
        folders).
        """
        clean_up_machine(self.name)
        (self.folder / "process.json").unlink(missing_ok=True)


def _lay_identity(overlay: disks.Overlay, spec: MachineSpec) -> None:
    short = spec.hostname.split(".")[0]
    names = f"{spec.hostname} {short}" if short != spec.hostname else short
    hosts = ["127.0.0.1 localhost", f"127.0.1.1 {names}", "::1 localhost ip6-localhost ip6-loopback"]
    resolver = {"aws": "169.254.169.253", "gcp": "169.254.169.254"}.get(spec.kind, "127.0.0.1")
    if spec.kind == "gcp":
        hosts.append("169.254.169.254 metadata.google.internal metadata")
    overlay.write("/etc/hostname", MachineFile.text(short + "\n"))
    overlay.write("/etc/hosts", MachineFile.text("\n".join([*hosts, ""])))
    overlay.write("/etc/resolv.conf", MachineFile.text(f"nameserver {resolver}\noptions edns0 trust-ad\n"))
    overlay.write("/etc/machine-id", MachineFile.text("", 0o444))


def _lay_seed(overlay: disks.Overlay, spec: MachineSpec) -> None:
    """What makes the machine run its user-data: cloud-init's on AWS, the guest agent's stand-in on GCP,
    nothing else.
    """
    if spec.kind != "aws":
        overlay.write("/etc/cloud/cloud-init.disabled", MachineFile.text(""))
    if spec.kind == "gcp":
        _enable(overlay, "google-startup-scripts.service")
    if spec.kind == "aws":
        short = spec.hostname.split(".")[0]
        identity = f"instance-id: {spec.id}\nlocal-hostname: {short}\n"
        overlay.write(f"{_SEED}/meta-data", MachineFile.text(identity, 0o600))
        overlay.write("/etc/systemd/system/cloud-init-local.service.d/anew.conf", MachineFile.text(_ANEW))


def _enable(overlay: disks.Overlay, unit: str) -> None:
    # `pdns@root.service` is an instance of the file `pdns@.service` (systemd.unit(5)).
    file = re.sub(r"@.*\.", "@.", unit)
    for folder in ("/etc/systemd/system", "/lib/systemd/system"):
        if overlay.read(f"{folder}/{file}") is not None:
            target = "timers.target" if unit.endswith(".timer") else "multi-user.target"
            overlay.link(f"/etc/systemd/system/{target}.wants/{unit}", f"{folder}/{file}")
            return
    raise SandboxError(f"unit {unit!r}: neither in the image nor among the machine's files")


def _host_has_systemd() -> bool:
    """Whether the host runs systemd, which then owns the control groups (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def cgroup_roots() -> list[Path]:
    """The hierarchies that a systemd in a machine needs: the unified one, and systemd's named one on hybrid
    hosts.
    """
    roots = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options):
            roots.append(Path(left.split()[4]))
    return roots


def _make_cgroups(name: str) -> list[Path]:
    """Groups of the machine's own, so that machines do not meet in one; none where the host's systemd gives
    a scope.
    """
    if _host_has_systemd():
        return []
    groups = [root / name for root in cgroup_roots()]
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def cgroups(prefix: str) -> dict[str, Path]:
    """Control groups of the sandbox's machines that exist now, by machine name (in one hierarchy; there may
    be two).
    """
    found = {}
    for root in cgroup_roots():
        groups = [*root.glob(f"{prefix}-*"), *root.glob(f"system.slice/{prefix}-*.scope")]
        found.update({group.name.removesuffix(".scope"): group for group in groups if group.is_dir()})
    return found


def clean_up_machine(name: str) -> None:
    """End all that is left of a machine, and remove its control groups and nspawn's folders.

    Works without a daemon.
    """
    for root in cgroup_roots():
        for group in (root / name, root / "system.slice" / f"{name}.scope"):
            deadline = time.monotonic() + 5
            while _members(group) and time.monotonic() < deadline:
                for pid in _members(group):
                    if (process := Process.of(pid)) is not None:
                        process.send(signal.SIGKILL)
                        process.wait(1)
        # A scope goes by itself when it is empty; it is the host's systemd's.
        for folder, _, _ in os.walk(root / name, topdown=False):
            Path(folder).rmdir()
    for kind in ("propagate", "unix-export"):
        left = Path("/run/systemd/nspawn", kind, name)
        if left.is_dir():
            left.rmdir()


def _members(group: Path) -> list[int]:
    found: list[int] = []
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(FileNotFoundError):
            found += [int(line) for line in Path(folder, "cgroup.procs").read_text().split()]
    return found
