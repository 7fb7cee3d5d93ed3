"""The provider that all clouds of the sandbox share: what a cloud must supply, and what is done for it.

A `Cloud` brings adapters (the types that are *live*: something acts on them) and functions. Every other type of the SDK
is *recorded*: its inputs are checked as strictly, its state is kept, nothing stands behind it.

The engine's protocol: https://github.com/pulumi/pulumi/blob/master/proto/pulumi/provider.proto
"""

import hashlib
import json
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from mailinfra.sandbox.control import ControlClient, ControlError
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers import faults
from mailinfra.sandbox.providers.checks import Failure, check
from mailinfra.sandbox.providers.diffs import Change, Rules, diff, project, same
from mailinfra.sandbox.providers.errors import ProviderError, Unfinished
from mailinfra.sandbox.providers.journal import Journal
from mailinfra.sandbox.providers.schema import Schema, Sdk, UnknownTypeError
from mailinfra.sandbox.providers.values import UNKNOWN, Object, without_none

DEFAULTS = "__defaults"
"""Input that lists which inputs the provider filled in itself (names), as the real providers keep it."""


@dataclass(frozen=True)
class Call:
    """What an adapter is asked about: one resource.

    `inputs` are the new, checked inputs; `old_inputs` and `state` (inputs and outputs) what was before; names as on the
    wire (camelCase). `id` is empty at create. `cloud` is the `Cloud` that asks.
    """

    cloud: Any
    urn: str
    token: str
    name: str
    id: str = ""
    inputs: Object = field(default_factory=dict)
    old_inputs: Object = field(default_factory=dict)
    state: Object = field(default_factory=dict)

    def changed(self, *names: str) -> bool:
        """Whether any of these inputs differs from before."""
        return any(self.inputs.get(name) != self.old_inputs.get(name) for name in names)


class Adapter(ABC):
    """What stands behind a live type. Methods may be called from several threads at once, for different resources."""

    rules: Rules = Rules()
    computed: frozenset[str] = frozenset()
    """Optional inputs that the cloud fills in when they are left out: unknown at preview."""
    volatile: frozenset[str] = frozenset()
    """Outputs that an update may change: unknown at the preview of one."""

    @abstractmethod
    def create(self, call: Call) -> tuple[str, Object]:
        """Make it. Returns its id and its outputs (inputs need not be repeated).

        Raises `Unfinished` when it exists but is not all set up, any other error when nothing of it is left.
        """

    @abstractmethod
    def read(self, call: Call) -> Object | None:
        """What is there now, inputs and outputs; None if it is gone. `call.state` is empty at an import."""

    def update(self, call: Call) -> Object:
        """Change it in place. Returns the outputs that changed."""
        raise ProviderError(f"{call.token} cannot be updated in place")

    @abstractmethod
    def delete(self, call: Call) -> None:
        """Remove it; no error if it is gone already."""

    def check(self, call: Call) -> list[Failure]:
        """What more is wrong with `call.inputs`, which may hold unknown values."""
        return []

    def replaced_by(self, call: Call, changes: list[Change]) -> frozenset[str]:
        """Inputs (or paths in them) whose change replaces the resource in this case, beside those of `rules`."""
        return frozenset()


class Recorded(Adapter):
    """Nothing stands behind it: the state is all there is."""

    def create(self, call: Call) -> tuple[str, Object]:
        identifier, outputs = call.cloud.synthesise(call)
        return identifier, outputs

    def read(self, call: Call) -> Object | None:
        if not call.state:
            raise ProviderError(
                f"{call.token} {call.id}: recorded only by the sandbox, so there is none to import"
            )
        return call.state

    def update(self, call: Call) -> Object:
        return {}

    def delete(self, call: Call) -> None:
        pass


Invoke = Callable[[Any, Object], Object]
"""A function: called with the cloud and the checked arguments, returns its result's properties."""


class Cloud(ABC):
    """One cloud's types, functions and peculiarities."""

    name: str
    """The provider's package name: `aws`."""
    package: str
    """The SDK's import name: `pulumi_aws`."""

    always_replaces: frozenset[str] = frozenset()
    """Inputs whose change replaces a resource of any type (`region`)."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.config: Object = {}

    @cached_property
    def control(self) -> ControlClient:
        """The sandbox's daemon."""
        return ControlClient(self.paths.control_socket)

    @cached_property
    def adapters(self) -> Mapping[str, Adapter]:
        """The live types by token."""
        return {}

    @cached_property
    def functions(self) -> Mapping[str, Invoke]:
        """The functions that the sandbox answers, by token."""
        return {}

    @cached_property
    def recorded_rules(self) -> Mapping[str, Rules]:
        """Rules for recorded types, by token."""
        return {}

    def configure(self, config: Object) -> None:
        """Take the provider's checked configuration. Raises `ProviderError`."""
        self.config = config

    def prepare(self, schema: Schema, inputs: Object) -> Object:
        """The inputs as the cloud's real provider completes them before the check (default tags or labels)."""
        return inputs

    def auto_name(self, schema: Schema) -> tuple[str, Callable[[str], str]] | None:
        """The input that names a resource when the program does not, and how a unique name is made fit for it."""
        name = schema.inputs.get("name")
        if name is not None and not name.required and name.type.kind == "string":
            return "name", lambda unique: unique
        return None

    def synthesise(self, call: Call) -> tuple[str, Object]:
        """Id and outputs of a recorded resource, in the cloud's format where it is known."""
        return call.inputs.get("name") or f"recorded-{unique(call.urn, 17)}", {}

    def explain(self, error: Exception) -> str | None:
        """One line for an error of the cloud's client library; None if it is not one."""
        return None


def unique(seed: str | bytes, length: int) -> str:
    """Hex digits that depend on the seed alone."""
    data = seed.encode() if isinstance(seed, str) else seed
    return hashlib.sha256(data).hexdigest()[:length]


@dataclass(frozen=True)
class Difference:
    """What a diff found: the changes, and whether the old resource goes before the new one comes."""

    changes: list[Change]
    replaces: frozenset[str]
    delete_before_replace: bool


class SandboxProvider:
    """A provider plugin's operations on plain data (see `values`); `server` puts them on the wire."""

    def __init__(self, cloud: Cloud, injected: tuple[faults.Fault, ...] = ()) -> None:
        self.cloud = cloud
        self.sdk = Sdk(cloud.package, cloud.paths.cache)
        self._faults = injected
        self._recorded = Recorded()
        self._log_lock = threading.Lock()
        self._journal = Journal(cloud.paths.state / "providers" / cloud.name)

    @property
    def version(self) -> str:
        """The SDK's version, which is the plugin's."""
        return self.sdk.version

    def live_types(self) -> frozenset[str]:
        """Tokens of the types that something stands behind."""
        return frozenset(self.cloud.adapters)

    def adapter(self, token: str) -> Adapter:
        """What handles a type; `Recorded` for all that are not live."""
        return self.cloud.adapters.get(token, self._recorded)

    def _rules(self, token: str) -> Rules:
        adapter = self.cloud.adapters.get(token)
        rules = adapter.rules if adapter else self.cloud.recorded_rules.get(token, Rules())
        return replace(rules, replaces=rules.replaces | self.cloud.always_replaces)

    def _schema(self, token: str) -> Schema:
        try:
            return self.sdk.schema(token)
        except UnknownTypeError as error:
            raise ProviderError(str(error)) from None

    # Configuration

    def check_config(self, inputs: Object) -> list[Failure]:
        """What is wrong with the provider's configuration (values as the SDK sends them: JSON texts)."""
        schema = self.sdk.provider()
        values, failures = self._decode_config(schema, inputs)
        return failures + check(values, schema.inputs, schema.objects)

    def configure(self, inputs: Object) -> None:
        """Take the configuration."""
        self._run(
            "configure",
            self.cloud.name,
            self.cloud.configure,
            self._decode_config(self.sdk.provider(), inputs)[0],
        )

    @staticmethod
    def _decode_config(schema: Schema, inputs: Object) -> tuple[Object, list[Failure]]:
        values: Object = {}
        failures = []
        for name, value in inputs.items():
            known = schema.inputs.get(name)
            # The engine adds these; they are no configuration of the provider's.
            if name == "version" or name.startswith("__"):
                continue
            if (
                known
                and isinstance(value, str)
                and value != UNKNOWN
                and known.type.kind not in {"string", "any"}
            ):
                try:
                    value = json.loads(value)  # noqa: PLW2901
                except ValueError:
                    failures.append(Failure(name, f"found string {value!r}; allowed: {known.type}"))
                    continue
            values[name] = value
        return values, failures

    # Resources

    def check(
        self, urn: str, old_inputs: Object, new_inputs: Object, seed: bytes
    ) -> tuple[Object, list[Failure]]:
        """The inputs, completed (names, default tags), and all that is wrong with them."""
        token, name = _parts(urn)
        schema = self._schema(token)
        inputs = self._with_name(urn, schema, old_inputs, without_none(new_inputs), seed)
        inputs = self.cloud.prepare(schema, inputs)
        failures = check(inputs, schema.inputs, schema.objects)
        if not failures:
            call = Call(
                cloud=self.cloud, urn=urn, token=token, name=name, inputs=inputs, old_inputs=old_inputs
            )
            failures = self.adapter(token).check(call)
        return inputs, failures

    def _with_name(self, urn: str, schema: Schema, old: Object, new: Object, seed: bytes) -> Object:
        rule = self.cloud.auto_name(schema)
        if rule is None or rule[0] in new or f"{rule[0]}Prefix" in new:
            return {key: value for key, value in new.items() if key != DEFAULTS}
        field_name, fit = rule
        kept = old.get(field_name) if field_name in old.get(DEFAULTS, ()) else None
        # One that was made before its `up` was cut off has its name already, by which others know it.
        kept = kept or (None if old else self._journal.orphan(urn)[1].get(field_name))
        name = _parts(urn)[1]
        value = kept or fit(f"{name}-{unique(seed or name, 7)}")
        return {**new, field_name: value, DEFAULTS: [field_name]}

    def diff(self, urn: str, id: str, old_inputs: Object, state: Object, new_inputs: Object) -> Difference:
        """What an update would change, and whether it must replace."""
        token, name = _parts(urn)
        self._journal.known(urn, id)
        schema = self._schema(token)
        call = Call(self.cloud, urn, token, name, id, new_inputs, old_inputs, state)
        changes = self._changes(schema, call)
        replaces = frozenset(c.path for c in changes if c.forces_new)
        return Difference(
            changes, replaces, bool(replaces) and self._name_clashes(schema, old_inputs, new_inputs)
        )

    def _changes(self, schema: Schema, call: Call) -> list[Change]:
        """What differs between a call's old inputs and its new ones, and what of it replaces the resource."""
        adapter = self.adapter(call.token)
        # What the cloud fills in stays as it is when the program no longer says it.
        kept = {key: call.old_inputs[key] for key in adapter.computed & call.old_inputs.keys()}
        changes = diff(call.old_inputs, {**kept, **call.inputs}, schema, self._rules(call.token))
        more = adapter.replaced_by(call, changes)
        return [replace(c, forces_new=True) if {c.root, c.path} & more else c for c in changes]

    def _name_clashes(self, schema: Schema, old: Object, new: Object) -> bool:
        # As the real providers: a name that the program gave would be taken twice while both exist.
        rule = self.cloud.auto_name(schema)
        if rule is None:
            return False
        name = new.get(rule[0])
        return name is not None and name == old.get(rule[0]) and rule[0] not in new.get(DEFAULTS, ())

    def create(self, urn: str, inputs: Object, preview: bool) -> tuple[str, Object]:
        """Make a resource; at preview nothing is done and what only the cloud knows is unknown."""
        token, name = _parts(urn)
        schema = self._schema(token)
        adapter = self.adapter(token)
        if preview:
            unknown = schema.computed | (adapter.computed & schema.outputs)
            return "", {**dict.fromkeys(unknown, UNKNOWN), **_visible(schema, inputs)}
        call = Call(self.cloud, urn, token, name, inputs=_clean(inputs))
        fault = faults.find(self._faults, "create", token)
        faults.before(fault, "create", token)
        try:
            identifier, outputs = self._take_up(adapter, call) or self._run(
                "create", token, adapter.create, call
            )
        except Unfinished as error:
            self._journal.note(urn, error.id, call.inputs)
            raise Unfinished(str(error), error.id, self._state(schema, inputs, error.outputs)) from None
        if adapter is self._recorded:
            # A cloud makes up the same outputs for all its types: not each has them all, and what was given stays.
            made_up = {key: value for key, value in outputs.items() if key not in call.inputs}
            outputs = _visible(schema, made_up)
        else:
            self._journal.note(urn, identifier, call.inputs)
        state = self._state(schema, inputs, outputs)
        if faults.after(fault):
            raise Unfinished(f"create {token}: a fault that {faults.VARIABLE} asked for", identifier, state)
        return identifier, state

    def _take_up(self, adapter: Adapter, call: Call) -> tuple[str, Object] | None:
        """What an earlier create of the same resource made before it was cut off, if it is still there.

        If the program has changed since, it is changed too, or removed where the change replaces it.
        """
        identifier, before = self._journal.orphan(call.urn)
        if identifier is None:
            return None
        schema = self._schema(call.token)
        made = replace(call, id=identifier, inputs=before, old_inputs=before, state=before)
        found = self._run("read", call.token, adapter.read, made)
        if found is None:
            return None
        settled = self._settle(schema, call.inputs, found)
        made = replace(made, inputs=call.inputs, state={**before, **settled})
        if any(change.forces_new for change in self._changes(schema, made)):
            self._run("delete", call.token, adapter.delete, made)
            return None
        # It may have been cut off before all was set up: what is as it should be is left alone, and so is what only
        # a create can set, which none leaves for later.
        there = {key: settled[key] for key in (before.keys() | call.inputs.keys()) & settled.keys()}
        made = replace(made, old_inputs=there)
        if all(change.forces_new for change in self._changes(schema, made)):
            return identifier, found
        dropped = before.keys() - call.inputs.keys() - adapter.computed
        kept = {key: value for key, value in found.items() if key not in dropped}
        return identifier, {**kept, **call.inputs, **self._run("update", call.token, adapter.update, made)}

    def read(self, urn: str, id: str, old_inputs: Object, state: Object) -> tuple[Object, Object] | None:
        """What is there now: inputs and state; None if it is gone."""
        token, name = _parts(urn)
        self._journal.known(urn, id)
        schema = self._schema(token)
        fault = faults.find(self._faults, "read", token)
        faults.before(fault, "read", token)
        call = Call(self.cloud, urn, token, name, id, old_inputs, old_inputs, state)
        found = self._run("read", token, self.adapter(token).read, call)
        if found is None:
            return None
        found = self._settle(schema, old_inputs, found)
        if old_inputs:
            inputs = {key: found.get(key, value) for key, value in old_inputs.items()}
        else:
            wanted = schema.inputs.keys() - self.adapter(token).computed
            inputs = {key: value for key, value in found.items() if key in wanted}
        return inputs, self._state(schema, inputs, {**state, **found})

    def update(
        self, urn: str, id: str, old_inputs: Object, state: Object, inputs: Object, preview: bool
    ) -> Object:
        """Change a resource in place; returns its new state."""
        token, name = _parts(urn)
        self._journal.known(urn, id)
        schema = self._schema(token)
        adapter = self.adapter(token)
        dropped = old_inputs.keys() - inputs.keys() - adapter.computed
        kept = {key: value for key, value in state.items() if key not in dropped}
        if preview:
            unknown = dict.fromkeys(adapter.volatile & schema.outputs, UNKNOWN)
            return {**kept, **unknown, **_visible(schema, inputs)}
        call = Call(self.cloud, urn, token, name, id, _clean(inputs), _clean(old_inputs), state)
        fault = faults.find(self._faults, "update", token)
        faults.before(fault, "update", token)
        try:
            outputs = self._run("update", token, adapter.update, call)
        except Unfinished as error:
            raise Unfinished(str(error), id, self._state(schema, inputs, {**kept, **error.outputs})) from None
        new_state = self._state(schema, inputs, {**kept, **_visible(schema, inputs), **outputs})
        if faults.after(fault):
            raise Unfinished(f"update {token}: a fault that {faults.VARIABLE} asked for", id, new_state)
        return new_state

    def delete(self, urn: str, id: str, state: Object) -> None:
        """Remove a resource."""
        token, name = _parts(urn)
        self._journal.known(urn, id)
        fault = faults.find(self._faults, "delete", token)
        faults.before(fault, "delete", token)
        self._run(
            "delete", token, self.adapter(token).delete, Call(self.cloud, urn, token, name, id, state=state)
        )
        if faults.after(fault):
            raise ProviderError(f"delete {token}: a fault that {faults.VARIABLE} asked for")

    def invoke(self, token: str, arguments: Object) -> tuple[Object, list[Failure]]:
        """Call a function (data source); its result, or what is wrong with its arguments."""
        handler = self.cloud.functions.get(token)
        if handler is None:
            raise ProviderError(
                f"{token}: the sandbox does not support this function; "
                f"it supports: {', '.join(sorted(self.cloud.functions)) or 'none'}"
            )
        try:
            function = self.sdk.function(token)
        except UnknownTypeError as error:
            raise ProviderError(str(error)) from None
        arguments = without_none(arguments)
        failures = check(arguments, function.inputs, function.objects)
        if failures:
            return {}, failures
        result = self._run("invoke", token, handler, self.cloud, arguments)
        _require_known(token, result, function.outputs)
        return result, []

    def _settle(self, schema: Schema, inputs: Object, found: Object) -> Object:
        """What a cloud answered, each input in the spelling that it was given in if both mean the same."""
        rules = self._rules(schema.token)
        settled: Object = {}
        for key, value in without_none(found).items():
            given = inputs.get(key)
            if given is not None and key in schema.inputs:
                value = project(value, given, schema.inputs[key].type, schema.objects)  # noqa: PLW2901
                settled[key] = given if same(given, value, key, rules) else value
            else:
                settled[key] = value
        return settled

    def _state(self, schema: Schema, inputs: Object, outputs: Object) -> Object:
        _require_known(schema.token, outputs, schema.outputs | schema.inputs.keys())
        settled = self._settle(schema, inputs, outputs)
        return {**_visible(schema, without_none(inputs)), **_visible(schema, settled)}

    def _run(self, operation: str, token: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call into a cloud; whatever it raises comes out as one line, what nobody foresaw also goes to a log."""
        try:
            return function(*arguments)
        except ProviderError:
            raise
        except Exception as error:
            known = self.cloud.explain(error) or _explain_control(error)
            if known is not None:
                raise ProviderError(f"{operation} {token}: {known}") from error
            log = self.cloud.paths.folder("logs") / f"provider-{self.cloud.name}.log"
            with self._log_lock, log.open("a") as file:
                traceback.print_exception(error, file=file)
            raise ProviderError(
                f"{operation} {token}: {type(error).__name__}: {_line(error)} (a defect of the sandbox; more in {log})"
            ) from error


def _explain_control(error: Exception) -> str | None:
    return f"{type(error).__name__}: {_line(error)}" if isinstance(error, ControlError) else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _clean(inputs: Object) -> Object:
    return {key: value for key, value in inputs.items() if not key.startswith("__")}


def _visible(schema: Schema, values: Object) -> Object:
    return {key: value for key, value in values.items() if key in schema.outputs}


def _require_known(token: str, values: Object, known: frozenset[str]) -> None:
    strange = sorted(values.keys() - known)
    if strange:
        raise ProviderError(
            f"{token}: the sandbox made outputs that the SDK does not have: {', '.join(strange)}"
        )


def _parts(urn: str) -> tuple[str, str]:
    """Type token and name from `urn:pulumi:stack::project::parent$type::name` (the name may hold `::`)."""
    _, _, kind, name = urn.split("::", 3)
    return kind.rpartition("$")[2], name
