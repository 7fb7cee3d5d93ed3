"""Failing over: the users of a lost region are at home where their replicas are, until it is back.

Nothing but the published routes changes, so it needs neither the users file nor the stack's engine, works while a
cloud's API is down, and can be run again at any time. Home and replica change places: the new home's replicator
brings what arrives meanwhile to the old one as soon as that is back.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mailinfra import names
from mailinfra.directory import ORIGIN, jsonl
from mailinfra.errors import ConfigError, Problem
from mailinfra.fleet import Fleet
from mailinfra.placement import mailbox_hosts
from mailinfra.publish import PublishError, Store

Route = dict[str, Any]
"""A line of `routes.jsonl`."""


@dataclass(frozen=True)
class Outcome:
    """What a failover or failback did: users by (from, to) region, users that stay in a lost region because they have
    no replica elsewhere, the regions that were told, and why others were not."""

    moved: Mapping[tuple[str, str], int]
    left: Mapping[str, int]
    told: tuple[str, ...]
    untold: Mapping[str, str]

    @property
    def whole(self) -> bool:
        """Whether everybody has a home in a region that is there."""
        return not self.left

    def lines(self) -> Iterator[str]:
        """The outcome for a person."""
        for (source, target), count in sorted(self.moved.items()):
            yield f"{count} users of {source} are at home in {target}"
        for region, count in sorted(self.left.items()):
            yield f"{count} users of {region} have no replica elsewhere: restore them from the vault"
        if not self.moved and not self.left:
            yield "nobody had to move"
        yield f"told: {', '.join(self.told) or 'nobody'}"
        for region, why in sorted(self.untold.items()):
            yield f"not told: {region}: {why}"


def fail_over(fleet: Fleet, stores: Mapping[str, Store], lost: Collection[str]) -> Outcome:
    """Make the replicas of the lost regions' users their homes, and tell every region that answers.

    A lost region is told too if its bucket can be reached; else it learns it when this is run again, and until then
    believes what it knew. Raises ConfigError for a region that is not there, PublishError when no region can be told.
    """
    _known(fleet, lost)
    regions = _regions(fleet)

    def moved(route: Route) -> Route:
        there = regions.get(route.get("replica", ""))
        return _swapped(route, regions) if route["home"] in lost and there and there not in lost else route

    return _rewrite(fleet, stores, moved, lost)


def fail_back(fleet: Fleet, stores: Mapping[str, Store], back: Collection[str]) -> Outcome:
    """Bring the users of regions that are back home again, and tell every region. Raises as `fail_over`."""
    _known(fleet, back)
    regions = _regions(fleet)

    def moved(route: Route) -> Route:
        origin = route.get(ORIGIN, "")
        returns = origin == route.get("replica") and regions.get(origin, "") in back
        return _swapped(route, regions) if returns else route

    return _rewrite(fleet, stores, moved, ())


def _swapped(route: Route, regions: Mapping[str, str]) -> Route:
    """The route with home and replica in each other's place."""
    host, replica = route["mailbox_host"], route["replica"]
    found = {**route, "home": regions[replica], "mailbox_host": replica, "replica": host}
    if route.get(ORIGIN) == replica:
        del found[ORIGIN]
    else:
        found.setdefault(ORIGIN, host)
    return found


@dataclass
class _Count:
    """Users by what became of them. Regions differ only where a run was interrupted: the most is the truth."""

    moved: Counter[tuple[str, str]]
    left: Counter[str]


def _rewrite(
    fleet: Fleet, stores: Mapping[str, Store], moved: Callable[[Route], Route], lost: Collection[str]
) -> Outcome:
    """Pass every user's route through `moved`, in the directory of every region, those that are lost at last."""
    told: list[str] = []
    untold: dict[str, str] = {}
    count = _Count(Counter(), Counter())
    for region in sorted((item.region for item in fleet.regions), key=lambda name: name in lost):
        if region not in stores:
            untold[region] = "the stack has no control bucket there"
            continue
        try:
            stored = stores[region].get(names.ROUTES_KEY)
            if stored is None:
                untold[region] = "it has no directory"
                continue
            body, here = _directory(stored.body, moved, lost)
            if body != stored.body:
                stores[region].put(names.ROUTES_KEY, body, stored.version)
        except PublishError as error:
            untold[region] = str(error)
        except (ValueError, KeyError, TypeError, AttributeError):
            untold[region] = f"{names.ROUTES_KEY} in its control bucket is not a directory of ours"
        else:
            told.append(region)
            count.moved |= here.moved
            count.left |= here.left
    if not told:
        reasons = "".join(f"\n  {region}: {why}" for region, why in untold.items())
        raise PublishError(f"no region could be told:{reasons}")
    return Outcome(dict(count.moved), dict(count.left), tuple(told), untold)


def _directory(body: bytes, moved: Callable[[Route], Route], lost: Collection[str]) -> tuple[bytes, _Count]:
    """A region's routes after the change. ValueError, TypeError or AttributeError where they are none."""
    count = _Count(Counter(), Counter())
    lines: list[Route] = [json.loads(line) for line in body.splitlines()]
    homes: dict[str, Route] = {}
    for index, line in enumerate(lines):
        if line.get("kind") != "user":
            continue
        after = lines[index] = moved(line)
        if after["home"] != line["home"]:
            count.moved[line["home"], after["home"]] += 1
        elif after["home"] in lost:
            count.left[after["home"]] += 1
        homes[after["address"]] = {name: after[name] for name in ("home", "mailbox_host")}
    # A user's aliases say where the user is.
    told = [
        {**line, **homes.get(line["targets"][0], {})}
        if line.get("kind") == "alias" and "mailbox_host" in line
        else line
        for line in lines
    ]
    return jsonl(told), count


def _regions(fleet: Fleet) -> dict[str, str]:
    """Mailbox host to region."""
    return {host: region.region for region in fleet.regions for host in mailbox_hosts(fleet, region)}


def _known(fleet: Fleet, named: Collection[str]) -> None:
    known = [region.region for region in fleet.regions]
    problems = [
        Problem("REGION", repr(name), f"one of {', '.join(known)}") for name in named if name not in known
    ]
    if set(known) <= set(named):
        problems.append(Problem("REGION", "every region of the fleet", "not all of them"))
    if problems:
        raise ConfigError(problems, "the command line")
