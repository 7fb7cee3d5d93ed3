"""The one program of every environment: the fleet that the stack's config declares."""

import pulumi
from mailinfra_components import MailFleet

config = pulumi.Config("mailinfra")
declared = config.require_object("fleet")
fleet = MailFleet(declared["name"], {"fleet": declared})

pulumi.export("regions", fleet.regions)
pulumi.export("nodes", fleet.nodes)
pulumi.export("nameServers", fleet.name_servers)
pulumi.export("delegationSigners", fleet.signers)
pulumi.export("dkim", fleet.dkim)
pulumi.export("anchors", fleet.anchors)
