"""What the components cost: `pulumi preview` of a 20-region fleet against a program of nothing but the resources.

The reference registers the very same resources (types, names, parents, dependencies, inputs) with the SDK's classes,
as a program by hand would. They are taken from the fleet's own preview: its inputs are literal, what was not known yet
is the engine's own word for that, and nothing is computed. Both run on the sandbox's providers, in turn, on empty
stacks.
"""

import json
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from mailinfra.fleet import Cloud
from mailinfra.places import PLACES
from mailinfra.sandbox.cloud import start_cloud, stop_cloud
from mailinfra.sandbox.engine import ensure_engine
from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.__main__ import CLOUDS
from mailinfra.sandbox.providers.schema import Sdk, snake
from mailinfra.sandbox.stack import SandboxStack, cloud_environment

REGIONS, ROUNDS, LIMIT = 20, 3, 1.15
CONFIG = {"aws:region": "eu-central-1", "gcp:project": "bench-mail"}
PROGRAM = Path(__file__).parents[1] / "stacks" / "__main__.py"
BARE = '''
"""Registers what resources.json lists."""

import asyncio
import importlib
import json
from pathlib import Path

import pulumi

made = {}
for item in json.loads(Path(__file__).with_name("resources.json").read_text()):
    options = pulumi.ResourceOptions(
        parent=made.get(item["parent"]),
        depends_on=[made[urn] for urn in item["dependencies"]],
        ignore_changes=item["ignore_changes"],
    )
    if item["class"]:
        kind = getattr(importlib.import_module(item["module"]), item["class"])
        made[item["urn"]] = kind(item["name"], opts=options, **item["inputs"])
    else:
        made[item["urn"]] = pulumi.ComponentResource(item["type"], item["name"], {}, options)


async def begun() -> None:
    """As in the fleet's program."""
    await asyncio.sleep(0)


pulumi.run(begun)
'''


def declaration() -> dict[str, Any]:
    """A fleet of 20 real regions, half on each cloud, in one zone with all their countries."""
    chosen = [
        place
        for cloud in Cloud
        for place in sorted((p for p in PLACES.values() if p.cloud is cloud), key=lambda p: p.region)[
            : REGIONS // 2
        ]
    ]
    regions = [
        {
            "cloud": place.cloud.value,
            "region": place.region,
            "zone": "all",
            "network": f"10.0.{number}.0/24",
            "groups": [
                {"name": "edge", "roles": ["mx", "submission", "imap", "pop3"]},
                {"name": "store", "roles": ["mailbox"]},
                *([{"name": "out", "roles": ["egress"]}] if place.cloud is Cloud.AWS else []),
            ],
        }
        for number, place in enumerate(chosen)
    ]
    return {
        "name": "bench",
        "domains": ["example.test"],
        "residency": "relaxed",
        "zones": {"all": {"countries": sorted({place.country for place in chosen})}},
        "regions": regions,
        "dns": {"parent": {"provider": "cloudflare", "account_id": "0" * 32}},
        "placement": {"default": chosen[0].region},
        "clouds": {"gcp": {"project": "bench-mail"}},
    }


@contextmanager
def recorded_clouds(folder: Path) -> Iterator[SandboxStack]:
    """A sandbox that boots nothing, and a project in it whose program is the fleet's."""
    project = folder / "fleet"
    project.mkdir()
    shutil.copy(PROGRAM, project / "__main__.py")
    write_project(project, "fleet", {**CONFIG, "mailinfra:fleet": declaration()})
    # The daemon finds its folders by the environment, as the command line does.
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(folder)
    paths = Paths.of("bench")
    control = start_cloud(paths, False, lambda *_: None)
    try:
        yield SandboxStack(paths, ensure_engine(lambda _: None), project, "bench", cloud_environment(control))
    finally:
        stop_cloud(paths)
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before


def write_project(folder: Path, name: str, config: dict[str, Any]) -> None:
    """A Pulumi project's two files."""
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump({"name": name, "runtime": "python"}))
    (folder / "Pulumi.bench.yaml").write_text(yaml.safe_dump({"config": config}))


def resources(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The resources of a preview's steps as the bare program wants them, in the order of their registration."""
    sdks = {cloud: Sdk(f"pulumi_{cloud}") for cloud in CLOUDS}
    found = []
    for step in steps:
        item = step["newState"]
        if item["type"].startswith("pulumi:"):
            continue
        module, kind, inputs = "", "", item.get("inputs", {})
        if item["custom"]:
            module, kind = sdks[item["type"].split(":")[0]].classes()[item["type"]]
            inputs = {snake(name): value for name, value in inputs.items() if not name.startswith("__")}
        found.append(
            {
                "urn": item["urn"],
                "type": item["type"],
                "name": item["urn"].rsplit("::", 1)[1],
                "module": module,
                "class": kind,
                "parent": item.get("parent", ""),
                "dependencies": item.get("dependencies", []),
                "ignore_changes": item.get("ignoreChanges", []),
                "inputs": inputs,
            }
        )
    return found


def measured(stack: SandboxStack, count: int) -> float:
    """How long one preview takes (seconds), which must be one of `count` resources and the stack itself."""
    begun = time.monotonic()
    shown = stack.pulumi("preview")
    taken = time.monotonic() - begun
    if not re.search(rf"\+ {count + 1} to create", shown):
        raise RuntimeError(f"{stack.project.name}: not a preview of {count} new resources:\n{shown[-1000:]}")
    return taken


def rows() -> Iterator[dict[str, Any]]:
    """Measure: the median of the ratios of neighbouring runs."""
    with tempfile.TemporaryDirectory(prefix="mb") as name, recorded_clouds(Path(name)) as fleet:
        fleet.prepare()
        # Also what warms the caches of both.
        listed = resources(json.loads(fleet.pulumi("preview", "--json", "--show-secrets"))["steps"])
        bare_folder = Path(name) / "bare"
        bare_folder.mkdir()
        (bare_folder / "__main__.py").write_text(BARE)
        (bare_folder / "resources.json").write_text(json.dumps(listed))
        write_project(bare_folder, "bare", CONFIG)
        bare = replace(fleet, project=bare_folder)
        pairs = []
        for _ in range(ROUNDS):
            fleet.prepare()
            ours = measured(fleet, len(listed))
            bare.prepare()
            pairs.append((ours, measured(bare, len(listed))))
    ratios = [ours / reference for ours, reference in pairs]
    middle = pairs[ratios.index(statistics.median_low(ratios))]
    yield {
        "name": f"preview of {REGIONS} regions ({len(listed)} resources) / the same resources, bare",
        "ours": middle[0],
        "reference": middle[1],
        "ratio": statistics.median(ratios),
        "unit": "s",
        "better": "lower",
        "limit": LIMIT,
    }
