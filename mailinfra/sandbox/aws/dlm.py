"""Amazon Data Lifecycle Manager, which moto lacks: policies that make snapshots of tagged volumes and delete old ones.

As in AWS, a policy takes the volumes of its region with any of its target tags, and marks its snapshots with its id
and with when they expire (https://docs.aws.amazon.com/ebs/latest/userguide/dlm-elements.html). Supported: policies for
volumes, with intervals in hours and a retention by age or number. See `mailinfra.sandbox.schedules` for when they run.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from mailinfra.sandbox.context import StateFile
from mailinfra.sandbox.control import InvalidParams
from mailinfra.sandbox.schedules import done, last_due

POLICY_TAG = "aws:dlm:lifecycle-policy-id"
SCHEDULE_TAG = "aws:dlm:lifecycle-schedule-name"
EXPIRES_TAG = "aws:dlm:expirationTime"
CREATED_TAG = "sandbox:created"
"""When a snapshot was made, in the time of the run that made it, which may be a rehearsed one."""
START = "09:00"
"""When a schedule begins that names no time (CreateRule, `Times`: a time of the service's choice)."""
_AGES = {"DAYS": 1, "WEEKS": 7, "MONTHS": 30, "YEARS": 365}
"""Days."""
_STATES = ("ENABLED", "DISABLED")
Policy = dict[str, Any]
_log = logging.getLogger(__name__)


class LifecyclePolicies:
    """The policies of all regions, kept in `state`. `client` gives a boto3 client of EC2 in a region."""

    def __init__(self, state: StateFile, client: Callable[[str], Any]) -> None:
        self._state = state
        self._client = client
        self._lock = threading.RLock()

    def put(self, id: str, policy: Policy) -> None:
        """Make a policy, or change one: `region`, `state` and `details` as Pulumi's `policyDetails`.

        Raises `InvalidParams` for what the sandbox does not do.
        """
        check(policy)
        with self._lock:
            known = self._state.load()
            since = known.get(id, {}).get("since") or datetime.now(UTC).isoformat()
            self._state.save({**known, id: {**policy, "since": since}})

    def get(self, id: str) -> Policy | None:
        """The policy, or None."""
        found: Policy | None = self._state.load().get(id)
        return found

    def delete(self, id: str) -> None:
        """Remove a policy; its snapshots stay, as AWS has it. None there: no error."""
        with self._lock:
            known = self._state.load()
            known.pop(id, None)
            self._state.save(known)

    def clear(self) -> None:
        """Forget all: AWS has lost what it held."""
        self._state.save({})

    def run(self, at: datetime) -> dict[str, list[str]]:
        """Do what is due: the ids of the snapshots `made` and `expired`."""
        made: list[str] = []
        expired: list[str] = []
        with self._lock:
            for id, policy in sorted(self._state.load().items()):
                if policy["state"] != "ENABLED":
                    continue
                try:
                    api = self._client(policy["region"])
                    made += self._make(api, id, policy, at)
                    expired += _expire(api, id, policy["details"]["schedules"], at)
                except Exception:  # one region's trouble is not the others'
                    _log.exception("lifecycle policy %s did not run", id)
        return {"made": made, "expired": expired}

    def _make(self, api: Any, id: str, policy: Policy, at: datetime) -> list[str]:
        made = []
        since = datetime.fromisoformat(policy["since"])
        due = [item for item in policy["details"]["schedules"] if last_due(*_times(item), at) > since]
        for schedule in due:
            for volume in _volumes(api, policy["details"]["targetTags"]):
                tags = _tags(volume.get("Tags", []), schedule, id, at)
                specification = {
                    "ResourceType": "snapshot",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
                answer = api.create_snapshot(
                    VolumeId=volume["VolumeId"],
                    Description=f"Created for policy: {id} schedule: {schedule['name']}",
                    TagSpecifications=[specification],
                )
                made.append(str(answer["SnapshotId"]))
        if due:
            self._state.save({**self._state.load(), id: {**policy, "since": done(at)}})
        return made


def check(policy: Policy) -> None:
    """Raises `InvalidParams` for a policy that the sandbox cannot carry out."""
    details = policy.get("details") or {}
    wrong = [
        f"{name}: found {value!r}; the sandbox has {allowed}"
        for name, value, allowed, fits in (
            ("state", policy.get("state"), "ENABLED and DISABLED", policy.get("state") in _STATES),
            (
                "policyType",
                details.get("policyType"),
                "EBS_SNAPSHOT_MANAGEMENT",
                details.get("policyType") in (None, "EBS_SNAPSHOT_MANAGEMENT"),
            ),
            (
                "resourceTypes",
                details.get("resourceTypes"),
                "['VOLUME']",
                details.get("resourceTypes") == ["VOLUME"],
            ),
            ("targetTags", details.get("targetTags"), "one tag or more", bool(details.get("targetTags"))),
            (
                "schedules",
                details.get("schedules"),
                "one to four",
                1 <= len(details.get("schedules") or []) <= 4,
            ),
        )
        if not fits
    ]
    for number, schedule in enumerate(details.get("schedules") or []):
        keep = schedule.get("retainRule") or {}
        if bool(keep.get("count")) == bool(keep.get("interval")) or (
            keep.get("interval") and keep.get("intervalUnit") not in _AGES
        ):
            wrong.append(
                f"schedules[{number}].retainRule: found {keep!r}; "
                f"allowed: a count, or an interval in {', '.join(_AGES)}"
            )
        try:
            last_due(*_times(schedule), datetime.now(UTC))
        except (KeyError, TypeError, ValueError) as error:
            wrong.append(f"schedules[{number}].createRule: {error}")
        wrong += [
            f"schedules[{number}].{name}: found a value; the sandbox does not support it"
            for name in (
                "archiveRule",
                "crossRegionCopyRules",
                "deprecateRule",
                "fastRestoreRule",
                "shareRule",
            )
            if schedule.get(name)
        ]
    if wrong:
        raise InvalidParams("; ".join(wrong))


def _times(schedule: Policy) -> tuple[str, int]:
    rule = schedule["createRule"]
    if rule.get("cronExpression"):
        raise ValueError("found cronExpression; the sandbox has an interval in hours")
    times = rule.get("times")
    start = (times if isinstance(times, str) else times[0]) if times else START
    return start, int(rule["interval"])


def _volumes(api: Any, targets: dict[str, str]) -> list[Any]:
    found = {}
    for key, value in targets.items():
        for page in api.get_paginator("describe_volumes").paginate(
            Filters=[{"Name": f"tag:{key}", "Values": [value]}]
        ):
            found.update({volume["VolumeId"]: volume for volume in page["Volumes"]})
    return [volume for _, volume in sorted(found.items())]


def _tags(volume: list[dict[str, str]], schedule: Policy, id: str, at: datetime) -> dict[str, str]:
    tags = {tag["Key"]: tag["Value"] for tag in volume if not tag["Key"].startswith("aws:")}
    keep = schedule["retainRule"]
    own = {POLICY_TAG: id, SCHEDULE_TAG: schedule["name"], "dlm:managed": "true", CREATED_TAG: at.isoformat()}
    if keep.get("interval"):
        own[EXPIRES_TAG] = (at + timedelta(days=keep["interval"] * _AGES[keep["intervalUnit"]])).isoformat()
    return {**(tags if schedule.get("copyTags") else {}), **(schedule.get("tagsToAdd") or {}), **own}


def _expire(api: Any, id: str, schedules: list[Policy], at: datetime) -> list[str]:
    gone = []
    for schedule in schedules:
        for snapshot in _old(api, id, schedule, at):
            api.delete_snapshot(SnapshotId=snapshot)
            gone.append(snapshot)
    return gone


def _old(api: Any, id: str, schedule: Policy, at: datetime) -> Iterator[str]:
    """The snapshots of a schedule that it keeps no longer."""
    mine: dict[str, list[tuple[str, str]]] = {}
    filters = [
        {"Name": f"tag:{POLICY_TAG}", "Values": [id]},
        {"Name": f"tag:{SCHEDULE_TAG}", "Values": [schedule["name"]]},
    ]
    for page in api.get_paginator("describe_snapshots").paginate(Filters=filters):
        for snapshot in page["Snapshots"]:
            tags = {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]}
            if EXPIRES_TAG in tags:
                if datetime.fromisoformat(tags[EXPIRES_TAG]) <= at:
                    yield snapshot["SnapshotId"]
            else:
                mine.setdefault(snapshot["VolumeId"], []).append((tags[CREATED_TAG], snapshot["SnapshotId"]))
    if count := schedule["retainRule"].get("count"):
        for found in mine.values():
            yield from (snapshot for _, snapshot in sorted(found, reverse=True)[count:])
