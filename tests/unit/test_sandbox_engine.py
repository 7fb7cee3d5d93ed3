"""Finding and building the engine, with stand-ins for `pulumi` and `go` on a PATH of the tests' own."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mailinfra.sandbox import engine as module
from mailinfra.sandbox.engine import PINNED_VERSION, Engine, EngineError, console, ensure_engine, main

REAL_SOURCES = module.SOURCES

GO = """#!{python}
import json, os, sys
from pathlib import Path

state = Path({state!r})
with (state / "calls").open("a") as calls:
    print(*sys.argv[1:], file=calls)
match sys.argv[1:]:
    case ["env", "GOVERSION"]:
        print((state / "version").read_text())
    case ["build", *_, "-o", target, package]:
        print("go: downloading some.test/module v1.0.0", "some/package", "other/package", sep="\\n", file=sys.stderr)
        if (state / "gate").exists():
            print("ready", file=(state / "gate").open("w"), flush=True)
            (state / "gate").open().read()
        if (state / "broken").exists():
            sys.exit("engine.go:1:1: expected 'package'")
        Path(target).write_text("#!/bin/sh\\necho v{version}\\n")
        Path(target).chmod(0o755)
    case ["mod", "download", "-json", _]:
        print(json.dumps({{"Dir": str(state / "sdk")}}))
    case _:
        sys.exit(f"unexpected {{sys.argv[1:]}}")
"""


class World:
    """A PATH, a cache and a Go module of a test's own."""

    def __init__(self, root: Path) -> None:
        self.path, self.cache, self.sources, self.go_state = (
            root / name for name in ("path", "cache", "sources", "go")
        )
        for folder in (self.path, self.sources / "language-python", self.go_state):
            folder.mkdir(parents=True)
        (self.sources / "go.mod").write_text("module x\n\ngo 1.25.11\n")
        (self.sources / "language-python" / "main.go").write_text("package main\n")
        (self.go_state / "version").write_text("go1.26.8")
        for script in module._SDK_SCRIPTS:
            target = self.go_state / "sdk" / script
            target.parent.mkdir(parents=True)
            target.write_text("#!/bin/sh\n")

    def script(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def add_go(self) -> None:
        """Puts a `go` on PATH that writes down its calls and builds scripts."""
        self.script(
            self.path / "go",
            GO.format(python=sys.executable, state=str(self.go_state), version=PINNED_VERSION),
        )

    def add_pulumi(self, says: str, host: bool = True) -> Path:
        """Links a `pulumi` onto PATH that prints a version; its language host is beside the file itself."""
        home = self.path.parent / "opt"
        pulumi = self.script(home / "pulumi", f"#!/bin/sh\n{says}\n")
        if host:
            self.script(home / module.LANGUAGE_HOST, "#!/bin/sh\n")
        (self.path / "pulumi").symlink_to(pulumi)
        return pulumi

    def calls(self) -> list[str]:
        """What `go` was asked to do."""
        path = self.go_state / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def ensure(self, progress=lambda message: None, interval: float = 15.0) -> Engine:
        return ensure_engine(progress, interval=interval, cache=self.cache)

    def left(self) -> list[str]:
        """What is in the cache besides lock files, finished folders as `built`."""
        names = sorted(path.name for path in self.cache.iterdir() if path.suffix != ".lock")
        return [
            re.sub(rf"^pulumi-{re.escape(PINNED_VERSION)}-[0-9a-f]{{12}}$", "built", name) for name in names
        ]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setenv("PATH", str(made.path))
    monkeypatch.setattr(module, "SOURCES", made.sources)
    monkeypatch.setattr(module, "_GO_FALLBACK", tmp_path / "nowhere" / "go")
    return made


def test_the_pinned_version_is_the_modules() -> None:
    pins = re.findall(
        r"^\s+github\.com/pulumi/pulumi/(?:pkg|sdk)/v3 v(\S+)$", (REAL_SOURCES / "go.mod").read_text(), re.M
    )
    assert pins == [PINNED_VERSION] * 2


@pytest.mark.parametrize("says", [f"echo v{PINNED_VERSION}", "echo v3.1000.0", "echo 3.300.1-alpha.1"])
def test_an_installed_engine_new_enough_is_used(world: World, says: str) -> None:
    pulumi = world.add_pulumi(says)
    world.add_go()
    found = world.ensure()
    assert found.pulumi == pulumi
    assert found.version == says.removeprefix("echo ").removeprefix("v").partition("-")[0]
    assert world.calls() == []
    assert not world.cache.exists()


@pytest.mark.parametrize(
    ("says", "host"),
    [
        ("echo v3.258.9", True),
        ("echo v4.0.0", True),
        ("echo what?", True),
        ("exit 1", True),
        (f"echo v{PINNED_VERSION}", False),
    ],
)
def test_an_installed_engine_that_will_not_do_is_passed_over(world: World, says: str, host: bool) -> None:
    world.add_pulumi(says, host)
    world.add_go()
    assert world.ensure().pulumi.is_relative_to(world.cache)


def test_it_is_built_once(world: World) -> None:
    world.add_go()
    told: list[str] = []
    built = world.ensure(told.append)
    assert built.version == PINNED_VERSION
    assert sorted(path.name for path in built.pulumi.parent.iterdir()) == [
        "pulumi",
        "pulumi-language-python",
        "pulumi-language-python-exec",
        "pulumi-resource-pulumi-python",
    ]
    assert all(os.access(path, os.X_OK) for path in built.pulumi.parent.iterdir())
    assert [message.split(" ")[:2] for message in told][:2] == [
        ["building", "pulumi"],
        ["building", "pulumi-language-python"],
    ]
    first = world.calls()
    assert f"common/version.Version=v{PINNED_VERSION}" in first[1]
    assert world.ensure(told.append) == built
    assert world.calls() == first
    assert world.left() == ["built"]


def test_other_sources_give_another_build(world: World) -> None:
    world.add_go()
    first = world.ensure()
    (world.sources / "language-python" / "main_test.go").write_text("package main\n")
    (world.sources / "README.md").write_text("read me\n")
    assert world.ensure() == first
    (world.sources / "language-python" / "main.go").write_text("package main // changed\n")
    second = world.ensure()
    assert second != first
    assert world.left() == ["built", "built"]


def test_a_damaged_build_is_made_anew(world: World) -> None:
    world.add_go()
    built = world.ensure()
    built.pulumi.with_name(module.LANGUAGE_HOST).unlink()
    assert world.ensure() == built
    assert os.access(built.pulumi.with_name(module.LANGUAGE_HOST), os.X_OK)


def test_without_pulumi_and_go_one_line_says_what_to_install(world: World) -> None:
    with pytest.raises(EngineError) as error:
        world.ensure()
    said = str(error.value)
    assert "\n" not in said
    assert f"Pulumi {PINNED_VERSION} or newer is needed (no pulumi on PATH, no go on PATH)" in said
    assert "or install Go 1.25.11 or newer" in said


@pytest.mark.parametrize("version", ["go1.24.4", "go1.25.10", "devel"])
def test_a_go_too_old_is_named(world: World, version: str) -> None:
    world.add_go()
    world.add_pulumi("echo v3.100.0")
    (world.go_state / "version").write_text(version)
    with pytest.raises(EngineError) as error:
        world.ensure()
    said = str(error.value)
    assert "\n" not in said
    assert f"{world.path}/pulumi is 'v3.100.0'" in said
    assert f"{world.path}/go is '{version}'" in said


def test_gos_own_reason_is_passed_on(world: World) -> None:
    world.script(world.path / "go", "#!/bin/sh\necho 'go: go.mod requires go >= 1.25.11' >&2\nexit 1\n")
    with pytest.raises(EngineError, match=re.escape("is 'go: go.mod requires go >= 1.25.11'")):
        world.ensure()


def test_go_is_found_where_sudo_hides_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add_go()
    hidden = (world.path / "go").rename(world.path.parent / "hidden-go")
    monkeypatch.setattr(module, "_GO_FALLBACK", hidden)
    assert world.ensure().pulumi.is_file()


def test_without_a_checkout_the_engine_must_be_installed(world: World) -> None:
    world.add_go()
    (world.sources / "go.mod").unlink()
    with pytest.raises(EngineError, match="only from a checkout of mailinfra") as error:
        world.ensure()
    assert "\n" not in str(error.value)


def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing(world: World) -> None:
    world.add_go()
    (world.go_state / "broken").touch()
    with pytest.raises(EngineError, match="expected 'package'"):
        world.ensure()
    assert world.left() == []
    (world.go_state / "broken").unlink()
    assert world.ensure().pulumi.is_file()


def test_a_cache_that_cannot_be_written_is_named(world: World) -> None:
    world.add_go()
    world.cache.write_text("not a folder")
    with pytest.raises(EngineError, match=re.escape(str(world.cache))):
        world.ensure()


def test_an_sdk_without_its_script_is_an_error(world: World) -> None:
    world.add_go()
    (world.go_state / "sdk" / module._SDK_SCRIPTS[0]).unlink()
    with pytest.raises(EngineError, match="No such file"):
        world.ensure()
    assert world.left() == []


BUILDER = """
import sys
from pathlib import Path
from mailinfra.sandbox import engine
engine.SOURCES = Path(sys.argv[1])
engine.ensure_engine(lambda message: None, cache=Path(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_build_counts_for_nothing(world: World, number: signal.Signals) -> None:
    world.add_go()
    gate = world.go_state / "gate"
    os.mkfifo(gate)
    builder = [sys.executable, "-c", BUILDER, str(world.sources), str(world.cache)]
    with subprocess.Popen(builder, stderr=subprocess.DEVNULL) as running:
        with gate.open() as opened:
            assert opened.read() == "ready\n"
        [partial] = world.left()
        assert partial.startswith(".pulumi-")
        running.send_signal(number)
    assert running.returncode != 0
    if number == signal.SIGKILL:
        # Its `go` outlived it, as a real one would; it ends here.
        gate.open("w").close()
        assert world.left() == [partial]
    else:
        assert world.left() == []
    gate.unlink()
    assert world.ensure().pulumi.is_file()
    assert world.left() == ["built"]


def test_two_at_once_build_once_and_the_second_says_that_it_waits(world: World) -> None:
    world.add_go()
    gate = world.go_state / "gate"
    os.mkfifo(gate)
    engines: list[Engine] = []
    first = threading.Thread(target=lambda: engines.append(world.ensure()))
    first.start()
    with gate.open() as opened:
        assert opened.read() == "ready\n"

    waiting = threading.Event()
    told: list[str] = []

    def progress(message: str) -> None:
        told.append(message)
        # Not the first message but a later one: it goes on telling while it waits.
        if re.fullmatch(r"waiting for another process that builds the engine, \d+ s", message):
            waiting.set()

    second = threading.Thread(target=lambda: engines.append(world.ensure(progress, interval=0.01)))
    second.start()
    assert waiting.wait(30)
    # The gate goes first: only this build is to stop at it.
    held = gate.open("w")
    gate.unlink()
    held.close()
    first.join(30)
    second.join(30)
    assert len(engines) == 2 and engines[0] == engines[1]
    assert sum(call.startswith("build") for call in world.calls()) == 2  # pulumi and the language host
    assert all(message.startswith("waiting") for message in told)


def test_a_long_step_tells_its_time_and_work(world: World) -> None:
    world.add_go()
    gate = world.go_state / "gate"
    os.mkfifo(gate)
    told: list[str] = []
    ticked = threading.Event()

    def progress(message: str) -> None:
        told.append(message)
        if ": 1 modules downloaded, 2 packages compiled, 0 s" in message:
            ticked.set()

    builder = threading.Thread(target=world.ensure, args=(progress, 0.01))
    builder.start()
    with gate.open() as opened:
        assert opened.read() == "ready\n"
    assert ticked.wait(30), told
    held = gate.open("w")
    gate.unlink()
    held.close()
    builder.join(30)
    assert not builder.is_alive()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_changing_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    stream = Terminal()
    progress, interval = console(stream)
    progress("a long message")
    progress("b")
    assert stream.getvalue() == "\r\x1b[Ka long me\r\x1b[Kb"
    assert interval == 1.0


def test_a_log_gets_a_line_each() -> None:
    stream = io.StringIO()
    progress, interval = console(stream)
    progress("a")
    progress("b")
    assert stream.getvalue() == "a\nb\n"
    assert interval == 15.0


def test_the_command_prints_the_path(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    pulumi = world.add_pulumi("echo v3.300.0")
    assert main() == 0
    assert capsys.readouterr().out == f"{pulumi}\n"


def test_the_command_fails_in_one_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: Pulumi ") and said.err.count("\n") == 1


def fake_engine(world: World, source: str) -> Engine:
    """An engine whose `pulumi` is a Python script."""
    return Engine(world.script(world.path / "pulumi", f"#!{sys.executable}\n{source}"), PINNED_VERSION)


def test_a_run_depends_on_none_of_the_users_pulumi_settings(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_ACCESS_TOKEN", "secret")
    monkeypatch.setenv("PULUMI_BACKEND_URL", "https://elsewhere.test")
    monkeypatch.setenv("KEPT", "yes")
    engine = fake_engine(world, "import json, os\nprint(json.dumps(dict(os.environ)))\n")
    env = engine.env(tmp_path / "home", tmp_path / "state", extra={"MORE": "1"})
    seen = json.loads(engine.run([], env=env, cwd=tmp_path).stdout)
    assert "PULUMI_ACCESS_TOKEN" not in seen
    assert seen["PULUMI_HOME"] == str(tmp_path / "home")
    assert seen["PULUMI_BACKEND_URL"] == f"file://{tmp_path / 'state'}"
    assert (seen["KEPT"], seen["MORE"], seen["PULUMI_CONFIG_PASSPHRASE"]) == ("yes", "1", "")
    assert seen["PATH"].split(os.pathsep) == [
        str(world.path),
        str(Path(sys.executable).parent),
        str(world.path),
    ]
    assert engine.env(tmp_path, "https://state.test")["PULUMI_BACKEND_URL"] == "https://state.test"


def test_a_run_that_fails_shows_all_that_was_said(world: World, tmp_path: Path) -> None:
    engine = fake_engine(world, "import sys\nprint('out', sys.argv[1:])\nsys.exit('err')\n")
    with pytest.raises(EngineError) as error:
        engine.run(["up", "--yes"], env=os.environ, cwd=tmp_path)
    assert str(error.value) == (
        "`pulumi up --yes` ended with 1:\nout ['up', '--yes', '--non-interactive', '--color=never']\nerr\n"
    )
    assert engine.run(["up"], env=os.environ, cwd=tmp_path, check=False).returncode == 1


def test_a_run_that_takes_too_long_is_ended(world: World, tmp_path: Path) -> None:
    engine = fake_engine(world, "import signal\nsignal.pause()\n")
    with pytest.raises(EngineError, match=r"`pulumi up` took longer than 0\.2 s"):
        engine.run(["up"], env=os.environ, cwd=tmp_path, timeout=0.2)
