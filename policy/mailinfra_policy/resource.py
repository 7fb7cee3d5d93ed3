"""What is judged: a stack's resources, from wherever they come (the engine, a state, a preview, a program)."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, TypeVar, cast

from mailinfra_policy import values
from mailinfra_policy.values import UNKNOWN, Value, steps

# The properties under which a cloud or an SDK hands a resource to another one.
IDENTITIES = (
    "arn",
    "selfLink",
    "name",
    "bucket",
    "keyId",
    "email",
    "url",
    "uri",
    "zoneId",
    "member",
    "allocationId",
    "qualifiedArn",
    "dnsName",
)


Derived = TypeVar("Derived")


# Of those, what most types carry of another resource: the types that are called so themselves.
_OWNERS: Mapping[str, tuple[str, ...]] = {
    "bucket": (":Bucket", ":BucketV2"),
    "keyId": (":Key", ":ReplicaKey", ":ExternalKey", ":ReplicaExternalKey"),
    "email": (":Account",),
    "member": (":Account",),
    "zoneId": (":Zone",),
    "allocationId": (":Eip",),
}


@dataclass(frozen=True)
class Provider:
    """The provider that a resource is made with: its type (`pulumi:providers:aws`) and its inputs."""

    type: str
    props: Mapping[str, Value] = field(default_factory=dict)
    name: str = "default"

    @classmethod
    def declared(cls, type_: str, inputs: Mapping[str, Value], name: str) -> Self:
        """A provider as the engine keeps it: every input that is no string is the text of its JSON."""
        return cls(type_, {key: _nested(value) for key, value in inputs.items()}, name)


def _nested(value: Value) -> Value:
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return values.document(value)
        except json.JSONDecodeError:
            return value
    return value


class Pending(Exception):  # noqa: N818 (a state of affairs, not a fault)
    """A rule asked what an input refers to before that can be told. The finished stack tells it.

    Raised by the stack that the engine is still filling; the input's path is its text.
    """


@dataclass(frozen=True)
class Source:
    """A line of the program."""

    file: str
    line: int


@dataclass(frozen=True)
class Resource:
    """One resource as declared.

    `type` is the SDK's token (`aws:s3/bucket:Bucket`), `props` its inputs with the SDK's camelCase names, `outputs`
    what is known of the rest, `property_dependencies` the URNs that each input was made from, `secrets` the names of
    the inputs that hold something that must not be shown.
    """

    urn: str
    type: str
    name: str
    props: Mapping[str, Value]
    id: Value = None
    outputs: Mapping[str, Value] = field(default_factory=dict)
    provider: Provider | None = None
    parent: str = ""
    dependencies: tuple[str, ...] = ()
    property_dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    protect: bool = False
    secrets: frozenset[str] = frozenset()
    source: Source | None = None

    @property
    def cloud(self) -> str:
        """The package of its type: `aws`, `gcp`, `cloudflare`, `pulumi`, or another one."""
        return self.type.split(":", 1)[0]

    def get(self, path: str) -> Value:
        """The input at a path such as `versioning.enabled`: None where nothing is, else maybe `UNKNOWN`."""
        return values.get(self.props, path)

    def each(self, path: str) -> Iterator[tuple[str, Value]]:
        """Every input at a path with `[*]`, with its concrete path."""
        return values.each(self.props, path)

    @cached_property
    def tags(self) -> Mapping[str, Value]:
        """Its tags (AWS) or labels (GCP), those that the provider adds to all its resources included.

        Where the whole map is unknown, the map has one entry: `*` is `UNKNOWN`.
        """
        found: dict[str, Value] = {}
        provider = self.provider.props if self.provider else {}
        for more in (
            values.get(provider, "defaultTags.tags"),
            provider.get("defaultLabels"),
            *(self.props.get(name) for name in ("tags", "labels", "userLabels", "resourceLabels")),
        ):
            if more is UNKNOWN:
                found["*"] = UNKNOWN
            elif isinstance(more, Mapping):
                found.update(more)
        return found

    def tag(self, key: str) -> Value:
        """One tag's value; None where it has none, `UNKNOWN` where it may have one that is not known."""
        return self.tags.get(key, self.tags.get("*"))

    def __hash__(self) -> int:
        return hash(self.urn)


class Stack:
    """A stack's resources and how they refer to one another.

    Under the engine's resource checks this holds what was registered so far: parents and dependencies come first.
    """

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self.resources: list[Resource] = []
        self._by_urn: dict[str, Resource] = {}
        self._by_type: dict[str, list[Resource]] = {}
        self._derived: dict[Any, Any] = {}
        for resource in resources:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Take one more resource in; one with the same URN takes the place of the older one."""
        older = self._by_urn.get(resource.urn)
        if older is not None:
            self.resources.remove(older)
            self._by_type[older.type].remove(older)
            self.__dict__.pop("_by_identity", None)
        self._by_urn[resource.urn] = resource
        self.resources.append(resource)
        self._by_type.setdefault(resource.type, []).append(resource)
        if "_by_identity" in self.__dict__:
            _index(self._by_identity, resource)
        self._derived.clear()

    def altered(self, resource: Resource) -> "Stack":
        """This stack with one resource in the place of the one with its URN: cheap, and not to be added to."""
        older = self._by_urn[resource.urn]
        other = self._copy()
        other._by_urn[resource.urn] = resource
        kin = [resource if item is older else item for item in self._by_type[older.type]]
        if resource.type == older.type:
            other._by_type[older.type] = kin
        else:
            other._by_type[older.type] = [item for item in kin if item is not resource]
            other._by_type[resource.type] = [*self._by_type.get(resource.type, ()), resource]
        other.resources = list(other._by_urn.values())
        other._forget(older)
        for text in _identities(resource):
            kinds = other._by_identity.get(text, {})
            other._by_identity[text] = {**kinds, resource.type: [*kinds.get(resource.type, ()), resource]}
        return other

    def without(self, resource: Resource) -> "Stack":
        """This stack without the resource of that URN: cheap, and not to be added to."""
        older = self._by_urn[resource.urn]
        other = self._copy()
        del other._by_urn[resource.urn]
        other._by_type[older.type] = [item for item in self._by_type[older.type] if item is not older]
        other.resources = list(other._by_urn.values())
        other._forget(older)
        return other

    def _copy(self) -> "Stack":
        other = Stack()
        other._by_urn, other._by_type = dict(self._by_urn), dict(self._by_type)
        other.__dict__["_by_identity"] = dict(self._by_identity)
        return other

    def _forget(self, older: Resource) -> None:
        for text in _identities(older):
            kinds = self._by_identity[text]
            kin = [item for item in kinds[older.type] if item is not older]
            self._by_identity[text] = {**kinds, older.type: kin}

    def of(self, *types: str) -> list[Resource]:
        """The resources of some types, in the order of registration within each type."""
        return [resource for token in types for resource in self._by_type.get(token, [])]

    def find(self, urn: str) -> Resource | None:
        """The resource with a URN."""
        return self._by_urn.get(urn)

    def derived(self, make: Callable[["Stack"], Derived]) -> Derived:
        """What `make` reads out of the stack: made once, until another resource is taken in."""
        if make not in self._derived:
            self._derived[make] = make(self)
        return cast(Derived, self._derived[make])

    def ancestors(self, resource: Resource) -> Iterator[Resource]:
        """Its parent, that one's parent, and so on."""
        seen = {resource.urn}
        above = self._by_urn.get(resource.parent)
        while above is not None and above.urn not in seen:
            seen.add(above.urn)
            yield above
            above = self._by_urn.get(above.parent)

    def referred(self, resource: Resource, path: str, *types: str) -> list[Resource]:
        """The resources (of some types, or of any) that an input refers to.

        By value where the value tells (an id, ARN, link or name of a resource of this stack), else by what the input
        was made from. A reference to something outside the stack gives an empty list.
        """
        value = resource.get(path)
        texts = value if isinstance(value, list) else [value]
        found = {
            other.urn: other
            for text in texts
            if isinstance(text, str)
            for other in (self.carrying(text, *types) if types else self.named(text))
            if other.urn != resource.urn
        }
        if found:
            return list(found.values())
        top = str(steps(path)[0])
        sources = (self._by_urn.get(urn) for urn in resource.property_dependencies.get(top, ()))
        return [other for other in sources if other is not None and (not types or other.type in types)]

    def carrying(self, text: str, *types: str) -> list[Resource]:
        """The resources of some types that have this id, ARN, link or name, their own or another one's."""
        kinds = self._by_identity.get(text, {})
        return [other for token in types for other in kinds.get(token, ())]

    def named(self, text: str) -> list[Resource]:
        """The resources that have this id, ARN, link or name, not those that carry it of another one."""
        kinds = self._by_identity.get(text, {})
        return [other for kin in kinds.values() for other in kin if _owns(other, text)]

    def referring(self, target: Resource, path: str, *types: str) -> list[Resource]:
        """The resources of some types whose input at `path` refers to the target."""
        return [other for other in self.of(*types) if target in self.referred(other, path, target.type)]

    @cached_property
    def _by_identity(self) -> dict[str, dict[str, list[Resource]]]:
        """By text, then by type: a zone's id is carried by thousands of records."""
        found: dict[str, dict[str, list[Resource]]] = {}
        for resource in self.resources:
            _index(found, resource)
        return found


def _index(found: dict[str, dict[str, list[Resource]]], resource: Resource) -> None:
    for text in _identities(resource):
        found.setdefault(text, {}).setdefault(resource.type, []).append(resource)


def _identities(resource: Resource) -> set[str]:
    """Every text by which another resource may name this one."""
    texts = {_text(resource.id)}
    for name in IDENTITIES:
        texts.update((_text(resource.outputs.get(name)), _text(resource.props.get(name))))
    return texts - {""}


def _owns(resource: Resource, text: str) -> bool:
    return resource.id == text or any(
        text in (resource.outputs.get(name), resource.props.get(name))
        for name in IDENTITIES
        if name not in _OWNERS or resource.type.endswith(_OWNERS[name])
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
