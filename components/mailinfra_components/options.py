"""What every component gives its children: the parent, aliases of older names, tags."""

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import pulumi

from mailinfra.errors import ConfigError, Problem
from mailinfra.fleet import Cloud

Args = TypeVar("Args")


def received(args: Args) -> Args:
    """A component's arguments as it reads them: whole numbers as `int` (from other languages every number arrives as
    a `float`). Raises ConfigError for a cloud that there is not."""
    found = _whole(args)
    if isinstance(found, dict) and found.get("cloud", Cloud.AWS) not in set(Cloud):
        raise ConfigError([Problem("cloud", repr(found["cloud"]), ", ".join(Cloud))])
    return cast(Args, found)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Table:
    """A component's argument that holds something by name: each node's addresses, each group's firewall.

    Given as a dict, each entry is an output of its own: what uses it waits for it alone, and is known as soon as it is.
    Of a dict that comes as one output, every entry waits for all of them.
    """

    def __init__(self, given: pulumi.Input[Any]) -> None:
        # `from_input` takes its argument apart to the last text: not to be done anew for each use of an entry.
        self._entries: dict[str, pulumi.Output[Any]] = {}
        self._whole: pulumi.Output[dict[str, Any]] | None = None
        if isinstance(given, dict):
            self._entries = {key: pulumi.Output.from_input(value) for key, value in given.items()}
        else:
            self._whole = pulumi.Output.from_input(given)

    def __getitem__(self, key: str) -> pulumi.Output[Any]:
        if key not in self._entries and self._whole is not None:
            self._entries[key] = pick(self._whole, key)
        return self._entries[key]


def pick(known_later: pulumi.Output[dict[str, Any]], key: str) -> pulumi.Output[Any]:
    """One entry of a dict that is known later."""
    return known_later.apply(lambda known: known[key])


def after(value: pulumi.Output[str], made: Sequence[pulumi.Resource]) -> pulumi.Output[str]:
    """The value, known only when all of `made` is there: for what must not be used half-protected."""
    return pulumi.Output.all(value, *(resource.urn for resource in made)).apply(lambda known: str(known[0]))


def children(
    parent: pulumi.Resource,
    *,
    depends_on: Sequence[pulumi.Resource] = (),
    ignore_changes: Sequence[str] = (),
    delete_before_replace: bool | None = None,
    protect: bool = False,
    retain: bool = False,
) -> pulumi.ResourceOptions:
    """Options of a component's child. Provider and `protect` are inherited from the parent; `protect` here adds. What
    is to `retain` stays in its cloud when it leaves the stack."""
    return pulumi.ResourceOptions(
        parent=parent,
        depends_on=list(depends_on),
        ignore_changes=list(ignore_changes),
        delete_before_replace=delete_before_replace,
        protect=protect or None,
        retain_on_delete=retain or None,
    )


def tags(owner: str, zone: str, data: str = "") -> dict[str, str]:
    """Tags (AWS) or labels (GCP; both sets of rules are kept) that say whose a resource is.

    `zone` is the residency zone; `data` the class of what it stores, where it stores anything.
    """
    found = {"managed-by": "mailinfra", "mailinfra-name": owner, "residency-zone": zone}
    return {**found, "data-class": data} if data else found
