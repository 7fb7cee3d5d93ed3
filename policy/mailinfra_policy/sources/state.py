"""Resources as the engine writes them: a stack's exported state, or the file in which it is kept."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mailinfra_policy import values
from mailinfra_policy.resource import Provider, Resource, Source, Stack
from mailinfra_policy.sources.loaded import Gap, Loaded, SourceError

VERSIONS = (3, 4)
"""The schema versions that are read (sdk/go/common/apitype/core.go)."""
_PROVIDER = "pulumi:providers:"
_FIELDS = (
    ("inputs", dict, "an object"),
    ("outputs", dict, "an object"),
    ("dependencies", list, "a list"),
    ("propertyDependencies", dict, "an object"),
)
_POSITION = re.compile(r"^project:///?(?P<file>[^#]+)#(?P<line>\d+)")


def load(document: Mapping[str, Any]) -> Loaded:
    """The resources of `pulumi stack export` or of a checkpoint file. Raises SourceError."""
    version = document.get("version")
    if version not in VERSIONS:
        allowed = " or ".join(map(str, VERSIONS))
        raise SourceError(
            f"version: found {values.show(version)}; allowed: {allowed} (export it with a newer pulumi)"
        )
    inner = document.get("deployment")
    if inner is None:
        inner = (document.get("checkpoint") or {}).get("latest")
    if inner is None:
        raise SourceError("deployment: found nothing; the stack was never brought up")
    if not isinstance(inner, Mapping):
        raise SourceError(f"deployment: found {values.show(inner, 60)}; allowed: an object")
    found, gaps = resources(inner.get("resources") or [], "deployment.resources")
    if pending := inner.get("pending_operations"):
        gaps.append(Gap("the state", f"{len(pending)} operations were cut off; what they made is not in it"))
    return Loaded(Stack(found), tuple(sorted(set(gaps))))


def resources(items: Any, where: str) -> tuple[list[Resource], list[Gap]]:
    """Resources from their states, in their order; what is there but not the stack's to judge as gaps."""
    if not isinstance(items, list):
        raise SourceError(f"{where}: found {values.show(items, 60)}; allowed: a list")
    found: list[Resource] = []
    gaps: list[Gap] = []
    providers: dict[str, Provider] = {}
    for index, item in enumerate(items):
        place = f"{where}[{index}]"
        resource = _resource(item, place, providers)
        if resource.type.startswith(_PROVIDER):
            providers[f"{resource.urn}::{item.get('id', '')}"] = Provider.declared(
                resource.type, resource.props, resource.name
            )
        name = f"{resource.type}::{resource.name}"
        if item.get("delete"):
            gaps.append(Gap(name, "its deletion is pending: an older one that was replaced", blocking=False))
        elif item.get("external"):
            reason = "read from the cloud: what it is like is not part of this program"
            gaps.append(Gap(name, reason, blocking=False))
        else:
            found.append(resource)
    return found, gaps


def _resource(item: Any, place: str, providers: Mapping[str, Provider]) -> Resource:
    if not isinstance(item, Mapping):
        raise SourceError(f"{place}: found {values.show(item, 60)}; allowed: a resource's state")
    urn = item.get("urn")
    if not isinstance(urn, str) or len(urn.split("::", 3)) != 4:
        raise SourceError(
            f"{place}.urn: found {values.show(urn, 60)}; allowed: urn:pulumi:STACK::PROJECT::TYPE::NAME"
        )
    for key, kind, said in _FIELDS:
        if item.get(key) and not isinstance(item[key], kind):
            raise SourceError(f"{place}.{key}: found {values.show(item[key], 60)}; allowed: {said}")
    _, _, chain, name = urn.split("::", 3)
    token = str(item.get("type") or chain.rpartition("$")[2])
    props = _clean(values.plain(item.get("inputs") or {}))
    if token.startswith(_PROVIDER):
        props = {key: _decoded(value) for key, value in props.items()}
    return Resource(
        urn,
        token,
        name,
        props,
        id=values.plain(item.get("id")) or None,
        outputs=_clean(values.plain(item.get("outputs") or {})),
        provider=providers.get(str(item.get("provider") or "")),
        parent=str(item.get("parent") or ""),
        dependencies=_texts(item.get("dependencies")),
        property_dependencies={
            key: _texts(found) for key, found in (item.get("propertyDependencies") or {}).items()
        },
        protect=item.get("protect") is True,
        source=_source(item.get("sourcePosition")),
        secrets=frozenset(key for key, value in (item.get("inputs") or {}).items() if values.secret(value)),
    )


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(item for item in found if isinstance(item, str)) if isinstance(found, Iterable) else ()


def _clean(value: Any) -> Any:
    """Without what the providers keep for themselves (`__defaults`, `__meta`)."""
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items() if not key.startswith("__")}
    return value


def _decoded(value: Any) -> Any:
    """A provider's setting: what is not a text is kept as JSON."""
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return values.plain(json.loads(value))
        except ValueError:
            return value
    return value


def _source(position: Any) -> Source | None:
    match = _POSITION.match(position) if isinstance(position, str) else None
    return Source(match["file"], int(match["line"])) if match else None
