import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.status import (
    NOT_ENFORCED,
    MachineRow,
    SandboxStatus,
    TypeRow,
    live_types,
    resource_types,
    show,
)

MACHINE = MachineRow("edge-1.x.test", "aws", "eu-central-1", "running", "", "198.51.100.1", 1)


def resource(token: str, custom: bool = True) -> dict[str, object]:
    return {"type": token, "custom": custom}


def test_types_are_counted_and_called_live_only_where_something_acts() -> None:
    resources = [
        resource("aws:kms/key:Key"),
        resource("aws:kms/key:Key"),
        resource("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"),
        resource("aws:sns/topic:Topic"),
        resource("pulumi:providers:aws"),
        resource("mailinfra:index:MailFleet", custom=False),
    ]
    rows = resource_types({"deployment": {"resources": resources}}, live_types(Paths.of("none"), booted=True))
    assert rows == (
        TypeRow("aws:kms/key:Key", 2, True),
        TypeRow("aws:sns/topic:Topic", 1, False),
        TypeRow("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", 1, False),
    )


def test_an_empty_stack_has_no_types() -> None:
    assert resource_types({"deployment": {}}, frozenset()) == ()


def test_what_nothing_obeys_is_never_called_live() -> None:
    assert not live_types(Paths.of("none"), booted=True) & NOT_ENFORCED


@pytest.mark.parametrize(
    ("state", "health", "healthy"),
    [("running", "", True), ("running", "closed: 25", False), ("failed", "", False)],
)
def test_one_sick_machine_makes_the_whole_unhealthy(state: str, health: str, healthy: bool) -> None:
    assert SandboxStatus(True, (MACHINE, replace(MACHINE, state=state, health=health)), ()).healthy is healthy


def test_the_tables_and_the_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    status = SandboxStatus(
        True, (MACHINE,), (TypeRow("aws:kms/key:Key", 2, True), TypeRow("aws:x/y:Z", 3, False))
    )
    out = io.StringIO()
    show(status, Console(file=out, width=140), as_json=False)
    assert "serves" in out.getvalue() and "5 resources; 3 are recorded" in out.getvalue()
    show(status, Console(file=out), as_json=True)
    assert json.loads(capsys.readouterr().out)["types"][1] == {"type": "aws:x/y:Z", "count": 3, "live": False}


def test_without_machines_only_what_acts_by_itself_is_live() -> None:
    live = live_types(Paths.of("none"), booted=False)
    assert {"aws:kms/key:Key", "gcp:storage/bucket:Bucket"} <= live
    assert (
        not {"aws:ec2/instance:Instance", "aws:route53/record:Record", "gcp:dns/recordSet:RecordSet"} & live
    )


def test_servers_that_are_not_booted_are_said_to_be_recorded() -> None:
    out = io.StringIO()
    show(
        SandboxStatus(False, (), (TypeRow("aws:x/y:Z", 3, False),)),
        Console(file=out, width=140),
        as_json=False,
    )
    assert "No servers are booted here" in out.getvalue() and "Machines" not in out.getvalue()


@pytest.mark.parametrize(
    "token",
    [
        "aws:dlm/lifecyclePolicy:LifecyclePolicy",
        "aws:ebs/snapshot:Snapshot",
        "gcp:compute/snapshot:Snapshot",
        "gcp:compute/resourcePolicy:ResourcePolicy",
        "gcp:compute/diskResourcePolicyAttachment:DiskResourcePolicyAttachment",
    ],
)
def test_snapshots_are_live_where_there_are_volumes(token: str) -> None:
    assert token in live_types(Paths.of("none"), booted=True)
    assert token not in live_types(Paths.of("none"), booted=False)
