"""Compute Engine's snapshots of disks, and the resource policies that make them on a schedule.

Beside the provider's kinds there is the REST face that restores use, for the operator and whoever has the permission
(https://cloud.google.com/compute/docs/reference/rest/v1/snapshots): `disks.createSnapshot`, `snapshots.get`, `.list`
and `.delete`. Answers of changes are finished operations. A disk's snapshot takes its labels and name from who asks.
See `mailinfra.sandbox.schedules` for when schedules run.
"""

import logging
import re
import secrets
from datetime import datetime, timedelta
from typing import Final

from mailinfra.sandbox.gcp.compute import Compute, ComputeKind, held, snapshot_name
from mailinfra.sandbox.gcp.http import ApiError, Request, Router
from mailinfra.sandbox.gcp.identity import Resource
from mailinfra.sandbox.gcp.resources import COMPUTE, Kind, Resources, in_use, relative
from mailinfra.sandbox.gcp.store import Document, from_timestamp, now, timestamp
from mailinfra.sandbox.paths import SandboxError
from mailinfra.sandbox.schedules import done, last_due

_NAME: Final = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_log = logging.getLogger(__name__)


class Snapshot(ComputeKind):
    """A snapshot of a disk."""

    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        if before:
            return {}
        source = _disk_name(inputs["sourceDisk"], name.split("/")[1], inputs.get("zone", ""))
        disk = self.compute.find("disk", source)
        if not _NAME.fullmatch(name.rsplit("/", 1)[-1]):
            raise ApiError(400, f"Invalid value for field 'name': '{name}'", reason="invalid")
        if inputs.get("guestFlush"):
            raise ApiError(
                400, "guestFlush: the sandbox's servers have no agent that flushes.", reason="invalid"
            )
        region = source.split("/")[3].rsplit("-", 1)[0]
        return self.common(name, before) | {
            "sourceDisk": source,
            "diskSizeGb": disk["outputs"]["size"],
            "storageLocations": _list(inputs.get("storageLocations")) or [region],
            "kmsKey": disk["inputs"].get("diskEncryptionKey", {}).get("kmsKeySelfLink", ""),
            "autoCreated": bool(inputs.get("schedule")),
        }

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        if before is None and self.compute.machines is not None:
            outputs = document["outputs"]
            self.compute.machines.snapshot_volume(
                outputs["sourceDisk"].rsplit("/", 1)[-1], held(name), int(outputs["diskSizeGb"]) << 30
            )

    def remove(self, name: str, document: Document) -> None:
        if self.compute.machines is not None:
            self.compute.machines.delete_snapshot(held(name))


class ResourcePolicy(ComputeKind):
    """A policy: only snapshot schedules by the hour or the day do something here."""

    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        policy = inputs.get("snapshotSchedulePolicy")
        if policy is None:
            raise ApiError(
                400, "The sandbox has resource policies with a snapshotSchedulePolicy only.", reason="invalid"
            )
        try:
            last_due(*_times(policy), now())
        except (KeyError, ValueError) as error:
            raise ApiError(400, f"snapshotSchedulePolicy.schedule: {error}", reason="invalid") from error
        outputs = self.common(name, before)
        return outputs if before else outputs | {"since": timestamp(now()), "region": name.split("/")[3]}

    def user(self, name: str, document: Document) -> str | None:
        for attachment, found in self.compute.documents("diskPolicy"):
            if found["outputs"]["policy"] == name:
                return attachment
        return None


class DiskPolicy(ComputeKind):
    """A policy's attachment to a disk of its region; a disk has one snapshot schedule at most."""

    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        disk, _, policy = name.rpartition("/")
        _, project, _, zone, *_ = disk.split("/")
        region = zone.rsplit("-", 1)[0]
        self.compute.find("disk", disk)
        full = f"projects/{project}/regions/{region}/resourcePolicies/{policy}"
        self.compute.find("resourcePolicy", full)
        for other, found in self.compute.documents("diskPolicy"):
            if other != name and found["outputs"]["disk"] == disk:
                raise in_use(disk, other)
        return {"disk": disk, "policy": full, "project": project, "zone": zone}


def run(compute: Compute, resources: Resources, at: datetime) -> dict[str, list[str]]:
    """Do what the schedules have to do at a time: the names of the snapshots `made` and `expired`."""
    found: dict[str, list[str]] = {"made": [], "expired": []}
    for name, document in compute.documents("resourcePolicy"):
        try:
            found["made"] += _make(compute, resources, name, document, at)
            found["expired"] += _expire(compute, resources, name, document, at)
        except (ApiError, SandboxError):  # one policy's trouble is not the others'
            _log.exception("resource policy %s did not run", name)
    return found


def _make(compute: Compute, resources: Resources, name: str, document: Document, at: datetime) -> list[str]:
    schedule = document["inputs"]["snapshotSchedulePolicy"]
    if last_due(*_times(schedule), at) <= from_timestamp(document["outputs"]["since"]):
        return []
    properties = schedule.get("snapshotProperties", {})
    made = []
    for _, attachment in compute.documents("diskPolicy"):
        disk = attachment["outputs"]["disk"]
        if attachment["outputs"]["policy"] != name:
            continue
        _, project, _, zone, _, own = disk.split("/")
        short = f"{own[:24].rstrip('-')}-{zone[:14].rstrip('-')}-{at:%Y%m%d%H%M%S}-{secrets.token_hex(4)}"
        inputs = {
            "name": short,
            "sourceDisk": disk,
            "labels": properties.get("labels", {}),
            "storageLocations": properties.get("storageLocations"),
            "schedule": name,
        }
        resources.insert(
            "snapshot", snapshot_name(short, project), {k: v for k, v in inputs.items() if v}, at
        )
        made.append(short)
    document["outputs"]["since"] = done(at)
    compute.store.put("resourcePolicy", name, document)
    return made


def _expire(compute: Compute, resources: Resources, name: str, document: Document, at: datetime) -> list[str]:
    policy = document["inputs"]["snapshotSchedulePolicy"].get("retentionPolicy")
    if not policy:
        return []
    oldest = timestamp(at - timedelta(days=policy["maxRetentionDays"]))
    gone = []
    for snapshot, found in compute.documents("snapshot"):
        if found["inputs"].get("schedule") == name and found["outputs"]["creationTimestamp"] <= oldest:
            resources.remove("snapshot", snapshot)
            gone.append(snapshot.rsplit("/", 1)[-1])
    return gone


def _list(value: str | list[str] | None) -> list[str]:
    """A list that the provider's inputs flatten where it has one element at most (a schedule's locations)."""
    return [value] if isinstance(value, str) else value or []


def _times(policy: Document) -> tuple[str, int]:
    schedule = policy["schedule"]
    if hourly := schedule.get("hourlySchedule"):
        return hourly["startTime"], int(hourly["hoursInCycle"])
    if (daily := schedule.get("dailySchedule")) and daily["daysInCycle"] == 1:
        return daily["startTime"], 24
    raise ValueError("found neither hourlySchedule nor dailySchedule; the sandbox has these two")


def _disk_name(reference: str, project: str, zone: str) -> str:
    if "projects/" in reference:
        return relative(reference)
    return f"projects/{project}/zones/{zone.rsplit('/', 1)[-1]}/disks/{reference}"


def kinds(compute: Compute) -> dict[str, Kind]:
    """The kinds by their names in `/sandbox/KIND`."""
    return {
        "snapshot": Snapshot(compute),
        "resourcePolicy": ResourcePolicy(compute),
        "diskPolicy": DiskPolicy(compute),
    }


class SnapshotApi:
    """The REST face of snapshots."""

    def __init__(self, compute: Compute, resources: Resources) -> None:
        self._compute = compute
        self._resources = resources

    def routes(self, router: Router) -> None:
        """Adds the paths below `/compute/v1`."""
        project = "/compute/v1/projects/{project}"
        router.add("POST", f"{project}/zones/{{zone}}/disks/{{disk}}/createSnapshot", self._create)
        router.add("GET", f"{project}/global/snapshots", self._list)
        router.add("GET", f"{project}/global/snapshots/{{snapshot}}", self._get)
        router.add("DELETE", f"{project}/global/snapshots/{{snapshot}}", self._delete)

    def _require(self, request: Request, permission: str, project: str, name: str) -> None:
        resource = Resource(name, f"compute.googleapis.com/{name.split('/')[-2]}", (f"projects/{project}",))
        self._compute.identity.require(request.principal, f"compute.{permission}", resource)

    def _create(self, request: Request, project: str, zone: str, disk: str) -> Document:
        source = f"projects/{project}/zones/{zone}/disks/{disk}"
        body = request.json()
        self._require(request, "disks.createSnapshot", project, source)
        name = snapshot_name(str(body.get("name", "")), project)
        self._require(request, "snapshots.create", project, name)
        allowed = {"name", "description", "labels", "storageLocations", "guestFlush"}
        if unknown := sorted(body.keys() - allowed):
            raise ApiError(400, f"Unknown or unsupported name {unknown[0]!r}.", reason="invalid")
        self._resources.insert("snapshot", name, {**body, "sourceDisk": source})
        return _operation(name, "createSnapshot")

    def _list(self, request: Request, project: str) -> Document:
        self._require(request, "snapshots.list", project, snapshot_name("", project))
        found = self._compute.store.list("snapshot", snapshot_name("", project))
        return {"kind": "compute#snapshotList", "items": [_rest(name, document) for name, document in found]}

    def _get(self, request: Request, project: str, snapshot: str) -> Document:
        name = snapshot_name(snapshot, project)
        self._require(request, "snapshots.get", project, name)
        return _rest(name, self._resources.known("snapshot", name))

    def _delete(self, request: Request, project: str, snapshot: str) -> Document:
        name = snapshot_name(snapshot, project)
        self._require(request, "snapshots.delete", project, name)
        self._resources.remove("snapshot", name)
        return _operation(name, "delete")


def _rest(name: str, document: Document) -> Document:
    inputs, outputs = document["inputs"], document["outputs"]
    found = {
        "kind": "compute#snapshot",
        "id": outputs["number"],
        "name": name.rsplit("/", 1)[-1],
        "status": "READY",
        "selfLink": outputs["selfLink"],
        "creationTimestamp": outputs["creationTimestamp"],
        "sourceDisk": COMPUTE + outputs["sourceDisk"],
        "diskSizeGb": str(outputs["diskSizeGb"]),
        "storageLocations": outputs["storageLocations"],
        "autoCreated": outputs["autoCreated"],
        "labels": inputs.get("labels", {}),
    }
    if outputs["kmsKey"]:
        found["snapshotEncryptionKey"] = {"kmsKeyName": outputs["kmsKey"]}
    if schedule := inputs.get("schedule"):
        found["sourceSnapshotSchedulePolicy"] = COMPUTE + schedule
    return found


def _operation(name: str, kind: str) -> Document:
    return {
        "kind": "compute#operation",
        "operationType": kind,
        "targetLink": COMPUTE + name,
        "status": "DONE",
        "progress": 100,
    }
