"""Cloudflare's DNS types. Which changes replace: the schemas of the Terraform provider
(https://github.com/cloudflare/terraform-provider-cloudflare, internal/services/{zone,dns_record,zone_dnssec}).
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from mailinfra.sandbox.control import NotFound
from mailinfra.sandbox.providers.base import Adapter, Call, Invoke, unique
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.diffs import Rules
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.schema import snake
from mailinfra.sandbox.providers.values import UNKNOWN, Object

if TYPE_CHECKING:
    from mailinfra.sandbox.providers.cloudflare.cloud import CloudflareCloud

_PROVIDER: Final = "cloudflare"
_FIELDS: Final = (
    "name",
    "type",
    "content",
    "data",
    "ttl",
    "priority",
    "proxied",
    "comment",
    "tags",
    "settings",
)
_TYPES: Final = frozenset(
    [
        "A",
        "AAAA",
        "CNAME",
        "MX",
        "NS",
        "OPENPGPKEY",
        "PTR",
        "TXT",
        "CAA",
        "CERT",
        "DNSKEY",
        "DS",
        "HTTPS",
        "LOC",
        "NAPTR",
        "SMIMEA",
        "SRV",
        "SSHFP",
        "SVCB",
        "TLSA",
        "URI",
    ]
)
_PRIORITY: Final = frozenset({"MX", "URI"})


def zone_id(name: str) -> str:
    """The sandbox's id of a zone: 32 hex digits, as Cloudflare's are, from its name."""
    return unique(f"zone {name.rstrip('.').lower()}", 32)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _names(cloud: "CloudflareCloud") -> dict[str, str]:
    """The names of Cloudflare's zones by their ids."""
    zones = cloud.control.call("dns.status")["zones"]
    return {zone_id(z["zone"]): z["zone"].rstrip(".") for z in zones if z["provider"] == _PROVIDER}


def _zone_name(cloud: "CloudflareCloud", identifier: str) -> str:
    try:
        return _names(cloud)[identifier]
    except KeyError:
        raise ProviderError(f"zoneId: found {identifier!r}; there is no zone with this id") from None


def _zone(cloud: "CloudflareCloud", name: str) -> Object | None:
    try:
        found: Object = cloud.control.call("dns.get_zone", provider=_PROVIDER, zone=name)
    except NotFound:
        return None
    return found


class Zone(Adapter):
    """`cloudflare.Zone`."""

    rules = Rules(replaces=frozenset({"account", "name"}))

    def create(self, call: Call) -> tuple[str, Object]:
        name = call.inputs["name"]
        if _zone(call.cloud, name) is not None:
            raise ProviderError(f"POST /zones: 400 Bad Request: {name} already exists (code 1061)")
        made = call.cloud.control.call("dns.put_zone", provider=_PROVIDER, zone=name)
        moment = _now()
        return zone_id(name), _zone_outputs(made) | {
            "createdOn": moment,
            "activatedOn": moment,
            "modifiedOn": moment,
        }

    def read(self, call: Call) -> Object | None:
        name = _names(call.cloud).get(call.id)
        found = _zone(call.cloud, name) if name else None
        if name is None or found is None:
            return None
        # A name is the same in any case and with or without the final dot.
        given = str(call.inputs.get("name", name))
        return _zone_outputs(found) | {"name": given if zone_id(given) == call.id else name}

    def update(self, call: Call) -> Object:
        return {}

    def delete(self, call: Call) -> None:
        call.cloud.control.call("dns.delete_zone", provider=_PROVIDER, zone=call.state["name"])


def _zone_outputs(zone: Object) -> Object:
    return {
        "nameServers": [server.rstrip(".") for server in zone["name_servers"]],
        "status": "active",
        "type": "full",
        "paused": False,
        "developmentMode": 0,
        "originalNameServers": [],
    }


class DnsRecord(Adapter):
    """`cloudflare.DnsRecord`: one record."""

    rules = Rules(replaces=frozenset({"zoneId", "type"}))
    volatile = frozenset({"modifiedOn"})

    def check(self, call: Call) -> list[Failure]:
        inputs = call.inputs
        failures = []
        kind = inputs.get("type")
        if kind != UNKNOWN and kind not in _TYPES:
            failures.append(Failure("type", f"found {kind!r}; allowed: {', '.join(sorted(_TYPES))}"))
        if ("content" in inputs) == ("data" in inputs):
            found = "both" if "content" in inputs else "neither"
            failures.append(Failure("content", f"found {found} of content and data; allowed: one of them"))
        if kind in _PRIORITY and "content" in inputs and "priority" not in inputs:
            failures.append(Failure("priority", f"found nothing; needed for {kind} records (0 to 65535)"))
        return failures

    def create(self, call: Call) -> tuple[str, Object]:
        made = self._put(call, {})
        moment = _now()
        return made["id"], self._outputs(made) | {"createdOn": moment, "modifiedOn": moment}

    def _put(self, call: Call, known: Object) -> Object:
        zone = _zone_name(call.cloud, call.inputs["zoneId"])
        record = _rest(call.inputs) | known
        stored: Object = call.cloud.control.call(
            "dns.put_record", provider=_PROVIDER, zone=zone, record=record
        )
        return stored

    def read(self, call: Call) -> Object | None:
        zone, record = call.state.get("zoneId"), call.id
        if not zone:  # an import, as `<zone id>/<record id>`
            zone, _, record = call.id.partition("/")
        name = _names(call.cloud).get(zone)
        if name is None:
            return None
        for stored in call.cloud.control.call("dns.list_records", provider=_PROVIDER, zone=name):
            if stored.get("id") == record:
                return self._outputs(stored) | _sdk(stored) | {"zoneId": zone}
        return None

    def update(self, call: Call) -> Object:
        return self._outputs(self._put(call, {"id": call.id})) | {"modifiedOn": _now()}

    def delete(self, call: Call) -> None:
        name = _names(call.cloud).get(call.state["zoneId"])
        if name is not None:
            call.cloud.control.call(
                "dns.delete_record", provider=_PROVIDER, zone=name, record={"id": call.id}
            )

    @staticmethod
    def _outputs(stored: Object) -> Object:
        return {
            "proxied": bool(stored.get("proxied", False)),
            "proxiable": stored["type"] in {"A", "AAAA", "CNAME"},
        }


def _rest(inputs: Object) -> Object:
    """The REST form of a record's inputs."""
    rest: dict[str, Any] = {field: inputs[field] for field in _FIELDS if field in inputs}
    if "data" in rest:
        rest["data"] = {snake(field): value for field, value in rest["data"].items()}
    return rest


def _sdk(record: Object) -> Object:
    """The reverse of `_rest`."""
    found: dict[str, Any] = {field: record[field] for field in _FIELDS if field in record}
    if found.get("data"):
        found["data"] = {_camel(field): value for field, value in found["data"].items()}
    return found


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


class ZoneDnssec(Adapter):
    """`cloudflare.ZoneDnssec`: signs a zone; its DS record is the one that PowerDNS has the key of."""

    rules = Rules(replaces=frozenset({"zoneId"}))
    volatile = frozenset(
        {
            "algorithm",
            "digest",
            "digestAlgorithm",
            "digestType",
            "ds",
            "flags",
            "keyTag",
            "keyType",
            "modifiedOn",
            "publicKey",
        }
    )

    def create(self, call: Call) -> tuple[str, Object]:
        return call.inputs["zoneId"], self._set(call) | {"modifiedOn": _now()}

    def _set(self, call: Call) -> Object:
        zone = _zone_name(call.cloud, call.inputs["zoneId"])
        signed = call.inputs.get("status", "active") == "active"
        call.cloud.control.call("dns.set_dnssec", provider=_PROVIDER, zone=zone, on=signed)
        return self._outputs(call, zone)

    @staticmethod
    def _outputs(call: Call, zone: str) -> Object:
        key = call.cloud.control.call("dns.zone_ds", provider=_PROVIDER, zone=zone)
        if not key["signed"]:
            return {"status": "disabled"}
        tag, algorithm, kind, digest = key["ds"].split()[-4:]
        return {
            "status": "active",
            "algorithm": algorithm,
            "digest": digest,
            "digestAlgorithm": "SHA256",
            "digestType": kind,
            "ds": f"{zone}. 3600 IN DS {tag} {algorithm} {kind} {digest}",
            "flags": key["flags"],
            "keyTag": int(tag),
            "keyType": "ECDSAP256SHA256",
            "publicKey": key["public_key"],
        }

    def read(self, call: Call) -> Object | None:
        zone = _names(call.cloud).get(call.id)
        return None if zone is None else self._outputs(call, zone) | {"zoneId": call.id}

    def update(self, call: Call) -> Object:
        return self._set(call) | {"modifiedOn": _now()}

    def delete(self, call: Call) -> None:
        zone = _names(call.cloud).get(call.id)
        if zone is not None:
            call.cloud.control.call("dns.set_dnssec", provider=_PROVIDER, zone=zone, on=False)


def get_zone(cloud: "CloudflareCloud", arguments: Object) -> Object:
    """`cloudflare.getZone`: by `zoneId` or by the name in `filter`."""
    identifier, wanted = arguments.get("zoneId"), arguments.get("filter", {}).get("name")
    if bool(identifier) == bool(wanted):
        raise ProviderError("getZone: one of zoneId and filter.name is needed")
    name = _zone_name(cloud, identifier) if identifier else str(wanted)
    zone = _zone(cloud, name)
    if zone is None:
        raise ProviderError(f"getZone: found no zone {name!r} at Cloudflare; create it or correct its name")
    found = zone_id(name)
    return _zone_outputs(zone) | {
        "id": found,
        "zoneId": found,
        "name": name.rstrip("."),
        "filter": arguments.get("filter"),
        "account": {"id": unique("account", 32), "name": "sandbox"},
        "cnameSuffix": "",
        "createdOn": "",
        "activatedOn": "",
        "modifiedOn": "",
        "originalDnshost": "",
        "originalRegistrar": "",
        "permissions": [],
        "vanityNameServers": [],
        "verificationKey": "",
    }


def get_zones(cloud: "CloudflareCloud", arguments: Object) -> Object:
    """`cloudflare.getZones`: all, or those of a name."""
    wanted = arguments.get("name")
    results = []
    for name in sorted(_names(cloud).values()):
        if wanted and wanted.rstrip(".") != name:
            continue
        zone = get_zone(cloud, {"zoneId": zone_id(name)})
        results.append({key: value for key, value in zone.items() if key not in {"filter", "zoneId"}})
    return {**arguments, "match": arguments.get("match", "all"), "results": results}


ADAPTERS: dict[str, Adapter] = {
    "cloudflare:index/zone:Zone": Zone(),
    "cloudflare:index/dnsRecord:DnsRecord": DnsRecord(),
    "cloudflare:index/zoneDnssec:ZoneDnssec": ZoneDnssec(),
}
FUNCTIONS: dict[str, Invoke] = {
    "cloudflare:index/getZone:getZone": get_zone,
    "cloudflare:index/getZones:getZones": get_zones,
}
