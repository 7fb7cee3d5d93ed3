"""What the components cost: `pulumi preview` of a 20-region fleet against a program of nothing but the resources.

The reference registers the very same resources (types, names, parents, inputs), taken from the state that the fleet
leaves, with literal inputs and nothing computed. Both run on the sandbox's providers, in turn, on empty stacks.
"""

import json
import os
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
from mailinfra.sandbox.stack import SandboxStack, cloud_environment

REGIONS, ROUNDS, LIMIT = 20, 3, 1.15
PROGRAM = Path(__file__).parents[1] / "stacks" / "__main__.py"
BARE = '''
"""Registers what resources.json lists."""

import json
from pathlib import Path

import pulumi
import pulumi_aws, pulumi_cloudflare, pulumi_gcp  # what a program by hand would load as well

made = {}
for item in json.loads(Path(__file__).with_name("resources.json").read_text()):
    options = pulumi.ResourceOptions(parent=made.get(item["parent"]), version=item["version"])
    if item["custom"]:
        made[item["urn"]] = pulumi.CustomResource(item["type"], item["name"], item["inputs"], options)
    else:
        made[item["urn"]] = pulumi.ComponentResource(item["type"], item["name"], {}, options)
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
    config = {"aws:region": "eu-central-1", "gcp:project": "bench-mail"}
    write_project(project, "fleet", {**config, "mailinfra:fleet": declaration()})
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


def resources(state: dict[str, Any], versions: dict[str, str]) -> list[dict[str, Any]]:
    """The state's resources as the bare program wants them, parents first."""
    found = []
    for item in state["deployment"]["resources"]:
        if item["type"].startswith("pulumi:"):
            continue
        found.append(
            {
                "urn": item["urn"],
                "type": item["type"],
                "name": item["urn"].rsplit("::", 1)[1],
                "custom": item["custom"],
                "parent": item.get("parent", ""),
                "inputs": item.get("inputs", {}),
                "version": versions.get(item["type"].split(":")[0]),
            }
        )
    return found


def seconds(stack: SandboxStack) -> float:
    """How long one preview takes."""
    begun = time.monotonic()
    stack.preview()
    return time.monotonic() - begun


def rows() -> Iterator[dict[str, Any]]:
    """Measure: the median of the ratios of neighbouring runs."""
    from importlib.metadata import version

    with tempfile.TemporaryDirectory(prefix="mb") as name, recorded_clouds(Path(name)) as fleet:
        fleet.prepare()
        fleet.up(lambda _: None)
        state = fleet.state()
        versions = {cloud: version(f"pulumi-{cloud}") for cloud in ("aws", "gcp", "cloudflare")}
        listed = resources(state, versions)
        bare_folder = Path(name) / "bare"
        bare_folder.mkdir()
        (bare_folder / "__main__.py").write_text(BARE)
        (bare_folder / "resources.json").write_text(json.dumps(listed))
        config = {"aws:region": "eu-central-1", "gcp:project": "bench-mail"}
        write_project(bare_folder, "bare", config)
        fresh = replace(fleet, stack="bench2")
        shutil.copy(fleet.project / "Pulumi.bench.yaml", fleet.project / "Pulumi.bench2.yaml")
        bare = replace(fleet, project=bare_folder)
        pairs = []
        for _ in range(ROUNDS):
            fresh.prepare()
            ours = seconds(fresh)
            bare.prepare()
            pairs.append((ours, seconds(bare)))
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
