"""The stores of the running fleet and their vaults, for the tests that put mail in and take it out again."""

import json
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from mailinfra.sandbox.lifecycle import Sandbox
from mailinfra.sandbox.stores import region_stores
from tests.system.fleet import PROJECT, STACK

AMAZON, GOOGLE = "eu-central-1", "europe-west3"
"""Two stores of one zone; the vault of each is in the other's cloud."""
USERS = {AMAZON: "anna@example.test", GOOGLE: "chiara@example.test"}
"""A user of each of the two."""


@dataclass(frozen=True)
class Copies:
    """The stores of a fleet, and what one does with them."""

    sandbox: Sandbox

    def machine(self, region: str) -> str:
        """The machine of a region's mailbox node."""
        address = next(
            node.address.private_ipv4
            for node in self.sandbox.plan.nodes
            if node.region == region and "mailbox" in node.roles
        )
        machines = self.sandbox.control.call("machines.list")
        return next(str(item["id"]) for item in machines if item["private_ipv4"] == address)

    def run(self, region: str, script: str, timeout: float = 120) -> tuple[int, str]:
        """A shell script on a region's mailbox node: its exit code, and what it printed."""
        done = self.sandbox.control.call(
            "machines.execute",
            id=self.machine(region),
            command=["bash", "-euc", script],
            timeout=timeout,
        )
        return int(done["code"]), str(done["stdout"]) + str(done["stderr"])

    def shell(self, region: str, script: str, timeout: float = 120) -> str:
        """What a shell script prints that has to succeed."""
        code, text = self.run(region, script, timeout)
        assert code == 0, f"{script}\n{text}"
        return text

    def save(self, region: str, *markers: str, folder: str = "INBOX", user: str = "") -> None:
        """Put messages into the mailbox of a region's user; their Message-IDs are `<marker@x>`."""
        owner = user or USERS[region]
        self.shell(
            region,
            f"doveadm mailbox create -u {owner} '{folder}' 2>/dev/null || true\n"
            f"for m in {' '.join(markers)}; do "
            "printf 'From: a@b.test\\nMessage-ID: <%s@x>\\nSubject: %s\\n\\nHello\\n' "
            f"$m $m | doveadm save -u {owner} -m '{folder}'; done",
        )

    def found(self, region: str, marker: str, user: str = "") -> list[str]:
        """The folders in which there is a message whose subject begins with a marker, once for each."""
        owner = user or USERS[region]
        text = self.shell(region, f"doveadm -f json fetch -u {owner} 'mailbox hdr.subject' subject {marker}")
        return sorted(item["mailbox"] for item in json.loads(text or "[]"))

    def expunge(self, region: str, marker: str, user: str = "") -> None:
        """Delete messages for good."""
        self.shell(region, f"doveadm expunge -u {user or USERS[region]} mailbox '*' subject {marker}")

    def backup(self, region: str) -> dict[str, Any]:
        """The status after a run that was asked for."""
        # A second later, so that a point in time can be named between two runs.
        time.sleep(1.1)
        self.run(
            region,
            "touch /var/lib/mailinfra/backup/now\n"
            "while [[ -e /var/lib/mailinfra/backup/now ]]; do systemctl start mailinfra-backup || sleep 1; done",
            timeout=300,
        )
        status: dict[str, Any] = json.loads(self.shell(region, "cat /var/lib/mailinfra/backup/status.json"))
        time.sleep(1.1)
        return status

    def restore(self, *options: str, code: int = 0) -> str:
        """What `mailinfra restore` prints."""
        command = [
            str(Path(sys.executable).with_name("mailinfra")),
            "restore",
            "--name",
            self.sandbox.paths.name,
        ]
        done = subprocess.run(
            [*command, "--stack", STACK, "--project", str(PROJECT), *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def vault(self, region: str) -> dict[str, Any]:
        """What the nodes of a region are told of their vault."""
        stored = self.stores[region].get("backup/vault.json")
        assert stored
        found: dict[str, Any] = json.loads(stored.body)
        return found

    def kept(self, vault: dict[str, Any]) -> set[str]:
        """The objects in a vault at AWS."""
        pages = self.aws("s3", vault["region"]).get_paginator("list_objects_v2")
        return {
            item["Key"]
            for page in pages.paginate(Bucket=vault["bucket"])
            for item in page.get("Contents", ())
        }

    @property
    def stores(self) -> Any:
        """The control buckets."""
        return region_stores(self.sandbox.control, self.sandbox.stack.outputs()["regions"])

    def aws(self, service: str, region: str) -> Any:
        """An operator's client of the sandbox's AWS."""
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        endpoint = self.sandbox.control.call("aws.info")["endpoint"]
        return boto3.client(service, region_name=region, endpoint_url=endpoint, **keys)


def fresh() -> str:
    """A marker that nothing else has."""
    return f"m{secrets.token_hex(6)}"
