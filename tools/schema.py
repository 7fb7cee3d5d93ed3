"""Writes the component package's schema as the engine gets it: `python -m tools.schema`. A test compares the two."""

import json
import os
import sys
import tempfile
from pathlib import Path

from mailinfra.sandbox.engine import Engine, console, ensure_engine

PACKAGE = Path(__file__).resolve().parent.parent / "components"
SCHEMA = PACKAGE / "schema.json"


def schema(engine: Engine) -> str:
    """The schema as text, in the form in which it is committed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = engine.env(Path(folder) / "home", Path(folder))
        served = engine.run(
            ["package", "get-schema", os.fspath(PACKAGE)], env=environment, cwd=PACKAGE
        ).stdout
    return json.dumps(json.loads(served), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    progress, interval = console(sys.stderr)
    SCHEMA.write_text(schema(ensure_engine(progress, interval=interval)))
