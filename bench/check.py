"""`mailinfra check`: 5,000 resources of a state file (seconds, memory, how they grow), and the prod stack.

`rows()` runs each check as a command of its own, as CI would. Growth: the cost of a resource at 5,000 over that at
1,000, with what an empty state costs taken off both; 1.0 is linear.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COUNT, FEW = 5_000, 1_000
LIMIT_SECONDS = 10.0
LIMIT_GROWTH = 1.5
LIMIT_STACK_SECONDS = 10.0
_MEASURE = """
import contextlib, io, json, resource, sys, time
from mailinfra import cli
started = time.perf_counter()
sys.argv = ["mailinfra", *json.loads(sys.argv[1])]
try:
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main()
except SystemExit as ended:
    code = ended.code
seconds = time.perf_counter() - started
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, code]))
"""


def state(count: int) -> dict[str, Any]:
    """An exported state with so many resources of several kinds, each with something to find."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("aws:ec2/instance:Instance", {"metadataOptions": {"httpTokens": "optional"}}),
        ("aws:s3/bucket:Bucket", {"bucket": "b", "tags": {"residency-zone": "eu", "data-class": "logs"}}),
        ("aws:kms/key:Key", {"enableKeyRotation": False}),
        ("gcp:compute/disk:Disk", {"zone": "europe-west3-a"}),
        ("aws:route53/record:Record", {"name": "a.example.test", "type": "A", "ttl": 300}),
    ]
    resources = []
    for number in range(count):
        token, inputs = kinds[number % len(kinds)]
        name = f"r-{number}"
        inputs = {**inputs, "name": f"{number}.example.test"} if "Record" in token else inputs
        inputs = {**inputs, "bucket": name} if "Bucket" in token else inputs
        urn = f"urn:pulumi:bench::bench::{token}::{name}"
        resources.append(
            {"urn": urn, "type": token, "custom": True, "id": name, "inputs": inputs, "outputs": {}}
        )
    return {"version": 3, "deployment": {"manifest": {}, "resources": resources}}


def measure(*arguments: str) -> tuple[float, float, int]:
    """Seconds, MiB and exit code of a check."""
    words = json.dumps(["check", *arguments])
    done = subprocess.run([sys.executable, "-c", _MEASURE, words], capture_output=True, text=True, check=True)
    seconds, memory, code = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory, code


def rows() -> list[dict[str, Any]]:
    """The bench's rows."""
    measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in (0, FEW, COUNT):
            path = Path(scratch) / f"{count}.json"
            path.write_text(json.dumps(state(count)))
            runs = [
                measure("--file", str(path), "--format", "json") for _ in range(3 if count < COUNT else 2)
            ]
            measured[count] = min(runs)
    empty, few, many = (measured[count] for count in (0, FEW, COUNT))
    growth = ((many[0] - empty[0]) / COUNT) / ((few[0] - empty[0]) / FEW)
    stack = min(measure("--stack", "prod", "--format", "json") for _ in range(4))
    return [
        _row(f"check: {COUNT:,} resources of a state", many[0], LIMIT_SECONDS, "s", LIMIT_SECONDS),
        _row(f"check: memory for {COUNT:,} resources over none", many[1], empty[1], "MiB", None),
        _row(f"check: cost of a resource at {COUNT:,} over {FEW:,}", growth, 1.0, "times", LIMIT_GROWTH),
        _row("check: the prod stack", stack[0], LIMIT_STACK_SECONDS, "s", LIMIT_STACK_SECONDS),
    ]


def _row(name: str, ours: float, reference: float, unit: str, limit: float | None) -> dict[str, Any]:
    # A limit in seconds is itself the reference: the ratio says how much of it was needed.
    ratio = ours / reference
    return {
        "name": name,
        "ours": ours,
        "reference": reference,
        "unit": unit,
        "ratio": ratio,
        "limit": 1.0 if unit == "s" else limit,
        "better": "lower",
    }
