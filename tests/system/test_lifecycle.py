"""The running fleet's life: repeated, changed, crashed and set right again. Machines are real."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from mailinfra import probe
from mailinfra.errors import ConfigError
from mailinfra.fleet import Cloud, Role
from mailinfra.plan import NodePlan
from mailinfra.sandbox import lifecycle
from mailinfra.sandbox.aws.moto_server import PROCESS_FILE
from mailinfra.sandbox.control import ControlClient
from mailinfra.sandbox.lifecycle import Sandbox, unhealthy
from mailinfra.sandbox.paths import BusyError, SandboxError, sandbox_lock
from mailinfra.sandbox.processes import Process
from mailinfra.sandbox.status import collect
from tests.node_helpers import AWS_KEYS, until
from tests.system.copies import AMAZON, GOOGLE, Copies, fresh
from tests.system.fleet import PROJECT, STACK, UP_SECONDS, silent

pytestmark = [pytest.mark.system, pytest.mark.timeout(UP_SECONDS)]
SPARE = "us-central1"
"""The region that is taken away and brought back."""
LOST = "us-east-1"
"""The region that a server is deleted in."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A copy of the project whose config a test may change."""
    folder = tmp_path / "project"
    (folder / "stacks").mkdir(parents=True)
    shutil.copy(PROJECT / "Pulumi.yaml", folder)
    for name in ("__main__.py", f"Pulumi.{STACK}.yaml"):
        shutil.copy(PROJECT / "stacks" / name, folder / "stacks")
    yield folder


def change(project: Path, edit: Any) -> None:
    """Edit the fleet in the project's config."""
    path = project / "stacks" / f"Pulumi.{STACK}.yaml"
    document = yaml.safe_load(path.read_text())
    edit(document["config"]["mailinfra:fleet"])
    path.write_text(yaml.safe_dump(document))


def without_spare(fleet: dict[str, Any]) -> None:
    fleet["regions"] = [region for region in fleet["regions"] if region["region"] != SPARE]
    fleet["placement"]["rules"] = [rule for rule in fleet["placement"]["rules"] if rule["home"] != SPARE]


def operations(sandbox: Sandbox) -> dict[str, set[str]]:
    """What an `up` does: operation to the names of the resources; "same" left out."""
    done: dict[str, set[str]] = {}

    def note(event: dict[str, Any]) -> None:
        step = event.get("resOutputsEvent", {}).get("metadata")
        if step and step["op"] not in ("same", "read"):
            done.setdefault(step["op"], set()).add(step["urn"].rsplit("::", 1)[1])

    sandbox.stack.prepare()
    sandbox.stack.up(note)
    return done


def boots(sandbox: Sandbox) -> dict[str, int]:
    return {m["private_ipv4"]: m["boots"] for m in sandbox.control.call("machines.list")}


def test_a_second_up_has_nothing_to_do(fleet_sandbox: Sandbox) -> None:
    before = boots(fleet_sandbox)
    assert operations(fleet_sandbox) == {}
    assert boots(fleet_sandbox) == before


def test_the_status_shows_every_machine_and_type(fleet_sandbox: Sandbox) -> None:
    status = collect(fleet_sandbox)
    assert status.healthy
    assert {node.fqdn for node in fleet_sandbox.plan.nodes} < {machine.name for machine in status.machines}
    types = Counter({row.type: row.count for row in status.types})
    assert types["aws:ec2/instance:Instance"] + types["gcp:compute/instance:Instance"] == len(
        fleet_sandbox.plan.nodes
    )
    assert {row.type for row in status.types if not row.live} >= {
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    }
    assert all(row.live for row in status.types if "kms/key" in row.type or "instance:Instance" in row.type)


def test_a_refresh_of_running_servers_finds_nothing_changed(fleet_sandbox: Sandbox) -> None:
    before = boots(fleet_sandbox)
    fleet_sandbox.stack.prepare()
    # With this option a change that is found is an error.
    fleet_sandbox.stack.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes", "--stack", STACK)
    assert boots(fleet_sandbox) == before


def test_a_server_that_somebody_deleted_comes_back_with_its_mail(fleet_sandbox: Sandbox) -> None:
    node = next(n for n in fleet_sandbox.plan.nodes if n.region == LOST and Role.MAILBOX in n.roles)
    before, call = boots(fleet_sandbox), fleet_sandbox.control.call
    machine = server(fleet_sandbox, node)
    mark = secrets.token_hex(8)
    kept = f"echo {mark} >/srv/mail/{mark} && sync -f /srv/mail"
    assert call("machines.execute", id=machine, command=["sh", "-c", kept])["code"] == 0
    # As in the cloud's console: the engine hears nothing of it.
    ec2 = boto3.client("ec2", region_name=LOST, endpoint_url=call("aws.info")["endpoint"], **AWS_KEYS)
    ec2.terminate_instances(InstanceIds=[machine])
    call("machines.delete", id=machine)
    fleet_sandbox.stack.prepare()
    fleet_sandbox.stack.up(lambda _: None, refresh=True)
    lifecycle.wait_healthy(fleet_sandbox, lambda _: None)
    assert server(fleet_sandbox, node) != machine
    found = call("machines.execute", id=server(fleet_sandbox, node), command=["cat", f"/srv/mail/{mark}"])
    assert found["stdout"].strip() == mark
    after = boots(fleet_sandbox)
    assert {**after, node.address.private_ipv4: 1} == {**before, node.address.private_ipv4: 1}
    assert operations(fleet_sandbox) == {}


def forget_names(sandbox: Sandbox) -> None:
    """As when the TTLs have passed: a region whose HSM was lost signs with another key under its old selector, and
    resolvers that asked before keep the old one for that long."""
    call = sandbox.control.call
    for machine in call("machines.list"):
        done = call(
            "machines.execute", id=machine["id"], command=["systemctl", "try-restart", "unbound.service"]
        )
        assert done["code"] == 0, done


def server(sandbox: Sandbox, node: NodePlan) -> str:
    """The machine that is a node."""
    machines = sandbox.control.call("machines.list")
    return str(next(m["id"] for m in machines if m["private_ipv4"] == node.address.private_ipv4))


def test_a_weight_is_changed_in_place_and_no_server_notices(fleet_sandbox: Sandbox, project: Path) -> None:
    def heavier(fleet: dict[str, Any]) -> None:
        fleet["regions"][0]["weight"] = 200

    change(project, heavier)
    before = boots(fleet_sandbox)
    changed = operations(with_project(fleet_sandbox, project))
    assert set(changed) == {"update"} and all("-mx-aws-" in name for name in changed["update"]), changed
    assert boots(fleet_sandbox) == before
    assert set(operations(fleet_sandbox)) == {"update"}


SMALLER = 40_000_000
"""Another largest message than the fleet's own, in bytes."""


SUBMIT = """
cp -r /etc/postfix /run/submit
# On a node nobody may.
echo 'authorized_submit_users = root' >>/run/submit/main.cf
echo {to} | sendmail -C /run/submit -f {sender} {to}
rm -r /run/submit
"""
"""Puts a message that says its recipient into a node's queue."""


def shell(sandbox: Sandbox, node: NodePlan, command: str) -> str:
    """What a shell command prints on a node; it has to succeed."""
    arguments = ["bash", "-euo", "pipefail", "-c", command]
    done = sandbox.control.call("machines.execute", id=server(sandbox, node), command=arguments)
    assert done["code"] == 0, f"{node.fqdn}: {command}: {done}"
    return str(done["stdout"])


def limits(sandbox: Sandbox) -> dict[str, int]:
    """The largest message, as every node's Postfix knows it."""
    command = "postconf -h message_size_limit"
    return {node.fqdn: int(shell(sandbox, node, command)) for node in sandbox.plan.nodes}


def queued(sandbox: Sandbox, node: NodePlan) -> dict[str, tuple[str, str]]:
    """A node's queue: queue id to the queue's name (`deferred` is what waits for its next try) and recipient."""
    entries = [json.loads(line) for line in shell(sandbox, node, "postqueue -j").splitlines()]
    return {
        entry["queue_id"]: (entry["queue_name"], entry["recipients"][0]["address"])
        for entry in entries
        if entry["recipients"]
    }


@pytest.fixture
def waiting(fleet_sandbox: Sandbox) -> Iterator[dict[str, tuple[str, str]]]:
    """A message in every node's queue that cannot be delivered yet: host name to queue id and recipient."""
    domain, found = fleet_sandbox.plan.fleet.domains[0], {}
    for node in fleet_sandbox.plan.nodes:
        # Nobody's mail goes to where nobody listens, and is tried again: see relay_transport in main.cf.
        nobody = f"{secrets.token_hex(8)}@{domain}"
        shell(fleet_sandbox, node, SUBMIT.format(sender=f"postmaster@{domain}", to=nobody))
        key = until(
            lambda node=node, nobody=nobody: next(  # type: ignore[misc]
                (k for k, entry in queued(fleet_sandbox, node).items() if entry == ("deferred", nobody)), ""
            ),
            90,
            f"{node.fqdn}: the message is not put off",
        )
        found[node.fqdn] = key, nobody
    yield found
    for node in fleet_sandbox.plan.nodes:
        shell(fleet_sandbox, node, f"postsuper -d {found[node.fqdn][0]}")


def cloud_of(sandbox: Sandbox, node: NodePlan) -> Cloud:
    return sandbox.plan.region(node.region).cloud


def test_a_changed_limit_reaches_every_running_node_and_no_queue_is_lost(
    fleet_sandbox: Sandbox, project: Path, waiting: dict[str, tuple[str, str]]
) -> None:
    change(project, lambda fleet: fleet.setdefault("limits", {}).update(message_bytes=SMALLER))
    before, nodes = boots(fleet_sandbox), fleet_sandbox.plan.nodes
    assert set(limits(fleet_sandbox).values()) == {fleet_sandbox.plan.fleet.limits.message_bytes}
    lifecycle.up(fleet_sandbox.paths, project, STACK, silent())
    assert limits(fleet_sandbox) == {node.fqdn: SMALLER for node in nodes}
    # A server of AWS has to be off to be given another script; one of Google Cloud runs on.
    more = {node.address.private_ipv4: cloud_of(fleet_sandbox, node) is Cloud.AWS for node in nodes}
    after = boots(fleet_sandbox)
    assert after == {address: count + more.get(address, False) for address, count in before.items()}
    for node in nodes:
        key, nobody = waiting[node.fqdn]
        assert queued(fleet_sandbox, node)[key][1] == nobody
        assert f"\n{nobody}\n" in shell(fleet_sandbox, node, f"postcat -q {key}")
    assert operations(with_project(fleet_sandbox, project)) == {}
    assert boots(fleet_sandbox) == after


def test_a_bootstrap_that_fails_half_way_is_seen_and_tried_until_it_succeeds(fleet_sandbox: Sandbox) -> None:
    """Also the way back from the test before: the fleet as its config has it."""
    store = [node for node in fleet_sandbox.plan.nodes if Role.MAILBOX in node.roles]
    stuck = [next(node for node in store if cloud_of(fleet_sandbox, node) is cloud) for cloud in Cloud]
    in_the_way = "/etc/postfix/main.cf.new~"
    for node in stuck:
        shell(fleet_sandbox, node, f"mkdir {in_the_way}")
    assert set(operations(fleet_sandbox)) == {"update"}
    until(
        lambda: unhealthy(fleet_sandbox) == {node.fqdn: "bootstrap is activating" for node in stuck},
        300,
        "other nodes than these have no bootstrap",
    )
    for node in stuck:
        until(
            lambda node=node: (
                "restart counter is at 2"  # type: ignore[misc]
                in shell(fleet_sandbox, node, "journalctl -b -o cat -u mailinfra-bootstrap")
            ),
            90,
            f"{node.fqdn} does not try again",
        )
        console = fleet_sandbox.paths.state / "machines" / server(fleet_sandbox, node) / "console.log"
        assert f"{in_the_way}: Is a directory" in console.read_text(errors="replace")
        shell(fleet_sandbox, node, f"rmdir {in_the_way}")
    lifecycle.wait_healthy(fleet_sandbox, lambda _: None)
    assert set(limits(fleet_sandbox).values()) == {fleet_sandbox.plan.fleet.limits.message_bytes}
    assert operations(fleet_sandbox) == {}


def test_a_region_goes_and_comes_back_and_the_others_keep_running(
    fleet_sandbox: Sandbox, project: Path
) -> None:
    change(project, without_spare)
    others = [node for node in fleet_sandbox.plan.nodes if node.region != SPARE]
    before = boots(fleet_sandbox)
    copies = Copies(fleet_sandbox)
    assert copies.backup(SPARE)["error"] == ""
    vault = copies.vault(SPARE)
    held = copies.kept(vault)
    assert any(name.startswith(f"{SPARE}/store-1/") for name in held)
    smaller = lifecycle.up(fleet_sandbox.paths, project, STACK, silent())
    # Nobody can delete what is in its vault; so the vault stays, with the key that opens it.
    assert copies.kept(vault) == held
    key = copies.aws("kms", vault["region"]).describe_key(KeyId=vault["key"])["KeyMetadata"]
    assert key["KeyState"] == "Enabled"
    # Its neighbour's vault was in this region, and is another one now.
    assert copies.vault(LOST)["region"] != SPARE
    assert copies.backup(LOST)["error"] == ""
    kept = boots(fleet_sandbox)
    assert {node.address.private_ipv4 for node in others} <= set(kept)
    assert not [n for n in fleet_sandbox.plan.nodes if n.region == SPARE and n.address.private_ipv4 in kept]
    assert unhealthy(smaller) == {}
    lifecycle.up(fleet_sandbox.paths, PROJECT, STACK, silent())
    after = boots(fleet_sandbox)
    assert {n.address.private_ipv4: after[n.address.private_ipv4] for n in others} == {
        n.address.private_ipv4: before[n.address.private_ipv4] for n in others
    }
    assert unhealthy(fleet_sandbox) == {}
    again = copies.vault(SPARE)
    assert again["bucket"] != vault["bucket"]
    for region in (SPARE, LOST):
        status = copies.backup(region)
        assert status["error"] == ""
        assert status["last_verified"] >= status["last_success"]
    assert any(name.startswith(f"{SPARE}/store-1/") for name in copies.kept(again))
    assert copies.kept(vault) == held


def test_a_killed_cloud_is_put_right_by_the_next_up(fleet_sandbox: Sandbox) -> None:
    before = boots(fleet_sandbox)
    daemon = Process.load(fleet_sandbox.paths.daemon_pid)
    assert daemon is not None and daemon.send(signal.SIGKILL) and daemon.wait(10)
    lifecycle.up(fleet_sandbox.paths, PROJECT, STACK, silent())
    assert unhealthy(fleet_sandbox) == {}
    assert boots(fleet_sandbox).keys() == before.keys()


def test_an_aws_that_lost_all_is_filled_again_by_the_next_up(fleet_sandbox: Sandbox) -> None:
    before = boots(fleet_sandbox)
    copies, marker = Copies(fleet_sandbox), fresh()
    copies.save(AMAZON, marker)
    good = copies.backup(AMAZON)
    assert good["error"] == ""
    point = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    there, here = copies.vault(AMAZON), copies.vault(GOOGLE)
    aws = Process.load(fleet_sandbox.paths.state / "aws" / PROCESS_FILE)
    assert aws is not None and aws.send(signal.SIGKILL) and aws.wait(10)
    lifecycle.up(fleet_sandbox.paths, PROJECT, STACK, silent())
    assert unhealthy(fleet_sandbox) == {}
    after = boots(fleet_sandbox)
    assert after.keys() == before.keys()
    for node in fleet_sandbox.plan.nodes:
        if fleet_sandbox.plan.region(node.region).cloud is Cloud.GCP:
            assert after[node.address.private_ipv4] == before[node.address.private_ipv4]
    assert operations(fleet_sandbox) == {}
    forget_names(fleet_sandbox)
    # It is a mail system again, not only servers that run.
    found = probe.run(fleet_sandbox, silent(), ["residency.arrives", "signing.dkim", "published.dnssec"])
    assert found and [f"{row.claim}: {row.measured}: {row.detail}" for row in found if not row.ok] == []
    # The vault of the lost cloud's store is in the other cloud, and gives back what the store has lost; the other way
    # round the vault was lost, and there is a new one.
    assert copies.vault(AMAZON)["bucket"] == there["bucket"]
    text = copies.restore("--region", AMAZON, "--at", point, "--apply")
    assert good["last_success"] in text
    assert copies.found(AMAZON, marker) == ["INBOX"]
    assert copies.vault(GOOGLE)["bucket"] != here["bucket"]
    for region in (AMAZON, GOOGLE):
        assert copies.backup(region)["error"] == ""


def test_an_up_that_is_killed_half_way_is_finished_by_the_next(fleet_sandbox: Sandbox, project: Path) -> None:
    change(project, without_spare)
    command = [sys.executable, "-c", KILLED_HALF_WAY, fleet_sandbox.paths.name, str(project), STACK]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    lifecycle.up(fleet_sandbox.paths, PROJECT, STACK, silent())
    assert operations(fleet_sandbox) == {}
    assert unhealthy(fleet_sandbox) == {}


KILLED_HALF_WAY = """
import os, signal, sys
from pathlib import Path
from mailinfra.console import Steps
from mailinfra.sandbox import lifecycle
from mailinfra.sandbox.paths import Paths

def die(self, event):
    self.done += "resOutputsEvent" in event
    if self.done > 20:
        os.killpg(0, signal.SIGKILL)

os.setpgid(0, 0)
lifecycle.Counter.on_event = die
lifecycle.up(Paths.of(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Steps())
"""


def test_two_at_once_are_told_so(fleet_sandbox: Sandbox) -> None:
    with sandbox_lock(fleet_sandbox.paths), pytest.raises(BusyError, match=str(os.getpid())):
        lifecycle.up(fleet_sandbox.paths, PROJECT, STACK, silent())


def test_a_bad_config_is_refused_before_anything_is_touched(fleet_sandbox: Sandbox, project: Path) -> None:
    def foreign(fleet: dict[str, Any]) -> None:
        fleet["zones"]["eu"]["countries"] = ["FR"]

    change(project, foreign)
    with pytest.raises(ConfigError, match=r"regions\[0\]"):
        lifecycle.up(fleet_sandbox.paths, project, STACK, silent())
    assert operations(fleet_sandbox) == {}


def test_a_cloud_that_answers_an_error_leaves_an_up_that_can_be_repeated(
    fleet_sandbox: Sandbox, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(project, lambda fleet: fleet.setdefault("keys", {}).update(rotation_days=200))
    changed = with_project(fleet_sandbox, project)
    for fault in ("update aws:kms/key:Key error", "update aws:kms/key:Key die"):
        with monkeypatch.context() as patch:
            patch.setenv("MAILINFRA_SANDBOX_FAULTS", fault)
            with pytest.raises(SandboxError):
                operations(changed)
    assert "update" in operations(changed)
    assert set(operations(fleet_sandbox)) == {"update"}


def with_project(sandbox: Sandbox, project: Path) -> Sandbox:
    """The same sandbox with another copy of the project."""
    return replace(sandbox, stack=replace(sandbox.stack, project=project))


def test_the_control_socket_is_its_owners_alone(fleet_sandbox: Sandbox) -> None:
    assert ControlClient(fleet_sandbox.paths.control_socket).alive()
    assert fleet_sandbox.paths.control_socket.stat().st_mode & 0o777 == 0o600
    assert fleet_sandbox.people_file.stat().st_mode & 0o777 == 0o600
