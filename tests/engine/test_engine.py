"""The real engine and its language host: programs, components, policy packs and providers in Python."""

import json
import os
import re
import select
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest

from mailinfra.sandbox.engine import Engine, EngineError

pytestmark = pytest.mark.engine

PROGRAM = """
    import sys
    import pulumi

    class Box(pulumi.ComponentResource):
        def __init__(self, name):
            super().__init__("demo:index:Box", name)
            self.register_outputs({})

    Box("box")
    config = pulumi.Config()
    pulumi.export("size", config.require_int("size"))
    pulumi.export("key", config.require_secret("key"))
    pulumi.export("prefix", sys.prefix)
    pulumi.export("stack", pulumi.get_stack())
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write text files, by name and without their common indent, into a folder, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text).lstrip())
    return folder


def runtime(virtualenv: str = "") -> str:
    """The runtime of a Pulumi.yaml, PulumiPlugin.yaml or PulumiPolicy.yaml."""
    options = {"toolchain": "pip", **({"virtualenv": virtualenv} if virtualenv else {})}
    return f"runtime: {json.dumps({'name': 'python', 'options': options})}\n"


def project(folder: Path, source: str, virtualenv: str = "") -> Path:
    """A project named `demo` with that program."""
    return write(folder, {"Pulumi.yaml": f"name: demo\n{runtime(virtualenv)}", "__main__.py": source})


@pytest.fixture
def outputs(engine: Engine, engine_env: dict[str, str]):
    """Reads a stack's outputs, secrets shown."""

    def read(folder: Path) -> dict[str, object]:
        shown = engine.run(["stack", "output", "--json", "--show-secrets"], env=engine_env, cwd=folder)
        return json.loads(shown.stdout)

    return read


def test_a_program_lives_through_its_whole_life(engine, engine_env, tmp_path, outputs):
    # Without a virtualenv option, in folders whose names need quoting.
    state = tmp_path / "state with space"
    state.mkdir()
    engine_env["PULUMI_BACKEND_URL"] = f"file://{state}"
    folder = project(tmp_path / "a program", PROGRAM)

    def run(*args: str) -> str:
        return engine.run(args, env=engine_env, cwd=folder).stdout

    run("stack", "init", "dev")
    run("config", "set", "size", "5")
    run("config", "set", "--secret", "key", "opensesame")
    assert "+ 2 to create" in run("preview")
    assert "+ 2 created" in run("up", "--yes")
    assert outputs(folder) == {"size": 5, "key": "opensesame", "prefix": sys.prefix, "stack": "dev"}
    run("up", "--yes", "--skip-preview", "--expect-no-changes")
    about = json.loads(run("about", "--json"))
    assert about["runtime"]["version"].startswith("{}.{}.{}".format(*sys.version_info[:3]))
    assert "opensesame" not in run("stack", "export")
    assert "- 2 deleted" in run("destroy", "--yes", "--skip-preview")
    assert json.loads(run("stack", "export"))["deployment"].get("resources", []) == []


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_the_virtualenv_option_chooses_the_interpreter(kind, engine, engine_env, venv_dir, outputs):
    folder = venv_dir.parent / "program"
    option = {"absolute": str(venv_dir), "relative": os.path.relpath(venv_dir, folder)}[kind]
    project(folder, "import sys, pulumi\npulumi.export('prefix', sys.prefix)\n", option)
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)
    engine.run(["up", "--yes", "--skip-preview"], env=engine_env, cwd=folder)
    assert outputs(folder) == {"prefix": str(venv_dir)}


def test_the_program_may_lie_in_a_subfolder(engine, engine_env, venv_dir, outputs):
    # As this repository does: Pulumi.yaml at the root, which `virtualenv` is relative to, and `main: stacks`.
    root = venv_dir.parent
    write(root, {"Pulumi.yaml": f"name: demo\nmain: stacks\nstackConfigDir: stacks\n{runtime('venv')}"})
    write(
        root / "stacks",
        {
            "__main__.py": """
                import os, sys, pulumi
                pulumi.export("prefix", sys.prefix)
                pulumi.export("cwd", os.getcwd())
                pulumi.export("root", pulumi.runtime.get_root_directory())
                pulumi.export("size", pulumi.Config().require_int("size"))
            """
        },
    )
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=root)
    engine.run(["config", "set", "size", "5"], env=engine_env, cwd=root)
    assert (root / "stacks" / "Pulumi.dev.yaml").exists()
    engine.run(["up", "--yes", "--skip-preview"], env=engine_env, cwd=root)
    assert outputs(root) == {
        "prefix": str(venv_dir),
        "cwd": str(root / "stacks"),
        "root": str(root),
        "size": 5,
    }


def test_a_program_that_raises_shows_its_trace(engine, engine_env, tmp_path):
    folder = project(tmp_path / "program", "def f():\n    raise ValueError('boom')\n\nf()\n")
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)
    for command in (["preview"], ["up", "--yes", "--skip-preview"]):
        done = engine.run(command, env=engine_env, cwd=folder, check=False)
        assert done.returncode != 0
        assert f'File "{folder}/__main__.py", line 2, in f' in done.stdout
        assert "ValueError: boom" in done.stdout
        # The executor has said it all: no second error about an exit code.
        assert not re.search(r"exit (status|code)", done.stdout + done.stderr)


def test_a_program_that_exits_fails_the_run(engine, engine_env, tmp_path):
    folder = project(tmp_path / "program", "import os\nos._exit(3)\n")
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)
    with pytest.raises(EngineError, match=r"exit (status|code):? 3"):
        engine.run(["preview"], env=engine_env, cwd=folder)


COMPONENT = """
    from typing import Optional, TypedDict
    import pulumi
    from pulumi.provider.experimental import component_provider_host

    class ShoutArgs(TypedDict):
        text: pulumi.Input[str]

    class Shout(pulumi.ComponentResource):
        '''Says it louder.'''

        loud: pulumi.Output[str]

        def __init__(
            self, name: str, args: ShoutArgs, opts: Optional[pulumi.ResourceOptions] = None
        ) -> None:
            super().__init__("shouts:index:Shout", name, {}, opts)
            self.loud = pulumi.Output.from_input(args["text"]).apply(str.upper)
            self.register_outputs({"loud": self.loud})

    if __name__ == "__main__":
        component_provider_host(name="shouts", components=[Shout], version="1.2.3")
"""


def test_a_component_package_has_a_schema_and_is_consumed(engine, engine_env, tmp_path, venv_dir, outputs):
    files = {"PulumiPlugin.yaml": runtime(str(venv_dir)), "__main__.py": COMPONENT}
    package = write(tmp_path / "shouts", files)
    folder = project(
        tmp_path / "program",
        """
        import pulumi
        import pulumi_shouts

        pulumi.export("loud", pulumi_shouts.Shout("s", text="hey").loud)
        """,
        str(venv_dir),
    )

    schema = json.loads(
        engine.run(["package", "get-schema", str(package)], env=engine_env, cwd=tmp_path).stdout
    )
    assert (schema["name"], schema["version"]) == ("shouts", "1.2.3")
    shout = schema["resources"]["shouts:index:Shout"]
    assert (shout["isComponent"], shout["requiredInputs"]) == (True, ["text"])

    (folder / "requirements.txt").touch()
    # All that building the SDK needs is here: pip shall not look elsewhere. A 0 switches isolation off.
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}
    added = engine.run(["package", "add", "../shouts"], env={**engine_env, **offline}, cwd=folder).stdout
    assert "import pulumi_shouts as shouts" in added
    assert (folder / "requirements.txt").read_text().split() == ["sdks/shouts"]

    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)
    engine.run(["up", "--yes", "--skip-preview"], env=engine_env, cwd=folder)
    assert outputs(folder) == {"loud": "HEY"}


POLICY = """
    import pulumi
    from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy

    def named_well(args, report):
        if args.name == pulumi.Config("demo").require("forbidden"):
            report(f"{args.name} is no name in {pulumi.get_project()}/{pulumi.get_stack()}")

    PolicyPack("names", policies=[ResourceValidationPolicy(
        name="named-well",
        description="Names are good.",
        validate=named_well,
        enforcement_level=EnforcementLevel.MANDATORY,
    )])
"""


def test_a_mandatory_violation_stops_a_preview(engine, engine_env, tmp_path, venv_dir):
    option = os.path.relpath(venv_dir, tmp_path / "pack")
    files = {"PulumiPolicy.yaml": f"version: 0.0.1\n{runtime(option)}", "__main__.py": POLICY}
    write(tmp_path / "pack", files)
    folder = project(
        tmp_path / "program", "import pulumi\npulumi.ComponentResource('demo:index:Box', 'box')\n"
    )
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)

    def preview(forbidden: str) -> subprocess.CompletedProcess[str]:
        engine.run(["config", "set", "forbidden", forbidden], env=engine_env, cwd=folder)
        return engine.run(
            ["preview", "--policy-pack", "../pack"], env=engine_env, cwd=folder, check=False, timeout=60
        )

    allowed = preview("other")
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    assert "names@v0.0.1" in allowed.stdout
    refused = preview("box")
    assert refused.returncode != 0
    assert "[mandatory]  named-well  (demo:index:Box: box)" in refused.stdout
    assert "box is no name in demo/dev" in refused.stdout


def test_a_policy_pack_that_raises_stops_a_preview(engine, engine_env, tmp_path):
    files = {
        "PulumiPolicy.yaml": f"version: 0.0.1\n{runtime()}",
        "__main__.py": "raise ValueError('boom')\n",
    }
    write(tmp_path / "pack", files)
    folder = project(tmp_path / "program", "")
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)
    done = engine.run(
        ["preview", "--policy-pack", "../pack"], env=engine_env, cwd=folder, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "ValueError: boom" in done.stdout + done.stderr


PROVIDER = """
    import sys
    from pulumi.provider.experimental.property_value import PropertyValue
    from pulumi.provider.experimental.provider import (
        CheckResponse, ConfigureResponse, CreateResponse, DiffResponse, Provider, UpdateResponse,
    )
    from pulumi.provider.experimental.server import main

    class Texts(Provider):
        async def check_config(self, request):
            return CheckResponse(inputs=request.new_inputs)

        async def diff_config(self, request):
            return DiffResponse(changes=False)

        async def configure(self, request):
            return ConfigureResponse(accept_secrets=True, supports_preview=True)

        async def check(self, request):
            return CheckResponse(inputs=request.new_inputs)

        async def diff(self, request):
            return DiffResponse(changes=request.old_state["text"] != request.new_inputs["text"])

        async def create(self, request):
            return CreateResponse("" if request.preview else "id-1", self.state(request.properties))

        async def update(self, request):
            return UpdateResponse(self.state(request.news))

        async def delete(self, request):
            pass

        @staticmethod
        def state(inputs):
            return {**inputs, "length": PropertyValue(float(len(inputs["text"].value)))}

    main(sys.argv[1:], "1.2.3", Texts())
"""


def test_a_provider_plugin_in_python_is_installed_from_an_archive(engine, engine_env, tmp_path, outputs):
    plugin = write(tmp_path / "plugin", {"provider.py": PROVIDER})
    script = plugin / "pulumi-resource-texts"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$(dirname "$0")/provider.py" "$@"\n')
    script.chmod(0o755)
    archive = tmp_path / "plugin.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        for path in plugin.iterdir():
            packed.add(path, path.name)
    folder = project(
        tmp_path / "program",
        """
        import pulumi

        class Text(pulumi.CustomResource):
            length: pulumi.Output[float]

            def __init__(self, name, text):
                options = pulumi.ResourceOptions(version="1.2.3")
                super().__init__("texts:index:Text", name, {"text": text, "length": None}, options)

        pulumi.export("length", Text("t", pulumi.Config().require("text")).length)
        """,
    )
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)
    engine.run(["config", "set", "text", "abc"], env=engine_env, cwd=folder)

    with pytest.raises(EngineError, match="texts"):
        engine.run(["preview"], env=engine_env, cwd=folder)
    engine.run(
        ["plugin", "install", "resource", "texts", "1.2.3", "--file", str(archive)],
        env=engine_env,
        cwd=folder,
    )
    assert "+ 2 created" in engine.run(["up", "--yes", "--skip-preview"], env=engine_env, cwd=folder).stdout
    assert outputs(folder) == {"length": 3}
    engine.run(["config", "set", "text", "abcd"], env=engine_env, cwd=folder)
    assert "~ 1 updated" in engine.run(["up", "--yes", "--skip-preview"], env=engine_env, cwd=folder).stdout
    assert outputs(folder) == {"length": 4}
    assert (
        "- 2 deleted" in engine.run(["destroy", "--yes", "--skip-preview"], env=engine_env, cwd=folder).stdout
    )


def test_a_plugin_on_path_does_not_take_a_providers_place(engine, engine_env, tmp_path):
    ambient = tmp_path / "ambient"
    ambient.mkdir()
    trap = ambient / "pulumi-resource-texts"
    trap.write_text('#!/bin/sh\ntouch "$(dirname "$0")/called"\nexit 1\n')
    trap.chmod(0o755)
    engine_env["PATH"] = f"{ambient}{os.pathsep}{engine_env['PATH']}"
    folder = project(
        tmp_path / "program", "import pulumi\npulumi.CustomResource('texts:index:Text', 't', {})\n"
    )
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)
    assert engine.run(["preview"], env=engine_env, cwd=folder, check=False).returncode != 0
    assert not (ambient / "called").exists()


def test_a_dynamic_resource(engine, engine_env, tmp_path, outputs):
    folder = project(
        tmp_path / "program",
        """
        import pulumi
        from pulumi import dynamic

        class Doubler(dynamic.ResourceProvider):
            def create(self, props):
                return dynamic.CreateResult("id-1", {"twice": 2 * props["number"]})

        class Double(dynamic.Resource):
            twice: pulumi.Output[int]

            def __init__(self, name, number):
                super().__init__(Doubler(), name, {"number": number, "twice": None})

        pulumi.export("twice", Double("d", 21).twice)
        """,
    )
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)
    engine.run(["up", "--yes", "--skip-preview"], env=engine_env, cwd=folder)
    assert outputs(folder) == {"twice": 42}


def test_a_program_does_not_outlive_a_killed_engine(engine, engine_env, tmp_path):
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    # The program holds the writing end of a pipe for as long as it lives.
    folder = project(
        tmp_path / "program",
        f"""
        import signal
        alive = open({str(alive)!r}, "w")
        print("ready", file=alive, flush=True)
        signal.pause()
        """,
    )
    engine.run(["stack", "init", "dev"], env=engine_env, cwd=folder)
    command = [engine.pulumi, "preview", "--non-interactive"]
    quiet = subprocess.DEVNULL
    with (
        subprocess.Popen(command, env=engine_env, cwd=folder, stdout=quiet, stderr=quiet) as running,
        alive.open() as pipe,
    ):
        assert pipe.readline() == "ready\n"
        running.kill()
        ended, _, _ = select.select([pipe], [], [], 30)
        assert ended and pipe.read() == ""
