"""A resource monitor without an engine: it writes down what a program registers and answers as far as that is known.

The protocol: https://github.com/pulumi/pulumi/blob/master/proto/pulumi/resource.proto
"""

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import (
    callback_pb2,
    callback_pb2_grpc,
    engine_pb2,
    engine_pb2_grpc,
    resource_pb2,
    resource_pb2_grpc,
)

from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.values import SIGNATURE, UNKNOWN, Object, from_wire, to_wire
from mailinfra_policy import values
from mailinfra_policy.resource import Provider, Resource, Source, Stack
from mailinfra_policy.sources import standins
from mailinfra_policy.sources.clouds import CLOUDS, Clouds, Offline
from mailinfra_policy.sources.loaded import Gap

WORKERS = 16
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 (a type's mark: sdk/go/common/resource/sig/sig.go)
_STACK = "pulumi:pulumi:Stack"
_PROVIDER = "pulumi:providers:"

_FEATURES = tuple(
    getattr(resource_pb2, f"RESOURCE_MONITOR_FEATURE_{name}")
    for name in (
        "SECRETS",
        "ALIAS_SPECS",
        "REPLACEMENT_TRIGGER",
        "DELETED_WITH",
        "REPLACE_WITH",
        "TRANSFORMS",
        "PARAMETERIZATION",
        "RESOURCE_HOOKS",
        "ERROR_HOOKS",
        "INVOKE_DEPENDS_ON",
        "STATE_MIGRATIONS",
    )
)


class Program:
    """Where a program is: its name in URNs, its folder and the folders in it that are not its own."""

    def __init__(
        self,
        project: str,
        stack: str,
        folder: Path,
        config: Mapping[str, str],
        foreign: tuple[Path, ...] = (),
    ) -> None:
        """`config`: the stack's configuration by full key; `foreign`: folders of libraries inside `folder`."""
        self.project = project
        self.stack = stack
        self.config = config
        self._folder = folder.resolve()
        self._foreign = foreign
        self._known: dict[str, str | None] = {}

    def line(self, frames: list[tuple[str, int]]) -> Source | None:
        """The line of the program's own that made a resource: the nearest of the call's frames, innermost first."""
        for uri, line in frames:
            if uri not in self._known:
                self._known[uri] = self._own(uri)
            if (file := self._known[uri]) is not None:
                return Source(file, line)
        return None

    def _own(self, uri: str) -> str | None:
        path = Path(unquote(urlsplit(uri).path)).resolve()
        inside = path.is_relative_to(self._folder) and not any(map(path.is_relative_to, self._foreign))
        if not inside or "site-packages" in path.parts:
            return None
        here = Path.cwd()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)


class Monitor(resource_pb2_grpc.ResourceMonitorServicer, engine_pb2_grpc.EngineServicer):
    """Collects the resources of one run. `stack` and `gaps` may be read when the program has ended."""

    def __init__(self, program: Program, clouds: Clouds) -> None:
        self.stack = Stack()
        self.gaps: list[Gap] = []
        self.errors: list[str] = []
        self._program = program
        self._clouds = clouds
        self._lock = threading.RLock()
        self._providers: dict[str, tuple[Provider, Offline | None]] = {}
        self._own_transforms: dict[str, list[Any]] = {}
        self._stack_transforms: list[Any] = []
        self._callbacks: dict[str, Any] = {}
        self._packages: dict[str, str] = {}
        self._root = ""
        self._made: dict[str, Resource] = {}

    # What the SDK asks about the engine

    def GetDeploymentInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return resource_pb2.DeploymentInfo(
            project=self._program.project,
            stack=self._program.stack,
            dryRun=True,
            parallel=WORKERS,
            supportedFeatures=_FEATURES,
        )

    def SupportsFeature(self, request: Any, context: Any) -> Any:  # noqa: N802
        known = {
            "secrets",
            "aliasSpecs",
            "deletedWith",
            "replaceWith",
            "transforms",
            "parameterization",
            "resourceHooks",
            "errorHooks",
        }
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in known)

    def RequirePulumiVersion(self, request: Any, context: Any) -> Any:  # noqa: N802
        return engine_pb2.RequirePulumiVersionResponse()

    def GetRootResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def SetRootResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()

    def Log(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.severity == engine_pb2.ERROR:
            with self._lock:
                self.errors.append(request.message)
        return empty_pb2.Empty()

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def RegisterResourceHook(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def RegisterErrorHook(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def RegisterStackTransform(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            self._stack_transforms.append(request)
        return empty_pb2.Empty()

    def RegisterPackage(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            name = request.parameterization.name or request.extension.name or request.name
            reference = f"{name}@{len(self._packages)}"
            self._packages[reference] = name
        return resource_pb2.RegisterPackageResponse(ref=reference)

    # Resources

    def RegisterResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answers(context):
            return self._register(request)

    def _register(self, request: Any) -> Any:
        properties, provider, protect = self._transformed(request)
        raw = from_wire(properties)
        inputs = whole(_opened(raw))
        urn = self._urn(request.type, request.name, request.parent)
        source = self._source(request)
        identifier = ""
        outputs: Object = {}
        made_with: tuple[Provider, Offline | None] | None = None
        with self._lock:
            if self.stack.find(urn) is not None:
                raise ProviderError(f"Duplicate resource URN '{urn}'; try giving it a unique name")
            if request.transforms:
                self._own_transforms[urn] = list(request.transforms)
            if request.remote:
                reason = "a component of another package, whose resources only an engine can ask for"
                self._gap(request, source, reason)
            elif request.type.startswith(_PROVIDER):
                identifier = self._new_provider(request, urn, inputs, source)
            elif request.custom:
                made_with = self._provider(request.type, provider)
                inputs, identifier, outputs = self._custom(request, urn, inputs, made_with[1], source)
            resource = Resource(
                urn,
                request.type,
                request.name,
                values.plain(inputs),
                id=values.plain(identifier or None),
                outputs=values.plain(outputs),
                provider=made_with[0] if made_with else None,
                parent=request.parent,
                dependencies=tuple(request.dependencies),
                property_dependencies={
                    key: tuple(found.urns) for key, found in request.propertyDependencies.items()
                },
                protect=protect,
                source=source,
                secrets=frozenset(key for key, value in raw.items() if values.secret(value)),
            )
            self.stack.add(resource)
            for known in _references(resource):
                if isinstance(known, str):
                    self._made[known] = resource
        return resource_pb2.RegisterResourceResponse(
            urn=urn,
            id="" if identifier == UNKNOWN else identifier,
            object=to_wire({} if request.remote else {**inputs, **outputs}),
            result=resource_pb2.SUCCESS,
        )

    def _custom(
        self, request: Any, urn: str, inputs: Object, provider: Offline | None, source: Source | None
    ) -> tuple[Object, Any, Object]:
        if provider is None:
            return inputs, "", {}
        if not self._clouds.knows(request.type):
            version = self._clouds.sdk(provider.cloud.name).version
            self._gap(request, source, f"pulumi-{provider.cloud.name} {version} has no such resource type")
            return inputs, "", {}
        inputs, failures = provider.complete(urn, inputs)
        for failure in failures:
            self._gap(request, source, f"{failure}{self._other_version(request, provider)}")
        if failures:
            return inputs, "", {}
        identifier, outputs = provider.identify(urn, inputs)
        return inputs, identifier, outputs

    def _other_version(self, request: Any, provider: Offline) -> str:
        ours = self._clouds.sdk(provider.cloud.name).version
        if not request.version or request.version == ours:
            return ""
        name = f"pulumi-{provider.cloud.name}"
        return f" (the program uses {name} {request.version}, the check knows {ours})"

    def ReadResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answers(context):
            urn = self._urn(request.type, request.name, request.parent)
            inputs = whole(_opened(from_wire(request.properties)))
            outputs: Object = {"outputs": UNKNOWN} if request.type == "pulumi:pulumi:StackReference" else {}
            reason = "read from the cloud: what it is like is not part of this program"
            self._gap(request, self._source(request), reason, blocking=False)
            return resource_pb2.ReadResourceResponse(
                urn=urn, id=whole(request.id), properties=to_wire({**inputs, **outputs})
            )

    def ExistsResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        return resource_pb2.ExistsResourceResponse(exists=False, unknown=True)

    # Data sources and calls

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answers(context):
            package = request.tok.partition(":")[0]
            arguments = whole(_opened(from_wire(request.args)))
            answer = None
            with self._lock:
                if package in CLOUDS:
                    _, provider = self._provider(request.tok, request.provider)
                    answer = provider.ask(request.tok, arguments) if provider else None
                if answer is None:
                    answer = standins.answer(request.tok, arguments, self._made.get)
                    reason = "a data source that only the cloud can answer"
                    if answer is not None:
                        reason = "its answer is stood in for by one of the declared kind"
                    self.gaps.append(Gap(request.tok, reason, blocking=False))
            if answer is None:
                return resource_pb2.ResourceInvokeResponse(unknown=True)
            return resource_pb2.ResourceInvokeResponse(**{"return": to_wire(answer)})

    def Call(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._answers(context):
            reason = "a method of a provider's, which only an engine can call"
            with self._lock:
                self.gaps.append(Gap(request.tok, reason))
            raise ProviderError(f"{request.tok}: {reason}")

    # Parts

    def _transformed(self, request: Any) -> tuple[Any, str, bool]:
        """What the program's transforms make of a registration: its own, its parents', the stack's."""
        with self._lock:
            callbacks = list(request.transforms)
            above = self.stack.find(request.parent)
            while above is not None:
                callbacks += self._own_transforms.get(above.urn, [])
                above = self.stack.find(above.parent)
            callbacks += self._stack_transforms
        properties, provider, protect = request.object, request.provider, request.protect
        for callback in callbacks:
            options = resource_pb2.TransformResourceOptions(
                depends_on=request.dependencies,
                protect=protect,
                provider=provider,
                providers=request.providers,
            )
            asked = resource_pb2.TransformRequest(
                type=request.type,
                name=request.name,
                custom=request.custom,
                parent=request.parent,
                properties=properties,
                options=options,
            )
            answer = self._callback(callback, asked)
            if answer.HasField("properties"):
                properties = answer.properties
            if answer.HasField("options"):
                provider, protect = answer.options.provider or provider, answer.options.protect
        return properties, provider, protect

    def _callback(self, callback: Any, asked: Any) -> Any:
        with self._lock:
            if callback.target not in self._callbacks:
                channel = grpc.insecure_channel(callback.target, options=_GRPC_CHANNEL_OPTIONS)
                self._callbacks[callback.target] = callback_pb2_grpc.CallbacksStub(channel)
            stub = self._callbacks[callback.target]
        try:
            answer = stub.Invoke(
                callback_pb2.CallbackInvokeRequest(token=callback.token, request=asked.SerializeToString())
            )
        except grpc.RpcError as error:
            raise ProviderError(error.details()) from None
        return resource_pb2.TransformResponse.FromString(answer.response)

    def _new_provider(self, request: Any, urn: str, inputs: Object, source: Source | None) -> str:
        package = request.type.removeprefix(_PROVIDER)
        settings = {
            name: value for name, value in inputs.items() if name not in {"version", "pluginDownloadURL"}
        }
        offline = None
        if package in CLOUDS:
            offline = self._clouds.provider(package, settings)
            for failure in offline.failures:
                self._gap(request, source, str(failure))
        props = offline.props if offline else settings
        self._providers[urn] = Provider(request.type, values.plain(props), request.name), offline
        return "check"

    def _provider(self, token: str, reference: str) -> tuple[Provider, Offline | None]:
        """The provider that a type is made with: the one named (`urn::id`), else the stack's."""
        named = self._providers.get(reference.rpartition("::")[0])
        package = token.partition(":")[0]
        # A component's transform may name a provider of another package: as the engine, pass over it.
        if named is not None and named[0].type == _PROVIDER + package:
            return named
        if package not in self._providers:
            prefix = f"{package}:"
            settings = {
                key.removeprefix(prefix): whole(value)
                for key, value in self._program.config.items()
                if key.startswith(prefix)
            }
            offline = self._clouds.provider(package, settings) if package in CLOUDS else None
            for failure in offline.failures if offline else []:
                self.gaps.append(Gap(f"{package}:{failure.path}", f"in the stack's config: {failure.reason}"))
            props = offline.props if offline else settings
            self._providers[package] = Provider(_PROVIDER + package, values.plain(props)), offline
        return self._providers[package]

    def _urn(self, token: str, name: str, parent: str) -> str:
        above = parent.split("::", 3)[2] if parent else ""
        kind = token if above in {"", _STACK} else f"{above}${token}"
        return f"urn:pulumi:{self._program.stack}::{self._program.project}::{kind}::{name}"

    def _source(self, request: Any) -> Source | None:
        frames = [(frame.pc.uri, frame.pc.line) for frame in request.stackTrace.frames]
        if request.HasField("sourcePosition") and not frames:
            frames = [(request.sourcePosition.uri, request.sourcePosition.line)]
        found = self._program.line(frames)
        if found is None and (parent := self.stack.find(request.parent)) is not None:
            # Made in a callback of the library's, it belongs to the line that made its parent.
            return parent.source
        return found

    def _gap(self, request: Any, source: Source | None, reason: str, *, blocking: bool = True) -> None:
        place = f"{request.type}::{request.name}"
        with self._lock:
            self.gaps.append(
                Gap(f"{source.file}:{source.line}: {place}" if source else place, reason, blocking)
            )

    @contextmanager
    def _answers(self, context: Any) -> Iterator[None]:
        try:
            yield
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _references(resource: Resource) -> tuple[Any, ...]:
    """What data sources about a resource are asked by."""
    if resource.type == "gcp:dns/managedZone:ManagedZone":
        return resource.id, resource.props.get("name")
    return resource.id, resource.outputs.get("arn")


def whole(value: Any) -> Any:
    """A value in which every text that holds a piece that is not known is not known as a whole."""
    if isinstance(value, str):
        return UNKNOWN if UNKNOWN in value else value
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return value


def _opened(value: Any) -> Any:
    """A value of the wire with its secrets opened: the rules see what the cloud would."""
    if isinstance(value, list):
        return [_opened(item) for item in value]
    if isinstance(value, dict):
        if value.get(SIGNATURE) == _SECRET:
            return _opened(value.get("value"))
        return {key: _opened(item) for key, item in value.items()}
    return value


@contextmanager
def served(monitor: Monitor) -> Iterator[str]:
    """The monitor on a port of loopback; its address."""
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=_GRPC_CHANNEL_OPTIONS)
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    engine_pb2_grpc.add_EngineServicer_to_server(monitor, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def setting(value: Any) -> str:
    """A value of a stack's config as the engine hands it on: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
