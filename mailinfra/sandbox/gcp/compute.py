"""Compute Engine as the fleet uses it: networks, firewalls, addresses, disks, health checks, and servers that boot.

An instance is a machine of the sandbox; the firewall rules of its network become the machine's own, and follow every
change. External IPv4 addresses come from the upper half of 198.51.100.0/24, external IPv6 subnets from
2001:db8:8000::/35. Not enforced: egress firewall rules (port 25 out is always shut, as on Compute Engine), routes,
peering, organisation policies. A deny rule that would cut into an allow rule is refused, since the sandbox's firewalls
only allow.
"""

import base64
import ipaddress
import secrets
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from mailinfra.places import place
from mailinfra.sandbox.gcp.http import ApiError
from mailinfra.sandbox.gcp.identity import Identity, project_number
from mailinfra.sandbox.gcp.kms import key_resource
from mailinfra.sandbox.gcp.resources import COMPUTE, Kind, in_use, relative
from mailinfra.sandbox.gcp.store import Document, Store, now, timestamp
from mailinfra.sandbox.model import FirewallRule, MachineSpec

EXTERNAL_IPV4: Final = ipaddress.ip_network("198.51.100.128/25")
EXTERNAL_IPV6: Final = ipaddress.ip_network("2001:db8:8000::/35")
DISK_GIB: Final = 10
"""The size of Debian's image, which a disk has where none is asked for."""
_PROTOCOLS: Final = {
    "tcp": "tcp",
    "6": "tcp",
    "udp": "udp",
    "17": "udp",
    "icmp": "icmp",
    "1": "icmp",
    "58": "icmpv6",
    "ipv6-icmp": "icmpv6",
    "all": "all",
}


class Machines(Protocol):
    """What this needs of the sandbox's supervisor."""

    def create(self, spec: MachineSpec) -> Any: ...
    def update(self, spec: MachineSpec) -> Any: ...
    def adjust(self, spec: MachineSpec) -> Any: ...
    def delete(self, machine: str) -> None: ...
    def restart(self, machine: str) -> None: ...
    def delete_volume(self, volume: str) -> None: ...
    def snapshot_volume(self, volume: str, snapshot: str, size: int) -> None: ...
    def restore_volume(self, volume: str, snapshot: str, size: int) -> None: ...
    def delete_snapshot(self, snapshot: str) -> None: ...


class Names(Protocol):
    """What this needs of the sandbox's DNS."""

    def set_ptr(self, address: str, name: str | None) -> None: ...
    def set_location(self, network: str, region: str | None) -> None: ...
    def put_health_check(self, name: str, config: Document | None) -> None: ...


def gib(size: int) -> int:
    """Bytes of so many GiB, which Compute Engine calls GB."""
    return int(size) << 30


def last(reference: str) -> str:
    """The last part of a name or link."""
    return reference.rsplit("/", 1)[-1]


def snapshot_name(reference: str, project: str) -> str:
    """A snapshot's full name from what an input says of it."""
    return (
        relative(reference)
        if "projects/" in reference
        else f"projects/{project}/global/snapshots/{reference}"
    )


def held(snapshot: str) -> str:
    """How the sandbox's machines call what a snapshot holds."""
    return f"gcp-{last(snapshot)}"


def compute_agent(project: str) -> str:
    """The e-mail of Compute Engine's service agent, which uses the customer's keys for disks."""
    return f"service-{project_number(project)}@compute-system.iam.gserviceaccount.com"


class Compute:
    """The kinds of Compute Engine's resources over one store."""

    def __init__(self, store: Store, identity: Identity, machines: Machines | None, names: Names) -> None:
        self.store = store
        self.identity = identity
        self.machines = machines
        self.names = names
        self.applying = threading.RLock()
        """Held from reading the documents until the machines are as they say: the last to write is the last to read."""

    def kinds(self) -> dict[str, Kind]:
        """The kinds by their names in `/sandbox/KIND`."""
        return {
            "network": _Network(self),
            "subnetwork": _Subnetwork(self),
            "firewall": _Firewall(self),
            "address": _Address(self),
            "disk": _Disk(self),
            "attachedDisk": _AttachedDisk(self),
            "healthCheck": _HealthCheck(self),
            "instance": _Instance(self),
        }

    def documents(self, kind: str) -> Iterator[tuple[str, Document]]:
        """All of a kind."""
        yield from self.store.list(kind)

    def find(self, kind: str, name: str) -> Document:
        """The document that an input names. Raises ApiError 400, as a bad reference does."""
        document = self.store.get(kind, name)
        if document is None:
            raise ApiError(
                400, f"Invalid value: the referenced {kind} '{name}' does not exist.", reason="invalid"
            )
        return document

    def check_key(self, project: str, key: str | None) -> None:
        """Raises ApiError 400 unless the service agent may use the key."""
        if not key:
            return
        name = relative(key).partition("/cryptoKeyVersions/")[0]
        agent = f"serviceAccount:{compute_agent(project)}"
        for permission in ("useToEncrypt", "useToDecrypt"):
            if not self.identity.allowed(
                agent, f"cloudkms.cryptoKeyVersions.{permission}", key_resource(name)
            ):
                raise ApiError(
                    400,
                    f"Cloud KMS error when using key {name}: Permission 'cloudkms.cryptoKeyVersions.{permission}' "
                    f"denied on resource '{name}' (or it may not exist) for {compute_agent(project)}.",
                    reason="kmsPermissionDenied",
                )

    # Addresses

    def taken(self) -> set[str]:
        """Every address in use or reserved."""
        found = {d["outputs"]["address"] for _, d in self.documents("address")}
        for _, document in self.documents("instance"):
            found |= set(_addresses(document["outputs"]["networkInterfaces"]))
        return found

    def free_external(self) -> str:
        """A free external IPv4 address. Raises ApiError 403 when all are taken."""
        return self._free((str(a) for a in EXTERNAL_IPV4.hosts()), "external IPv4 addresses of the sandbox")

    def free_internal(self, subnetwork: Document) -> str:
        """A free internal IPv4 address of a subnetwork; Google keeps the first two and the last two."""
        hosts = list(ipaddress.ip_network(subnetwork["inputs"]["ipCidrRange"]))[2:-2]
        return self._free((str(a) for a in hosts), f"addresses of {subnetwork['inputs']['ipCidrRange']}")

    def free_ipv6(self, subnetwork: Document) -> str:
        """The first address of a free /96 of a subnetwork's external /64."""
        prefix = subnetwork["outputs"].get("externalIpv6Prefix")
        if not prefix:
            raise ApiError(400, "The subnetwork has no external IPv6 range (stackType, ipv6AccessType).")
        base = int(ipaddress.ip_network(prefix).network_address)
        return self._free(
            (str(ipaddress.ip_address(base + (n << 32))) for n in range(1, 1 << 12)),
            f"/96 ranges of {prefix}",
        )

    def _free(self, candidates: Iterable[str], what: str) -> str:
        taken = self.taken()
        for candidate in candidates:
            if candidate not in taken:
                return candidate
        raise ApiError(403, f"Quota exceeded: no more {what}.", reason="quotaExceeded")

    # Machines

    def refresh_machines(self, network: str | None = None) -> None:
        """Brings the machines of a network (all: None) to what the documents say."""
        if self.machines is None:
            return
        with self.applying:
            for name, document in self.documents("instance"):
                if network is None or document["outputs"]["network"] == network:
                    self.machines.adjust(self.spec(name, document))

    def refresh_machine(self, instance: str) -> None:
        """Brings one instance's machine to what the documents say."""
        found = self.store.get("instance", instance)
        if found and self.machines is not None:
            with self.applying:
                self.machines.adjust(self.spec(instance, found))

    def spec(self, name: str, document: Document) -> MachineSpec:
        """The machine behind an instance."""
        inputs, outputs = document["inputs"], document["outputs"]
        region = outputs["region"]
        card = outputs["networkInterfaces"][0]
        access: Document = next(iter(card.get("accessConfigs", ())), {})
        ipv6: Document = next(iter(card.get("ipv6AccessConfigs", ())), {})
        attributes = dict(inputs.get("metadata", {}))
        if script := inputs.get("metadataStartupScript"):
            attributes["startup-script"] = script
        return MachineSpec(
            id=last(name),
            kind="gcp",
            hostname=inputs.get("hostname") or last(name),
            region=region,
            country=place(region).country,
            private_ipv4=card["networkIp"],
            public_ipv4=access.get("natIp"),
            ipv6=ipv6.get("externalIpv6"),
            user_data=base64.b64encode(attributes.get("startup-script", "").encode()).decode(),
            metadata=self._metadata(name, document, attributes),
            firewall=self.firewall(name, document),
            egress_port_25=False,
            volumes=self._volumes(name, inputs),
            volume_bytes=self._volume_bytes(name, inputs),
            disk_limit=gib(inputs.get("bootDisk", {}).get("initializeParams", {}).get("size") or DISK_GIB),
        )

    def _metadata(self, name: str, document: Document, attributes: dict[str, str]) -> Document:
        """What `computeMetadata/v1/?recursive=true` answers (token and identity aside, which are made when asked)."""
        inputs, outputs = document["inputs"], document["outputs"]
        project = outputs["project"]
        number = int(project_number(project))
        account = inputs.get("serviceAccount", {})
        identity = {
            "aliases": ["default"],
            "email": account.get("email") or f"{number}-compute@developer.gserviceaccount.com",
            "scopes": account.get("scopes", []),
        }
        return {
            "instance": {
                "id": int(outputs["instanceId"]),
                "name": last(name),
                "hostname": inputs.get("hostname") or f"{last(name)}.{outputs['zone']}.c.{project}.internal",
                "zone": f"projects/{number}/zones/{outputs['zone']}",
                "machineType": f"projects/{number}/machineTypes/{last(inputs['machineType'])}",
                "image": "",
                "tags": inputs.get("tags", []),
                "attributes": attributes,
                "networkInterfaces": [
                    {
                        "ip": card["networkIp"],
                        "network": f"projects/{number}/networks/{last(outputs['network'])}",
                        "accessConfigs": [
                            {"externalIp": a["natIp"], "type": "ONE_TO_ONE_NAT"}
                            for a in card.get("accessConfigs", ())
                        ],
                        "ipv6s": [a["externalIpv6"] for a in card.get("ipv6AccessConfigs", ())],
                    }
                    for card in outputs["networkInterfaces"]
                ],
                "serviceAccounts": {"default": identity, identity["email"]: identity} if account else {},
            },
            "project": {"projectId": project, "numericProjectId": number, "attributes": {}},
        }

    def _volumes(self, name: str, inputs: Document) -> dict[str, str]:
        attached = {
            relative(d["source"]): d.get("deviceName") or f"persistent-disk-{i}"
            for i, d in enumerate(inputs.get("attachedDisks", ()), 1)
        }
        for _, document in self.documents("attachedDisk"):
            if document["outputs"]["instance"] == name:
                attached[document["outputs"]["disk"]] = document["outputs"]["deviceName"]
        return {last(disk): f"/dev/disk/by-id/google-{device}" for disk, device in attached.items()}

    def _volume_bytes(self, name: str, inputs: Document) -> dict[str, int]:
        attached = self._volumes(name, inputs)
        return {
            last(disk): gib(document["outputs"]["size"])
            for disk, document in self.documents("disk")
            if last(disk) in attached
        }

    # Firewalls

    def firewall(self, name: str, document: Document) -> tuple[FirewallRule, ...]:
        """What may come in to an instance: its network's rules that aim at it, in order of their names."""
        network = document["outputs"]["network"]
        found: list[FirewallRule] = []
        for _, rule in self.documents("firewall"):
            inputs = rule["inputs"]
            if (
                rule["outputs"]["network"] != network
                or inputs.get("direction", "INGRESS") != "INGRESS"
                or inputs.get("disabled")
                or not _aims_at(inputs, document)
            ):
                continue
            sources = tuple(self._sources(inputs, network))
            for allow in inputs.get("allows", ()):
                protocol = _PROTOCOLS[allow["protocol"]]
                for ports in allow.get("ports") or [None]:
                    found.append(FirewallRule(protocol, _ports(ports), sources))  # type: ignore[arg-type]
        return tuple(found)

    def _sources(self, inputs: Document, network: str) -> Iterator[str]:
        tags = set(inputs.get("sourceTags", ()))
        accounts = set(inputs.get("sourceServiceAccounts", ()))
        if not (inputs.get("sourceRanges") or tags or accounts):
            yield from ("0.0.0.0/0", "::/0")
        yield from inputs.get("sourceRanges", ())
        for _, document in self.documents("instance"):
            peer = document["inputs"]
            if document["outputs"]["network"] == network and (
                tags & set(peer.get("tags", ())) or peer.get("serviceAccount", {}).get("email") in accounts
            ):
                for address in _addresses(document["outputs"]["networkInterfaces"]):
                    yield f"{address}/{128 if ':' in address else 32}"


def _ports(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, final = text.partition("-")
    return int(first), int(final or first)


def _aims_at(inputs: Document, instance: Document) -> bool:
    tags, accounts = inputs.get("targetTags"), inputs.get("targetServiceAccounts")
    if not tags and not accounts:
        return True
    return bool(
        set(tags or ()) & set(instance["inputs"].get("tags", ()))
        or instance["inputs"].get("serviceAccount", {}).get("email") in (accounts or ())
    )


def _addresses(cards: list[Document]) -> Iterator[str]:
    for card in cards:
        yield card["networkIp"]
        yield from (a["natIp"] for a in card.get("accessConfigs", ()))
        yield from (a["externalIpv6"] for a in card.get("ipv6AccessConfigs", ()))


class ComputeKind(Kind):
    """A kind with what all of Compute Engine's have in common."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute

    @staticmethod
    def common(name: str, before: Document | None) -> Document:
        """Link, number and time of a resource."""
        if before:
            return {}
        return {
            "selfLink": COMPUTE + name,
            "project": name.split("/")[1],
            "creationTimestamp": timestamp(now()),
            "number": str(secrets.randbelow(9 * 10**18) + 10**18),
        }


def _network_of(inputs: Document, name: str) -> str:
    reference = inputs["network"]
    if "projects/" in reference:
        return relative(reference)
    return f"projects/{name.split('/')[1]}/global/networks/{reference}"


class _Network(ComputeKind):
    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        if inputs.get("autoCreateSubnetworks", True):
            raise ApiError(
                400,
                "autoCreateSubnetworks: the sandbox has custom mode only; set it to false",
                reason="invalid",
            )
        return self.common(name, before)

    def user(self, name: str, document: Document) -> str | None:
        for kind in ("subnetwork", "firewall", "instance"):
            for other, found in self.compute.documents(kind):
                if found["outputs"].get("network") == name:
                    return other
        return None


class _Subnetwork(ComputeKind):
    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        network = _network_of(inputs, name)
        self.compute.find("network", network)
        try:
            mine = ipaddress.ip_network(inputs.get("ipCidrRange", ""))
        except ValueError as error:
            raise ApiError(400, f"ipCidrRange: {error}", reason="invalid") from error
        prefixes = set()
        for other, document in self.compute.documents("subnetwork"):
            prefixes.add(document["outputs"].get("externalIpv6Prefix"))
            if (
                other != name
                and document["outputs"]["network"] == network
                and mine.overlaps(ipaddress.ip_network(document["inputs"]["ipCidrRange"]))
            ):
                raise ApiError(
                    400,
                    f"Invalid IPCidrRange: {mine} conflicts with existing subnetwork '{other}'.",
                    reason="invalid",
                )
        outputs = self.common(name, before) | {
            "network": network,
            "region": name.split("/")[3],
            "gatewayAddress": str(mine[1]),
        }
        if inputs.get("stackType") == "IPV4_IPV6" and inputs.get("ipv6AccessType") == "EXTERNAL":
            kept = before["outputs"].get("externalIpv6Prefix") if before else None
            outputs["externalIpv6Prefix"] = kept or next(
                str(prefix) for prefix in EXTERNAL_IPV6.subnets(new_prefix=64) if str(prefix) not in prefixes
            )
            outputs["ipv6CidrRange"] = outputs["externalIpv6Prefix"]
        return outputs

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        if prefix := document["outputs"].get("externalIpv6Prefix"):
            self.compute.names.set_location(prefix, document["outputs"]["region"])

    def user(self, name: str, document: Document) -> str | None:
        for kind in ("instance", "address"):
            for other, found in self.compute.documents(kind):
                if found["outputs"].get("subnetwork") == name:
                    return other
        return None

    def remove(self, name: str, document: Document) -> None:
        if prefix := document["outputs"].get("externalIpv6Prefix"):
            self.compute.names.set_location(prefix, None)


class _Firewall(ComputeKind):
    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        network = _network_of(inputs, name)
        self.compute.find("network", network)
        if bool(inputs.get("allows")) == bool(inputs.get("denies")):
            raise ApiError(400, "Exactly one of allow and deny is needed.", reason="invalid")
        if inputs.get("targetTags") and inputs.get("targetServiceAccounts"):
            raise ApiError(
                400, "Target tags and target service accounts exclude each other.", reason="invalid"
            )
        for rule in [*inputs.get("allows", ()), *inputs.get("denies", ())]:
            if rule["protocol"] not in _PROTOCOLS:
                raise ApiError(
                    400,
                    f"Protocol {rule['protocol']!r}: the sandbox has {', '.join(sorted(_PROTOCOLS))}",
                    reason="invalid",
                )
            for ports in rule.get("ports", ()):
                bounds = _checked_ports(ports)
                if bounds is None or rule["protocol"] not in {"tcp", "udp", "6", "17"}:
                    raise ApiError(
                        400, f"Invalid port or range {ports!r} for {rule['protocol']}.", reason="invalid"
                    )
        for source in inputs.get("sourceRanges", ()):
            try:
                ipaddress.ip_network(source)
            except ValueError as error:
                raise ApiError(400, f"sourceRanges: {error}", reason="invalid") from error
        self._check_denies(name, inputs, network)
        return self.common(name, before) | {"network": network}

    def _check_denies(self, name: str, inputs: Document, network: str) -> None:
        rules = {
            other: d["inputs"]
            for other, d in self.compute.documents("firewall")
            if d["outputs"]["network"] == network
        }
        rules[name] = inputs
        ingress = {
            n: r
            for n, r in rules.items()
            if r.get("direction", "INGRESS") == "INGRESS" and not r.get("disabled")
        }
        for deny_name, deny in ingress.items():
            for allow_name, allow in ingress.items():
                if (
                    deny.get("denies")
                    and allow.get("allows")
                    and deny.get("priority", 1000) <= allow.get("priority", 1000)
                ):
                    raise ApiError(
                        400,
                        f"The deny rule {last(deny_name)} comes before the allow rule {last(allow_name)}: the sandbox "
                        "only supports deny rules of a lower priority than every allow rule of their network",
                        reason="invalid",
                    )

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        self.compute.refresh_machines(document["outputs"]["network"])

    def remove(self, name: str, document: Document) -> None:
        # Its document must be gone before the machines' rules are made anew.
        self.compute.store.delete("firewall", name)
        self.compute.refresh_machines(document["outputs"]["network"])


def _checked_ports(text: str) -> tuple[int, int] | None:
    first, dash, final = text.partition("-")
    if not first.isdigit() or (dash and not final.isdigit()):
        return None
    low, high = int(first), int(final or first)
    return (low, high) if 0 <= low <= high <= 65535 else None


class _Address(ComputeKind):
    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        if before:
            return {}
        outputs = self.common(name, before)
        external = inputs.get("addressType", "EXTERNAL") == "EXTERNAL"
        if "/regions/" in name:
            outputs["region"] = name.split("/")[3]
        ipv6 = inputs.get("ipVersion") == "IPV6" or inputs.get("ipv6EndpointType")
        if external and not ipv6:
            if inputs.get("address"):
                raise ApiError(400, "address: an external address cannot be chosen.", reason="invalid")
            return outputs | {"address": self.compute.free_external()}
        subnetwork = self._subnetwork(name, inputs)
        document = self.compute.find("subnetwork", subnetwork)
        outputs |= {"subnetwork": subnetwork}
        if ipv6:
            return outputs | {"address": self.compute.free_ipv6(document), "prefixLength": 96}
        wanted = inputs.get("address")
        if wanted and ipaddress.ip_address(wanted) not in ipaddress.ip_network(
            document["inputs"]["ipCidrRange"]
        ):
            raise ApiError(
                400, f"Requested internal IP address {wanted} is not in the subnetwork.", reason="invalid"
            )
        if wanted and wanted in self.compute.taken():
            raise ApiError(409, f"IP address {wanted} is in use.", reason="alreadyExists")
        return outputs | {"address": wanted or self.compute.free_internal(document)}

    @staticmethod
    def _subnetwork(name: str, inputs: Document) -> str:
        reference = inputs.get("subnetwork")
        if not reference:
            raise ApiError(400, "subnetwork: an internal or IPv6 address needs one.", reason="required")
        if "projects/" in reference:
            return relative(reference)
        return f"{name.rsplit('/', 2)[0]}/subnetworks/{reference}"

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        if "subnetwork" not in document["outputs"] and (region := document["outputs"].get("region")):
            self.compute.names.set_location(f"{document['outputs']['address']}/32", region)

    def user(self, name: str, document: Document) -> str | None:
        for other, found in self.compute.documents("instance"):
            if document["outputs"]["address"] in _addresses(found["outputs"]["networkInterfaces"]):
                return other
        return None

    def remove(self, name: str, document: Document) -> None:
        if "subnetwork" not in document["outputs"]:
            self.compute.names.set_location(f"{document['outputs']['address']}/32", None)


class _Disk(ComputeKind):
    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        key = inputs.get("diskEncryptionKey", {}).get("kmsKeySelfLink")
        self.compute.check_key(name.split("/")[1], key)
        if not before:
            for other, _ in self.compute.documents("disk"):
                if last(other) == last(name):
                    raise ApiError(
                        409,
                        f"The sandbox holds one disk of a name: '{other}' exists.",
                        reason="alreadyExists",
                    )
        least = DISK_GIB
        if reference := inputs.get("snapshot"):
            snapshot = self.compute.find("snapshot", snapshot_name(reference, name.split("/")[1]))
            least = snapshot["outputs"]["diskSizeGb"]
            if inputs.get("size", least) < least:
                raise ApiError(
                    400, f"Requested disk size cannot be smaller than the snapshot size ({least} GB)."
                )
        size = inputs.get("size") or (before or {}).get("outputs", {}).get("size") or least
        if before and size < before["outputs"]["size"]:
            raise ApiError(400, f"Requested disk size cannot be smaller than {before['outputs']['size']} GB.")
        return self.common(name, before) | {"size": size, "zone": name.split("/")[3]}

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        if before and (user := self.user(name, document)):
            self.compute.refresh_machine(user)
        reference = document["inputs"].get("snapshot")
        if reference and not before and self.compute.machines is not None:
            self.compute.machines.restore_volume(
                last(name), held(reference), gib(document["outputs"]["size"])
            )

    def user(self, name: str, document: Document) -> str | None:
        for other, found in self.compute.documents("instance"):
            if last(name) in self.compute._volumes(other, found["inputs"]):
                return other
        return None

    def remove(self, name: str, document: Document) -> None:
        # Its schedule's attachment goes with a disk, its snapshots stay.
        for attachment, found in list(self.compute.documents("diskPolicy")):
            if found["outputs"]["disk"] == name:
                self.compute.store.delete("diskPolicy", attachment)
        if self.compute.machines is not None:
            self.compute.machines.delete_volume(last(name))


class _AttachedDisk(ComputeKind):
    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        zone = "/".join(name.split("/")[:4])
        disk = relative(inputs["disk"]) if "projects/" in inputs["disk"] else f"{zone}/disks/{inputs['disk']}"
        instance = (
            relative(inputs["instance"])
            if "projects/" in inputs["instance"]
            else f"{zone}/instances/{inputs['instance']}"
        )
        self.compute.find("disk", disk)
        self.compute.find("instance", instance)
        if not before and (user := _Disk(self.compute).user(disk, {})):
            raise in_use(disk, user)
        return {"disk": disk, "instance": instance, "deviceName": inputs.get("deviceName") or last(disk)}

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        self.compute.refresh_machine(document["outputs"]["instance"])

    def remove(self, name: str, document: Document) -> None:
        self.compute.store.delete("attachedDisk", name)
        self.compute.refresh_machine(document["outputs"]["instance"])


class _HealthCheck(ComputeKind):
    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        probes = [field for field in inputs if field.endswith("HealthCheck")]
        if len(probes) != 1:
            raise ApiError(
                400, "Exactly one of tcpHealthCheck, httpHealthCheck … is needed.", reason="invalid"
            )
        if inputs.get("timeoutSec", 5) > inputs.get("checkIntervalSec", 5):
            raise ApiError(400, "timeoutSec may not be greater than checkIntervalSec.", reason="invalid")
        kinds = {
            "tcp": "TCP",
            "ssl": "SSL",
            "http": "HTTP",
            "https": "HTTPS",
            "http2": "HTTP2",
            "grpc": "GRPC",
        }
        return self.common(name, before) | {"type": kinds[probes[0].removesuffix("HealthCheck")]}

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        config = document["inputs"] | {"type": document["outputs"]["type"], "selfLink": COMPUTE + name}
        self.compute.names.put_health_check(COMPUTE + name, config)

    def remove(self, name: str, document: Document) -> None:
        self.compute.names.put_health_check(COMPUTE + name, None)


class _Instance(ComputeKind):
    def plan(self, name: str, inputs: Document, before: Document | None) -> Document:
        _, project, _, zone, *_ = name.split("/")
        region = zone.rsplit("-", 1)[0]
        try:
            place(region)
        except KeyError as error:
            raise ApiError(
                400, f"Invalid value for field 'zone': '{zone}'. Unknown zone.", reason="invalid"
            ) from error
        if not before:
            for other, _ in self.compute.documents("instance"):
                if last(other) == last(name):
                    raise ApiError(
                        409,
                        f"The sandbox holds one server of a name: '{other}' exists.",
                        reason="alreadyExists",
                    )
        email = inputs.get("serviceAccount", {}).get("email")
        if email and self.compute.store.get("serviceAccount", email) is None:
            raise ApiError(
                400, f"The user does not have access to service account '{email}', or it does not exist."
            )
        if inputs.get("desiredStatus", "RUNNING") != "RUNNING":
            raise ApiError(400, "desiredStatus: the sandbox keeps its servers RUNNING", reason="invalid")
        self.compute.check_key(project, inputs["bootDisk"].get("kmsKeySelfLink"))
        for disk in inputs.get("attachedDisks", ()):
            document = relative(disk["source"])
            self.compute.find("disk", document)
            user = _Disk(self.compute).user(document, {})
            if user and user != name:
                raise in_use(document, user)
        cards = [
            self._card(card, name, region, index, before)
            for index, card in enumerate(inputs["networkInterfaces"])
        ]
        outputs = self.common(name, before)
        if number := outputs.pop("number", None):
            outputs["instanceId"] = number
        return outputs | {
            "region": region,
            "zone": zone,
            "network": cards[0]["network"],
            "subnetwork": cards[0]["subnetwork"],
            "networkInterfaces": cards,
        }

    def _card(self, card: Document, name: str, region: str, index: int, before: Document | None) -> Document:
        project = name.split("/")[1]
        reference = card.get("subnetwork")
        if not reference:
            raise ApiError(
                400,
                f"networkInterfaces[{index}].subnetwork: a custom mode network needs one.",
                reason="required",
            )
        subnetwork = (
            relative(reference)
            if "projects/" in reference
            else f"projects/{project}/regions/{region}/subnetworks/{reference}"
        )
        document = self.compute.find("subnetwork", subnetwork)
        if document["outputs"]["region"] != region:
            raise ApiError(
                400, f"The subnetwork {subnetwork} is not in the region {region}.", reason="invalid"
            )
        had: Document = before["outputs"]["networkInterfaces"][index] if before else {}
        mine = set(_addresses([had])) if had else set()
        filled = card | {
            "name": f"nic{index}",
            "network": document["outputs"]["network"],
            "subnetwork": subnetwork,
            "subnetworkProject": project,
            "stackType": card.get("stackType", "IPV4_ONLY"),
            "networkIp": card.get("networkIp")
            or had.get("networkIp")
            or self.compute.free_internal(document),
        }
        filled["accessConfigs"] = [
            {"networkTier": "PREMIUM"}
            | access
            | {
                "natIp": access.get("natIp")
                or next((a["natIp"] for a in had.get("accessConfigs", ())), None)
                or self.compute.free_external()
            }
            for access in card.get("accessConfigs", ())
        ]
        filled["ipv6AccessConfigs"] = [
            access
            | {
                "externalIpv6": str(
                    ipaddress.ip_address(
                        access.get("externalIpv6")
                        or next((a["externalIpv6"] for a in had.get("ipv6AccessConfigs", ())), None)
                        or self.compute.free_ipv6(document)
                    )
                ),
                "externalIpv6PrefixLength": "96",
            }
            for access in card.get("ipv6AccessConfigs", ())
        ]
        if filled["ipv6AccessConfigs"] and filled["stackType"] == "IPV4_ONLY":
            raise ApiError(
                400, f"networkInterfaces[{index}].stackType: IPv6 needs IPV4_IPV6.", reason="invalid"
            )
        self._check_addresses(name, filled, document, mine)
        return filled

    def _check_addresses(self, name: str, card: Document, subnetwork: Document, mine: set[str]) -> None:
        used = {
            address: other
            for other, found in self.compute.documents("instance")
            if other != name
            for address in _addresses(found["outputs"]["networkInterfaces"])
        }
        reserved = {d["outputs"]["address"] for _, d in self.compute.documents("address")}
        for address in _addresses([card]):
            if address in used:
                raise in_use(address, used[address])
        inside = ipaddress.ip_network(subnetwork["inputs"]["ipCidrRange"])
        if ipaddress.ip_address(card["networkIp"]) not in inside:
            raise ApiError(
                400,
                f"networkIp {card['networkIp']} is not in the subnetwork's range {inside}.",
                reason="invalid",
            )
        for access in card["accessConfigs"]:
            address = access["natIp"]
            if ipaddress.ip_address(address) not in EXTERNAL_IPV4 or (
                address not in reserved | mine and address in self.compute.taken()
            ):
                raise ApiError(
                    400, f"External IP address {address} is not reserved in this project.", reason="invalid"
                )
        prefix = subnetwork["outputs"].get("externalIpv6Prefix")
        for access in card["ipv6AccessConfigs"]:
            if not prefix or ipaddress.ip_address(access["externalIpv6"]) not in ipaddress.ip_network(prefix):
                raise ApiError(
                    400, f"externalIpv6 {access['externalIpv6']} is not in {prefix}.", reason="invalid"
                )

    def apply(self, name: str, document: Document, before: Document | None) -> None:
        compute = self.compute
        self._set_names(document, before)
        if compute.machines is None:
            return
        with compute.applying:
            spec = compute.spec(name, document)
            if before is None:
                compute.machines.create(spec)
            else:
                compute.machines.update(spec)
        # What Compute Engine changes on a stopped server only; the provider has asked whether that is allowed.
        if before is not None and any(
            document["inputs"].get(field) != before["inputs"].get(field)
            for field in ("machineType", "minCpuPlatform", "serviceAccount", "shieldedInstanceConfig")
        ):
            compute.machines.restart(spec.id)
        if any(
            "sourceTags" in d["inputs"] or "sourceServiceAccounts" in d["inputs"]
            for _, d in compute.documents("firewall")
        ):
            compute.refresh_machines(document["outputs"]["network"])

    def _set_names(self, document: Document, before: Document | None) -> None:
        wanted = _pointers(document)
        for address in _pointers(before).keys() - wanted.keys() if before else ():
            self.compute.names.set_ptr(address, None)
        for address, pointer in wanted.items():
            self.compute.names.set_ptr(address, pointer)
        if not before:
            reserved = {d["outputs"]["address"] for _, d in self.compute.documents("address")}
            for access in document["outputs"]["networkInterfaces"][0]["accessConfigs"]:
                if access["natIp"] not in reserved:
                    self.compute.names.set_location(f"{access['natIp']}/32", document["outputs"]["region"])

    def user(self, name: str, document: Document) -> str | None:
        if document["inputs"].get("deletionProtection"):
            raise ApiError(
                400,
                f"Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion: {name}'.",
                reason="resourceInUseByAnotherResource",
            )
        return None

    def remove(self, name: str, document: Document) -> None:
        compute = self.compute
        for address in _pointers(document):
            compute.names.set_ptr(address, None)
        if compute.machines is not None:
            compute.machines.delete(last(name))
        for attachment, found in list(compute.documents("attachedDisk")):
            if found["outputs"]["instance"] == name:
                compute.store.delete("attachedDisk", attachment)


def _pointers(document: Document | None) -> dict[str, str]:
    """The reverse names that an instance's access configs ask for."""
    if document is None:
        return {}
    return {
        access[field]: access["publicPtrDomainName"]
        for card in document["outputs"]["networkInterfaces"]
        for kind, field in (("accessConfigs", "natIp"), ("ipv6AccessConfigs", "externalIpv6"))
        for access in card.get(kind, ())
        if access.get("publicPtrDomainName")
    }
