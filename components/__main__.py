"""The component package: `pulumi package add ./components` gives these components to every Pulumi language."""

from importlib.metadata import version

from pulumi.provider.experimental import component_provider_host

from mailinfra_components.directory import UserDirectory
from mailinfra_components.dkim import DkimKeys
from mailinfra_components.fleet import MailFleet
from mailinfra_components.keys import MailKeys
from mailinfra_components.links import MailLinks
from mailinfra_components.network import MailNetwork
from mailinfra_components.nodes import MailNodes
from mailinfra_components.records import MailRecords
from mailinfra_components.routing import MxRouting

COMPONENTS = [
    DkimKeys,
    MailFleet,
    MailKeys,
    MailLinks,
    MailNetwork,
    MailNodes,
    MailRecords,
    MxRouting,
    UserDirectory,
]

if __name__ == "__main__":
    component_provider_host(name="mailinfra", components=COMPONENTS, version=version("mailinfra"))
