"""Which copies each store of mail has, and where they lie. Pure functions.

A store is the mailbox nodes of one region. Copy one is the mail volume with its replica: the mailbox nodes of another
region of the same zone, in the other cloud where there is one. Copy two are snapshots beside the volume. Copy three is
a repository in a vault: a locked bucket in the other cloud, in the same zone.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mailinfra.fleet import Cloud, Fleet, Region
from mailinfra.placement import mailbox_hosts
from mailinfra.places import PLACES, Nearby, Place, Places

K = TypeVar("K", bound=Hashable)


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
    holding = [region for region in fleet.regions if mailbox_hosts(fleet, region)]
    zones: dict[str, list[Region]] = {}
    for region in holding:
        zones.setdefault(region.zone, []).append(region)
    of = {zone: _Copies(fleet, zone, stores, places) for zone, stores in zones.items()}
    return tuple(
        StoreCopies(
            region.region, region.zone, of[region.zone].replica(region), of[region.zone].vault(region)
        )
        for region in holding
    )


def followers(fleet: Fleet) -> dict[str, str]:
    """The host that keeps the replica of each mailbox node's mail, by that node's; without those that have none."""
    hosts = {region.region: mailbox_hosts(fleet, region) for region in fleet.regions}
    found: dict[str, str] = {}
    for store in copies(fleet):
        if store.replica:
            own, others = hosts[store.region], hosts[store.replica]
            found |= {host: others[index % len(others)] for index, host in enumerate(own)}
    return found


class _Copies:
    """Where the copies of the mail of a zone's regions can lie. `stores` are the zone's regions that hold mail."""

    def __init__(self, fleet: Fleet, zone: str, stores: Iterable[Region], places: Places) -> None:
        self._fleet, self._places = fleet, places
        self._stores = _grouped((region.cloud, places[region.region]) for region in stores)
        own = {region.region for region in fleet.regions}
        self._vaults = _grouped(
            ((place.cloud, place.region in own), place)
            for place in places.values()
            if place.country in fleet.zones[zone].countries
            and (place.cloud is not Cloud.GCP or fleet.clouds.gcp.project)
        )

    def replica(self, region: Region) -> str:
        """The nearest region that holds mail, in the other cloud where there is one; empty where there is none."""
        place = self._nearest(region, self._stores, sorted(Cloud, key=region.cloud.__eq__))
        return place.region if place else ""

    def vault(self, region: Region) -> Place | None:
        """Where the repositories of a region's mail lie: as declared, else the nearest place of the other cloud in the
        zone (the fleet's own regions before others), else of the same cloud. None where the zone has no second place.
        """
        if declared := self._fleet.backup.vaults.get(region.region):
            return self._places.get(declared.region)
        clouds = sorted(Cloud, key=region.cloud.__eq__)
        return self._nearest(
            region, self._vaults, [(cloud, own) for cloud in clouds for own in (True, False)]
        )

    def _nearest(self, region: Region, groups: Mapping[K, Nearby], order: Iterable[K]) -> Place | None:
        """The place nearest to a region, but not its own, of the first group that has one."""
        found = (groups[key].nearest(self._places[region.region]) for key in order if key in groups)
        return next(filter(None, found), None)


def _grouped(places: Iterable[tuple[K, Place]]) -> dict[K, Nearby]:
    groups: dict[K, list[Place]] = {}
    for key, place in places:
        groups.setdefault(key, []).append(place)
    trees = ((key, Nearby.of(found)) for key, found in groups.items())
    return {key: tree for key, tree in trees if tree}
