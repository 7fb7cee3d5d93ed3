"""Cloudflare as a provider of the sandbox: zones, records and DNSSEC, served by the sandbox's DNS."""

from collections.abc import Callable, Mapping
from functools import cached_property

from mailinfra.sandbox.providers.base import Adapter, Cloud, Invoke
from mailinfra.sandbox.providers.cloudflare import dns
from mailinfra.sandbox.providers.schema import Schema


class CloudflareCloud(Cloud):
    """The types and functions of `pulumi_cloudflare`."""

    name = "cloudflare"
    package = "pulumi_cloudflare"

    @cached_property
    def adapters(self) -> Mapping[str, Adapter]:
        return dns.ADAPTERS

    @cached_property
    def functions(self) -> Mapping[str, Invoke]:
        return dns.FUNCTIONS

    def auto_name(self, schema: Schema) -> tuple[str, Callable[[str], str]] | None:
        # The real provider (a Terraform plugin framework provider) invents no names.
        return None
