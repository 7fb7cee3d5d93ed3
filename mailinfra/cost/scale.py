"""A pilot light at full size: what it costs when it has taken another fleet's place."""

from dataclasses import replace
from decimal import Decimal

from mailinfra.cost.bill import Estimate
from mailinfra.cost.items import estimate
from mailinfra.cost.usage import Usage, loads
from mailinfra.fleet import Fleet, NodeGroup, Role
from mailinfra.places import OUTBOUND_SMTP
from mailinfra.plan import plan
from mailinfra.prices import PRICES, Prices

ROOMY = "10.0.0.0/16"
"""The network of a fleet that is only counted."""


def scaled(pilot: Fleet, like: Fleet) -> tuple[Fleet, tuple[str, ...]]:
    """A pilot light at the size at which it takes another fleet's place, and what of that fleet has no place in it.

    Zone by zone: the node groups of all the other fleet's regions in a residency zone, with their counts, sizes and
    disks, are divided evenly among the pilot light's regions in the zone of the same name (the first ones take what is
    left over), egress only among those whose cloud lets SMTP out. So each zone keeps its whole capacity, and mail stays
    in its zone. A zone that only the pilot light has keeps its own groups. The fleet is good for an estimate, not to be
    deployed: its networks are not its own.
    """
    notes: list[str] = []
    groups: dict[str, list[NodeGroup]] = {}
    for zone in dict.fromkeys(region.zone for region in like.regions):
        wanted = _capacity(like, zone)
        homes = [region for region in pilot.regions if region.zone == zone]
        if not homes:
            nodes = sum(group.count for group in wanted)
            notes.append(
                f"no region of {pilot.name} is in zone {zone}: {nodes} nodes of {like.name} are left out"
            )
        for group in wanted:
            able = (
                [home for home in homes if home.cloud in OUTBOUND_SMTP] if Role.EGRESS in group.roles else []
            )
            for index, home in enumerate(able or homes):
                share, rest = divmod(group.count, len(able or homes))
                groups.setdefault(home.region, []).append(
                    group.model_copy(update={"count": share + (index < rest)})
                )
    regions = tuple(
        region.model_copy(update={"groups": tuple(groups[region.region]), "network": ROOMY})
        if region.region in groups
        else region
        for region in pilot.regions
    )
    return pilot.model_copy(update={"regions": regions}), tuple(notes)


def at_full_size(
    pilot: Fleet,
    like: Fleet,
    usage: Usage | None = None,
    prices: Prices = PRICES,
    *,
    name: str = "",
) -> Estimate:
    """What a pilot light costs at the size of another fleet (see `scaled`), with the mailboxes that fleet has in the
    zones that both have."""
    usage = usage or Usage()
    large, notes = scaled(pilot, like)
    zones, shares = {region.zone for region in pilot.regions}, loads(plan(like), usage)
    served = [shares[region.region].mailboxes for region in like.regions if region.zone in zones]
    usage = usage.model_copy(update={"mailboxes": round(sum(served, Decimal(0)))})
    found = estimate(plan(large), usage, prices, name or f"{pilot.name} like {like.name}")
    return replace(found, notes=(*notes, *found.notes))


def _capacity(fleet: Fleet, zone: str) -> list[NodeGroup]:
    """A zone's node groups, those of the same kind as one; named so that names are unique in a region."""
    kinds: dict[tuple[object, ...], NodeGroup] = {}
    for region in fleet.regions:
        for group in region.groups:
            if region.zone != zone or not group.count:
                continue
            data = group.data_gib if Role.MAILBOX in group.roles else 0
            kind = (frozenset(group.roles), group.size, group.disk_gib, data)
            known = kinds.get(kind)
            count = group.count + (known.count if known else 0)
            name = known.name if known else f"g{len(kinds) + 1}"
            kinds[kind] = group.model_copy(update={"name": name, "count": count, "position": None})
    return list(kinds.values())
