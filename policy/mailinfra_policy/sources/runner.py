"""Runs a Pulumi program against a resource monitor, in a process and with an interpreter of the program's own.

`python runner.py JOB`: `JOB` is a JSON object (see `mailinfra_policy.sources.program`). It does what Pulumi's own
`pulumi-language-python-exec` does, and besides

- lets no Python code reach the network or the pulumi command: what a program asks the world for while it runs is not
  part of what it declares;
- answers a data source in its direct form (`aws.ec2.get_vpc()`, not `get_vpc_output()`), where only the cloud knows,
  with a value whose texts are the engine's mark for what is not known.

This file is run by the program's interpreter, which may be another one than ours: it imports nothing but the standard
library and pulumi.
"""

import ast
import asyncio
import functools
import gc
import importlib.abc
import importlib.machinery
import json
import logging
import os
import re
import runpy
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_ENGINES = frozenset({"pulumi", "pulumi.exe"})
_TRACE_LINES = 12
_CONSTRUCTORS = 3
"""Of a resource's class: its own, that of CustomResource or ComponentResource, and Resource's."""


class RefusedError(RuntimeError):
    """The program tried to leave its process."""


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    # gRPC's own sockets are not Python's and raise no events.
    if event == "socket.getaddrinfo" and arguments[0] not in {None, "", "localhost", "127.0.0.1", "::1"}:
        raise RefusedError(f"the program asks the network for {arguments[0]!r}; a check has no network")
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
        if not (host.startswith("127.") or host in {"::1", "localhost"}):
            raise RefusedError(f"the program connects to {host}; a check has no network")
    if event == "subprocess.Popen" and Path(os.fsdecode(arguments[0] or "")).name in _ENGINES:
        raise RefusedError(
            "the program starts the pulumi command (Automation API); check the programs that it runs"
        )


def placeholder(hint: Any) -> Any:
    """A value of a type in which every text is the mark for what is not known."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        return placeholder(next((item for item in arguments if item is not type(None)), None))
    if hint is str:
        return UNKNOWN
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return [placeholder(arguments[0])]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {}
    if isinstance(hint, type) and hasattr(hint, "_pulumi_output_type"):
        return _result(hint)
    return None  # a number or a truth value has no mark


def _result(kind: Any) -> Any:
    import pulumi
    from pulumi import _types

    result = kind.__new__(kind)
    hints = _types._raw_return_hints(kind)
    for python_name, name, _ in _types._py_properties(kind):
        pulumi.set(result, python_name, placeholder(hints.get(name)))
    return result


def _answer_direct_calls() -> None:
    import pulumi
    from pulumi.runtime.invoke import InvokeResult, invoke

    def direct(tok: str, props: Any, opts: Any = None, typ: Any = None, **more: Any) -> Any:
        found = invoke(tok, props, opts, typ, **more)
        if found.is_known or typ is None:
            return found
        return InvokeResult(_result(typ))

    pulumi.runtime.invoke = direct  # type: ignore[assignment]


_STAR = re.compile(r"^from \.(\w+) import \*$", re.MULTILINE)
_ALL = re.compile(r"^__all__ = (\[[^\]]*\])", re.MULTILINE)
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class LazyPackages(importlib.abc.MetaPathFinder):
    """Finds the packages of Pulumi's SDKs that are nothing but star imports of generated modules, and lets each of
    these modules be loaded when something of it is asked for. Together they define thousands of classes, of which a
    program uses a few: loading them all takes longer than running the program."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """The spec of a package of an SDK; None for everything else."""
        if not name.startswith("pulumi_"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.submodule_search_locations is None or spec.loader is None:
            return None
        spec.loader = _LazyPackage(spec.loader, Path(str(spec.origin)))
        return spec


class _LazyPackage(importlib.abc.Loader):
    def __init__(self, loader: Any, file: Path) -> None:
        self.loader, self.file = loader, file

    def exec_module(self, package: ModuleType) -> None:
        """Run the package without its star imports; as it is, where one of them is of another kind."""
        source = self.file.read_text(encoding="utf-8")
        modules = _STAR.findall(source)
        if not modules or not all((self.file.parent / f"{module}.py").is_file() for module in modules):
            self.loader.exec_module(package)
            return
        exports = _Exports(package, self.file.parent, modules)
        package.__dict__["__getattr__"] = exports.found
        exec(compile(_STAR.sub("", source), self.file, "exec"), package.__dict__)  # noqa: S102 - the SDK's own
        exports.own = [name for name in package.__dict__ if not name.startswith("_")]


class _Exports:
    """What the star imports of a package would have brought, brought when it is asked for."""

    def __init__(self, package: ModuleType, folder: Path, modules: list[str]) -> None:
        self.package, self.folder, self.modules = package, folder, frozenset(modules)
        self.own: list[str] = []

    @functools.cached_property
    def owners(self) -> dict[str, str]:
        """The module of each name."""
        found: dict[str, str] = {}
        for module in sorted(self.modules):
            text = (self.folder / f"{module}.py").read_text(encoding="utf-8")
            names = _ALL.search(text)
            public = ast.literal_eval(names[1]) if names else dir(self.load(module))
            found |= dict.fromkeys((name for name in public if names or not name.startswith("_")), module)
        return found

    def load(self, module: str) -> ModuleType:
        """Load one of the modules."""
        return importlib.import_module(f"{self.package.__name__}.{module}")

    def found(self, name: str) -> Any:
        """What the package has under a name that it was not asked for before."""
        if name == "__all__":
            return [*self.own, *self.owners]
        if name not in self.modules and (name.startswith("_") or (self.folder / f"{name}.py").is_file()):
            raise AttributeError(f"module {self.package.__name__!r} has no attribute {name!r}")
        # Most are where their names say; to look for the others, all modules have to be read.
        guess = _WORD.sub("_", name.removesuffix("_output").removesuffix("Args")).lower()
        for module in (name, guess, "_inputs"):
            if module in self.modules and name in self.taken(module):
                return self.package.__dict__[name]
        if (module := self.owners.get(name, "")) and name in self.taken(module):
            return self.package.__dict__[name]
        raise AttributeError(f"module {self.package.__name__!r} has no attribute {name!r}")

    def taken(self, module: str) -> dict[str, Any]:
        """The package's names after it took all of a module's at once: else the module itself would stand in the
        place of a function that has its name."""
        loaded = self.load(module)
        public = getattr(loaded, "__all__", None) or [
            item for item in vars(loaded) if not item.startswith("_")
        ]
        self.package.__dict__.update({item: getattr(loaded, item) for item in public})
        return self.package.__dict__


def _make_haste() -> None:
    """Leave out what costs seconds in a large program and shows in nothing that is registered."""
    import pulumi
    from pulumi.runtime import resource

    # A call to the engine for each message of the SDK's own, some four a resource.
    pulumi.log.debug = lambda *_, **__: None
    if hasattr(resource, "_get_stack_trace"):
        resource._get_stack_trace = _stack_trace
    if hasattr(resource, "create_urn"):
        resource.create_urn = functools.partial(_urn, resource.create_urn)
    sys.meta_path.insert(0, LazyPackages())
    # The SDKs define some ten thousand classes, and the process ends with the program.
    gc.disable()


def _stack_trace() -> Any:
    """As the SDK's: the frames above the constructors of a resource. It asks each file's lines of the disk, for every
    registration."""
    from pulumi.runtime.proto import source_pb2

    frame: FrameType | None = sys._getframe(1)
    constructors = 0
    while frame and constructors < _CONSTRUCTORS:
        constructors += frame.f_code.co_name == "__init__"
        frame = frame.f_back
    frames = []
    while frame:
        position = source_pb2.SourcePosition(uri=_uri(frame.f_code.co_filename), line=frame.f_lineno or 0)
        frames.append(source_pb2.StackFrame(pc=position))
        frame = frame.f_back
    return source_pb2.StackTrace(frames=frames)


@functools.cache
def _uri(filename: str) -> str:
    return Path(filename).as_uri() if os.path.isabs(filename) else ""  # noqa: PTH117


def _urn(
    worked_out: Callable[..., Any], name: Any, type_: Any, parent: Any = None, *more: Any, **named: Any
) -> Any:
    """As the SDK's `create_urn`, which makes seven outputs: for every registration, in case that there is no engine."""
    import pulumi

    if more or named or not all(isinstance(text, str) for text in (name, type_, parent)):
        return worked_out(name, type_, parent, *more, **named)
    return pulumi.Output.from_input(f"{parent[: parent.rfind('::')]}${type_}::{name}")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Runs the program; what went wrong as `error` and `trace`, else an empty object."""
    try:
        import pulumi
        from pulumi.runtime.settings import Settings
    except ImportError as error:
        return {"error": f"{sys.executable} has no Pulumi SDK ({error})", "trace": []}
    pulumi.runtime.set_all_config(job["config"], job["secret_keys"])
    pulumi.runtime.configure(
        Settings(
            monitor=job["address"],
            engine=job["address"],
            project=job["project"],
            stack=job["stack"],
            parallel=job["parallel"],
            dry_run=True,
            organization="organization",
            root_directory=job["root"],
        )
    )
    _answer_direct_calls()
    _make_haste()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.argv = [job["main"]]
    program = os.path.realpath(job["main"])
    sys.path.append(program if Path(program).is_dir() else str(Path(program).parent))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    executor = ThreadPoolExecutor(job["parallel"])
    loop.set_default_executor(executor)

    def main() -> None:
        runpy.run_path(job["main"], run_name="__main__")

    sys.addaudithook(_guard)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(main))
    except pulumi.RunError as error:
        return {"error": str(error), "trace": []}
    except SystemExit as error:
        return (
            {}
            if error.code in {None, 0}
            else {"error": f"the program ended itself: {error.code}", "trace": []}
        )
    except BaseException as error:  # whatever the program raised is its own
        return {"error": _line(error), "trace": _trace(error)}
    finally:
        executor.shutdown(wait=False)
    return {}


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _trace(error: BaseException) -> list[str]:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "runpy" not in frame.filename]
    frames = [frame for frame in frames if os.path.realpath(frame.filename) != os.path.realpath(__file__)]
    return [line for frame in frames for line in traceback.format_list([frame])[0].splitlines()][
        -_TRACE_LINES:
    ]


def main() -> None:
    """Reads the job from standard input, writes the answer to the file that the job names."""
    with suppress(ImportError):  # `run` tells; whoever writes the job takes as long to begin
        import pulumi  # noqa: F401
    job = json.load(sys.stdin)
    os.chdir(job["folder"])
    # As the engine hands it over; the SDK reads it from here where a program asks before it is set.
    os.environ["PULUMI_CONFIG"] = json.dumps(job["config"])
    os.environ["PULUMI_CONFIG_SECRET_KEYS"] = json.dumps(job["secret_keys"])
    answer = run(job)
    Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the SDK's and of gRPC's that wait for a server must not keep the process.
    os._exit(1 if answer else 0)


if __name__ == "__main__":
    main()
