"""A whole Postfix with a milter, fed over SMTP: what signing costs where it is used.

Debian's Postfix runs from the sandbox's machine image, in a network namespace with nothing in it; clients and
milters reach it by UNIX sockets. Each milter has an smtpd of its own beside the others', all else is shared.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mailinfra.sandbox import rootfs
from mailinfra.sandbox.paths import Paths

MAIN = """
compatibility_level = 3.6
myhostname = mx.example.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
default_transport = discard:
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
maillog_file = /var/log/mail.log
milter_default_action = tempfail
milter_protocol = 6
milter_header_checks = regexp:/etc/postfix/signed
"""
MASTER = """
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
proxymap  unix  -       -       n       -       -       proxymap
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
anvil     unix  -       -       n       -       1       anvil
postlog   unix-dgram n  -       n       -       1       postlogd
"""
SMTPD = "bench-{name} unix n - n - - smtpd -o smtpd_milters=unix:bench/{name}.sock\n"
START = """
set -eu
ip link set lo up
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount --bind "$2/spool" "$2/root/var/spool/postfix"
chroot "$2/root" /usr/sbin/postfix start-fg
exit
"""
# No exec, and no last command that a shell would exec by itself: the shell is the namespace's first process and is
# killed with us, while Postfix's master, which changes its user, would lose that tie.


class Postfix:
    """A running Postfix. A milter called NAME listens at NAME.sock in the folder `milters`."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder, self.pid = folder, pid
        self.milters = folder / "spool/bench"

    def drive(self, name: str, message: bytes, count: int, connections: int) -> float:
        """Send messages through the smtpd of a milter; return how many it took a second. All must be signed."""
        (self.folder / "spool/bench/message").write_bytes(message)
        before = self.signed()
        source = [
            "smtp-source",
            "-s",
            str(connections),
            "-m",
            str(count),
            "-F",
            "/var/spool/postfix/bench/message",
        ]
        addresses = ["-f", "user@example.test", "-t", "somebody@outside.test"]
        target = f"unix:/var/spool/postfix/public/bench-{name}"
        inside = ["nsenter", f"--target={self.pid}", "--mount", "chroot", str(self.folder / "root")]
        start = time.perf_counter()
        subprocess.run([*inside, *source, *addresses, target], check=True, timeout=120)
        taken = time.perf_counter() - start
        self.drain()
        signed = self.signed() - before
        assert signed == count, f"{name}: {signed} of {count} messages were signed"
        return count / taken

    def drain(self) -> None:
        """Wait until the queue is empty: one round must not slow the next."""
        until = time.monotonic() + 60
        while any(
            path.is_file()
            for queue in ("incoming", "active")
            for path in (self.folder / "spool" / queue).rglob("*")
        ):
            assert time.monotonic() < until, "the queue does not drain"
            time.sleep(0.05)

    def signed(self) -> int:
        """Return how many signatures Postfix has logged."""
        return (self.folder / "upper/var/log/mail.log").read_bytes().count(b"milter-header-info:")


@contextlib.contextmanager
def postfix(folder: Path, names: Sequence[str]) -> Iterator[Postfix]:
    """Run a Postfix whose milters listen at `folder/spool/bench/NAME.sock`."""
    layers = rootfs.ensure("node", Paths.of().cache, lambda *_: None)
    for name in ("upper/etc/postfix", "upper/var/log", "work", "root"):
        (folder / name).mkdir(parents=True)
    subprocess.run(["cp", "-a", str(layers[0] / "var/spool/postfix"), str(folder / "spool")], check=True)
    (folder / "spool/bench").mkdir()
    etc = folder / "upper/etc/postfix"
    (etc / "main.cf").write_text(MAIN)
    (etc / "master.cf").write_text(MASTER + "".join(SMTPD.format(name=name) for name in names))
    (etc / "signed").write_text("/^DKIM-Signature:/ INFO\n")
    # Whatever ends us ends every process of it, and the kernel undoes the mounts.
    isolated = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child"]
    isolated += ["--mount", "--propagation", "private", "--net"]
    command = [*isolated, "sh", "-c", START, "start", ":".join(map(str, layers)), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    ready = [folder / f"spool/public/bench-{name}" for name in names]
    try:
        until = time.monotonic() + 30
        while not all(path.exists() for path in ready):
            log = folder / "upper/var/log/mail.log"
            assert process.poll() is None, f"Postfix ended: {log.read_text() if log.exists() else command}"
            assert time.monotonic() < until, "Postfix does not start"
            time.sleep(0.05)
        child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        yield Postfix(folder, int(child))
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder / "spool", ignore_errors=True)
