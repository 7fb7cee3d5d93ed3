"""Where content is sent is judged as its own place."""

from collections.abc import Iterator

from mailinfra_policy.expect import unknown
from mailinfra_policy.location import foreign
from mailinfra_policy.movers import MOVERS, Mover
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.stores import Spot, named, reference
from mailinfra_policy.values import UNKNOWN
from mailinfra_policy.zones import allowed, other_zone, unzoned, zone_of

# Copies whose place the cloud chooses where none is named: when that is so, the input, and what the cloud does.
_CHOSEN = {
    "gcp:sql/databaseInstance:DatabaseInstance": (
        "settings.backupConfiguration.enabled",
        "settings.backupConfiguration.location",
        "nothing: backups go to the multi-region nearest to the instance",
    ),
    "gcp:compute/resourcePolicy:ResourcePolicy": (
        "snapshotSchedulePolicy",
        "snapshotSchedulePolicy.snapshotProperties.storageLocations",
        "nothing: snapshots go to the multi-region nearest to the disk",
    ),
}


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Each destination is in the zone of what is sent."""
    found = [*_named(resource), *_chosen(resource)]
    targets = [
        (path, value)
        for target in MOVERS[resource.type].targets
        for path, value in resource.each(target)
        if value is UNKNOWN or value not in (None, "")
    ]
    if not found and not targets:
        return  # It sends nothing anywhere.
    belonging = zone_of(resource, context.stack, context.config)
    if belonging.zone is None:
        yield unzoned(resource, belonging, context.config)
        return
    if belonging.zone.anywhere:
        return
    wanted = allowed(belonging.name, belonging.zone)
    for spot in _all(found, targets, resource, context):
        if spot.unknown:
            yield unknown(resource, spot.path, wanted)
        elif spot.site is None:
            yield Finding(resource, spot.path, f"{spot.text}: a place that nobody knows", wanted)
        elif not spot.site.within(belonging.zone):
            yield Finding(resource, spot.path, f"{spot.text}: {spot.site}", wanted)


def _all(
    found: list[Spot], targets: list[tuple[str, object]], resource: Resource, context: Context
) -> Iterator[Spot]:
    # What names its place comes first: to what a reference leads may not be known yet.
    yield from found
    for path, value in targets:
        yield from reference(resource, path, value, context.stack)


def _named(resource: Resource) -> Iterator[Spot]:
    for place in MOVERS[resource.type].places:
        for path, value in resource.each(place):
            if value is UNKNOWN or value not in (None, ""):
                yield named(resource.cloud, path, value)


def _chosen(resource: Resource) -> Iterator[Spot]:
    if resource.type not in _CHOSEN:
        return
    trigger, path, text = _CHOSEN[resource.type]
    when, where = resource.get(trigger), resource.get(path)
    if where in (None, "") and where is not UNKNOWN and when is not None and when is not False:
        yield Spot(path, text)


def _guards(mover: Mover) -> tuple[Guard, ...]:
    found = [Guard(path, wrong=(foreign, "nowhere"), needed=False, when=_said) for path in mover.places]
    found += [Guard(path, wrong=(_away, "nowhere"), needed=False, when=_said) for path in mover.targets]
    if mover.tags:
        found.append(
            Guard(
                f"{mover.tags}.residency-zone",
                wrong=(other_zone,),
                needed=False,
                opaque=True,
                elsewhere=True,
                when=_sends,
            )
        )
    return tuple(found)


def _said(resource: Resource, value: object) -> bool:
    return value is not None


def _sends(resource: Resource, value: object) -> bool:
    mover = MOVERS[resource.type]
    paths = (*mover.places, *mover.targets)
    return value is not None and any(there is not None for path in paths for _, there in resource.each(path))


def _away(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if text.startswith("arn:"):
        return "arn:aws:sqs:sa-east-1:111122223333:x"
    if "/locations/" in text:
        return "projects/p/locations/southamerica-east1/things/x"
    return f"{text}-of-somebody"


RULE = Rule(
    id="residency-destination",
    title="Copies, exports and logs stay in the residency zone",
    severity=Severity.CRITICAL,
    why="A replica, a backup copy, an export or a log sink takes data along: where it ends counts as much as where it "
    "began.",
    mend="Choose a destination in the zone of what is copied, and name it by an ARN or link with a region or as a "
    "resource of the stack.",
    controls=(
        Control(Framework.GDPR, "Art. 44"),
        Control(Framework.GDPR, "Art. 5(1)(f)"),
        Control(Framework.SOC2, "C1.1"),
        Control(Framework.ISO27001, "A.5.14"),
        Control(Framework.ISO27001, "A.8.12"),
        Control(Framework.ISO27001, "A.8.13"),
    ),
    covers={token: _guards(mover) for token, mover in MOVERS.items()},
    judge=judge,
)
