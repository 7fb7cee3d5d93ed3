"""The node's software: this package's own modules that run on nodes, as one text object in the control bucket.

AWS gives user-data 16 KiB, and the modules are more than that however they are squeezed. So a node's user-data
names the software by its SHA-256 and takes it from its region's control bucket.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROGRAMS = (
    "mailinfra.dkim.milter",
    "mailinfra.dkim.signers.aws",
    "mailinfra.dkim.signers.gcp",
    "mailinfra.node.agent.__main__",
    "mailinfra.node.agent.sts",
    "mailinfra.node.backup.__main__",
    "mailinfra.node.homeward",
    "mailinfra.node.replica.gate",
    "mailinfra.node.replica.link",
    "mailinfra.node.replica.replicator",
)
"""What runs on nodes, and what those load by name. All that they import of this package goes with them."""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Software:
    """The object that has to be in a region's control bucket before its nodes boot; nodes may only read it."""

    key: str
    """Its key. It names the content: the same key never holds anything else."""
    text: str
    """Its content (UTF-8): a JSON object of path to source."""

    @property
    def sha256(self) -> str:
        """The content's SHA-256 in hexadecimal, by which the bootstrap knows it."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def _path(module: str) -> Path | None:
    """Where a module's source lies below `ROOT`, or None when it is no module of this package."""
    place = Path(*module.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next(
        (path for path in candidates if module.startswith("mailinfra") and (ROOT / path).is_file()), None
    )


def _imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            # A name that is imported from a package may be a module of it.
            yield from (f"{node.module}.{item.name}" for item in node.names)


@cache
def software() -> Software:
    """The software of every node of every fleet, of this version of the library."""
    # The packages around the programs, without what a node has no use for.
    sources = {"mailinfra/__init__.py": "", "mailinfra/node/__init__.py": ""}
    todo = list(PROGRAMS)
    while todo:
        module = todo.pop()
        path = _path(module)
        if path and str(path) not in sources:
            sources[str(path)] = (ROOT / path).read_text(encoding="utf-8")
            todo += [module.rpartition(".")[0], *_imports(sources[str(path)])]
    text = json.dumps(sources, sort_keys=True, indent=0) + "\n"
    return Software(f"node/{hashlib.sha256(text.encode()).hexdigest()[:16]}.json", text)
