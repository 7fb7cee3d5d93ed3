"""What one node is told: the whole input of its bootstrap, as plain frozen data."""

from dataclasses import dataclass, field

from mailinfra.fleet import Cloud, Residency, Role, TlsVersion


@dataclass(frozen=True)
class SigningKey:
    """The region's signing DKIM key: its selector and its name in the HSM.

    `reference` is an AWS KMS key ARN or a Cloud KMS crypto key version's resource name.
    """

    selector: str
    reference: str


@dataclass(frozen=True)
class NodeSpec:
    """One node's part in the fleet.

    Nothing in it changes when another region joins or leaves: what does is in the control bucket or in DNS.
    """

    fleet: str
    cloud: Cloud
    region: str
    zone: str
    group: str
    hostname: str
    """FQDN of the node, forward and reverse."""
    roles: tuple[Role, ...]
    domains: tuple[str, ...]
    residency: Residency
    control_bucket: str
    """The region's control bucket (S3 or Cloud Storage name)."""
    ca_key: str
    """The region's CA key in KMS; empty unless this node's group is the region's issuer."""
    service_names: tuple[str, ...]
    """Names beside its own for which its certificate must be good (MX hosts, imap.…, smtp.…, mta-sts.…)."""
    egress_hosts: tuple[str, ...]
    """Name(s) whose A/AAAA records are the zone's egress nodes; submission relays to them."""
    signing: SigningKey | None
    """Only where `submission` is among the roles."""
    clients_tls: TlsVersion
    internet_tls: TlsVersion
    message_bytes: int
    recipients: int
    queue_hours: int
    mta_sts_policy: str
    """The MTA-STS policy text that mx nodes serve; empty when off."""
    data_device: str
    """The block device of the mail volume; empty where there is none (not a mailbox node)."""
    endpoints: dict[str, str] = field(default_factory=dict)
    """`kms` and `storage` URLs, region filled in; empty strings mean the public ones."""
    entitlements: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Only where `ca_key` is set: each node group of the region and the service names that its nodes' certificates
    carry beside their own (that group's `service_names`). The issuer signs for nobody else."""
