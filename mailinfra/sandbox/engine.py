"""The Pulumi engine: an installed one that is new enough, or the pinned one, built once from its Go modules.

`python -m mailinfra.sandbox.engine` makes sure that there is one and prints the path of its `pulumi`.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mailinfra.sandbox.paths import Paths, SandboxError

PINNED_VERSION = "3.259.0"
"""The version that `tools/pulumi/go.mod` pins, and the oldest that is accepted when installed."""

SOURCES = Path(__file__).resolve().parents[2] / "tools" / "pulumi"
"""The Go module that builds the engine. It is part of a checkout, not of a wheel."""

LANGUAGE_HOST = "pulumi-language-python"
_SDK_MODULE = "github.com/pulumi/pulumi/sdk/v3"
_SDK_SCRIPTS = ("python/cmd/pulumi-language-python-exec", "python/dist/pulumi-resource-pulumi-python")
_GO_FALLBACK = Path("/usr/local/go/bin/go")
"""Where Go's own installation guide puts it, which sudo's PATH leaves out."""

_CLEAR_LINE = "\r\x1b[K"

Progress = Callable[[str], None]
"""Told each step when it begins and, while it lasts, how long it has taken. Called from other threads too."""


class EngineError(SandboxError):
    """There is no engine, it could not be built, or a run of it failed."""


@dataclass(frozen=True)
class Engine:
    """A Pulumi engine that can run Python programs: `pulumi` with its language host beside it."""

    pulumi: Path
    version: str

    def env(
        self,
        home: Path,
        backend: Path | str,
        *,
        passphrase: str = "",
        extra: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """The environment of a run that depends on none of the user's own Pulumi settings.

        `home` is the run's PULUMI_HOME (plugins, credentials), `backend` an existing folder for the state or
        a backend's URL, `passphrase` what encrypts the stack's secrets, `extra` further variables, which win.
        Python programs without a `virtualenv` option run under this process's interpreter. Plugins come from
        `home` alone: none is downloaded, and none on PATH can take a sandbox provider's place.
        """
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PULUMI_")}
        folders = [
            str(self.pulumi.parent),
            str(Path(sys.executable).parent),
            inherited.get("PATH", os.defpath),
        ]
        return {
            **inherited,
            "PATH": os.pathsep.join(folders),
            "PULUMI_HOME": str(home),
            "PULUMI_BACKEND_URL": backend if isinstance(backend, str) else f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": passphrase,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
            **(extra or {}),
        }

    def run(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `pulumi` with `args` in `cwd`, without questions and colour, and return its captured output.

        Raises `EngineError` with all of the output if it fails and `check` is set, or if it takes longer than
        `timeout` seconds.
        """
        command = [str(self.pulumi), *args, "--non-interactive", "--color=never"]
        shown = f"pulumi {' '.join(args)}"
        try:
            done = subprocess.run(
                command,
                env=env,
                cwd=cwd,
                text=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"`{shown}` took longer than {error.timeout:g} s") from None
        if check and done.returncode:
            raise EngineError(f"`{shown}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done


def ensure_engine(progress: Progress, *, interval: float = 15.0, cache: Path | None = None) -> Engine:
    """The installed engine if there is one new enough, else the pinned one from the cache, built at need.

    `progress` hears each long step at its begin and every `interval` seconds. `cache` is the user's cache
    folder (default `$XDG_CACHE_HOME/mailinfra`). Raises `EngineError`, in one line where the user has to
    install something.
    """
    installed, why_not = _installed()
    if installed:
        return installed
    folder = (cache or Paths.of().cache) / f"pulumi-{PINNED_VERSION}-{_fingerprint(why_not)}"
    built = Engine(folder / "bin" / "pulumi", PINNED_VERSION)
    if _complete(built):
        return built
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"the cache folder {folder.parent}: {error.strerror}") from None
    with _exclusive(folder.with_name(f"{folder.name}.lock"), progress, interval):
        # Another process may have built it while this one waited.
        if not _complete(built):
            _build(folder, _go(why_not), progress, interval)
    return built


def console(stream: IO[str]) -> tuple[Progress, float]:
    """A progress for a console, and its interval in seconds: one changing line on a terminal, else many."""
    if not stream.isatty():
        return lambda message: _write(stream, f"{message}\n"), 15.0

    def rewrite(message: str) -> None:
        # The line must not wrap: a wrapped line cannot be overwritten.
        width = shutil.get_terminal_size().columns - 1
        _write(stream, f"{_CLEAR_LINE}{message[:width]}")

    return rewrite, 1.0


def _write(stream: IO[str], text: str) -> None:
    stream.write(text)
    stream.flush()


def _parse_version(text: str) -> tuple[int, int, int] | None:
    """The version in what `pulumi version` or `go env GOVERSION` prints."""
    found = re.search(r"(?:^|go|v)(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def _installed() -> tuple[Engine | None, str]:
    """The engine on PATH if it will do; else None and what was found instead."""
    on_path = shutil.which("pulumi")
    if on_path is None:
        return None, "no pulumi on PATH"
    try:
        shown = subprocess.run(
            [on_path, "version"],
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{on_path} does not run ({str(error).splitlines()[0]})"
    version, pinned = _parse_version(shown), _parse_version(PINNED_VERSION)
    assert pinned is not None  # noqa: S101 - a constant of this module
    if version is None or version < pinned or version[0] != pinned[0]:
        return None, f"{on_path} is {shown!r}"
    # Distributions put a link on PATH; the language hosts lie beside the file that it points at.
    binary = Path(on_path).resolve()
    if not os.access(binary.with_name(LANGUAGE_HOST), os.X_OK):
        return None, f"{on_path} has no {LANGUAGE_HOST} beside it"
    return Engine(binary, ".".join(map(str, version))), ""


def _needed(why_not: str, instead: str) -> EngineError:
    """One line that says what to install, and why."""
    return EngineError(
        f"Pulumi {PINNED_VERSION} or newer is needed ({why_not}): install it as "
        f"https://www.pulumi.com/docs/install/ says{instead}"
    )


def _fingerprint(why_not: str) -> str:
    """A hash of all that decides what a build gives: the module's files and the kind of machine."""
    if not (SOURCES / "go.mod").is_file():
        raise _needed(
            why_not, f"; it can be built only from a checkout of mailinfra ({SOURCES} is not there)"
        )
    digest = hashlib.sha256(f"{sys.platform} {platform.machine()}\n".encode())
    for path in sorted(SOURCES.rglob("*")):
        if path.name in ("go.mod", "go.sum") or (path.suffix == ".go" and not path.stem.endswith("_test")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(SOURCES)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _go(why_not: str) -> Path:
    """A Go that can build the engine."""
    wanted = re.search(r"^go (\S+)$", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    if not wanted or not (least := _parse_version(f"go{wanted[1]}")):
        raise EngineError(f"{SOURCES / 'go.mod'}: no line `go <version>`")
    build = f", or install Go {wanted[1]} or newer to have it built"
    found = shutil.which("go") or (str(_GO_FALLBACK) if os.access(_GO_FALLBACK, os.X_OK) else None)
    if found is None:
        raise _needed(f"{why_not}, no go on PATH", build)
    # Asked inside the module, Go 1.21 and newer fetch the Go that go.mod wants, or say why they cannot.
    asked = subprocess.run(
        [found, "env", "GOVERSION"],
        cwd=SOURCES,
        env=_go_environment(),
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    version = _parse_version(asked.stdout)
    if asked.returncode or version is None or version < least:
        said = (asked.stdout.strip() or asked.stderr.strip() or "silent").splitlines()[-1]
        raise _needed(f"{why_not}, {found} is {said!r}", build)
    return Path(found)


def _go_environment() -> dict[str, str]:
    """The user's, without a workspace, which would hide the module's own versions."""
    return {**os.environ, "GOWORK": "off"}


def _files(folder: Path) -> list[Path]:
    """What a built engine consists of."""
    return [
        folder / name for name in ("pulumi", LANGUAGE_HOST, *(Path(script).name for script in _SDK_SCRIPTS))
    ]


def _complete(engine: Engine) -> bool:
    return all(os.access(path, os.X_OK) for path in _files(engine.pulumi.parent))


def _build(folder: Path, go: Path, progress: Progress, interval: float) -> None:
    """Build the engine into `folder`, whole or not at all. The caller holds the lock."""
    # What a killed build left; nobody else builds now.
    for stale in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(stale)
    shutil.rmtree(folder, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        binaries = temporary / "bin"
        binaries.mkdir()
        flags = [
            "-buildvcs=false",
            f"-ldflags=-s -w -X {_SDK_MODULE}/go/common/version.Version=v{PINNED_VERSION}",
        ]
        for name, package, hint in (
            ("pulumi", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", "once; 5 to 10 min on 2 cores"),
            (LANGUAGE_HOST, "./language-python", "once"),
        ):
            _run_step(
                f"building {name} {PINNED_VERSION} ({hint})",
                [str(go), "build", "-v", *flags, "-o", str(binaries / name), package],
                progress,
                interval,
            )
        module = _run_step(
            f"finding the module {_SDK_MODULE}",
            [str(go), "mod", "download", "-json", _SDK_MODULE],
            progress,
            interval,
        )
        sdk = Path(json.loads(module)["Dir"])
        for script in _SDK_SCRIPTS:
            target = binaries / Path(script).name
            shutil.copyfile(sdk / script, target)
            target.chmod(0o755)
        _run_step("trying the engine", [str(binaries / "pulumi"), "version"], progress, interval)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError as error:
        raise EngineError(f"building the engine in {temporary}: {error.strerror or error}") from None
    finally:
        # After the rename there is nothing left here to remove.
        shutil.rmtree(temporary, ignore_errors=True)


def _run_step(label: str, command: list[str], progress: Progress, interval: float) -> str:
    """Run one command of a build in the Go module, with progress, and return its standard output.

    Raises `EngineError` with the end of what the command said if it fails.
    """
    said: deque[str] = deque(maxlen=20)
    work: Counter[str] = Counter()

    def listen(stream: IO[str]) -> None:
        for line in stream:
            said.append(line)
            # `go build -v` names each package that it compiles; what it does besides begins with "go: ".
            if not line.startswith("go: "):
                work["packages compiled"] += 1
            elif line.startswith("go: downloading"):
                work["modules downloaded"] += 1

    def message() -> str:
        done = ", ".join(f"{count} {what}" for what, count in list(work.items()))
        return f"{label}: {done}" if done else label

    with (
        subprocess.Popen(
            command,
            cwd=SOURCES,
            env=_go_environment(),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
        _ticking(message, progress, interval),
    ):
        assert process.stdout is not None and process.stderr is not None  # noqa: S101 - both are pipes
        listener = threading.Thread(target=listen, args=(process.stderr,), daemon=True)
        listener.start()
        try:
            output = process.stdout.read()
            status = process.wait()
            listener.join()
        except BaseException:
            process.terminate()
            raise
    if status:
        raise EngineError(f"{label} failed:\n{''.join(said)}".rstrip())
    return output


@contextmanager
def _ticking(message: Callable[[], str], progress: Progress, interval: float) -> Iterator[None]:
    """Tell a step's message now, and with the time it has taken every `interval` seconds until its end."""
    over = threading.Event()
    begin = time.monotonic()

    def tick() -> None:
        while not over.wait(interval):
            minutes, seconds = divmod(round(time.monotonic() - begin), 60)
            progress(f"{message()}, {minutes} min {seconds} s" if minutes else f"{message()}, {seconds} s")

    progress(message())
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()


@contextmanager
def _exclusive(path: Path, progress: Progress, interval: float) -> Iterator[None]:
    """Hold the lock file `path`, waiting for its holder.

    The file stays: a lock file that is removed can be held twice.
    """
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with _ticking(lambda: "waiting for another process that builds the engine", progress, interval):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Make sure of an engine and print the path of its `pulumi`; the exit code is 1 if there can be none."""
    progress, interval = console(sys.stderr)
    clear = _CLEAR_LINE if sys.stderr.isatty() else ""
    try:
        engine = ensure_engine(progress, interval=interval)
    except SandboxError as error:
        _write(sys.stderr, f"{clear}error: {error}\n")
        return 1
    except KeyboardInterrupt:
        _write(sys.stderr, "\n")
        return 130
    _write(sys.stderr, clear)
    _write(sys.stdout, f"{engine.pulumi}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
