"""`mailinfra sandbox status`: what runs, how it is, and what stands behind each resource type."""

import json
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.table import Table

from mailinfra.sandbox.lifecycle import Sandbox, unhealthy
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.__main__ import CLOUDS

NOT_ENFORCED = frozenset(
    {
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        # Only whether port 25 may be left by is obeyed.
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
    }
)
"""Types that the emulated cloud takes and gives back, and that nothing obeys: they count as recorded."""
NEED_NO_MACHINES = frozenset({"aws:kms", "aws:s3", "gcp:kms", "gcp:storage"})
"""Modules that act by themselves; everything else needs booted machines: the servers and their network, the name
servers, the identities that only servers use."""


@dataclass(frozen=True)
class MachineRow:
    """One machine. `health` is empty when all that it should serve is there."""

    name: str
    kind: str
    region: str
    state: str
    health: str
    address: str
    boots: int


@dataclass(frozen=True)
class TypeRow:
    """One resource type of the stack: how many there are, and whether something stands behind them."""

    type: str
    count: int
    live: bool


@dataclass(frozen=True)
class SandboxStatus:
    """The whole picture. `booted` is false where servers are only recorded (no root, no Linux)."""

    booted: bool
    machines: tuple[MachineRow, ...]
    types: tuple[TypeRow, ...]

    @property
    def healthy(self) -> bool:
        """Whether there are machines, and every one runs and serves."""
        return self.booted and all(
            machine.state == "running" and not machine.health for machine in self.machines
        )


def collect(sandbox: Sandbox) -> SandboxStatus:
    """Look at everything now."""
    seen, booted = sandbox.control.call("status"), sandbox.booted
    wrong = unhealthy(sandbox) if booted else {}
    names = {node.address.private_ipv4: node.fqdn for node in sandbox.plan.nodes}
    machines = tuple(
        MachineRow(
            name=names.get(machine["private_ipv4"], machine["hostname"]),
            kind=machine["kind"],
            region=machine["region"],
            state=machine["state"],
            health=wrong.get(names.get(machine["private_ipv4"], ""), machine["reason"]),
            address=machine["public_ipv4"] or machine["private_ipv4"],
            boots=machine["boots"],
        )
        for machine in sorted(seen["machines"], key=lambda m: (m["kind"], m["hostname"]))
    )
    return SandboxStatus(
        booted, machines, resource_types(sandbox.stack.state(), live_types(sandbox.paths, booted=booted))
    )


def live_types(paths: Paths, *, booted: bool) -> frozenset[str]:
    """The resource types that something stands behind, with machines booted or without."""
    clouds = [import_module(f"mailinfra.sandbox.providers.{cloud}").cloud(paths) for cloud in CLOUDS]
    found = frozenset(token for cloud in clouds for token in cloud.adapters) - NOT_ENFORCED
    return found if booted else frozenset(t for t in found if t.split("/")[0] in NEED_NO_MACHINES)


def resource_types(state: dict[str, Any], live: Collection[str]) -> tuple[TypeRow, ...]:
    """The clouds' resource types in a stack's exported state, each with its count."""
    resources = state.get("deployment", {}).get("resources", [])
    custom = [r["type"] for r in resources if r.get("custom") and not r["type"].startswith("pulumi:")]
    return tuple(TypeRow(name, count, name in live) for name, count in sorted(Counter(custom).items()))


def show(status: SandboxStatus, console: Console, *, as_json: bool) -> None:
    """Print the status, as tables or as JSON."""
    if as_json:
        sys.stdout.write(json.dumps(asdict(status), indent=1) + "\n")
        return
    table = Table(
        "machine", "where", "state", "health", "address", "boots", title="Machines", title_justify="left"
    )
    for machine in status.machines:
        good = machine.state == "running" and not machine.health
        colour = "green" if good else "red"
        health = machine.health or "serves"
        table.add_row(
            machine.name,
            f"{machine.kind} {machine.region}".strip(),
            f"[{colour}]{machine.state}[/{colour}]",
            f"[{colour}]{health}[/{colour}]",
            machine.address,
            str(machine.boots),
        )
    if status.booted:
        console.print(table)
    else:
        console.print("No servers are booted here: they are recorded, and so is all that needs them.")
    types = Table("resource type", "number", "in the sandbox", title="Resources", title_justify="left")
    for row in status.types:
        types.add_row(
            row.type, str(row.count), "[green]live[/green]" if row.live else "[yellow]recorded[/yellow]"
        )
    console.print(types)
    recorded = sum(row.count for row in status.types if not row.live)
    console.print(
        f"{sum(row.count for row in status.types)} resources; {recorded} are recorded: "
        "their inputs are checked and kept, and nothing acts on them."
    )
