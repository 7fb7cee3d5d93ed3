"""The control buckets of a stack that is up, as `pulumi stack output` names them."""

import json
import subprocess
from pathlib import Path

from mailinfra.fleet import Cloud
from mailinfra.publish import GcsStore, PublishError, S3Store, Store


def stack_stores(project: Path, stack: str) -> dict[str, Store]:
    """A store for each region of the stack, with the user's own cloud credentials.

    Raises PublishError when the stack cannot be asked or has no regions yet.
    """
    command = ["pulumi", "stack", "output", "regions", "--json", "--stack", stack, "--non-interactive"]
    try:
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
        regions = json.loads(done.stdout)
    except FileNotFoundError:
        raise PublishError("`pulumi` is not installed or not on PATH") from None
    except subprocess.CalledProcessError as error:
        raise PublishError(f"`{' '.join(command)}`: {error.stderr.strip()}") from None
    except ValueError as error:
        raise PublishError(f"stack {stack}: its output `regions` is no JSON: {error}") from None
    return {
        region: S3Store(known["bucket"], region) if known["cloud"] == Cloud.AWS else GcsStore(known["bucket"])
        for region, known in regions.items()
    }
