"""What is only known once clouds have answered, on its way into the plans' records."""

import base64
from collections.abc import Callable, Mapping
from typing import TypedDict

import pulumi

from mailinfra.names import dkim_selector
from mailinfra.plan import FleetPlan, dkim_keys
from mailinfra.records import (
    Addresses,
    CaHashes,
    DelegationSigners,
    DkimPublic,
    Known,
    NameServers,
    Need,
    Record,
    values,
)
from mailinfra_components.dns import name_server_count
from mailinfra_components.options import Table


class KnownArgs(TypedDict, total=False):
    """Answers of the clouds. What is left out is not needed by the records at hand."""

    addresses: pulumi.Input[dict[str, dict[str, str]]]
    """Node FQDN to its addresses (`ipv4`, `ipv6`)."""
    dkim: pulumi.Input[dict[str, str]]
    """Selector to DKIM public key (DER, base64)."""
    ca: pulumi.Input[dict[str, str]]
    """Region to its authority's public key (DER, base64)."""
    name_servers: pulumi.Input[dict[str, list[str]]]
    """Zone to its name servers."""
    signers: pulumi.Input[dict[str, list[str]]]
    """Zone to its DS records."""


class Answers:
    """What the clouds answered, for all records of a component."""

    def __init__(self, plan: FleetPlan, args: KnownArgs) -> None:
        self._plan = plan
        self._tables = {kind: Table(given) for kind, given in args.items()}

    def values(self, record: Record) -> pulumi.Output[list[str]]:
        """The values of a record. Waits only for the answers that this record needs."""
        need = record.needs
        if need is None:
            return pulumi.Output.from_input(list(record.values))
        kind, keys = answers_to(self._plan, need)
        return pulumi.Output.all(*(self._tables[kind][key] for key in keys)).apply(
            lambda found: list(
                values(need, to_known(self._plan, {kind: dict(zip(keys, found, strict=True))}))
            )
        )


def value_keys(plan: FleetPlan, record: Record) -> tuple[str, ...]:
    """What each value of the record stands for, known before the values are: a host, a region, a number.

    Some providers make a resource of each value. Named by this, it stays what it is when others come or go; a number
    would give it another's value, which a provider refuses as long as the other still has it. Empty where a record
    is about one thing only.
    """
    need = record.needs
    if need is None:
        return tuple(STATIC_KEYS.get(record.type, str)(value) for value in record.values)
    if isinstance(need, CaHashes):
        return need.regions
    if isinstance(need, NameServers):
        provider = next(item.provider for item in plan.steering if item.zone == need.zone)
        return tuple(str(number + 1) for number in range(name_server_count(provider)))
    if isinstance(need, (DkimPublic, DelegationSigners)):
        return ("",)
    return tuple("" if host == record.name else host for host in need.hosts)


def target(value: str) -> str:
    """The name at the end of a value: `10 mx1.example.test.` gives `mx1.example.test`; `0 0 0 .` gives `none`."""
    return value.rsplit(maxsplit=1)[-1].rstrip(".") or "none"


STATIC_KEYS: Mapping[str, Callable[[str], str]] = {
    "MX": target,
    "SRV": target,
    "TXT": lambda _value: "",
    "CNAME": lambda _value: "",
}
"""What a value stands for that is known from the beginning; the value itself for other types."""


def answers_to(plan: FleetPlan, need: Need) -> tuple[str, tuple[str, ...]]:
    """Where the answers to a need are: which of `KnownArgs`, and the keys there."""
    match need:
        case Addresses(hosts, _):
            return "addresses", hosts
        case DkimPublic(region, serial):
            return "dkim", (dkim_selector(plan.fleet, region, serial),)
        case CaHashes(regions):
            return "ca", regions
        case NameServers(zone):
            return "name_servers", (zone,)
        case DelegationSigners(zone):
            return "signers", (zone,)


def to_known(plan: FleetPlan, found: Mapping[str, Mapping[str, object]]) -> Known:
    """The plans' form of the answers."""
    generations = {key.selector: (key.region, key.serial) for key in dkim_keys(plan.fleet)}
    return Known(
        addresses={
            name: {family: str(both[key]) for family, key in ((4, "ipv4"), (6, "ipv6")) if key in both}
            for name, both in _table(found, "addresses").items()
        },
        dkim={generations[name]: base64.b64decode(str(key)) for name, key in found.get("dkim", {}).items()},
        ca={region: base64.b64decode(str(key)) for region, key in found.get("ca", {}).items()},
        name_servers={zone: tuple(names) for zone, names in _lists(found, "name_servers").items()},
        ds={zone: tuple(signers) for zone, signers in _lists(found, "signers").items()},
    )


def _table(found: Mapping[str, Mapping[str, object]], key: str) -> dict[str, dict[str, object]]:
    return {name: dict(item) for name, item in found.get(key, {}).items() if isinstance(item, Mapping)}


def _lists(found: Mapping[str, Mapping[str, object]], key: str) -> dict[str, list[str]]:
    return {name: list(item) for name, item in found.get(key, {}).items() if isinstance(item, list)}
