"""Cloudflare in the sandbox: what `pulumi_cloudflare`'s types and functions do here."""

from mailinfra.sandbox.paths import Paths
from mailinfra.sandbox.providers.cloudflare.cloud import CloudflareCloud


def cloud(paths: Paths) -> CloudflareCloud:
    """The cloud that the plugin `pulumi-resource-cloudflare` serves."""
    return CloudflareCloud(paths)
