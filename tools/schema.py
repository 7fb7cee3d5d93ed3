"""Writes the component package's schema: `python -m tools.schema`. A test compares it with what the engine gets."""

import json
import runpy
import sys
from importlib.metadata import version
from pathlib import Path

from pulumi.provider.experimental.component import ComponentProvider

PACKAGE = Path(__file__).resolve().parent.parent / "components"
SCHEMA = PACKAGE / "schema.json"


def schema() -> str:
    """The schema as text, in the form in which it is committed."""
    sys.path.insert(0, str(PACKAGE))
    try:
        components = runpy.run_path(str(PACKAGE / "__main__.py"), run_name="components")["COMPONENTS"]
    finally:
        sys.path.remove(str(PACKAGE))
    provider = ComponentProvider(components, "mailinfra", version=version("mailinfra"))
    return json.dumps(json.loads(provider.schema), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema())
