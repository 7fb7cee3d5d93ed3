"""What the policies cost: `pulumi preview` of a 20-region fleet with the whole pack, against an empty pack in Python.

The empty pack is made with Pulumi's own library and holds one policy that looks at nothing. Every rule of the whole
pack is on, as an advice, so that a finding does not cut a preview short. Both run in turn, on the same empty stack.
"""

import json
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.preview import REGIONS, ROUNDS, recorded_clouds
from mailinfra.sandbox.stack import SandboxStack
from mailinfra_policy.rules import all_rules

LIMIT = 1.25
PACK = Path(__file__).parents[1] / "policy" / "mailinfra_policy" / "pack"
EMPTY = '''
"""A pack that asks for nothing."""

from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy

PolicyPack(
    "empty",
    policies=[
        ResourceValidationPolicy(
            name="nothing",
            description="Asks for nothing.",
            validate=lambda args, report: None,
            enforcement_level=EnforcementLevel.MANDATORY,
        )
    ],
)
'''


def measured(stack: SandboxStack, *options: str) -> tuple[float, int]:
    """How long one preview takes (seconds), and how many resources it would create."""
    begun = time.monotonic()
    shown = stack.pulumi("preview", *options)
    taken = time.monotonic() - begun
    found = re.search(r"\+ (\d+) to create", shown)
    if found is None or "Policies:" not in shown:
        raise RuntimeError(f"not a preview of a new stack with a policy pack:\n{shown[-1000:]}")
    return taken, int(found[1])


def rows() -> Iterator[dict[str, Any]]:
    """Measure: the median of the ratios of neighbouring runs."""
    with tempfile.TemporaryDirectory(prefix="mb") as name, recorded_clouds(Path(name)) as fleet:
        fleet.prepare()
        empty = Path(name) / "empty"
        empty.mkdir()
        (empty / "__main__.py").write_text(EMPTY)
        (empty / "PulumiPolicy.yaml").write_text((PACK / "PulumiPolicy.yaml").read_text())
        config = Path(name) / "config.json"
        config.write_text(json.dumps({"all": "advisory"}))
        with_all = ("--policy-pack", str(PACK), "--policy-pack-config", str(config))
        measured(fleet, *with_all)  # warms the caches of both
        pairs, count = [], 0
        for _ in range(ROUNDS):
            ours, count = measured(fleet, *with_all)
            pairs.append((ours, measured(fleet, "--policy-pack", str(empty))[0]))
    ratios = [ours / reference for ours, reference in pairs]
    middle = pairs[ratios.index(statistics.median_low(ratios))]
    yield {
        "name": f"preview of {REGIONS} regions ({count} resources) with {len(all_rules())} policies / an empty pack",
        "ours": middle[0],
        "reference": middle[1],
        "ratio": statistics.median(ratios),
        "unit": "s",
        "better": "lower",
        "limit": LIMIT,
    }
