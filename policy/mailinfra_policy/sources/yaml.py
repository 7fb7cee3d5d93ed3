"""Reading a YAML or JSON document."""

from pathlib import Path
from typing import Any

import yaml

from mailinfra.errors import ConfigError, Problem


def read(path: Path, what: str) -> Any:
    """A YAML or JSON document. Raises ConfigError with the file's path."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([Problem(str(path), error.strerror or "nothing", what)], what) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), " ".join(str(error).split()), "YAML or JSON")], what) from None
