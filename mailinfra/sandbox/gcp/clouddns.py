"""Cloud DNS's managed zones and record sets, served by the sandbox's DNS (service `dns`, provider `clouddns`)."""

import hashlib
from collections.abc import Callable
from typing import Any

from mailinfra.sandbox.gcp.http import ApiError
from mailinfra.sandbox.gcp.resources import COMPUTE, Kind, relative
from mailinfra.sandbox.gcp.store import Document, Store, now, timestamp

Call = Callable[..., Any]
"""Calls a method of the sandbox's DNS: `call("put_zone", provider=…, zone=…)`."""

ROUTED = frozenset({"A", "AAAA", "CNAME", "MX", "SRV", "TXT"})
"""Types that may have a routing policy (https://cloud.google.com/dns/docs/zones/manage-routing-policies)."""


def zone_name(reference: str, project: str) -> str:
    """A managed zone's full name from what an input says of it."""
    if "projects/" in reference:
        return relative(reference)
    return f"projects/{project}/managedZones/{reference}"


class ManagedZone(Kind):
    """A public zone. Private zones are kept and served to nobody."""

    def __init__(self, store: Store, call: Call) -> None:
        self._store = store
        self._call = call

    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        zone = inputs["dnsName"]
        if not zone.endswith("."):
            raise ApiError(
                400, f"Invalid value for 'entity.managedZone.dnsName': '{zone}' (it ends with a dot)"
            )
        if before:
            return {}
        for other, document in self._store.list("managedZone"):
            if document["inputs"]["dnsName"] == zone:
                raise ApiError(409, f"The sandbox serves a name once: '{other}' is {zone} already.")
        return {
            "managedZoneId": str(_number(name) % 10**18),
            "creationTime": timestamp(now()),
            "project": name.split("/")[1],
        }

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        if _private(document):
            return
        zone = document["inputs"]["dnsName"]
        made = self._call("put_zone", provider="clouddns", zone=zone)
        document["outputs"]["nameServers"] = made["name_servers"]
        self._call("set_dnssec", provider="clouddns", zone=zone, on=_signed(document))
        self._store.put("managedZone", name, document)

    def user(self, name: str, document: Document) -> str | None:
        for record, found in self._store.list("recordSet"):
            if found["outputs"]["zone"] == name:
                if document["inputs"].get("forceDestroy"):
                    self._store.delete("recordSet", record)
                    continue
                return record
        return None

    def remove(self, name: str, document: Document) -> None:
        if not _private(document):
            self._call("delete_zone", provider="clouddns", zone=document["inputs"]["dnsName"])


class RecordSet(Kind):
    """One set of records, plain or with a routing policy."""

    def __init__(self, store: Store, call: Call) -> None:
        self._store = store
        self._call = call

    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        project = name.split("/")[1]
        zone = zone_name(inputs["managedZone"], project)
        holder = self._store.get("managedZone", zone)
        if holder is None:
            raise ApiError(404, f"The 'parameters.managedZone' resource named '{zone}' does not exist.")
        apex = holder["inputs"]["dnsName"]
        if inputs["name"] != apex and not inputs["name"].endswith(f".{apex}"):
            raise ApiError(
                400, f"The 'entity.change.additions' name '{inputs['name']}' is not in the zone '{apex}'."
            )
        if ("rrdatas" in inputs) == ("routingPolicy" in inputs):
            raise ApiError(400, "Exactly one of rrdatas and routingPolicy is needed.")
        if "routingPolicy" in inputs and inputs["type"] not in ROUTED:
            raise ApiError(
                400, f"Routing policies are for {', '.join(sorted(ROUTED))}, not for {inputs['type']}."
            )
        return {"zone": zone, "dnsName": apex}

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        holder = self._store.get("managedZone", document["outputs"]["zone"])
        if holder is not None and not _private(holder):
            self._call(
                "put_record",
                provider="clouddns",
                zone=document["outputs"]["dnsName"],
                record=rest_record(document["inputs"]),
            )

    def remove(self, name: str, document: Document) -> None:
        holder = self._store.get("managedZone", document["outputs"]["zone"])
        if holder is not None and not _private(holder):
            self._call(
                "delete_record",
                provider="clouddns",
                zone=document["outputs"]["dnsName"],
                record=rest_record(document["inputs"]),
            )


def _private(document: Document) -> bool:
    return bool(document["inputs"].get("visibility") == "private")


def _signed(document: Document) -> bool:
    return bool(document["inputs"].get("dnssecConfig", {}).get("state") == "on")


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def rest_record(inputs: Document) -> Document:
    """The REST form (ResourceRecordSet) of the SDK's inputs."""
    record: Document = {"name": inputs["name"], "type": inputs["type"], "ttl": inputs.get("ttl", 300)}
    if "rrdatas" in inputs:
        record["rrdatas"] = inputs["rrdatas"]
    if policy := inputs.get("routingPolicy"):
        record["routingPolicy"] = _policy(policy)
    return record


def _policy(policy: Document) -> Document:
    rest: Document = {}
    if items := policy.get("wrrs"):
        rest["wrr"] = {"items": [_item(item) for item in items]}
    if items := policy.get("geos"):
        rest["geo"] = {
            "items": [_item(item) for item in items],
            "enableFencing": bool(policy.get("enableGeoFencing")),
        }
    if backup := policy.get("primaryBackup"):
        rest["primaryBackup"] = {
            "primaryTargets": _targets(backup["primary"]),
            "backupGeoTargets": {
                "items": [_item(item) for item in backup.get("backupGeos", ())],
                "enableFencing": bool(backup.get("enableGeoFencingForBackups")),
            },
            "trickleTraffic": backup.get("trickleRatio", 0),
        }
    if check := policy.get("healthCheck"):
        # A health check may be named by its id; the API knows it by its link.
        rest["healthCheck"] = COMPUTE + check.removeprefix(COMPUTE)
    return rest


def _item(item: Document) -> Document:
    rest: Document = {field: item[field] for field in ("weight", "location", "rrdatas") if field in item}
    if targets := item.get("healthCheckedTargets"):
        rest["healthCheckedTargets"] = _targets(targets)
    return rest


def _targets(targets: Document) -> Document:
    return {
        field: targets[field]
        for field in ("externalEndpoints", "internalLoadBalancers")
        if targets.get(field)
    }
