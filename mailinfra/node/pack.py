"""The node's software: this package's own modules that run on nodes, as one text object in the control bucket.

AWS gives user-data 16 KiB, and the modules are more than that however they are squeezed. So a node's user-data
names the software by its SHA-256 and takes it from its region's control bucket.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ("mailinfra/dkim", "mailinfra/node/agent", "mailinfra/node/homeward.py")
"""What runs on nodes: folders, with all modules below them, and single modules."""


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


@cache
def software() -> Software:
    """The software of every node of every fleet, of this version of the library."""
    places = [ROOT / name for name in SHIPPED]
    paths = [path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place])]
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    # The packages around them, without what a node has no use for.
    sources |= {"mailinfra/__init__.py": "", "mailinfra/node/__init__.py": ""}
    text = json.dumps(sources, sort_keys=True, indent=0) + "\n"
    return Software(f"node/{hashlib.sha256(text.encode()).hexdigest()[:16]}.json", text)
