"""`python -m mailinfra.sandbox.providers <cloud> [engine address]`: a provider plugin's process."""

import importlib
import sys

from mailinfra.sandbox.providers import faults
from mailinfra.sandbox.providers.errors import ProviderError
from mailinfra.sandbox.providers.guard import require_sandbox_backend, sandbox_paths

CLOUDS = ("aws", "gcp", "cloudflare")


def main(arguments: list[str]) -> int:
    """Serve a cloud; 1 with a line on stderr when it cannot be."""
    if not arguments or arguments[0] not in CLOUDS:
        found = arguments[0] if arguments else "nothing"
        sys.stderr.write(f"cloud: found {found}; allowed: {', '.join(CLOUDS)}\n")
        return 1
    try:
        paths = sandbox_paths()
        injected = faults.from_environment()
    except ProviderError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # Only now: these imports take a second.
    from mailinfra.sandbox.providers.base import SandboxProvider
    from mailinfra.sandbox.providers.server import serve

    cloud = importlib.import_module(f"mailinfra.sandbox.providers.{arguments[0]}").cloud(paths)
    return serve(SandboxProvider(cloud, injected), lambda: require_sandbox_backend(paths))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
