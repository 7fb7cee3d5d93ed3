"""A Pulumi project on disk: where a stack's config is, and the fleet that it declares."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mailinfra.errors import ConfigError, Problem

if TYPE_CHECKING:
    from mailinfra.fleet import Fleet

PROJECT_FILE = "Pulumi.yaml"
FLEET_KEY = "mailinfra:fleet"


@dataclass(frozen=True)
class Project:
    """The project in `folder`."""

    folder: Path

    def document(self) -> dict[str, Any]:
        """The project file's content. ConfigError when there is none."""
        return _mapping(self.folder / PROJECT_FILE, "a Pulumi project's file (--project names its folder)")

    def program(self) -> Path:
        """The folder with the program."""
        return self.folder / str(self.document().get("main", "."))

    def stack_file(self, stack: str) -> Path:
        """The stack's config file. ConfigError when there is none, naming the stacks that there are."""
        folder = self.folder / str(self.document().get("stackConfigDir", "."))
        path = folder / f"Pulumi.{stack}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(found.name.split(".")[1] for found in folder.glob("Pulumi.*.yaml")))
            raise ConfigError(
                [Problem(str(path), "no such stack", known or "no stack has a config here yet")]
            )
        return path

    def stack_config(self, stack: str) -> dict[str, Any]:
        """The stack's config file's content."""
        return _mapping(self.stack_file(stack), "a stack's config")

    def fleet(self, stack: str) -> "Fleet":
        """The fleet that the stack declares. ConfigError with every problem."""
        config = self.stack_config(stack).get("config")
        if not isinstance(config, dict) or FLEET_KEY not in config:
            place = f"{self.stack_file(stack)}: config.{FLEET_KEY}"
            raise ConfigError([Problem(place, "nothing", "a fleet's declaration")])
        from mailinfra.fleet import Fleet  # whoever only asks for the project need not wait for it

        return Fleet.load(config[FLEET_KEY])


def _mapping(path: Path, what: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError([Problem(str(path), error.strerror or "nothing", what)]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), " ".join(str(error).split()), "YAML")]) from None
    if not isinstance(found, dict):
        raise ConfigError([Problem(str(path), type(found).__name__, what)])
    return found
