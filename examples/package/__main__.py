"""The same components through the SDK that `pulumi package add` generates: as other languages use them."""

import pulumi
import pulumi_mailinfra as mailinfra

keys = mailinfra.MailKeys("mail", cloud="gcp", region="europe-west3", zone="eu", rotation_days=90)

dkim = mailinfra.DkimKeys(
    "mail-dkim",
    cloud="gcp",
    region="europe-west3",
    zone="eu",
    bits=2048,
    generations=[{"serial": "1", "selector": "gcp1"}],
    key_ring=keys.key_ring,
)

network = mailinfra.MailNetwork(
    "mail-net",
    cloud="aws",
    region="eu-central-1",
    zone="eu",
    cidr="10.80.0.0/24",
    subnets=[{"name": "a", "availability_zone": "eu-central-1a", "cidr": "10.80.0.0/25"}],
    addresses=[{"node": "edge-1", "subnet": "a", "private_ipv4": "10.80.0.10", "ipv6_index": 16}],
    groups=[{"group": "edge", "roles": ["mx"], "world": [25], "fleet": [2526], "sends_mail": False}],
)

pulumi.export("authority", keys.ca_public_key)
pulumi.export("dkim", dkim.public_keys)
pulumi.export("addresses", network.addresses)
