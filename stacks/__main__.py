"""The one program of every environment: the fleet that the stack's config declares."""

import asyncio

import pulumi

from mailinfra.errors import ConfigError
from mailinfra.fleet import Fleet
from mailinfra_components import MailFleet

declared = pulumi.Config("mailinfra").require_object("fleet")
try:
    name = Fleet.load(declared).name
except ConfigError as error:
    # A mistake in the config is told as the list of its places; a trace of this program would not help.
    raise pulumi.RunError(str(error)) from None
fleet = MailFleet(name, {"fleet": declared})

pulumi.export("regions", fleet.regions)
pulumi.export("nodes", fleet.nodes)
pulumi.export("nameServers", fleet.name_servers)
pulumi.export("delegationSigners", fleet.signers)
pulumi.export("dkim", fleet.dkim)
pulumi.export("anchors", fleet.anchors)


async def begun() -> None:
    """Let every registration begin.

    Before the first one has, Pulumi's SDK (as of 3.272) waits for all values at once, whose time grows with the square
    of their number; afterwards it waits for one registration after the other.
    """
    await asyncio.sleep(0)


pulumi.run(begun)
