"""A program of one's own that takes three parts of a mail fleet: keys, a network, and DKIM keys.

The archive bucket is the program's own; it is encrypted with the key that the fleet's disks would have.
"""

import pulumi
import pulumi_aws as aws

from mailinfra_components import DkimKeys, MailKeys, MailNetwork

REGION, ZONE = "eu-central-1", "eu"

keys = MailKeys("mail", {"cloud": "aws", "region": REGION, "zone": ZONE, "rotation_days": 180})

dkim = DkimKeys(
    "mail-dkim",
    {
        "cloud": "aws",
        "region": REGION,
        "zone": ZONE,
        "generations": [{"serial": "1", "selector": "eu1"}],
    },
)

network = MailNetwork(
    "mail-net",
    {
        "cloud": "aws",
        "region": REGION,
        "zone": ZONE,
        "cidr": "10.80.0.0/24",
        "subnets": [{"name": "a", "availability_zone": f"{REGION}a", "cidr": "10.80.0.0/25"}],
        "addresses": [{"node": "edge-1", "subnet": "a", "private_ipv4": "10.80.0.10", "ipv6_index": 16}],
        "groups": [
            {"group": "edge", "roles": ["mx"], "world": [25, 443], "fleet": [2526], "sends_mail": False}
        ],
    },
)

archive = aws.s3.Bucket("archive", region=REGION, force_destroy=True)
aws.s3.BucketServerSideEncryptionConfiguration(
    "archive-encryption",
    region=REGION,
    bucket=archive.id,
    rules=[
        {
            "apply_server_side_encryption_by_default": {
                "sse_algorithm": "aws:kms",
                "kms_master_key_id": keys.storage_key,
            }
        }
    ],
)

pulumi.export("addresses", network.addresses)
pulumi.export("dkimRecord", dkim.public_keys["eu1"].apply(lambda key: f"v=DKIM1; k=rsa; p={key}"))
pulumi.export("archive", archive.bucket)
