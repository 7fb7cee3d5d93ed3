"""A provider of the sandbox serves the sandbox only.

Four locks, each enough alone, keep a real stack and these providers apart:

1. The plugins are installed into the sandbox's own Pulumi home (`<state root>/pulumi`), which no other shell uses.
2. A plugin starts only when `MAILINFRA_SANDBOX` names a state root that bears the sandbox's mark (`MARK`).
3. It takes no configuration unless the engine's state is kept inside that state root (`PULUMI_BACKEND_URL` is a
   `file://` below it): a real stack's state is elsewhere, so it can never be changed by what happens here.
4. A program that got this far can tell: the AWS account is `ACCOUNT`, a number that AWS gives to nobody, and a GCP
   project's number is `PROJECT_NUMBER`. A stack whose configuration does not say `sandbox: true` refuses them.
"""

import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.errors import GuardError

VARIABLE = "MAILINFRA_SANDBOX"
"""Environment variable: the state root of the sandbox that a plugin belongs to."""
MARK = "this-is-a-sandbox"
"""Name of the (empty) file that makes a folder a sandbox's state root; `install` writes it."""
ACCOUNT = "000000000000"
PROJECT_NUMBER = "0"


def sandbox_paths(environment: Mapping[str, str] = os.environ) -> Paths:
    """The sandbox that this process belongs to. Raises `GuardError` when there is none."""
    value = environment.get(VARIABLE, "")
    if not value:
        raise GuardError(
            f"this is a provider of the mailinfra sandbox and no sandbox is named: {VARIABLE} is not set; "
            "start stacks of the sandbox by `mailinfra sandbox`, and others with Pulumi's own providers"
        )
    root = Path(value)
    if not root.is_absolute() or not (root / MARK).is_file():
        raise GuardError(
            f"{VARIABLE}={value}: found no sandbox there; allowed: the absolute path of a sandbox's state root"
        )
    return Paths(name=root.name, state=root, cache=Paths.of().cache)


def require_sandbox_backend(paths: Paths, environment: Mapping[str, str] = os.environ) -> None:
    """Raise `GuardError` unless the engine keeps its state inside the sandbox."""
    value = environment.get("PULUMI_BACKEND_URL", "")
    parts = urllib.parse.urlsplit(value)
    folder = Path(urllib.parse.unquote(parts.netloc + parts.path))
    inside = (
        parts.scheme == "file"
        and folder.is_absolute()
        and folder.resolve().is_relative_to(paths.state.resolve())
    )
    if not inside:
        raise GuardError(
            "a stack of its own must not run on the sandbox's providers: PULUMI_BACKEND_URL is "
            f"{value or 'not set'}; allowed: file:// and a folder below {paths.state}"
        )
