"""The bootstrap script: what it says for every set of roles, on both clouds."""

import gzip
import os
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailinfra.fleet import Cloud, Residency, Role, TlsVersion
from mailinfra.node.bootstrap import AWS_LIMIT, compressed, node_config, packages, render, revision
from mailinfra.node.pack import software
from mailinfra.node.spec import NodeSpec, SigningKey
from tests.node_helpers import node_spec

ALL = tuple(Role)
COMBINATIONS = [roles for size in range(1, len(ALL) + 1) for roles in combinations(ALL, size)]
GCP_KEY = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/dkim/cryptoKeyVersions/1"


def spec(roles: tuple[Role, ...], cloud: Cloud) -> NodeSpec:
    """A node with the issuer's work as well, which is the most that one can have."""
    groups = {f"group-{number}": tuple(f"name-{n}.eu.example.test" for n in range(6)) for number in range(4)}
    key = SigningKey("eu-central-1-1", GCP_KEY if cloud is Cloud.GCP else "arn:aws:kms:eu-central-1:1:key/2")
    found = node_spec(
        roles, cloud, ca_key="arn:aws:kms:eu-central-1:1:key/1", entitlements=groups, signing=key
    )
    return replace(found, endpoints={"kms": "https://kms.aws.test", "storage": "https://s3.aws.test"})


def files(script: str) -> dict[str, str]:
    """The files that a script writes, by path."""
    return dict(re.findall(r"^ *put (\S+) 0\d+ <<'END~'\n(.*?)END~$", script, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def scripts() -> dict[tuple[Cloud, tuple[Role, ...]], str]:
    return {(cloud, roles): render(spec(roles, cloud)) for cloud in Cloud for roles in COMBINATIONS}


def test_every_combination_fits_into_user_data(scripts: dict[tuple[Cloud, tuple[Role, ...]], str]) -> None:
    sizes = {
        roles: len(compressed(script)) for (cloud, roles), script in scripts.items() if cloud is Cloud.AWS
    }
    assert len(sizes) == 2 ** len(ALL) - 1
    assert max(sizes.values()) < AWS_LIMIT * 0.6


def test_bash_understands_every_combination(
    scripts: dict[tuple[Cloud, tuple[Role, ...]], str], tmp_path: Path
) -> None:
    paths = []
    for number, script in enumerate(scripts.values()):
        paths.append(tmp_path / f"{number}.sh")
        paths[-1].write_text(script)
        reload = files(script)["/usr/local/sbin/mailinfra-reload"]
        paths.append(tmp_path / f"{number}-reload.sh")
        paths[-1].write_text(reload)
    command = ["bash", "-c", 'for f; do bash -n "$f" || exit 1; done', "bash", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("cloud", Cloud)
def test_systemd_understands_the_units(cloud: Cloud, tmp_path: Path) -> None:
    written = files(render(spec(ALL, cloud)))
    units = {
        path.rpartition("/")[2]: text
        for path, text in written.items()
        if path.startswith("/etc/systemd/system/mail")
    }
    for name, text in units.items():
        # The programs are not on this machine.
        (tmp_path / name).write_text(
            re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
        )
    names = [str(tmp_path / name) for name in units if name.endswith((".service", ".timer"))]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False
    )
    assert not [line for line in done.stderr.splitlines() if "mailinfra" in line and "Unknown" in line], (
        done.stderr
    )


@pytest.mark.parametrize("cloud", Cloud)
def test_systemd_never_gives_a_service_up(cloud: Cloud) -> None:
    """Its default is to stop trying after five starts in ten seconds, until somebody logs in: nobody can."""
    written = files(render(spec(ALL, cloud)))
    services = {
        path: text
        for path, text in written.items()
        if path.startswith("/etc/systemd/system/mailinfra-") and path.endswith(".service")
    }
    tried_again = {
        path for path, text in services.items() if "\nRestart=" in text or f"{path[:-7]}path" in written
    }
    assert len(tried_again) >= 8
    for path in tried_again:
        unit, _, _ = services[path].partition("\n\n[Service]")
        assert unit.startswith("[Unit]\n")
        assert "StartLimitIntervalSec=0" in unit.splitlines(), path


@settings(max_examples=40)
@given(
    roles=st.sets(st.sampled_from(Role), min_size=1).map(lambda found: tuple(sorted(found))),
    cloud=st.sampled_from(Cloud),
    residency=st.sampled_from(Residency),
    clients=st.sampled_from(TlsVersion),
    message_bytes=st.integers(65_536, 157_286_400),
)
def test_same_spec_same_script(
    roles: tuple[Role, ...], cloud: Cloud, residency: Residency, clients: TlsVersion, message_bytes: int
) -> None:
    one = replace(spec(roles, cloud), residency=residency, clients_tls=clients, message_bytes=message_bytes)
    script = render(one)
    assert script == render(replace(one))
    assert compressed(script) == compressed(render(replace(one)))
    written = files(script)
    assert ("/etc/postfix/main.cf" in written) == bool(set(roles) - {Role.IMAP, Role.POP3})
    assert ("/etc/dovecot/dovecot.conf" in written) == bool(set(roles) - {Role.MX, Role.EGRESS})
    assert ("/etc/mailinfra/milter.json" in written) == (Role.SUBMISSION in roles)
    # A node that holds mail may have its vault in the other cloud.
    assert ("python3-boto3" in packages(one)) == (cloud is Cloud.AWS or Role.MAILBOX in roles)
    units = {path.rpartition("/")[2] for path in written if "mailinfra-backup" in path or "-restore" in path}
    wanted = {"mailinfra-backup.service", "mailinfra-backup.timer", "mailinfra-restore.service"}
    assert units == (wanted if Role.MAILBOX in roles else set())
    assert ("restic" in packages(one)) == (Role.MAILBOX in roles)
    if "/etc/postfix/main.cf" in written:
        assert f"message_size_limit = {message_bytes}\n" in written["/etc/postfix/main.cf"]
        for role, port in ((Role.MX, "smtp  "), (Role.MAILBOX, "2525"), (Role.EGRESS, "2526")):
            assert bool(
                re.search(
                    rf"^{port}", written["/etc/postfix/master.cf"].split("\nsmtp       unix")[0], re.MULTILINE
                )
            ) == (role in roles)


@pytest.mark.parametrize("device", ["/dev/sdf", ""])
def test_mail_waits_for_its_volume_where_there_is_one(device: str) -> None:
    script = render(replace(node_spec(["mailbox"]), data_device=device))
    waits = files(script)["/etc/systemd/system/dovecot.service.d/mailinfra.conf"]
    assert ("ConditionPathIsMountPoint=/srv/mail\n" in waits) is bool(device)
    # Mounting by fstab, with its nofail, would be no error where nothing is mounted.
    assert ('"$device" /srv/mail\n' in script) is bool(device)
    assert "\n  mount /srv/mail\n" not in script


def test_no_secret_and_no_template_is_left(scripts: dict[tuple[Cloud, tuple[Role, ...]], str]) -> None:
    for script in scripts.values():
        assert not re.search(r"PRIVATE KEY|aws_secret|AKIA|\{\{|\}\}\s|\{%|Undefined", script)
        assert software().sha256 in script


def test_ca_key_is_told_to_the_issuer_only() -> None:
    other = render(replace(spec((Role.MX,), Cloud.AWS), ca_key="", entitlements={}))
    assert "key/1" not in other
    assert "issuer" not in files(other)["/etc/systemd/system/mailinfra-agent.service"]


def test_a_file_cannot_end_its_own_here_document() -> None:
    with pytest.raises(ValueError, match=r"mta-sts\.txt.*END~"):
        render(replace(spec((Role.MX,), Cloud.AWS), mta_sts_policy="version: STSv1\nEND~\nrm -rf /\n"))


def test_submission_without_a_signing_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"submission.*no signing key"):
        render(replace(spec((Role.SUBMISSION,), Cloud.AWS), signing=None))


def test_too_large_is_refused_with_the_size() -> None:
    with pytest.raises(ValueError, match=r"has \d{5,} bytes compressed; AWS allows 16384"):
        compressed("".join(f"{number * 7919 % 100003}\n" for number in range(20000)))


def test_the_nodes_own_names_come_first() -> None:
    config = node_config(spec((Role.IMAP,), Cloud.GCP))
    assert config["names"] == ["edge-1.eu-central-1.nodes.example.test", "imap.eu.example.test"]
    assert config["entitlements"]["edge"] == ["imap.eu.example.test"]


@pytest.mark.parametrize("roles", COMBINATIONS)
def test_every_link_between_nodes_demands_certificates(
    roles: tuple[Role, ...], scripts: dict[tuple[Cloud, tuple[Role, ...]], str]
) -> None:
    written = files(scripts[Cloud.AWS, roles])
    services = re.split(r"\n(?=\S)", written.get("/etc/postfix/master.cf", ""))
    for service in services:
        name = service.partition(" ")[0]
        if name in ("2525", "2526"):
            for option in (
                "smtpd_tls_req_ccert=yes",
                "smtpd_tls_wrappermode=yes",
                "permit_tls_all_clientcerts, reject }",
            ):
                assert option in service
            assert "mandatory_protocols" not in service
        if name in ("home", "egress", "bounces"):
            for option in (
                "security_level=secure",
                "protocols=>=TLSv1.3",
                "CAfile=$fleet_ca",
                "chain_files=$fleet_chain",
            ):
                assert option in service
    if services[0]:
        assert "\nsmtpd_tls_mandatory_protocols = >=TLSv1.3\n" in written["/etc/postfix/main.cf"]
    if Role.MAILBOX in roles:
        for protocol in (Role.IMAP, Role.POP3):
            block = re.search(
                rf"^protocol {protocol} \{{(.*?)^\}}",
                written["/etc/dovecot/dovecot.conf"],
                re.DOTALL | re.MULTILINE,
            )
            assert block
            assert ("auth_ssl_require_client_cert = yes" in block[1]) == (protocol not in roles)


@pytest.mark.parametrize("roles", COMBINATIONS)
def test_nothing_relays_for_strangers(
    roles: tuple[Role, ...], scripts: dict[tuple[Cloud, tuple[Role, ...]], str]
) -> None:
    written = files(scripts[Cloud.AWS, roles])
    if "/etc/postfix/main.cf" not in written:
        return
    assert "\nsmtpd_relay_restrictions = reject_unauth_destination\n" in written["/etc/postfix/main.cf"]
    for service in re.split(r"\n(?=\S)", written["/etc/postfix/master.cf"]):
        if " smtpd\n" not in service:
            continue
        match = re.search(r"smtpd_relay_restrictions = (.*?) }", service)
        if service.startswith("127.0.0.1:"):
            assert not match or match[1] == "permit_mynetworks, reject"
        elif match:
            assert match[1].endswith(", reject")
            assert "mynetworks" not in match[1]


def test_tls_floors_are_the_specs() -> None:
    script = render(
        replace(spec(ALL, Cloud.AWS), clients_tls=TlsVersion.TLS12, internet_tls=TlsVersion.TLS13)
    )
    written = files(script)
    assert "\nsmtpd_tls_protocols = >=TLSv1.3\n" in written["/etc/postfix/main.cf"]
    assert written["/etc/postfix/master.cf"].count("smtpd_tls_mandatory_protocols=>=TLSv1.2") == 2
    assert "\nssl_min_protocol = TLSv1.2\n" in written["/etc/dovecot/dovecot.conf"]


@pytest.mark.parametrize("roles", COMBINATIONS)
def test_what_reads_mail_has_no_key_and_what_has_the_key_reads_no_mail(
    roles: tuple[Role, ...], scripts: dict[tuple[Cloud, tuple[Role, ...]], str]
) -> None:
    written = files(scripts[Cloud.AWS, roles])
    units = {name: f"/etc/systemd/system/mailinfra-{name}.service" for name in ("replica", "replicator")}
    mine = ("/etc/dovecot/mail.conf", *units.values())
    assert {path in written for path in mine} == {Role.MAILBOX in roles}
    if Role.MAILBOX not in roles:
        return
    gate, replicator = (written[path] for path in units.values())
    assert "\nUser=mailinfra\n" in gate and "/srv/mail" not in gate
    assert "\nUser=vmail\n" in replicator and "LoadCredential" not in replicator
    for unit in (gate, replicator):
        assert "\nCapabilityBoundingSet=\n" in unit
        assert "\nProtectSystem=strict\n" in unit
        assert "SupplementaryGroups" not in unit and "Group=" not in unit
    # doveadm as vmail cannot read the key, and ends where its configuration names one.
    assert "ssl" not in written["/etc/dovecot/mail.conf"]
    main = written["/etc/dovecot/dovecot.conf"]
    assert main.count("!include mail.conf\n") == 1
    # Dovecot takes a block's own setting for the later one only where the general one comes before.
    assert main.index("!include mail.conf\n") < main.index("\nprotocol imap {")


@pytest.mark.parametrize("device", ["/dev/sdf", ""])
def test_no_replica_is_written_below_the_place_of_its_volume(device: str) -> None:
    script = render(replace(node_spec(["mailbox"]), data_device=device))
    unit = files(script)["/etc/systemd/system/mailinfra-replicator.service"]
    assert ("ConditionPathIsMountPoint=/srv/mail\n" in unit) is bool(device)


def test_on_aws_it_is_a_boothook_for_scripts_run_once_in_an_instances_life() -> None:
    script = render(spec(ALL, Cloud.AWS))
    assert gzip.decompress(compressed(script)).decode() == f"#cloud-boothook\n{script}"
    # With the prefix off, which cloud-init takes off, it begins with what runs it.
    assert script.startswith("#!/bin/bash\n")


def test_a_revision_names_what_a_script_says() -> None:
    one, same, other = (
        render(replace(spec(ALL, Cloud.AWS), message_bytes=size)) for size in (100_000, 100_000, 100_001)
    )
    found = revision(one.encode())
    assert re.fullmatch("[0-9a-f]{16}", found)
    assert found == revision(compressed(one)) == revision(compressed(same)) != revision(compressed(other))
    # Whatever a config holds, it cannot pass for a revision: the script's own line is the first.
    planted = replace(spec((Role.MX,), Cloud.AWS), mta_sts_policy="revision=0123456789abcdef\n")
    assert revision(render(planted).encode()) != "0123456789abcdef"
    assert revision(b"") == revision(b"#!/bin/sh\ntrue\n") == ""


def test_only_google_cloud_needs_somebody_who_looks_for_a_new_script() -> None:
    units = {f"/etc/systemd/system/mailinfra-startup.{kind}" for kind in ("service", "timer")}
    assert not units & set(files(render(spec(ALL, Cloud.AWS))))
    script = render(spec(ALL, Cloud.GCP))
    assert units <= set(files(script))
    # Before anything that may fail, and that a new script may have to mend.
    install = script[: script.index("\nexec 9>")]
    assert units <= set(files(install))
    assert "start --no-block mailinfra-startup.timer" in install


class Installed:
    """The part of a script that the cloud runs, in a folder instead of the root, with a systemctl that only notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "run").mkdir()
        (folder / "bin").mkdir()
        self.systemctl('echo "$@" >>"$NOTES"')

    def systemctl(self, does: str) -> None:
        program = self.folder / "bin/systemctl"
        program.write_text(f"#!/bin/bash\n{does}\n")
        program.chmod(0o755)

    def start(self, script: str) -> subprocess.Popen[str]:
        for path in ("/etc/systemd/system", "/usr/local/sbin", "/run/mailinfra"):
            script = script.replace(path, f"{self.folder}{path}")
        (self.folder / "given").write_text(script)
        paths = f"{self.folder}/bin:{os.environ['PATH']}"
        environment = {"PATH": paths, "NOTES": str(self.folder / "notes")}
        return subprocess.Popen(
            ["bash", self.folder / "given"], env=environment, stdout=subprocess.PIPE, text=True
        )

    def run(self, script: str) -> tuple[int, str]:
        process = self.start(script)
        said, _ = process.communicate(timeout=20)
        return process.returncode, said

    def noted(self) -> list[str]:
        """What was asked of systemctl since the last time."""
        notes = self.folder / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return lines

    def begin(self, script: str) -> None:
        """As the bootstrap itself does."""
        (self.folder / "run/mailinfra-revision").write_text(revision(script.encode()) + "\n")


RESTART = "restart --no-block mailinfra-bootstrap.service"


@pytest.mark.parametrize("cloud", Cloud)
def test_a_script_that_is_new_is_laid_and_begun_and_one_that_was_begun_is_not(
    cloud: Cloud, tmp_path: Path
) -> None:
    installed = Installed(tmp_path)
    old, new = (render(replace(spec((Role.MX,), cloud), message_bytes=size)) for size in (100_000, 200_000))
    for script in (old, new, old):
        code, said = installed.run(script)
        assert (code, "mailinfra-bootstrap\n" in said) == (0, True)
        laid = (tmp_path / "usr/local/sbin/mailinfra-bootstrap").read_text()
        assert laid == (tmp_path / "given").read_text()
        assert installed.noted()[-1] == RESTART
        installed.begin(script)
        # A look once a minute must not end a run that takes longer.
        assert installed.run(script) == (0, "")
        assert installed.noted() == []


def test_what_failed_half_way_is_done_again_though_the_script_lies_there_already(tmp_path: Path) -> None:
    installed = Installed(tmp_path)
    old, new = (
        render(replace(spec((Role.MX,), Cloud.GCP), message_bytes=size)) for size in (100_000, 200_000)
    )
    installed.run(old)
    installed.begin(old)
    installed.noted()
    installed.systemctl('[[ $1 != enable ]] || exit 1; echo "$@" >>"$NOTES"')
    assert installed.run(new)[0] == 1
    assert RESTART not in installed.noted()
    installed.systemctl('echo "$@" >>"$NOTES"')
    assert installed.run(new) == (0, "")
    assert installed.noted()[-1] == RESTART


def test_it_is_laid_by_one_at_a_time(tmp_path: Path) -> None:
    installed, script = Installed(tmp_path), render(spec((Role.MX,), Cloud.GCP))
    busy = f"{tmp_path}/busy"
    # Who finds another one in it says so.
    installed.systemctl(f'mkdir {busy} || echo two >>"$NOTES"; sleep 0.05; rmdir {busy}')
    running = [installed.start(script) for _ in range(4)]
    for process in running:
        process.communicate(timeout=30)
    assert [process.returncode for process in running] == [0] * 4
    assert installed.noted() == []
