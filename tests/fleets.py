"""Fleets for tests: the stacks' own configs, and changes to them."""

import functools
import json
from pathlib import Path
from typing import Any

import yaml

from mailinfra.errors import ConfigError, Problem
from mailinfra.fleet import Fleet

ROOT = Path(__file__).parent.parent
STACKS = ("sandbox", "dev", "prod", "dr")


@functools.cache
def _read(stack: str) -> dict[str, Any]:
    text = (ROOT / "stacks" / f"Pulumi.{stack}.yaml").read_text()
    data: dict[str, Any] = yaml.safe_load(text)["config"]["mailinfra:fleet"]
    return data


def config(stack: str = "sandbox", **changes: Any) -> dict[str, Any]:
    """The plain data of a stack's fleet, a copy. `a__0__b=x` sets `a[0].b`."""
    # Through JSON, which unlike a deep copy does not keep what YAML's anchors share.
    data = json.loads(json.dumps(_read(stack)))
    for path, value in changes.items():
        *way, last = (int(part) if part.isdigit() else part for part in path.split("__"))
        target: Any = data
        for part in way:
            target = target[part] if isinstance(part, int) else target.setdefault(part, {})
        if last == len(target) and isinstance(target, list):
            target.append(value)
        else:
            target[last] = value
    return data


def fleet(stack: str = "sandbox", **changes: Any) -> Fleet:
    """A stack's fleet, changed as in `config`."""
    return Fleet.load(config(stack, **changes))


def refused(stack: str = "sandbox", **changes: Any) -> tuple[Problem, ...]:
    """The problems of a stack's fleet when it is changed; none when it is accepted."""
    try:
        fleet(stack, **changes)
    except ConfigError as error:
        return error.problems
    return ()


AWS_REGION = {
    "cloud": "aws",
    "region": "eu-west-1",
    "zone": "eu",
    "network": "203.0.113.128/27",
    "groups": [
        {"name": "edge", "roles": ["mx", "submission", "imap", "pop3"]},
        {"name": "out", "roles": ["egress"]},
        {"name": "store", "roles": ["mailbox"]},
    ],
}
"""A region to add to the sandbox's fleet."""
