"""Every name of a fleet: hosts, zones, services and the clouds' own resource names. Pure functions.

Names are an interface: changing one replaces somebody's mail server. Where a cloud's limit is too short for a
name, its end gives way to a hash of the whole, so that it stays unique and the same every time.
"""

import hashlib
from typing import Literal

from mailinfra.fleet import Fleet

Service = Literal["imap", "pop3", "smtp", "egress"]
Tier = Literal[1, 2]

SERVICES: tuple[Service, ...] = ("imap", "pop3", "smtp", "egress")
HASH_LENGTH = 8


def _hash(text: str, length: int = HASH_LENGTH) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def shorten(text: str, limit: int) -> str:
    """`text` itself where it fits into `limit` characters, else its start, `-`, and a hash of the whole."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - HASH_LENGTH - 1].rstrip('-')}-{_hash(text)}"


# Hosts


def node_name(group: str, number: int) -> str:
    """A node's name in its region: `edge-1`. Numbers start at 1."""
    return f"{group}-{number}"


def nodes_domain(fleet: Fleet, region: str) -> str:
    """The domain of a region's nodes: `eu-central-1.nodes.example.test`."""
    return f"{region}.nodes.{fleet.primary_domain}"


def node_fqdn(fleet: Fleet, region: str, group: str, number: int) -> str:
    """A node's host name, forward and reverse: `edge-1.eu-central-1.nodes.example.test`."""
    return f"{node_name(group, number)}.{nodes_domain(fleet, region)}"


def steering_zone(fleet: Fleet, label: str) -> str:
    """The apex of a steering zone: `aws.mx.example.test`."""
    return f"{label}.mx.{fleet.primary_domain}"


def steering_zones(fleet: Fleet) -> tuple[str, ...]:
    """The apexes of all steering zones, in the config's order."""
    return tuple(steering_zone(fleet, item.label) for item in fleet.dns.steering)


def mx_host(fleet: Fleet, label: str, tier: Tier) -> str:
    """An MX host in a steering zone; tier 1 is primary, 2 secondary: `mx1.aws.mx.example.test`."""
    return f"mx{tier}.{steering_zone(fleet, label)}"


def mx_hosts(fleet: Fleet, tier: Tier) -> tuple[str, ...]:
    """The MX hosts of one tier, one in each steering zone."""
    return tuple(mx_host(fleet, item.label, tier) for item in fleet.dns.steering)


def service_host(fleet: Fleet, service: Service, zone: str) -> str:
    """The name of a residency zone's service: `imap.eu.example.test`."""
    return f"{service}.{zone}.{fleet.primary_domain}"


def mta_sts_host(domain: str) -> str:
    """The host that serves a domain's MTA-STS policy (RFC 8461 3.3)."""
    return f"mta-sts.{domain}"


# Keys and the control bucket


def dkim_selector(fleet: Fleet, region: str, serial: str) -> str:
    """The DKIM selector of a region's key of one generation: `eu-central-1-1`."""
    return fleet.dkim.selector.replace("{region}", region).replace("{serial}", serial)


def dkim_name(selector: str, domain: str) -> str:
    """Where a DKIM public key is published (RFC 6376 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def enrol_prefix(group: str) -> str:
    """The prefix in the control bucket under which a group's nodes, and only they, may write."""
    return f"enrol/{group}/"


def enrol_key(group: str, node: str) -> str:
    """Where a node puts its certificate request: `enrol/edge/edge-1.csr`."""
    return f"{enrol_prefix(group)}{node}.csr"


def certificate_prefix(group: str) -> str:
    """The prefix in the control bucket from which a group's nodes read their certificates."""
    return f"certs/{group}/"


def certificate_key(group: str, node: str) -> str:
    """Where the issuer puts a node's certificate: `certs/edge/edge-1.pem`."""
    return f"{certificate_prefix(group)}{node}.pem"


ANCHORS_KEY = "trust/anchors.pem"
ROUTES_KEY = "directory/routes.jsonl"
ACCOUNTS_KEY = "directory/accounts.jsonl"


# Resources of the clouds


def resource(fleet: Fleet, *parts: str) -> str:
    """A resource's logical name in the Pulumi program: the fleet's name and `parts`, joined by `-`."""
    return "-".join((fleet.name, *parts))


def gcp_name(fleet: Fleet, *parts: str) -> str:
    """A Google Cloud resource's name: at most 63 characters (RFC 1035 label), a letter first."""
    name = resource(fleet, *parts)
    return shorten(name if name[0].isalpha() else f"m-{name}", 63)


def gcp_service_account_id(fleet: Fleet, region: str, group: str) -> str:
    """The id of the service account of a node group: 6 to 30 characters, a letter first."""
    name = resource(fleet, region, group)
    return shorten(name if name[0].isalpha() else f"m-{name}", 30)


def iam_role_name(fleet: Fleet, region: str, group: str) -> str:
    """The name of a node group's IAM role and instance profile: at most 64 characters."""
    return shorten(resource(fleet, region, group), 64)


def kms_alias(fleet: Fleet, region: str, purpose: str) -> str:
    """An AWS KMS alias: `alias/sandbox/eu-central-1/storage`."""
    return f"alias/{fleet.name}/{region}/{purpose}"


def key_ring(fleet: Fleet, region: str) -> str:
    """The Cloud KMS key ring of a region. Key rings cannot be deleted, so their names are never reused."""
    return gcp_name(fleet, region)


def bucket(fleet: Fleet, region: str, purpose: str, account: str) -> str:
    """The name of a region's bucket, at most 63 characters and unique in the world.

    `account` is the AWS account id or the GCP project (known at `up`); its hash tells fleets apart that have
    the same name.
    """
    return f"{shorten(resource(fleet, region, purpose), 63 - HASH_LENGTH - 1)}-{_hash(account)}"


def control_bucket(fleet: Fleet, region: str, account: str) -> str:
    """The name of a region's control bucket."""
    return bucket(fleet, region, "control", account)


# Vaults


def vault_role(fleet: Fleet, region: str, store: str) -> str:
    """The name of the IAM role by which a Google Cloud region's nodes use the vault, at AWS, of the region `store`: at
    most 64 characters. No node group's role has it: those are named after regions of AWS."""
    return iam_role_name(fleet, region, "vault" if region == store else f"vault-{store}")


def identity_pool(fleet: Fleet) -> str:
    """The id of the fleet's workload identity pool: 4 to 32 characters, and not Google's own prefix `gcp-`."""
    return fleet.clouds.gcp.identity_pool or f"mail-{fleet.name}"
