"""What holds data says which residency zone it belongs to."""

from collections.abc import Iterator

from mailinfra_policy.resource import Resource
from mailinfra_policy.rule import Context, Control, Finding, Framework, Guard, Rule, Severity
from mailinfra_policy.stores import STORES, Store
from mailinfra_policy.zones import KNOWN, unzoned, zone_of


def judge(resource: Resource, context: Context) -> Iterator[Finding]:
    """There is a zone, and it is one of the config's."""
    found = zone_of(resource, context.stack, context.config)
    if found.zone is None:
        yield unzoned(resource, found, context.config)


def _guards(store: Store) -> tuple[Guard, ...]:
    if store.tags:
        return (Guard(f"{store.tags}.residency-zone", wrong=("nowhere", "EU"), needed=not store.owners),)
    return tuple(Guard(path, wrong=("nowhere",)) for path in store.owners)


RULE = Rule(
    id=KNOWN,
    title="What holds data names its residency zone",
    severity=Severity.HIGH,
    why="Whether data lies where it may cannot be told of a store that belongs to no zone.",
    mend="Give it the tag or label residency-zone, or what it belongs to; where a type can carry none, name the "
    "resource under zones.<zone>.resources in the pack's config.",
    controls=(
        Control(Framework.GDPR, "Art. 30(1)(e)"),
        Control(Framework.SOC2, "C1.1"),
        Control(Framework.ISO27001, "A.5.9"),
        Control(Framework.ISO27001, "A.5.12"),
        Control(Framework.ISO27001, "A.5.13"),
    ),
    covers={token: _guards(store) for token, store in STORES.items()},
    judge=judge,
)
