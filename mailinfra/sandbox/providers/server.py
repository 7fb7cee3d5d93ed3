"""Puts a `SandboxProvider` on the wire: the engine's resource provider protocol over gRPC.

Not the SDK's own server (`pulumi.provider.experimental.server`): as of 3.272 that drops the old inputs of a diff, the
hashes of assets and half-made resources, and reports each error with a traceback.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime import proto
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from mailinfra.sandbox.providers.base import SandboxProvider
from mailinfra.sandbox.providers.checks import Failure
from mailinfra.sandbox.providers.errors import ProviderError, Unfinished
from mailinfra.sandbox.providers.values import from_wire, to_wire

WORKERS = 32
"""Operations at once; the engine sends 4 for each core by default."""
_PARENT_CHECK_SECONDS = 2.0

_KINDS: dict[tuple[str, bool], "proto.PropertyDiff.Kind.ValueType"] = {
    ("add", False): proto.PropertyDiff.ADD,
    ("add", True): proto.PropertyDiff.ADD_REPLACE,
    ("delete", False): proto.PropertyDiff.DELETE,
    ("delete", True): proto.PropertyDiff.DELETE_REPLACE,
    ("update", False): proto.PropertyDiff.UPDATE,
    ("update", True): proto.PropertyDiff.UPDATE_REPLACE,
}


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """The protocol's methods, each turned into one of the provider's."""

    def __init__(self, provider: SandboxProvider, admit: Callable[[], None]) -> None:
        """`admit` is called before the first configuration; what it raises refuses it."""
        self._provider = provider
        self._admit = admit

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return proto.PluginInfo(version=self._provider.version)

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _errors(context):
            self._admit()
            failures = self._provider.check_config(from_wire(request.news))
            return proto.CheckResponse(inputs=request.news, failures=_failures(failures))

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        # A change of configuration never replaces: it is only what the next calls are made with.
        return proto.DiffResponse(changes=proto.DiffResponse.DIFF_UNKNOWN)

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _errors(context):
            self._admit()
            self._provider.configure(from_wire(request.args))
            return proto.ConfigureResponse(acceptSecrets=False, supportsPreview=True, acceptResources=False)

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _errors(context):
            result, failures = self._provider.invoke(request.tok, from_wire(request.args))
            # `return` is a keyword of Python's, so it cannot be named in a call.
            return proto.InvokeResponse(**{"return": to_wire(result), "failures": _failures(failures)})

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _errors(context):
            inputs, failures = self._provider.check(
                request.urn, from_wire(request.olds), from_wire(request.news), request.randomSeed
            )
            return proto.CheckResponse(inputs=to_wire(inputs), failures=_failures(failures))

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _errors(context):
            state = from_wire(request.olds)
            old_inputs = from_wire(request.old_inputs) if request.HasField("old_inputs") else state
            found = self._provider.diff(request.urn, request.id, old_inputs, state, from_wire(request.news))
            return proto.DiffResponse(
                changes=proto.DiffResponse.DIFF_SOME if found.changes else proto.DiffResponse.DIFF_NONE,
                replaces=sorted(found.replaces),
                deleteBeforeReplace=found.delete_before_replace,
                diffs=sorted({change.root for change in found.changes}),
                detailedDiff={
                    change.path: proto.PropertyDiff(
                        kind=_KINDS[change.kind, change.forces_new], inputDiff=True
                    )
                    for change in found.changes
                },
                hasDetailedDiff=True,
            )

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _errors(context):
            identifier, state = self._provider.create(
                request.urn, from_wire(request.properties), request.preview
            )
            return proto.CreateResponse(id=identifier, properties=to_wire(state))

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _errors(context):
            found = self._provider.read(
                request.urn, request.id, from_wire(request.inputs), from_wire(request.properties)
            )
            if found is None:
                return proto.ReadResponse(id="")
            inputs, state = found
            return proto.ReadResponse(id=request.id, inputs=to_wire(inputs), properties=to_wire(state))

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _errors(context):
            state = self._provider.update(
                request.urn,
                request.id,
                from_wire(request.old_inputs),
                from_wire(request.olds),
                from_wire(request.news),
                request.preview,
            )
            return proto.UpdateResponse(properties=to_wire(state))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _errors(context):
            self._provider.delete(request.urn, request.id, from_wire(request.properties))
            return empty_pb2.Empty()


def _failures(failures: list[Failure]) -> list[Any]:
    return [proto.CheckFailure(property=f.path, reason=f.reason) for f in failures]


@contextmanager
def _errors(context: Any) -> Iterator[None]:
    """Send what went wrong as the protocol wants it: one line, and what exists of a half-made resource."""
    try:
        yield
    except Unfinished as error:
        details = provider_pb2.ErrorResourceInitFailed(
            id=error.id, properties=to_wire(error.outputs), reasons=[str(error)]
        )
        packed = any_pb2.Any()
        packed.Pack(details)
        status = status_pb2.Status(
            code=grpc.StatusCode.UNKNOWN.value[0], message=str(error), details=[packed]
        )
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNKNOWN, str(error))
    except ProviderError as error:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))


def serve(provider: SandboxProvider, admit: Callable[[], None]) -> Literal[0]:
    """Serve until the engine ends; prints the port on stdout, as the engine expects of a plugin."""
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=_GRPC_CHANNEL_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(provider, admit), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    parent = os.getppid()
    # An engine that is killed cannot stop its plugins; the orphan notices by its new parent.
    while os.getppid() == parent:
        threading.Event().wait(_PARENT_CHECK_SECONDS)
    server.stop(None)
    return 0
