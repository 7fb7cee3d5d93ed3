"""Each residency zone that holds mail holds it in two regions at least."""

from collections.abc import Iterator

from mailinfra_policy.copies import MEDIA, stores
from mailinfra_policy.resource import Resource, Stack
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.stores import spots
from mailinfra_policy.values import UNKNOWN
from mailinfra_policy.zones import zone_of


def judge_stack(context: Context) -> Iterator[Finding]:
    """The stores of mail, zone by zone; copies alone do not make a region."""
    zones: dict[str, list[Resource]] = {}
    for store in stores(context):
        name = zone_of(store, context.stack, context.config).name
        zones.setdefault(name if isinstance(name, str) else str(UNKNOWN), []).append(store)
    for name, found in zones.items():
        regions = {region for store in found for region in _regions(store, context.stack)}
        if len(regions) < 2:
            for store in found:
                place = next(iter(spots(store, context.stack)))
                yield Finding(
                    store,
                    place.path,
                    f"zone {name}: mail in {', '.join(sorted(regions)) or 'no known region'} only",
                    "stores of mail in two regions of the zone",
                    place.unknown,
                )


def _regions(store: Resource, stack: Stack) -> frozenset[str]:
    return frozenset(region for spot in spots(store, stack) if spot.site for region in spot.site.regions)


def _alone(resource: Resource, stack: Stack) -> bool:
    """Whether a store of mail is the only one in its region, of two in its zone (by the usual tags' names)."""
    zone = resource.tag("residency-zone")
    if resource.tag("data-class") != "mail":
        return False
    others = [
        other
        for other in stack.of(*MEDIA)
        if other.urn != resource.urn
        and other.tag("residency-zone") == zone
        and other.tag("data-class") == "mail"
    ]
    left = {region for other in others for region in _regions(other, stack)}
    return len(left) == 1


RULE = Rule(
    id="resilience-two-regions",
    title="Each zone holds mail in two regions",
    severity=Severity.HIGH,
    why="A zone with one region has nowhere to go when that region fails: residency forbids the others.",
    mend="Run mailbox nodes in a second region of the zone, or accept the risk with an exception.",
    controls=(
        Control(Framework.GDPR, "Art. 32(1)(b)"),
        Control(Framework.SOC2, "A1.2"),
        Control(Framework.ISO27001, "A.8.14"),
    ),
    covers={token: (Guard("", where=_alone),) for token in MEDIA},
    judge_stack=judge_stack,
)
