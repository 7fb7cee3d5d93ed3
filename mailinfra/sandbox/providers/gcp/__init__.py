"""Google Cloud in the sandbox: what `pulumi_gcp`'s types and functions do here."""

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.gcp.cloud import GcpCloud


def cloud(paths: Paths) -> GcpCloud:
    """The cloud that the plugin `pulumi-resource-gcp` serves."""
    return GcpCloud(paths)
