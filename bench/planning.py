"""Planning: from a config's plain data to every plan, with the users placed.

`rows()` measures 100 regions with 100,000 users against a limit in seconds, and how the cost of a region grows
from 10 to 1,000 regions: 1.0 is linear.
"""

import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from mailinfra.checks import problems
from mailinfra.fleet import Cloud, Fleet
from mailinfra.placement import homes, place_users
from mailinfra.places import PLACES, Place, Places
from mailinfra.plan import plan

USERS = 100_000
LIMIT_SECONDS = 2.0
LIMIT_GROWTH = 1.5
"""A quadratic part would show tenfold; what is left is the garbage collector and the caches."""
LIMIT_FIXED = 2.0
"""At 10 regions, what each plan costs once (continents, countries) is shared by fewer."""
COUNTRIES = ("DE", "US", "JP", "FR", "BR")


def synthetic(count: int) -> tuple[dict[str, Any], Places]:
    """A fleet's config with `count` regions, and a table of places that has them. The real clouds have fewer."""
    models = [PLACES["eu-central-1"], PLACES["europe-west3"], PLACES["us-east-1"], PLACES["us-central1"]]
    places: dict[str, Place] = dict(PLACES)
    regions = []
    for number in range(count):
        model = models[number % len(models)]
        name = f"x-{_letters(number)}-1"
        spread = number / count
        places[name] = Place(
            model.cloud,
            name,
            model.country,
            f"City {number}",
            model.latitude + spread,
            model.longitude + spread,
            model.continent,
        )
        roles = [
            {"name": "edge", "roles": ["mx", "submission", "imap", "pop3"], "count": 2},
            {"name": "store", "roles": ["mailbox"], "count": 2},
        ]
        if model.cloud is Cloud.AWS:
            roles.append({"name": "out", "roles": ["egress"]})
        regions.append(
            {
                "cloud": model.cloud.value,
                "region": name,
                "zone": "eu" if model.country == "DE" else "us",
                "network": f"10.{number // 256}.{number % 256}.0/24",
                "groups": roles,
            }
        )
    data = {
        "name": "bench",
        "domains": ["example.test"],
        "zones": {"eu": {"countries": ["DE"]}, "us": {"countries": ["US"]}},
        "regions": regions,
        "dns": {"parent": {"provider": "route53"}},
        "placement": {
            "rules": [
                {"attribute": "country", "values": [country], "home": regions[index]["region"]}
                for index, country in enumerate(COUNTRIES[: count - 1])
            ],
            "default": regions[-1]["region"],
        },
        "clouds": {"gcp": {"project": "bench-project"}},
    }
    return data, places


def whole(data: dict[str, Any], places: Places, users: list[tuple[str, dict[str, str]]]) -> int:
    """Everything from plain data to plans and placed users; how many nodes and users came out."""
    fleet = Fleet.model_validate(data)
    found = problems(fleet, places)
    if found:
        raise AssertionError(found[:3])
    planned = plan(fleet, places)
    placed = place_users(homes(fleet), users)
    return len(planned.nodes) + len(planned.records) + len(placed)


def best_seconds(action: Callable[[], object], repeats: int) -> float:
    """The shortest of several runs, in seconds of this process: what other work on the machine disturbs least."""
    times = []
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def rows() -> list[dict[str, Any]]:
    """The benchmark's rows."""
    users = [
        (f"user{number}@example.test", {"country": COUNTRIES[number % len(COUNTRIES)], "plan": "shared"})
        for number in range(USERS)
    ]
    data, places = synthetic(100)
    seconds = best_seconds(partial(whole, data, places, users), 3)
    found = [_row("planning, 100 regions and 100,000 users", seconds, 1.0, "s", LIMIT_SECONDS)]
    each = {}
    for count, repeats in ((10, 20), (100, 5), (1000, 2)):
        data, places = synthetic(count)
        each[count] = best_seconds(partial(whole, data, places, []), repeats) / count * 1000
    for count, limit in ((10, LIMIT_FIXED), (1000, LIMIT_GROWTH)):
        name = f"planning, cost of a region at {count} regions against 100"
        found.append(_row(name, each[count], each[100], "ms", limit))
    return found


def _row(name: str, ours: float, reference: float, unit: str, limit: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "unit": unit,
        "better": "lower",
        "limit": limit,
    }


def _letters(number: int) -> str:
    text = ""
    while True:
        number, digit = divmod(number, 26)
        text = chr(ord("a") + digit) + text
        if not number:
            return text


if __name__ == "__main__":
    for row in rows():
        print(row)
