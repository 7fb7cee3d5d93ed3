"""The runner's own process: an SDK whose modules are loaded on demand is the SDK."""

import json
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import importlib, json, sys
from mailinfra_policy.sources.runner import LazyPackages
name, lazy = sys.argv[1], sys.argv[2] == "lazy"
if lazy:
    sys.meta_path.insert(0, LazyPackages())
package = importlib.import_module(name)
hasattr(package, "none")  # some the SDK itself loads when they are asked for something
loaded = len(sys.modules)
names = list(getattr(package, "__all__", ())) if lazy else [n for n in dir(package) if not n.startswith("_")]
found = {n: getattr(package, n) for n in names}
found = {n: v for n, v in found.items() if hasattr(v, "__qualname__")}
shown = {n: [v.__module__, v.__qualname__] for n, v in found.items()}
starred = {}
exec(f"from {name} import *", starred)
print(json.dumps({"loaded": loaded, "names": shown, "starred": sorted(starred.keys() & shown.keys())}))
"""


def seen(package: str, mode: str) -> dict[str, Any]:
    """What a Python process finds in a package."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, package, mode], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("package", ["pulumi_cloudflare", "pulumi_aws.kms", "pulumi_gcp.kms"])
def test_a_package_that_is_loaded_on_demand_has_all_that_it_has(package: str) -> None:
    lazy, eager = seen(package, "lazy"), seen(package, "eager")
    assert lazy["names"] == eager["names"]
    assert len(lazy["names"]) > 20
    assert lazy["starred"] == eager["starred"] == sorted(lazy["names"])


def test_it_is_loaded_on_demand() -> None:
    assert seen("pulumi_cloudflare", "lazy")["loaded"] < seen("pulumi_cloudflare", "eager")["loaded"] / 2
