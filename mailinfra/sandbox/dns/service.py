"""The DNS part of the daemon: what providers declare is kept here and brought to the name servers.

The name servers only mirror what is kept here. A change is checked, kept, then served; when their machine is
made anew or was away, everything is brought to it again.
"""

import base64
import copy
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, cast

from mailinfra.sandbox import control
from mailinfra.sandbox.context import Context, Method
from mailinfra.sandbox.dns import clouddns, cloudflare, geo, internet, keys, outside, relay, route53, zones
from mailinfra.sandbox.dns.mirror import Mirror
from mailinfra.sandbox.dns.pdns import ServerError
from mailinfra.sandbox.dns.rdata import RefusedError, fqdn, is_below
from mailinfra.sandbox.dns.zones import Declared, Plan, Provider, Zone
from mailinfra.sandbox.model import MachineFile
from mailinfra.sandbox.network import METADATA, RESOLVER

log = logging.getLogger(__name__)

SERVE_TIMEOUT = 90.0
"""How long a change waits for the name servers' machine to boot, in seconds."""


class Service:
    """See the module. All methods may be called from any thread."""

    name = "dns"

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._declared = Declared()
        self._plan = Plan()
        self._mirror: Mirror | None = None
        self._relay: relay.Relay | None = None
        self._context: Context | None = None

    # -- the daemon's side -------------------------------------------------------------------------------------

    def start(self, context: Context) -> None:
        """Read what is kept, declare the machines, begin to mirror."""
        self._context = context
        saved = context.state(self.name).load()
        self._declared = Declared.from_json(saved.get("declared", {}))
        for zone in zones.SYSTEM_ZONES:
            self._declared.system_keys.setdefault(zone, keys.ZoneKey.make())
        api_key = saved.get("api_key") or secrets.token_hex(16)
        self._api_key = api_key
        self._certificates: dict[str, dict[str, str]] = saved.get("certificates") or _certificates(context)
        certificates = {host: pair["certificate"] for host, pair in self._certificates.items()}
        self._declared.hosts.update(outside.records(certificates))
        self._declared.pointers.update(outside.pointers())
        self._declared.locations.update(outside.locations())
        # The machine's definition must not change from one start to the next, and a database tells its own age.
        self._first_geoip: str = saved.get("first_geoip") or _database(outside.locations())
        self._plan = zones.plan(self._declared)
        self._save()
        context.add_files(internet.resolver_files(zones.root_hints(), self.root_trust_anchor()))
        if context.network is None:
            return
        context.standing(internet.machine(api_key, MachineFile(self._first_geoip, 0o644, "pdns")))
        for host in outside.OUTSIDE_HOSTS:
            pair = self._certificates[host.id]
            authority = context.authority.certificate_pem
            context.standing(outside.machine(host, pair["certificate"], pair["key"], authority))
        network = context.network
        mirror = self._mirror = Mirror(
            lambda address, port: network.connect(address, port, timeout=5), api_key, self._wanted
        )
        context.on_machine(internet.MACHINE, lambda _status: mirror.wake())
        mirror.start()
        self._relay = relay.Relay(network, zones.RESOLVER)
        self._relay.start((RESOLVER, METADATA))

    def stop(self) -> None:
        """Stop mirroring and relaying."""
        if self._mirror is not None:
            self._mirror.stop()
        if self._relay is not None:
            self._relay.stop()

    def methods(self) -> dict[str, Method]:
        """What providers and the command line call."""
        offered: list[Callable[..., Any]] = [
            self.put_zone, self.get_zone, self.delete_zone, self.put_records, self.put_record, self.delete_record,
            self.list_records, self.put_health_check, self.delete_health_check, self.health, self.set_dnssec,
            self.zone_ds, self.set_ptr, self.delete_ptr, self.set_hosts, self.set_location, self.status,
        ]  # fmt: skip
        return {method.__name__: _guarded(method) for method in offered}

    def root_trust_anchor(self) -> str:
        """The root's trust anchor, as `/usr/share/dns/root.key` has it."""
        return zones.root_trust_anchor(self._declared)

    def _wanted(self) -> tuple[Plan, Mapping[str, geo.Location]]:
        with self._lock:
            return self._plan, dict(self._declared.locations)

    def _save(self) -> None:
        assert self._context is not None  # noqa: S101 - `start` comes first
        self._context.state(self.name).save(
            {
                "declared": self._declared.to_json(),
                "api_key": self._api_key,
                "certificates": self._certificates,
                "first_geoip": self._first_geoip,
            }
        )

    @contextmanager
    def _change(self) -> Iterator[Declared]:
        """Change what is declared: whole or, if anything is refused, not at all. Then serve it."""
        with self._lock:
            draft = copy.deepcopy(self._declared)
            yield draft
            if draft == self._declared:
                return
            plan = zones.plan(draft)
            self._declared, self._plan = draft, plan
            self._save()
        if self._mirror is not None:
            self._mirror.serve(time.monotonic() + SERVE_TIMEOUT)

    def _zone(self, declared: Declared, provider: str, zone: str) -> Zone:
        found = declared.zone(_provider(provider), fqdn(zone))
        if found is None:
            raise control.NotFound(f"{provider} has no zone {fqdn(zone)}")
        return found

    # -- zones -------------------------------------------------------------------------------------------------

    def put_zone(self, provider: str, zone: str) -> dict[str, Any]:
        """Make a zone, if it is not there; what `get_zone` gives."""
        name = fqdn(zone)
        if not is_below(name, zones.TLD) or name == zones.TLD:
            raise RefusedError(f"zone {name}: the sandbox's internet has names below {zones.TLD} only")
        if any(is_below(n, name) for p in zones.PROVIDERS for n in zones.name_servers(p)) or "*" in name:
            raise RefusedError(f"zone {name} is the sandbox's own")
        with self._change() as declared:
            if declared.zone(_provider(provider), name) is None:
                declared.zones.append(Zone(_provider(provider), name, keys.ZoneKey.make()))
        return self.get_zone(provider, name)

    def get_zone(self, provider: str, zone: str) -> dict[str, Any]:
        """The zone's name servers and whether it is signed."""
        with self._lock:
            found = self._zone(self._declared, provider, zone)
            return {
                "zone": found.name,
                "provider": found.provider,
                "name_servers": list(zones.name_servers(found.provider)),
                "addresses": [zones.ADDRESSES[found.provider]],
                "dnssec": found.signed,
            }

    def delete_zone(self, provider: str, zone: str) -> None:
        """Remove a zone and all in it; nothing if there is none."""
        with self._change() as declared:
            found = declared.zone(_provider(provider), fqdn(zone))
            if found is not None:
                declared.zones.remove(found)

    def set_dnssec(self, provider: str, zone: str, on: bool) -> dict[str, Any] | None:
        """Sign a zone, or stop signing it.

        Its DS is published by the registrar; what `zone_ds` gives, or None.
        """
        with self._change() as declared:
            self._zone(declared, provider, zone).signed = bool(on)
        return self.zone_ds(provider, zone) if on else None

    def zone_ds(self, provider: str, zone: str) -> dict[str, Any]:
        """The zone's DS and DNSKEY, also while it is not signed (`signed` tells)."""
        with self._lock:
            found = self._zone(self._declared, provider, zone)
        tag, digest = found.key.ds(found.name)
        return {
            "key_tag": tag,
            "algorithm": keys.ALGORITHM,
            "digest_type": keys.DIGEST_TYPE,
            "digest": digest,
            "flags": keys.FLAGS,
            "protocol": keys.PROTOCOL,
            "public_key": found.key.public_key(),
            "ds": found.key.ds_value(found.name),
            "dnskey": found.key.dnskey(),
            "signed": found.signed,
        }

    # -- records -----------------------------------------------------------------------------------------------

    def put_records(
        self,
        provider: str,
        zone: str,
        records: list[dict[str, Any]],
        health_checks: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Replace all records of a zone, in the provider's own form; health checks are added to those known."""
        with self._change() as declared:
            found = self._zone(declared, provider, zone)
            if health_checks:
                declared.health_checks.setdefault(found.provider, {}).update(health_checks)
            found.records = [_stored(found.provider, r) for r in records]

    def put_record(self, provider: str, zone: str, record: dict[str, Any]) -> dict[str, Any]:
        """Add a record, or replace the one of the same identity; the record as it is kept."""
        with self._change() as declared:
            found = self._zone(declared, provider, zone)
            stored = _stored(found.provider, record)
            key = _key(found.provider, stored)
            places = [i for i, r in enumerate(found.records) if _key(found.provider, r) == key]
            if places:
                found.records[places[0]] = stored
            else:
                found.records.append(stored)
        return stored

    def delete_record(self, provider: str, zone: str, record: dict[str, Any]) -> None:
        """Remove the record of this identity; nothing if it, or its zone, is not there."""
        with self._change() as declared:
            found = declared.zone(_provider(provider), fqdn(zone))
            if found is not None:
                key = _key(found.provider, record)
                found.records = [r for r in found.records if _key(found.provider, r) != key]

    def list_records(self, provider: str, zone: str) -> list[dict[str, Any]]:
        """The records as they were given."""
        with self._lock:
            return copy.deepcopy(self._zone(self._declared, provider, zone).records)

    # -- health ------------------------------------------------------------------------------------------------

    def put_health_check(self, provider: str, id: str, config: dict[str, Any]) -> None:
        """Make or change a health check, in the provider's own form."""
        if provider == "route53":
            route53.probe_of(id, config)
        elif provider == "clouddns":
            clouddns.probe_of(id, config, "192.0.2.1")
        else:
            raise RefusedError(
                f"provider {provider!r} has no health checks here; allowed are route53, clouddns"
            )
        with self._change() as declared:
            declared.health_checks.setdefault(provider, {})[id] = config

    def delete_health_check(self, provider: str, id: str) -> None:
        """Remove a health check. Refused while a record set leans on it."""
        with self._change() as declared:
            declared.health_checks.get(_provider(provider), {}).pop(id, None)

    def health(self, provider: str, id: str, address: str | None = None) -> dict[str, Any]:
        """What the probes of a health check found: of Cloud DNS's, those of one endpoint `address`."""
        with self._lock:
            if id not in self._declared.health_checks.get(_provider(provider), {}):
                raise control.NotFound(f"{provider} has no health check {id!r}")
        key = clouddns.probe_key(id, address or "") if provider == "clouddns" else route53.probe_key(id)
        unknown = {"healthy": True, "since": None, "probed": False, "detail": "not probed"}
        if self._mirror is None:
            return unknown
        return cast(dict[str, Any], self._mirror.health().get(key, unknown))

    # -- the rest of the internet ------------------------------------------------------------------------------

    def set_ptr(self, address: str, name: str) -> None:
        """The reverse name of an address."""
        zones.pointer_name(address)
        with self._change() as declared:
            declared.pointers[address] = fqdn(name)

    def delete_ptr(self, address: str) -> None:
        """Remove an address's reverse name; nothing if it has none."""
        with self._change() as declared:
            declared.pointers.pop(address, None)

    def set_hosts(self, name: str, records: list[dict[str, Any]]) -> None:
        """The records of an outside name below `test.`, in place of those it had; an empty list removes it."""
        zones.host_rrsets(name, records)
        with self._change() as declared:
            if records:
                declared.hosts[fqdn(name)] = records
            else:
                declared.hosts.pop(fqdn(name), None)

    def set_location(
        self, network: str, country: str | None, latitude: float | None = None, longitude: float | None = None
    ) -> None:
        """Where a network is, for geography in answers; without a country it is nowhere known."""
        key = geo.network_of(network)
        place = geo.location(country, latitude, longitude) if country is not None else None
        with self._change() as declared:
            if place is None:
                declared.locations.pop(key, None)
            else:
                declared.locations[key] = place

    def status(self) -> dict[str, Any]:
        """Whether all of it is served, and if not why; the zones."""
        with self._lock:
            listed = [
                {"zone": z.name, "provider": z.provider, "signed": z.signed, "records": len(z.records)}
                for z in self._declared.zones
            ]
            warnings = list(self._plan.warnings)
        if self._mirror is None:
            why = "machines cannot be booted here: zones and records are checked and kept, not served"
            return {"serving": False, "why": why, "zones": listed, "warnings": warnings}
        return {**asdict(self._mirror.state()), "zones": listed, "warnings": warnings}


def _database(locations: Mapping[str, geo.Location]) -> str:
    return base64.b64encode(geo.database(locations.items())).decode()


def _certificates(context: Context) -> dict[str, dict[str, str]]:
    """A TLS certificate and key (PEM) for each outside host, by its id."""
    made = {}
    for host in outside.OUTSIDE_HOSTS:
        certificate, key = context.authority.issue([host.fqdn])
        made[host.id] = {"certificate": certificate.read_text(), "key": key.read_text()}
    return made


def _provider(provider: str) -> Provider:
    if provider not in zones.PROVIDERS:
        raise RefusedError(f"provider {provider!r} is unknown; allowed are {', '.join(zones.PROVIDERS)}")
    return provider


def _key(provider: Provider, record: Mapping[str, Any]) -> object:
    if not isinstance(record, Mapping):
        raise RefusedError(f"{record!r} is no record")
    if provider == "route53":
        return route53.record_key(record)
    return clouddns.record_key(record) if provider == "clouddns" else cloudflare.record_key(record)


def _stored(provider: Provider, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it is kept; one of Cloudflare's gets an id."""
    _key(provider, record)
    if provider == "cloudflare" and not record.get("id"):
        return {**record, "id": secrets.token_hex(16)}
    return dict(record)


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method with errors that the control socket's clients know."""

    def call(**params: Any) -> Any:
        try:
            return method(**params)
        except RefusedError as error:
            raise control.InvalidParams(str(error)) from error
        except ServerError as error:
            raise control.RemoteError(str(error)) from error

    call.__name__, call.__doc__ = method.__name__, method.__doc__
    return call
