"""What the components declare is what an estimate counts: a small fleet on both clouds under mocks."""

from collections import Counter
from decimal import Decimal
from functools import cache

import pytest

from mailinfra.cost import Item, estimate
from mailinfra.plan import plan
from mailinfra.prices import HOURS
from mailinfra_components import MailFleet
from tests.declared import Declared, Program, declare
from tests.fleets import config, fleet

COUNTED = {
    "aws:ec2/instance:Instance",
    "aws:ebs/volume:Volume",
    "aws:ec2/eip:Eip",
    "aws:kms/key:Key",
    "aws:s3/bucket:Bucket",
    "aws:cloudtrail/trail:Trail",
    "aws:ec2/flowLog:FlowLog",
    "aws:route53/zone:Zone",
    "aws:route53/healthCheck:HealthCheck",
    "cloudflare:index/zone:Zone",
    "gcp:compute/instance:Instance",
    "gcp:compute/disk:Disk",
    "gcp:compute/address:Address",
    "gcp:compute/healthCheck:HealthCheck",
    "gcp:compute/subnetwork:Subnetwork",
    "gcp:dns/managedZone:ManagedZone",
    "gcp:kms/cryptoKey:CryptoKey",
    "gcp:logging/projectSink:ProjectSink",
    "gcp:storage/bucket:Bucket",
}
"""Types that an estimate has items for."""
CENTS = {
    "aws:cloudwatch/eventRule:EventRule",
    "aws:cloudwatch/metricAlarm:MetricAlarm",
    "aws:sns/topic:Topic",
    "gcp:monitoring/alertPolicy:AlertPolicy",
    "aws:s3/bucketObjectv2:BucketObjectv2",
    "gcp:storage/bucketObject:BucketObject",
}
"""Types that cost cents and are left out."""
FREE = (
    "aws:iam/",
    "aws:vpc/",
    "aws:ec2/vpc:",
    "aws:ec2/subnet:",
    "aws:ec2/route",
    "aws:ec2/internetGateway:",
    "aws:ec2/defaultSecurityGroup:",
    "aws:ec2/securityGroup:",
    "aws:ec2/managedPrefixList:",
    "aws:ec2/eipAssociation:",
    "aws:ec2/eipDomainName:",
    "aws:ec2/volumeAttachment:",
    "aws:kms/alias:",
    "aws:s3/bucket",
    "aws:sns/topic",
    "aws:cloudwatch/eventTarget:",
    "aws:route53/record:",
    "aws:route53/keySigningKey:",
    "aws:route53/hostedZoneDnsSec:",
    # Snapshots cost by what they hold; their schedules and the way to a vault cost nothing.
    "aws:dlm/",
    "gcp:compute/resourcePolicy",
    "gcp:compute/diskResourcePolicyAttachment:",
    "gcp:iam/",
    "cloudflare:index/",
    "gcp:compute/network:",
    "gcp:compute/firewall:",
    "gcp:dns/recordSet:",
    "gcp:kms/keyRing:",
    "gcp:kms/cryptoKeyIAM",
    "gcp:monitoring/notificationChannel:",
    "gcp:projects/",
    "gcp:serviceaccount/",
    "gcp:storage/bucketIAM",
    "mailinfra:",
    "pulumi:",
)
"""What types begin with that cost nothing themselves."""


CHANGES = {
    "regions__1__groups__1": {"name": "store", "roles": ["mailbox"], "data_gib": 30},
    "dns__parent": {"provider": "cloudflare", "account_id": "0" * 32},
}
"""What makes the smallest stack have something of every kind."""


@cache
def program() -> Program:
    declared = config("dev", **CHANGES)
    return declare(lambda: MailFleet(declared["name"], {"fleet": declared}))


@cache
def items() -> tuple[Item, ...]:
    return tuple(item for item in estimate(plan(fleet("dev", **CHANGES))).items if item.standing)


def of(token: str) -> list[Declared]:
    """The resources of a type, without those of vaults: an estimate counts vaults by the plan of the copies."""
    return [resource for resource in program().of(token) if "vault" not in resource.name]


def quantity(*skus: str) -> Decimal:
    counted = [item.quantity for item in items() if item.sku in skus and not item.what.startswith("vault")]
    return sum(counted, Decimal(0))


def test_no_type_is_forgotten() -> None:
    """A type that is new here: give it items in `mailinfra.cost.items`, or say above that it costs nothing."""
    types = {resource.type for resource in program().resources}
    assert not {name for name in types - COUNTED - CENTS if not name.startswith(FREE)}


@pytest.mark.parametrize(
    ("token", "field", "cloud"),
    [
        ("aws:ec2/instance:Instance", "instanceType", "aws"),
        ("gcp:compute/instance:Instance", "machineType", "gcp"),
    ],
)
def test_machines_run_all_month(token: str, field: str, cloud: str) -> None:
    machines = Counter(resource.inputs[field] for resource in of(token))
    assert machines
    for machine, count in machines.items():
        assert quantity(f"{cloud}.{machine}") == count * HOURS


def test_disks_are_those_that_are_declared() -> None:
    roots = [resource.inputs["rootBlockDevice"] for resource in of("aws:ec2/instance:Instance")]
    volumes = [resource.inputs for resource in of("aws:ebs/volume:Volume")]
    assert {disk["volumeType"] for disk in roots} | {disk["type"] for disk in volumes} == {"gp3"}
    assert quantity("aws.gp3") == sum(int(disk["volumeSize"]) for disk in roots) + sum(
        int(disk["size"]) for disk in volumes
    )
    boots = [
        resource.inputs["bootDisk"]["initializeParams"] for resource in of("gcp:compute/instance:Instance")
    ]
    disks = [resource.inputs for resource in of("gcp:compute/disk:Disk")]
    assert {disk["type"] for disk in (*boots, *disks)} == {"pd-balanced"}
    assert quantity("gcp.pd-balanced") == sum(int(disk["size"]) for disk in (*boots, *disks))


def test_addresses_of_version_4_are_paid() -> None:
    assert quantity("aws.ipv4") == len(of("aws:ec2/eip:Eip")) * HOURS
    four = [item for item in of("gcp:compute/address:Address") if item.inputs.get("ipVersion") != "IPV6"]
    assert quantity("gcp.ipv4") == len(four) * HOURS


def test_each_monitored_instance_has_its_metrics() -> None:
    monitored = [item for item in of("aws:ec2/instance:Instance") if item.inputs["monitoring"]]
    assert quantity("aws.metric") == 7 * len(monitored)


def test_keys_are_those_that_are_declared() -> None:
    assert quantity("aws.kms.key") == len(of("aws:kms/key:Key"))
    algorithms = [item.inputs["versionTemplate"]["algorithm"] for item in of("gcp:kms/cryptoKey:CryptoKey")]
    cheap = [name for name in algorithms if name.startswith(("GOOGLE_SYMMETRIC", "RSA_SIGN_PKCS1_2048"))]
    assert quantity("gcp.kms.key") == len(cheap) > 0
    assert quantity("gcp.kms.key.asymmetric") == len(algorithms) - len(cheap) > 0
    assert {
        item.inputs["versionTemplate"]["protectionLevel"] for item in of("gcp:kms/cryptoKey:CryptoKey")
    } == {"HSM"}


def test_zones_and_health_checks_are_those_that_are_declared() -> None:
    assert quantity("route53.zone") == len(of("aws:route53/zone:Zone"))
    assert quantity("clouddns.zone") == len(of("gcp:dns/managedZone:ManagedZone"))
    assert quantity("cloudflare.zone") == 1 == len(of("cloudflare:index/zone:Zone"))
    checks = [item.inputs["requestInterval"] for item in of("aws:route53/healthCheck:HealthCheck")]
    assert set(checks) == {10}
    assert quantity("route53.fast-check.aws", "route53.fast-check.other") == len(checks)
