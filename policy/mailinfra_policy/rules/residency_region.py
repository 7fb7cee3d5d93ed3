"""What holds data lies in its residency zone."""

from collections.abc import Iterator

from mailinfra_policy.expect import unknown
from mailinfra_policy.location import foreign
from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.stores import STORES, Store, spots
from mailinfra_policy.zones import allowed, judged, other_zone


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """Each place that the resource names, or that its provider or owner gives it, is in its zone."""
    belonging, said = judged(resource, context)
    yield from said
    zone = belonging.zone if belonging else None
    if said or (zone and zone.anywhere):
        return
    # A place that nobody knows is wrong in every zone, even where the zone is not known either.
    wanted = allowed(belonging.name, zone) if belonging and zone else "a known place"
    for spot in spots(resource, context.stack):
        if spot.unknown:
            yield unknown(resource, spot.path, wanted)
        elif spot.site is None:
            yield Finding(resource, spot.path, f"{spot.text}: a place that nobody knows", wanted)
        elif zone and not spot.site.within(zone):
            yield Finding(resource, spot.path, f"{spot.text}: {spot.site}", wanted)


def _guards(store: Store) -> tuple[Guard, ...]:
    """Moved by each input that names a place, by the provider, by its owner, and by its zone."""
    named = store.provider or store.default

    def judged_itself(resource: Resource, _: object) -> bool:
        return not store.exact or all(value is None for _, value in resource.each(store.exact))

    found = [
        Guard(path, wrong=(foreign, "nowhere"), needed=not named, when=judged_itself) for path in store.places
    ]
    found += [
        Guard(path, wrong=(foreign, "nowhere"), needed=False, when=_said)
        for path in (*store.more, *([store.exact] if store.exact else []))
    ]
    if store.provider:
        found.append(Guard(store.places[0], wrong=(foreign, "nowhere"), provider=store.provider))
    if not store.places:
        # Without its owner a type that has no tags has no zone either: then only an unknown place is wrong.
        abroad = ("projects/p/locations/southamerica-east1/x/y",) if store.tags else ()
        found += [Guard(path, wrong=(*abroad, "nowhere")) for path in store.owners]
    if store.tags:
        found.append(
            Guard(
                f"{store.tags}.residency-zone",
                wrong=(other_zone,),
                needed=False,
                opaque=True,
                elsewhere=True,
                when=_said,
            )
        )
    return tuple(found)


def _said(resource: Resource, value: object) -> bool:
    return value is not None


RULE = Rule(
    id="residency-region",
    title="What holds data lies in its residency zone",
    severity=Severity.CRITICAL,
    why="Data in another country comes under that country's law, and a transfer out of the EU needs a legal basis of "
    "its own; a multi-region lies in every country that it may use.",
    mend="Give the resource (or its provider) a region in the zone's countries, or the tag of the right zone.",
    controls=(
        Control(Framework.GDPR, "Art. 44"),
        Control(Framework.GDPR, "Art. 5(1)(f)"),
        Control(Framework.SOC2, "C1.1"),
        Control(Framework.ISO27001, "A.5.34"),
        Control(Framework.ISO27001, "A.5.23"),
    ),
    covers={token: _guards(store) for token, store in STORES.items()},
    judge=judge,
)
