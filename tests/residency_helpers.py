"""Resources of every type that holds content, or sends it somewhere, as they should be: all in Germany."""

from typing import Any

from mailinfra_policy.movers import MOVERS, Mover
from mailinfra_policy.resource import Resource
from mailinfra_policy.stores import STORES, Store
from mailinfra_policy.values import steps
from tests.policy_helpers import resource

TAGS = {"residency-zone": "eu"}
GROUP = resource("example:index:Group", "group", {"tags": TAGS})
OWNER_ID = "projects/p/locations/europe-west3/things/owner"
AWS_OWNER = resource("aws:s3/bucket:Bucket", "owner", {"tags": TAGS}, id="owner")
GCP_OWNER = resource(
    "gcp:storage/bucket:Bucket", "gcp-owner", {"location": "europe-west3", "labels": TAGS}, id=OWNER_ID
)
OWNERS = [GROUP, AWS_OWNER, GCP_OWNER]

ZONAL = {"zone", "nodeLocations", "replicaZones", "locationId", "alternativeLocationId"}


def fill(props: dict[str, Any], path: str, value: Any) -> None:
    """Sets the value at a path; `[*]` is the first item of a list."""
    at: Any = props
    *way, last = [0 if step is None else step for step in steps(path)]
    for step, after in zip(way, [*way, last][1:], strict=True):
        if isinstance(step, int):
            if not at:
                at.append([] if isinstance(after, int) else {})
            at = at[0]
        else:
            at = at.setdefault(step, [] if isinstance(after, int) else {})
    if isinstance(last, int):
        at.append(value)
    else:
        at[last] = value


def place(cloud: str, path: str) -> str:
    """A name of Frankfurt that fits an input."""
    last = str([step for step in steps(path) if step is not None][-1])
    if cloud == "gcp":
        return (
            "europe-west3-a"
            if last in ZONAL
            else "regional-europe-west3"
            if last == "config"
            else "europe-west3"
        )
    if "ZoneId" in last or path == "location.name":
        return "euc1-az2"
    return "eu-central-1a" if "vailabilityZone" in last or last.endswith("Azs") else "eu-central-1"


def _made(token: str, table: Store | Mover, props: dict[str, Any], name: str) -> Resource:
    cloud = token.split(":", maxsplit=1)[0]
    for path in table.owners:
        fill(props, path, OWNER_ID if cloud == "gcp" else "owner")
    if table.tags:
        fill(props, table.tags, dict(TAGS))
    return resource(token, name, props, parent="" if table.tags or table.owners else GROUP.urn)


def store(token: str, *, own: bool) -> Resource:
    """A resource of a type that holds content. `own`: every input that can name a place does; else as few as can."""
    table, props = STORES[token], dict[str, Any]()
    cloud = token.split(":", maxsplit=1)[0]
    elsewhere = table.provider == "region"
    for path in table.places if own or not elsewhere else ():
        fill(props, path, place(cloud, path))
    for path in (*table.more, *([table.exact] if table.exact else [])) if own else ():
        fill(props, path, place(cloud, path))
    return _made(token, table, props, "own" if own else "bare")


def mover(token: str) -> Resource:
    """A resource of a type that sends content, with every destination that it can have, in Germany."""
    table, props = MOVERS[token], dict[str, Any]()
    cloud = token.split(":", maxsplit=1)[0]
    for path in table.places:
        fill(props, path, place(cloud, path))
    for path in table.targets:
        fill(
            props,
            path,
            {
                "aws": "arn:aws:sqs:eu-central-1:111122223333:target",
                "gcp": "projects/p/locations/europe-west3/things/target",
                "cloudflare": "s3://logs/mail?region=eu-central-1",
            }[cloud],
        )
    return _made(token, table, props, "mover")
