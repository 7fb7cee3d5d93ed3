"""The component package: `pulumi package add ./components` gives these components to every Pulumi language."""

import sys
from importlib.metadata import version

from pulumi import InputPropertiesError, ResourceOptions
from pulumi.output import Inputs
from pulumi.provider import ConstructResult, main
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.provider.server import ComponentInitError

from mailinfra.errors import ConfigError
from mailinfra_components.directory import UserDirectory
from mailinfra_components.dkim import DkimKeys
from mailinfra_components.fleet import MailFleet
from mailinfra_components.keys import MailKeys
from mailinfra_components.links import MailLinks
from mailinfra_components.network import MailNetwork
from mailinfra_components.nodes import MailNodes
from mailinfra_components.records import MailRecords
from mailinfra_components.routing import MxRouting
from mailinfra_components.snapshots import MailSnapshots
from mailinfra_components.traces import MailTraces, ProjectTraces
from mailinfra_components.vaults import AwsFederation, BackupVault

COMPONENTS = [
    AwsFederation,
    BackupVault,
    DkimKeys,
    MailFleet,
    MailKeys,
    MailLinks,
    MailNetwork,
    MailNodes,
    MailRecords,
    MailSnapshots,
    MailTraces,
    MxRouting,
    ProjectTraces,
    UserDirectory,
]


class Package(ComponentProvider):
    """The package's provider: what is wrong in a component's inputs is told by its places, not by a trace."""

    def construct(
        self, name: str, resource_type: str, inputs: Inputs, options: ResourceOptions | None = None
    ) -> ConstructResult:
        """Declares one component."""
        try:
            return super().construct(name, resource_type, inputs, options)
        except ComponentInitError as error:
            if not isinstance(error.inner, ConfigError):
                raise
            raise InputPropertiesError(
                f"{resource_type.rsplit(':', maxsplit=1)[-1]} {name!r}: {error.inner}",
                [
                    {"property_path": item.path, "reason": f"found {item.found}; allowed: {item.allowed}"}
                    for item in error.inner.problems
                ],
            ) from None


if __name__ == "__main__":
    main(Package(COMPONENTS, "mailinfra", version=version("mailinfra")), sys.argv[1:])
