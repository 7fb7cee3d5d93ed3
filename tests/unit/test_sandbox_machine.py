"""A machine's disk before its first boot; booting it is in the system tests."""

import base64
import os
import pwd
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mailinfra.sandbox import disks, machine
from mailinfra.sandbox.machine import Machine, NotRunningError
from mailinfra.sandbox.model import MachineFile, MachineSpec
from mailinfra.sandbox.paths import SandboxError

SPEC = MachineSpec(
    id="i-1",
    kind="aws",
    hostname="mx-1.eu.nodes.example.test",
    region="eu-central-1",
    country="DE",
    private_ipv4="203.0.113.4",
    user_data=base64.b64encode(b"\x1f\x8bdata").decode(),
)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    image = tmp_path / "image"
    for folder in ("etc/systemd/system", "lib/systemd/system", "etc/ssl/certs", "var/lib"):
        (image / folder).mkdir(parents=True)
    (image / "etc/ssl/certs/ca-certificates.crt").write_text("PUBLIC\n")
    (image / "lib/systemd/system/unbound.service").touch()
    (image / "lib/systemd/system/pdns@.service").touch()
    (image / "etc/systemd/system/google-startup-scripts.service").touch()
    me = pwd.getpwuid(os.getuid())
    (image / "etc/passwd").write_text(f"root:x:{me.pw_uid}:{me.pw_gid}::/:/\n")
    # Whoever runs the tests is this image's root.
    monkeypatch.setattr(disks.Overlay, "_owner", lambda *_: (me.pw_uid, me.pw_gid))
    return build(tmp_path, SPEC)


def build(tmp_path: Path, spec: MachineSpec) -> Machine:
    return Machine(
        spec,
        name="x-i-1",
        folder=tmp_path / "machines" / spec.id,
        volumes=tmp_path / "volumes",
        layers=(tmp_path / "image",),
        namespace=Path("/run/netns/x-i-1"),
    )


def read(made: Machine, path: str) -> str:
    return (made.upper / path).read_text()


def test_an_aws_machine_has_a_seed_for_cloud_init(made: Machine) -> None:
    made.prepare({}, "OURS\n")
    seed = "var/lib/cloud/seed/nocloud"
    assert read(made, f"{seed}/meta-data") == "instance-id: i-1\nlocal-hostname: mx-1\n"
    assert not (made.upper / "etc/cloud/cloud-init.disabled").exists()
    assert read(made, "etc/resolv.conf").startswith("nameserver 169.254.169.253\n")


def test_an_aws_machine_boots_with_the_user_data_that_it_has_by_now(made: Machine, tmp_path: Path) -> None:
    made.prepare({}, "OURS\n")
    for data in (b"\x1f\x8bdata", b"shorter"):
        made.spec = replace(SPEC, user_data=base64.b64encode(data).decode())
        [bind] = made._user_data_bind()
        source, _, target = bind.removeprefix("--bind-ro=").partition(":")
        assert target == "/var/lib/cloud/seed/nocloud/user-data"
        assert (Path(source).read_bytes(), Path(source).stat().st_mode & 0o777) == (data, 0o600)
    made.spec = replace(SPEC, user_data="")
    made._user_data_bind()
    assert (made.folder / "user-data").read_text() == "#cloud-config\n{}\n"
    assert build(tmp_path, replace(SPEC, id="g", kind="gcp"))._user_data_bind() == []


def test_a_gcp_machine_has_a_guest_agent_and_no_cloud_init(made: Machine, tmp_path: Path) -> None:
    other = build(tmp_path, replace(SPEC, id="g", kind="gcp"))
    other.prepare({}, "")
    assert (other.upper / "etc/cloud/cloud-init.disabled").exists()
    unit = other.upper / "etc/systemd/system/multi-user.target.wants/google-startup-scripts.service"
    assert unit.readlink() == Path("/etc/systemd/system/google-startup-scripts.service")
    assert "169.254.169.254 metadata.google.internal" in read(other, "etc/hosts")
    assert not (other.upper / "var/lib/cloud").exists()


def test_identity_and_authority(made: Machine) -> None:
    made.prepare({}, "OURS\n")
    assert read(made, "etc/hostname") == "mx-1\n"
    assert "127.0.1.1 mx-1.eu.nodes.example.test mx-1" in read(made, "etc/hosts")
    assert read(made, "etc/machine-id") == ""
    assert read(made, "etc/ssl/certs/ca-certificates.crt") == "PUBLIC\nOURS\n"


def test_files_and_units_are_laid_and_the_spec_goes_before_the_sandbox(made: Machine, tmp_path: Path) -> None:
    spec = replace(
        SPEC,
        id="o",
        kind="outside",
        files={"/etc/a": MachineFile.text("spec"), "/etc/systemd/system/own.timer": MachineFile.text("")},
        units=("unbound.service", "pdns@root.service", "own.timer"),
    )
    other = build(tmp_path, spec)
    other.prepare({"/etc/a": MachineFile.text("base"), "/etc/b": MachineFile.text("base", 0o600)}, "")
    assert (read(other, "etc/a"), read(other, "etc/b")) == ("spec", "base")
    wants = other.upper / "etc/systemd/system/multi-user.target.wants"
    assert (wants / "pdns@root.service").readlink() == Path("/lib/systemd/system/pdns@.service")
    assert (wants / "unbound.service").is_symlink()
    assert (wants.with_name("timers.target.wants") / "own.timer").is_symlink()
    with pytest.raises(
        SandboxError, match=r"unit 'no\.service': neither in the image nor among the machine's files"
    ):
        build(tmp_path, replace(spec, id="p", units=("no.service",))).prepare({}, "")


def test_a_disk_is_made_once_and_made_again_when_it_was_cut_short(made: Machine) -> None:
    made.prepare({}, "")
    (made.upper / "written").write_text("by the machine")
    made.prepare({}, "")
    assert read(made, "written") == "by the machine"
    (made.folder / "prepared").unlink()
    made.prepare({}, "")
    assert not (made.upper / "written").exists()


def test_a_machine_that_is_off(made: Machine) -> None:
    assert not made.running()
    assert not made.adopt()
    assert made.leader() is None
    assert made.wait_ended(0)
    assert made.console_tail() == ""
    made.kill()
    made.power_off(0.1)
    with pytest.raises(NotRunningError, match="machine i-1 does not run"):
        made.execute(["true"], 1)
    with pytest.raises(
        SandboxError, match="found '/srv/mail'; on a running machine allowed is a path under /dev/"
    ):
        made.attach_volume("v", "/srv/mail")


def test_the_consoles_end(made: Machine) -> None:
    made.folder.mkdir(parents=True)
    made.console.write_bytes(
        b"x" * 20000 + b"\n" + b"".join(b"line %d\r\n" % n for n in range(50)) + b"\xff end"
    )
    tail = made.console_tail(3)
    assert tail == "line 48\nline 49\n\ufffd end"


def test_control_groups_are_found_by_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("aaaaaa-one/payload", "bbbbbb-one", "system.slice/aaaaaa-two.scope"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(machine, "cgroup_roots", lambda: [tmp_path])
    assert sorted(machine.cgroups("aaaaaa")) == ["aaaaaa-one", "aaaaaa-two"]
    child = subprocess.Popen(["sleep", "60"])
    (tmp_path / "aaaaaa-one/payload/cgroup.procs").write_text(f"{child.pid}\n")
    # A kernel's control group empties itself; here the test does.
    threading.Thread(
        target=lambda: (child.wait(), (tmp_path / "aaaaaa-one/payload/cgroup.procs").unlink())
    ).start()
    machine.clean_up_machine("aaaaaa-one")
    assert child.returncode == -signal.SIGKILL
    machine.clean_up_machine("aaaaaa-two")
    assert list(machine.cgroups("aaaaaa")) == ["aaaaaa-two"], "a scope is the host's systemd's to remove"
