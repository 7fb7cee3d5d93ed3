"""Which copies each store of mail has, and where they lie. Pure functions.

A store is the mailbox nodes of one region. Copy one is the mail volume with its replica: the mailbox nodes of another
region of the same zone, in the other cloud where there is one. Copy two are snapshots beside the volume. Copy three is
a repository in a vault: a locked bucket in the other cloud, in the same zone.
"""

from dataclasses import dataclass

from mailinfra.fleet import Cloud, Fleet, Region
from mailinfra.placement import mailbox_hosts
from mailinfra.places import PLACES, Place, Places, nearest


@dataclass(frozen=True)
class StoreCopies:
    """The copies of one region's mail. `replica` is the region whose mailbox nodes follow, empty where the zone has no
    other one with mailbox nodes; `vault` is where the repositories lie, None where the zone has no place for them."""

    region: str
    zone: str
    replica: str
    vault: Place | None


def copies(fleet: Fleet, places: Places = PLACES) -> tuple[StoreCopies, ...]:
    """The copies of each region that holds mail, in the fleet's order."""
    stores: dict[str, list[Region]] = {}
    for region in fleet.regions:
        if mailbox_hosts(fleet, region):
            stores.setdefault(region.zone, []).append(region)
    return tuple(
        StoreCopies(
            region.region,
            region.zone,
            _replica(region, stores[region.zone], places),
            vault(fleet, region, places),
        )
        for region in fleet.regions
        if mailbox_hosts(fleet, region)
    )


def followers(fleet: Fleet) -> dict[str, str]:
    """The host that keeps the replica of each mailbox node's mail, by that node's; without those that have none."""
    found: dict[str, str] = {}
    for store in copies(fleet):
        if store.replica:
            own, others = (mailbox_hosts(fleet, fleet.region(name)) for name in (store.region, store.replica))
            found |= {host: others[index % len(others)] for index, host in enumerate(own)}
    return found


def vault(fleet: Fleet, region: Region, places: Places = PLACES) -> Place | None:
    """Where the repositories of a region's mail lie: as declared, else the nearest place of the other cloud in the zone
    (the fleet's own regions before others), else of the same cloud. None where the zone has no second place."""
    if declared := fleet.backup.vaults.get(region.region):
        return places.get(declared.region)
    own = {other.region for other in fleet.regions}
    candidates = [
        place
        for place in places.values()
        if place.country in fleet.zones[region.zone].countries
        and place.region != region.region
        and (place.cloud is not Cloud.GCP or fleet.clouds.gcp.project)
    ]
    # The other cloud before this one, and the fleet's own regions before others.
    candidates.sort(key=lambda place: (place.cloud is region.cloud, place.region not in own))
    best = [
        place
        for place in candidates
        if (place.cloud is region.cloud, place.region in own)
        == (candidates[0].cloud is region.cloud, candidates[0].region in own)
    ]
    return nearest(places[region.region], best)[0] if best else None


def _replica(region: Region, stores: list[Region], places: Places) -> str:
    others = [other for other in stores if other.region != region.region]
    abroad = [other for other in others if other.cloud is not region.cloud] or others
    ranked = nearest(places[region.region], [places[other.region] for other in abroad])
    return ranked[0].region if ranked else ""
