"""What the adapters of Google Cloud's types share."""

import re
from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mailinfra.sandbox.providers.base import Adapter, Call
from mailinfra.sandbox.providers.diffs import Change
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.gcp.api import GoogleApi, segment
from mailinfra.sandbox.providers.values import Object

if TYPE_CHECKING:
    from mailinfra.sandbox.providers.gcp.cloud import GcpCloud

ATTRIBUTION = {"goog-pulumi-provisioned": "true"}
"""The label that the real provider adds to all that can bear one."""


def api(call: Call) -> GoogleApi:
    """The APIs' client."""
    cloud: GcpCloud = call.cloud
    return cloud.api


def setting(call: Call, name: str) -> str:
    """An input that the provider's configuration stands in for (`project`, `region`, `zone`).

    Raises ProviderError when neither has it.
    """
    value = call.inputs.get(name) or call.state.get(name) or call.cloud.config.get(name)
    if not value:
        raise ProviderError(
            f"{call.token} {call.name}: {name}: required field is not set; give it or set gcp:{name}"
        )
    text: str = value
    return text.rsplit("/", 1)[-1]


def labels(call: Call) -> Object:
    """The outputs that say which labels a resource bears."""
    every = {**call.cloud.config.get("defaultLabels", {}), **call.inputs.get("labels", {}), **ATTRIBUTION}
    return {"effectiveLabels": every, "pulumiLabels": every}


LABELLED = frozenset({"effectiveLabels", "pulumiLabels"})


def nested(changes: Iterable[Change], paths: frozenset[str]) -> frozenset[str]:
    """The inputs with a change at or below one of these paths (indices left out: `networkInterfaces.nicType`)."""
    found = set()
    for change in changes:
        path = re.sub(r"\[[^\]]*\]", "", change.path)
        if any(path == wanted or path.startswith(f"{wanted}.") for wanted in paths):
            found.add(change.root)
    return frozenset(found)


def settled(call: Call, found: Object) -> Object:
    """What a read found, less the inputs that it only completes with the cloud's own values.

    Beside what the program gave those would look changed; the state has them from the creation or the last update.
    """
    return {
        key: value
        for key, value in found.items()
        if not (call.state and key in call.inputs and _contains(value, call.inputs[key]))
    }


def _contains(whole: object, part: object) -> bool:
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and _contains(whole[key], value) for key, value in part.items())
    if isinstance(whole, list) and isinstance(part, list):
        return len(whole) == len(part) and all(_contains(w, p) for w, p in zip(whole, part, strict=True))
    return whole == part


class GcpAdapter(Adapter):
    """An adapter that honours `deletionPolicy`, as every type of the real provider does."""

    def delete(self, call: Call) -> None:
        match call.state.get("deletionPolicy", "DELETE"):
            case "PREVENT":
                raise ProviderError(
                    f"cannot destroy {call.name} without setting deletionPolicy to DELETE and running `pulumi up`"
                )
            case "ABANDON":
                return
        self.remove(call)

    @abstractmethod
    def remove(self, call: Call) -> None:
        """Remove it; no error if it is gone already."""


class DaemonAdapter(GcpAdapter):
    """A type whose resources the daemon keeps by their name in the cloud, which is also the id.

    `kind` is the daemon's name for it, `shown` the outputs that are taken from it as they are.
    """

    kind: str
    shown: frozenset[str] = frozenset()

    @abstractmethod
    def full_name(self, call: Call) -> str:
        """The resource's name in the cloud: `projects/P/…`."""

    def outputs(self, call: Call, answer: Object) -> Object:
        """The outputs for what the daemon answered."""
        return {name: value for name, value in answer["outputs"].items() if name in self.shown}

    def path(self, identifier: str) -> str:
        """The daemon's path of a resource."""
        return f"/sandbox/{self.kind}/{segment(identifier)}"

    def create(self, call: Call) -> tuple[str, Object]:
        name = self.full_name(call)
        answer = api(call).call("POST", self.path(name), call.inputs)
        return name, self.outputs(call, answer)

    def read(self, call: Call) -> Object | None:
        answer = api(call).find(self.path(call.id))
        if answer is None:
            return None
        return settled(call, {**answer["inputs"], **self.outputs(call, answer)})

    def update(self, call: Call) -> Object:
        answer = api(call).call("PATCH", self.path(call.id), call.inputs)
        return self.outputs(call, answer)

    def remove(self, call: Call) -> None:
        if api(call).find(self.path(call.id)) is not None:
            api(call).call("DELETE", self.path(call.id))
