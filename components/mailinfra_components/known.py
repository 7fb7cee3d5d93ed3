"""What is only known once clouds have answered, on its way into the plans' records."""

import base64
from collections.abc import Callable, Mapping
from typing import TypedDict

import pulumi

from mailinfra.plan import FleetPlan, dkim_keys
from mailinfra.records import (
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


def known_values(plan: FleetPlan, record: Record, args: KnownArgs) -> pulumi.Output[list[str]]:
    """The values of a record. Waits only for the answers that this record needs."""
    need = record.needs
    if need is None:
        return pulumi.Output.from_input(list(record.values))
    return pulumi.Output.all(**_answers(need, args)).apply(
        lambda found: list(values(need, to_known(plan, found)))
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


def _answers(need: Need, args: KnownArgs) -> dict[str, pulumi.Input[object]]:
    if isinstance(need, DkimPublic):
        return {"dkim": args["dkim"]}
    if isinstance(need, CaHashes):
        return {"ca": args["ca"]}
    if isinstance(need, NameServers):
        return {"name_servers": args["name_servers"]}
    if isinstance(need, DelegationSigners):
        return {"signers": args["signers"]}
    return {"addresses": args["addresses"]}


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
