"""The sandbox's servers: they come back, they keep what they should, and they leave nothing behind."""

import base64
import gzip
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailinfra.sandbox import rootfs
from mailinfra.sandbox.cloud import leftovers, start_cloud, stop_cloud
from mailinfra.sandbox.context import StateFile
from mailinfra.sandbox.control import Conflict, ControlError, NotFound, NotRunning
from mailinfra.sandbox.model import MachineFile, MachineSpec
from mailinfra.sandbox.network import Network, remove_all
from mailinfra.sandbox.paths import BusyError, Paths, SandboxError, sandbox_lock
from mailinfra.sandbox.processes import Process
from mailinfra.sandbox.supervisor import Supervisor
from tests.sandbox_helpers import Sandbox, eventually, quiet, traces

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def script(*lines: str) -> str:
    return base64.b64encode("\n".join(["#!/bin/sh", *lines, ""]).encode()).decode()


AWS = MachineSpec(
    id="i-one",
    kind="aws",
    hostname="mailbox-1.eu-central-1.nodes.example.test",
    region="eu-central-1",
    country="DE",
    private_ipv4="203.0.113.4",
    public_ipv4="198.51.100.4",
    user_data=script("echo ran >> /root/user-data"),
    volumes={"vol-1": "/dev/sdf", "vol-2": "/srv/folder"},
    files={"/etc/motd": MachineFile.text("hello\n", 0o640, "postfix")},
)
GCP = MachineSpec(
    id="mx-1",
    kind="gcp",
    hostname="mx-1.europe-west3.nodes.example.test",
    region="europe-west3",
    country="DE",
    private_ipv4="203.0.113.36",
    user_data=script("echo ran >> /root/startup-script"),
)


@pytest.fixture(scope="module")
def machines(sandbox: Sandbox) -> Sandbox:
    sandbox.create(AWS, GCP)
    return sandbox


def leader(sandbox: Sandbox, machine: str) -> int:
    """The host's id of the machine's first process."""
    nspawn = Process.load(sandbox.paths.state / "machines" / machine / "process.json")
    assert nspawn is not None
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
    return int(children[0])


def test_a_killed_machine_comes_back_with_its_disk(machines: Sandbox) -> None:
    machines.shell(
        AWS.id, "mkfs.ext4 -q /dev/sdf; mount /dev/sdf /mnt; echo mail > /mnt/mail; sync /mnt/mail"
    )
    machines.shell(AWS.id, "echo kept > /root/kept; sync; echo folder > /srv/folder/file")
    before = leader(machines, AWS.id)
    machines.client.call("machines.kill", id=AWS.id)
    assert not Path(f"/proc/{before}").exists()
    status = machines.running(AWS.id)
    assert status["boots"] == 2
    assert leader(machines, AWS.id) != before
    assert machines.shell(AWS.id, "cat /root/kept").strip() == "kept"
    assert machines.shell(AWS.id, "mount /dev/sdf /mnt; cat /mnt/mail").strip() == "mail"
    assert machines.shell(AWS.id, "cat /srv/folder/file").strip() == "folder"
    assert machines.shell(AWS.id, "cat /root/user-data").split() == ["ran"], "cloud-init: once per instance"


def test_a_restart_shuts_the_machine_down_in_order(machines: Sandbox) -> None:
    boots = machines.client.call("machines.get", id=AWS.id)["boots"]
    machines.shell(
        AWS.id,
        "systemd-run -q -r -p 'ExecStop=sh -c \"echo stopped > /root/witness\"' true; ! test -e /root/witness",
    )
    machines.client.call("machines.restart", id=AWS.id)
    assert eventually(lambda: machines.running(AWS.id)["boots"] == boots + 1)
    assert machines.shell(AWS.id, "cat /root/witness").strip() == "stopped"


def test_the_startup_script_runs_on_every_boot(machines: Sandbox) -> None:
    boots = machines.client.call("machines.get", id=GCP.id)["boots"]
    machines.client.call("machines.kill", id=GCP.id)
    assert machines.running(GCP.id)["boots"] == boots + 1
    assert machines.shell(GCP.id, "cat /root/startup-script").split() == ["ran"] * (boots + 1)


def boothook(*lines: str) -> str:
    data = gzip.compress(("#cloud-boothook\n" + "\n".join(["#!/bin/sh", *lines, ""])).encode())
    return base64.b64encode(data).decode()


def test_changed_user_data_is_seen_at_the_next_boot_as_ec2s_cloud_init_sees_it(machines: Sandbox) -> None:
    ran, call = "cat /root/ran", machines.client.call
    note = 'echo one "$INSTANCE_ID" "$(tail -n 1 "$0")" >> /root/ran'
    spec = replace(AWS, id="i-hook", private_ipv4="203.0.113.9", public_ipv4=None, volumes={})
    spec = replace(spec, user_data=boothook(note, "exit # last"))
    machines.create(spec)
    assert machines.shell(spec.id, ran).splitlines() == ["one i-hook exit # last"]
    call("machines.kill", id=spec.id)
    machines.running(spec.id)
    assert machines.shell(spec.id, ran).splitlines() == ["one i-hook exit # last"] * 2
    # What starts services must not wait for them: nothing is up yet.
    early = "systemctl is-active sysinit.target network-online.target >> /root/ran || true"
    later = "systemctl start --no-block systemd-tmpfiles-clean.service"
    call("machines.update", spec=replace(spec, user_data=boothook(early, later)).to_json())
    assert len(machines.shell(spec.id, ran).splitlines()) == 2
    call("machines.restart", id=spec.id)
    machines.running(spec.id)
    assert machines.shell(spec.id, ran).splitlines()[2:] == ["inactive", "inactive"]
    assert eventually(
        lambda: "Finished" in machines.shell(spec.id, "journalctl -b -u systemd-tmpfiles-clean")
    )
    # A script would run at an instance's first boot only.
    call("machines.update", spec=replace(spec, user_data=script("echo never >> /root/ran")).to_json())
    call("machines.restart", id=spec.id)
    machines.running(spec.id)
    assert len(machines.shell(spec.id, ran).splitlines()) == 4
    call("machines.delete", id=spec.id)


def test_files_keep_owner_and_mode_and_the_authority_is_trusted(machines: Sandbox) -> None:
    assert machines.shell(AWS.id, "stat -c '%a %U %G' /etc/motd").strip() == "640 postfix postfix"
    assert machines.shell(AWS.id, "stat -c '%a %U' /etc /root").splitlines() == ["755 root", "700 root"]
    authority = machines.paths.state / "pki" / "ca.pem"
    assert authority.read_text() in machines.shell(AWS.id, "cat /etc/ssl/certs/ca-certificates.crt")
    keys = sorted((machines.paths.state / "pki").glob("*.key"))
    assert keys
    assert {oct(key.stat().st_mode & 0o777) for key in keys} == {"0o600"}


def test_a_volume_is_attached_to_a_running_machine(machines: Sandbox) -> None:
    spec = replace(GCP, volumes={"disk-1": "/dev/disk/by-id/google-data"})
    machines.client.call("machines.update", spec=spec.to_json())
    size = machines.shell(GCP.id, "blockdev --getsize64 /dev/disk/by-id/google-data")
    assert int(size) == 4 << 30
    with pytest.raises(Conflict, match="in use by machine 'mx-1'"):
        machines.client.call("machines.delete_volume", volume="disk-1")


def test_a_failed_unit_is_named(machines: Sandbox) -> None:
    spec = replace(
        AWS, id="i-bad", private_ipv4="203.0.113.6", public_ipv4=None, volumes={}, user_data=script("exit 3")
    )
    machines.create(spec)
    assert "cloud-final.service" in machines.client.call("machines.get", id="i-bad")["reason"]
    machines.client.call("machines.delete", id="i-bad")
    machines.client.call("machines.delete", id="i-bad")
    with pytest.raises(NotFound, match="no machine 'i-bad'"):
        machines.client.call("machines.get", id="i-bad")
    assert [trace for trace in traces(machines.paths) if "i-bad" in trace] == []


def test_a_machine_that_shuts_itself_down_stays_off(machines: Sandbox) -> None:
    spec = replace(AWS, id="i-off", private_ipv4="203.0.113.7", public_ipv4=None, volumes={})
    machines.create(spec)
    machines.execute("i-off", "systemctl", "--no-block", "poweroff")
    status = machines.client.call("machines.wait", id="i-off", states=["stopped"], timeout=30)
    assert (status["state"], status["boots"]) == ("stopped", 1)
    with pytest.raises(ControlError, match="does not run"):
        machines.execute("i-off", "true")
    machines.client.call("machines.delete", id="i-off")


def test_a_disk_with_a_limit_gets_full_and_the_machine_lives(machines: Sandbox) -> None:
    spec = replace(
        AWS, id="i-full", private_ipv4="203.0.113.8", public_ipv4=None, volumes={}, disk_limit=64 << 20
    )
    machines.create(spec)
    done = machines.execute("i-full", "dd", "if=/dev/zero", "of=/var/fill", "bs=1M", "count=200")
    assert done["code"] != 0
    assert "No space left on device" in done["stderr"]
    assert machines.execute("i-full", "sh", "-c", "head -c 2M /dev/zero > /etc/more")["code"] != 0
    assert machines.shell("i-full", "rm /var/fill; echo x > /etc/more; cat /etc/more").strip() == "x"
    machines.client.call("machines.kill", id="i-full")
    machines.running("i-full")
    assert machines.shell("i-full", "cat /etc/more; cat /root/user-data").split() == ["x", "ran"]
    machines.client.call("machines.delete", id="i-full")


def test_a_command_has_a_limit_in_time(machines: Sandbox) -> None:
    began = time.monotonic()
    with pytest.raises(ControlError, match=r"took longer than 0\.5 s"):
        machines.execute(AWS.id, "sleep", "60", timeout=0.5)
    assert time.monotonic() - began < 10
    assert eventually(lambda: machines.execute(AWS.id, "pgrep", "-x", "sleep")["code"] == 1)


def test_a_clash_is_refused(machines: Sandbox) -> None:
    with pytest.raises(Conflict, match=r"203\.0\.113\.4 belongs to machine 'i-one'"):
        machines.client.call("machines.create", spec=replace(AWS, id="i-two").to_json())
    with pytest.raises(Conflict, match="exists already, with another definition"):
        machines.client.call("machines.create", spec=replace(AWS, country="US").to_json())
    with pytest.raises(Conflict, match="region cannot be changed in place"):
        machines.client.call("machines.update", spec=replace(AWS, region="us-east-1").to_json())
    assert [m["id"] for m in machines.client.call("machines.list")] == [AWS.id, GCP.id]


def test_a_killed_daemon_finds_its_machines_again(machines: Sandbox) -> None:
    paths = machines.paths
    daemon = Process.load(paths.daemon_pid)
    assert daemon is not None
    before = leader(machines, AWS.id)
    assert daemon.send(signal.SIGKILL)
    assert daemon.wait(5)
    with pytest.raises(NotRunning, match="mailinfra sandbox up"):
        machines.client.call("status")
    with sandbox_lock(paths):
        start_cloud(paths, with_machines=True, progress=quiet, parts=())
    machines.running(AWS.id)
    assert leader(machines, AWS.id) == before, "the machine ran on"
    machines.client.call("machines.kill", id=AWS.id)
    machines.running(AWS.id)
    assert leader(machines, AWS.id) != before, "and is watched again"


def test_a_daemon_is_started_once(machines: Sandbox) -> None:
    pid = machines.client.call("status")["pid"]
    with sandbox_lock(machines.paths):
        with pytest.raises(BusyError, match=f"process {os.getpid()}"), sandbox_lock(machines.paths):
            pass
        start_cloud(machines.paths, with_machines=True, progress=quiet, parts=())
    assert machines.client.call("status")["pid"] == pid
    second = subprocess.run(
        [os.sys.executable, "-m", "mailinfra.sandbox.cloud", "--name", machines.paths.name, "--parts"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"runs already (process {pid})" in second.stderr
    assert machines.client.call("status")["pid"] == pid


@pytest.fixture
def second_sandbox(sandbox: Sandbox) -> Iterator[Paths]:
    """Another sandbox of the same user, beside the first."""
    paths = Paths.of("second")
    yield paths
    with sandbox_lock(paths):
        stop_cloud(paths)


def test_down_works_without_a_daemon_and_beside_another_sandbox(
    machines: Sandbox, second_sandbox: Paths
) -> None:
    paths = second_sandbox
    with sandbox_lock(paths):
        other = Sandbox(paths, start_cloud(paths, with_machines=True, progress=quiet, parts=()))
    other.create(AWS)
    daemon = Process.load(paths.daemon_pid)
    assert daemon is not None
    assert daemon.send(signal.SIGKILL)
    assert daemon.wait(5)
    assert len(traces(paths)) > 4
    assert leftovers(paths) != []
    with sandbox_lock(paths):
        stop_cloud(paths)
    assert traces(paths) == []
    assert leftovers(paths) == []
    assert machines.shell(AWS.id, "echo alive").strip() == "alive", "the first sandbox was not touched"


def test_without_machines_the_daemon_runs_all_the_same(sandbox: Sandbox, second_sandbox: Paths) -> None:
    with sandbox_lock(second_sandbox):
        client = start_cloud(second_sandbox, with_machines=False, progress=quiet, parts=())
    assert client.call("status")["machines_booted"] is False
    with pytest.raises(ControlError, match=r"no method 'machines\.list'"):
        client.call("machines.list")


def test_a_boot_that_does_not_end_fails_with_the_console(
    sandbox: Sandbox, cache: Path, tmp_path: Path
) -> None:
    paths = Paths("slow", tmp_path / "slow", cache)
    layers = rootfs.ensure("node", cache, quiet)
    network = Network(paths.id, layers[-1], StateFile(paths.folder("services") / "network.json"))
    network.start()
    supervisor = Supervisor(
        paths,
        network,
        layers=lambda _: layers,
        base_files={},
        authority="",
        boots_at_once=1,
        boot_limit=12,
        restart_delay=0.1,
    )
    spec = replace(AWS, volumes={}, files={}, user_data=script("echo I hang here > /dev/console; sleep 1000"))
    try:
        supervisor.create(spec)
        status = supervisor.wait(AWS.id, ["failed", "running"], 60)
        assert status.state == "failed"
        assert "did not finish its boot in 12 s" in status.reason
        assert "I hang here" in status.reason
    finally:
        supervisor.close(power_off=True)
        remove_all(paths.id)
    assert [trace for trace in traces(paths) if not trace.startswith("folder")] == []


def test_an_image_that_cannot_be_made_leaves_nothing(
    machines_can_boot: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rootfs, "sources", lambda: ["deb http://127.0.0.1:9/debian bookworm main"])
    steps: list[str] = []
    with pytest.raises(SandboxError, match=r"127\.0\.0\.1"):
        rootfs.ensure("node", tmp_path, lambda what, _: steps.append(what))
    # The first of its layers.
    assert "making the stock image" in steps
    assert_nothing_built(tmp_path)


def test_an_interrupted_image_leaves_nothing(machines_can_boot: None, tmp_path: Path) -> None:
    def interrupt(_what: str, seconds: float) -> None:
        if seconds > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rootfs.ensure("node", tmp_path, interrupt)
    assert_nothing_built(tmp_path)


def assert_nothing_built(cache: Path) -> None:
    assert [path.name for path in cache.iterdir() if path.suffix != ".log"] == []
    assert str(cache) not in Path("/proc/mounts").read_text()
    assert rootfs.cached("node", cache) is None
    lines = [
        (entry / "cmdline").read_bytes()
        for entry in Path("/proc").glob("[0-9]*")
        if (entry / "cmdline").exists()
    ]
    assert not [line for line in lines if str(cache).encode() in line]
