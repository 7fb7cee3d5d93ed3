"""What a resource type takes and gives, read from the Pulumi SDK's own classes (`pulumi_aws`, `pulumi_gcp` …).

The SDK package maps type tokens to classes in the registration at the end of its `__init__`. A class `X` has its inputs
in `XArgs` (names, types, which are required) and its outputs as properties of its own. Whether a change of an input
replaces the resource is only said in its documentation; `FORCES_NEW` reads it there.

Importing a package takes seconds (pulumi_cloudflare: 7 s, 380 MB), so what was read is kept in the cache folder, a JSON
file a type, under the SDK's version.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import re
import sys
import threading
import typing
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from mailinfra.sandbox.processes import write_atomic

FORCES_NEW = re.compile(
    r"\bforces?\s+(?:terraform\s+to\s+create\s+)?(?:a\s+|the\s+)?"
    r"(?:new\b|re-?creation|replacement|creation\s+of\s+a\s+new)"
    r"|\bchang\w+\s+(?:this|it)\b[^.]{0,40}?\b(?:creates?\s+a\s+new|re-?creates?\b"
    r"|requires?\s+(?:creating|replacement)|forces?\s+the\s+re)",
    re.IGNORECASE,
)
"""The ways in which the providers' documentation says that a change of a property replaces the resource."""


class UnknownTypeError(LookupError):
    """A type token that the SDK does not have."""


@dataclass(frozen=True)
class Type:
    """A property's type as it goes over the wire.

    `kind` is one of any, string, number, integer, boolean, asset, list, map, object, enum, union. `element` is what a
    list or map holds, `name` an object's class (a key of `Schema.objects`), `values` what an enum allows, `options` the
    members of a union.
    """

    kind: str
    element: "Type | None" = None
    name: str = ""
    values: tuple[Any, ...] = ()
    options: tuple["Type", ...] = ()

    def __str__(self) -> str:
        if self.kind in {"list", "map"}:
            return f"{self.kind} of {self.element}"
        if self.kind == "object":
            return f"object {self.name.rpartition('.')[2].removesuffix('Args')}"
        if self.kind == "enum":
            return "one of " + ", ".join(json.dumps(value) for value in self.values)
        if self.kind == "union":
            return " or ".join(str(option) for option in self.options)
        return self.kind


@dataclass(frozen=True)
class Property:
    """An input: its type, whether it must be there, and whether its documentation says that a change replaces."""

    type: Type
    required: bool = False
    forces_new: bool = False


@dataclass(frozen=True)
class Schema:
    """A resource type: its inputs and outputs by their names on the wire (camelCase), and the nested object types."""

    token: str
    inputs: dict[str, Property]
    outputs: frozenset[str]
    objects: dict[str, dict[str, Property]] = field(default_factory=dict)

    @property
    def computed(self) -> frozenset[str]:
        """Outputs that are no inputs: only the cloud knows them."""
        return self.outputs - self.inputs.keys()


@dataclass(frozen=True)
class Function:
    """A function (data source): its arguments and the names that it returns."""

    token: str
    inputs: dict[str, Property]
    outputs: frozenset[str]
    objects: dict[str, dict[str, Property]] = field(default_factory=dict)


def snake(name: str) -> str:
    """The SDK's name of a module or function for a name on the wire: `getPublicKey` → `get_public_key`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class _Reader:
    """Turns annotations of the SDK's classes into `Type`s, collecting nested classes on the way."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Property]] = {}

    def properties(self, cls: type) -> dict[str, Property]:
        """The properties of an input class."""
        from pulumi import _types

        hints = _types._raw_return_hints(cls)
        required = {
            name
            for name, parameter in inspect.signature(cls.__init__).parameters.items()  # type: ignore[misc]
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        }
        found = {}
        for python_name, name, getter in _types._py_properties(cls):
            if name in hints:
                document = getter.fget.__doc__ or "" if getter.fget else ""
                found[name] = Property(
                    type=self.type(hints[name]),
                    required=python_name in required,
                    forces_new=bool(FORCES_NEW.search(document)),
                )
        return found

    def type(self, hint: Any) -> Type:
        """The type that an annotation stands for, without the wrappers Input, Output, Awaitable and Optional."""
        import pulumi

        origin = typing.get_origin(hint)
        if origin in {typing.Union, UnionType}:
            return self._union(typing.get_args(hint))
        if origin is not None and isinstance(origin, type):
            if issubclass(origin, Mapping):
                return Type("map", element=self.type(typing.get_args(hint)[1]))
            if issubclass(origin, Sequence):
                return Type("list", element=self.type(typing.get_args(hint)[0]))
        if not isinstance(hint, type):
            return Type("any")
        if issubclass(hint, Enum):
            return Type("enum", values=tuple(member.value for member in hint))
        for python, kind in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
            if hint is python:
                return Type(kind)
        if issubclass(hint, pulumi.Asset | pulumi.Archive):
            return Type("asset")
        if hint in {dict, Mapping}:
            return Type("map", element=Type("any"))
        if hasattr(hint, "_pulumi_input_type"):
            name = f"{hint.__module__}.{hint.__qualname__}"
            if name not in self.objects:
                self.objects[name] = {}  # Some types hold themselves: known before it is read.
                self.objects[name].update(self.properties(hint))
            return Type("object", name=name)
        return Type("any")

    def _union(self, members: tuple[Any, ...]) -> Type:
        import pulumi

        wrappers = {pulumi.Output, Awaitable}
        real = [m for m in members if m is not NoneType and typing.get_origin(m) not in wrappers]
        # `XArgsDict` says once more, as a TypedDict, what `XArgs` says.
        if any(hasattr(m, "_pulumi_input_type") for m in real):
            real = [m for m in real if hasattr(m, "_pulumi_input_type") or not _is_dict(m)]
        types = list(dict.fromkeys(self.type(m) for m in real))
        if Type("string") in types:
            # "string or enum": the enum's values are hints only, new ones come with every release of a cloud.
            types = [t for t in types if t.kind != "enum"]
        return types[0] if len(types) == 1 else Type("union", options=tuple(types)) if types else Type("any")


def _is_dict(hint: Any) -> bool:
    origin = typing.get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, Mapping)


class Sdk:
    """One SDK package's types, found by token.

    `package` is its import name; `cache` a folder for what was read (None: keep nothing).
    """

    def __init__(self, package: str, cache: Path | None = None) -> None:
        self.package = package
        self.version = importlib.metadata.version(package.replace("_", "-"))
        self._lock = threading.RLock()
        self._schemas: dict[str, Schema] = {}
        self._functions: dict[str, Function] = {}
        self._classes: dict[str, tuple[str, str]] = {}
        recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
        self._cache = cache / "schemas" / f"{package}-{self.version}-{recipe}" if cache else None

    def classes(self) -> dict[str, tuple[str, str]]:
        """Every resource type's token with its module and class, from the package's registration, nothing imported."""
        if not self._classes:
            spec = importlib.util.find_spec(self.package)
            if spec is None or spec.origin is None:
                raise UnknownTypeError(f"the package {self.package} is not installed")
            source = Path(spec.origin).read_text(encoding="utf-8")
            # The package gives its registration as JSON text in a call; the text is read, the call not made.
            for text in re.findall(r'resource_modules="""(.*?)"""', source, re.DOTALL):
                for entry in json.loads(text):
                    for token, name in entry["classes"].items():
                        self._classes[token] = (entry["fqn"], name)
        return self._classes

    def schema(self, token: str) -> Schema:
        """A resource type by its token. Raises `UnknownTypeError`."""
        with self._lock:
            if token not in self._schemas:
                self._schemas[token] = self._cached(token, Schema, self._read_schema)
            return self._schemas[token]

    def function(self, token: str) -> Function:
        """A function by its token. Raises `UnknownTypeError`."""
        with self._lock:
            if token not in self._functions:
                self._functions[token] = self._cached(token, Function, self._read_function)
            return self._functions[token]

    def provider(self) -> Schema:
        """The provider's own configuration."""
        with self._lock:
            token = f"pulumi:providers:{self.package.removeprefix('pulumi_')}"
            if token not in self._schemas:
                self._schemas[token] = self._cached(
                    token, Schema, lambda t: self._schema_of(t, f"{self.package}.provider", "Provider")
                )
            return self._schemas[token]

    def _read_schema(self, token: str) -> Schema:
        try:
            module, name = self.classes()[token]
        except KeyError:
            raise UnknownTypeError(
                f"{token}: {self.package} {self.version} has no such resource type"
            ) from None
        return self._schema_of(token, module, name)

    def _schema_of(self, token: str, module_name: str, name: str) -> Schema:
        from pulumi import _types

        cls = getattr(importlib.import_module(module_name), name)
        module = sys.modules[cls.__module__]
        # `XInitArgs` where a nested type of another class took the name `XArgs`.
        arguments = next(
            value
            for value in (getattr(module, f"{name}InitArgs", None), getattr(module, f"{name}Args", None))
            if value is not None and value.__module__ == module.__name__
        )
        reader = _Reader()
        inputs = reader.properties(arguments)
        outputs = frozenset(wire for _, wire, _ in _types._py_properties(cls)) - {"id", "urn"}
        return Schema(token=token, inputs=inputs, outputs=outputs, objects=reader.objects)

    def _read_function(self, token: str) -> Function:
        from pulumi import _types

        _, _, member = token.partition(":")
        path, _, wire_name = member.rpartition(":")
        package = path.partition("/")[0]
        module_name = self.package if package == "index" else f"{self.package}.{package}"
        try:
            function = getattr(importlib.import_module(module_name), snake(wire_name))
        except (ImportError, AttributeError):
            raise UnknownTypeError(f"{token}: {self.package} {self.version} has no such function") from None
        function = inspect.unwrap(function)
        source = inspect.getsource(function)
        if f"'{token}'" not in source:
            raise UnknownTypeError(f"{token}: {self.package} {self.version} has no such function")
        module = sys.modules[function.__module__]
        hints = typing.get_type_hints(function, vars(module))
        reader = _Reader()
        inputs = {}
        for wire, python in re.findall(r"__args__\['(\w+)'\] = (\w+)", source):
            parameter = inspect.signature(function).parameters[python]
            inputs[wire] = Property(
                type=reader.type(hints.get(python, Any)), required=parameter.default is parameter.empty
            )
        result = next(
            value
            for key, value in vars(module).items()
            if isinstance(value, type)
            and key.lower() in {f"{wire_name}result".lower(), f"get{wire_name}result".lower()}
        )
        outputs = frozenset(wire for _, wire, _ in _types._py_properties(result))
        return Function(token=token, inputs=inputs, outputs=outputs, objects=reader.objects)

    def _cached(self, token: str, cls: Any, read: Any) -> Any:
        path = self._cache / f"{re.sub(r'[^A-Za-z0-9]+', '-', token)}.json" if self._cache else None
        if path is not None and path.exists():
            return _load(cls, json.loads(path.read_text()))
        value = read(token)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(_dump(value)))
        return value


def _dump_type(value: Type) -> dict[str, Any]:
    return {
        key: item
        for key, item in {
            "kind": value.kind,
            "element": _dump_type(value.element) if value.element else None,
            "name": value.name,
            "values": list(value.values),
            "options": [_dump_type(option) for option in value.options],
        }.items()
        if item
    }


def _load_type(data: dict[str, Any]) -> Type:
    return Type(
        kind=data["kind"],
        element=_load_type(data["element"]) if "element" in data else None,
        name=data.get("name", ""),
        values=tuple(data.get("values", ())),
        options=tuple(_load_type(option) for option in data.get("options", ())),
    )


def _dump_properties(properties: dict[str, Property]) -> dict[str, Any]:
    return {n: [_dump_type(p.type), p.required, p.forces_new] for n, p in properties.items()}


def _load_properties(data: dict[str, Any]) -> dict[str, Property]:
    return {n: Property(_load_type(t), required, forces) for n, (t, required, forces) in data.items()}


def _dump(value: Schema | Function) -> dict[str, Any]:
    return {
        "token": value.token,
        "inputs": _dump_properties(value.inputs),
        "outputs": sorted(value.outputs),
        "objects": {name: _dump_properties(properties) for name, properties in value.objects.items()},
    }


def _load(cls: Any, data: dict[str, Any]) -> Any:
    return cls(
        token=data["token"],
        inputs=_load_properties(data["inputs"]),
        outputs=frozenset(data["outputs"]),
        objects={name: _load_properties(properties) for name, properties in data["objects"].items()},
    )
