"""Which residency zone a resource belongs to."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mailinfra_policy import values
from mailinfra_policy.config import Config, Zone
from mailinfra_policy.movers import MOVERS
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Finding
from mailinfra_policy.stores import STORES, belongs_to, owners_of
from mailinfra_policy.values import UNKNOWN, Value, show

KNOWN = "residency-zone-known"
"""The rule that says what is wrong where a resource has no zone; the other rules then keep silent."""


@dataclass(frozen=True)
class Belonging:
    """A resource's zone, and what said so.

    `zone` is None where `name` is no zone of the config (`UNKNOWN` where it is not known yet, None where nobody said
    one). `path` is the input of the resource that named it or should.
    """

    name: Value
    zone: Zone | None
    path: str


def zone_of(resource: Resource, stack: Stack, config: Config) -> Belonging:
    """The zone of a resource: its own tag or label, else the config's pattern that fits it, else an ancestor's tag or
    that of what it belongs to by reference, else the config's `zone`."""
    name = next(
        (found for found in _names(resource, stack, config, frozenset()) if found is not None),
        None,
    )
    if name is None and config.zone:
        name = config.zone
    zone = config.zones.get(name) if isinstance(name, str) else None
    return Belonging(name, zone, _path(resource, config))


def _names(resource: Resource, stack: Stack, config: Config, seen: frozenset[str]) -> Iterator[Value]:
    """What everybody says, the nearest first."""
    if resource.urn in seen:
        return
    yield _tag(resource, config)
    tail = f"{resource.type}::{resource.name}"
    yield next(
        (
            name
            for name, zone in config.zones.items()
            if any(fnmatchcase(tail, pattern) for pattern in zone.resources)
        ),
        None,
    )
    for ancestor in stack.ancestors(resource):
        yield _tag(ancestor, config)
    for owner in belongs_to(resource, stack):
        yield from _names(owner, stack, config, seen | {resource.urn})


def _path(resource: Resource, config: Config) -> str:
    """The input that names the zone: its tag, or the reference to what it belongs to."""
    if tags := _tags(resource):
        return values.join(tags, config.tags.zone)
    return next(iter(owners_of(resource)), "")


def _tags(resource: Resource) -> str:
    """The input that holds its tags or labels, `""` if it can carry none or its type is in no table."""
    known = STORES.get(resource.type) or MOVERS.get(resource.type)
    return known.tags if known else "tags" if "tags" in resource.props else ""


def _tag(resource: Resource, config: Config) -> Value:
    path = _tags(resource)
    if "." in path:  # labels that are not at the top of the inputs
        tags = resource.get(path)
        found = UNKNOWN if tags is UNKNOWN else tags.get(config.tags.zone) if isinstance(tags, dict) else None
        if found is not None:
            return found
    return resource.tag(config.tags.zone)


def allowed(name: Value, zone: Zone) -> str:
    """What a zone allows, for messages."""
    where = ", ".join(sorted(zone.regions or zone.countries))
    return f"a place in zone {name} ({where})"


def judged(resource: Resource, context: Context) -> tuple[Belonging | None, list[Finding]]:
    """The zone to judge a resource's places by, or None with what the calling rule has to say instead.

    A zone that is missing or unknown is `residency-zone-known`'s finding; unless that rule is not applied, nothing more
    is said of it. A name that is no zone is: no place can be right for it.
    """
    found = zone_of(resource, context.stack, context.config)
    if found.zone is not None:
        return found, []
    said = context.config.level(KNOWN) == "mandatory"
    if said and not isinstance(found.name, str):
        return None, []
    return None, [unzoned(resource, found, context.config)]


def unzoned(resource: Resource, found: Belonging, config: Config) -> Finding:
    """The finding for a resource whose zone cannot be told."""
    choice = f"one of the zones {', '.join(sorted(config.zones))}" if config.zones else "a zone of the config"
    if found.name is UNKNOWN:
        return Finding(resource, found.path, show(UNKNOWN), choice, unknown=True)
    return Finding(resource, found.path, show(found.name), choice)


def other_zone(value: Value) -> Value:
    """Another zone's name, where there is one already: for mutants."""
    return value if not isinstance(value, str) else "eu" if value == "us" else "us"
