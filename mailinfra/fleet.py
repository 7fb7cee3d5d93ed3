"""The declaration of a fleet: what a stack's config says, checked and frozen.

`Fleet.load` reads the config's plain data (YAML or JSON) and either gives a whole fleet or raises
`ConfigError` with every problem. Everything else in this package is derived from a `Fleet`.
"""

import ipaddress
from enum import StrEnum
from typing import Annotated, Any, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mailinfra.errors import ConfigError, Problem
from mailinfra.wording import Words, problem


class Cloud(StrEnum):
    """The clouds whose servers can be in a fleet."""

    AWS = "aws"
    GCP = "gcp"


class Role(StrEnum):
    """What a node does. A node group has one or more roles."""

    MX = "mx"
    SUBMISSION = "submission"
    EGRESS = "egress"
    IMAP = "imap"
    POP3 = "pop3"
    MAILBOX = "mailbox"


class Size(StrEnum):
    """A node's size; `mailinfra.places` gives each cloud's machine type for it."""

    NANO = "nano"
    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    XLARGE = "xlarge"


class Residency(StrEnum):
    """What a foreign zone's node may do with a message: `strict` never writes it to disk."""

    STRICT = "strict"
    RELAXED = "relaxed"


class MxPolicy(StrEnum):
    """How the steering zones choose among regions."""

    GEO = "geo"
    LATENCY = "latency"
    WEIGHTED = "weighted"


class ParentProvider(StrEnum):
    """Who serves the parent zone."""

    CLOUDFLARE = "cloudflare"
    ROUTE53 = "route53"
    CLOUDDNS = "clouddns"


class SteeringProvider(StrEnum):
    """Who serves a steering zone: health-checked weighted, geo or latency answers."""

    ROUTE53 = "route53"
    CLOUDDNS = "clouddns"


class TlsVersion(StrEnum):
    """A TLS floor."""

    TLS12 = "1.2"
    TLS13 = "1.3"


class KeyStage(StrEnum):
    """A DKIM key's stage of life (R21).

    `generated`: the key is made, nobody is told. `published`: its record is in the DNS, either before it
    signs or while the mail that it signed drains. `signing`: it signs. `retired`: its record says revoked,
    the key is gone.
    """

    GENERATED = "generated"
    PUBLISHED = "published"
    SIGNING = "signing"
    RETIRED = "retired"


class DmarcPolicy(StrEnum):
    """The DMARC policy asked of receivers (RFC 7489 6.3)."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


class MtaStsMode(StrEnum):
    """The MTA-STS mode (RFC 8461 3.2); `off` publishes nothing."""

    OFF = "off"
    TESTING = "testing"
    ENFORCE = "enforce"


LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = rf"(?:{LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?"
LOCAL_PART = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
RSA_BITS = (2048, 3072, 4096)
HEALTH_INTERVALS = (10, 30)


def _network(text: str) -> str:
    allowed = "an IPv4 network such as 10.20.0.0/24, with a prefix length from 16 to 27 and no host bits set"
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        raise ValueError(allowed) from None
    if not 16 <= network.prefixlen <= 27:
        raise ValueError(allowed)
    return str(network)


def _one_of(*values: int) -> AfterValidator:
    def check(value: int) -> int:
        if value not in values:
            raise ValueError(f"one of {', '.join(map(str, values))}")
        return value

    return AfterValidator(check)


def _endpoint(url: str) -> str:
    if "{" in url.replace("{region}", "") or "}" in url.replace("{region}", ""):
        raise ValueError("an https:// URL in which only {region} is in braces, or empty")
    return url


Label = Annotated[
    str,
    Field(pattern=rf"^{LABEL}$", max_length=63),
    Words("a DNS label (lower-case letters, digits and inner hyphens)"),
]
DomainName = Annotated[
    str,
    Field(pattern=rf"^{DOMAIN}$", max_length=200),
    Words("a domain name in lower-case ASCII, without a final dot"),
]
CountryCode = Annotated[
    str, Field(pattern=r"^[A-Z]{2}$"), Words("a country's two capital letters (ISO 3166-1 alpha-2)")
]
ZoneLetter = Annotated[str, Field(pattern=r"^[a-z]$"), Words("one lower-case letter")]
RegionName = Annotated[
    str,
    Field(pattern=rf"^{LABEL}$", max_length=32),
    Words("a cloud's region name, such as eu-central-1 or europe-west3"),
]
SnapshotName = Annotated[
    str,
    Field(pattern=r"^(?:snap-[0-9a-f]{8,17}|[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?)$"),
    Words("an EBS snapshot's id (snap-…) or a Compute Engine snapshot's name"),
]
ZoneId = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"),
    Words("a DNS zone's id or name as its provider shows it"),
]
MailAddress = Annotated[
    str,
    Field(pattern=rf"^(?:{LOCAL_PART}@{DOMAIN})?$", max_length=254),
    Words("a mail address in lower-case ASCII, or empty"),
]
AttributeName = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_]{0,31}$"),
    Words("a letter, then letters, digits and _, in lower case, at most 32 characters"),
]
AttributeValue = Annotated[
    str,
    Field(pattern=r"^[^\p{Cc}\p{Zl}\p{Zp}]{1,128}$"),
    Words("text of 1 to 128 characters, without control characters"),
]
Endpoint = Annotated[
    str,
    Field(pattern=r"^(?:https://[a-z0-9.{}-]+(?::[0-9]{1,5})?(?:/[!-~]*)?)?$", max_length=500),
    AfterValidator(_endpoint),
    Words("an https:// URL in which {region} stands for the region, or empty"),
]
Ipv4Network = Annotated[
    str, AfterValidator(_network), Words("an IPv4 network with a prefix length from 16 to 27")
]


class Model(BaseModel):
    """A frozen part of the config in which an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Zone(Model):
    """A residency zone: a set of countries that its users' data never leaves."""

    countries: tuple[CountryCode, ...] = Field(min_length=1)
    """The countries (ISO 3166-1 alpha-2) in which this zone's data may lie."""


class NodeGroup(Model):
    """Nodes of one kind in one region: the unit that is sized and scaled alone."""

    name: Label = Field(max_length=16)
    """The group's name, unique in its region; a node is called `<group>-<number>`."""
    roles: tuple[Role, ...] = Field(min_length=1)
    """What each node of the group does."""
    count: int = Field(default=1, ge=0, le=64)
    """How many nodes."""
    size: Size = Size.SMALL
    """How big each node is."""
    disk_gib: int = Field(default=20, ge=10, le=16384)
    """The system disk, in GiB."""
    data_gib: int = Field(default=100, ge=1, le=16384)
    """The mail volume of each `mailbox` node, in GiB. Other roles have none."""
    from_snapshot: dict[int, SnapshotName] = Field(default_factory=dict)
    """Restores: the number of a `mailbox` node, and the snapshot that its mail volume is made from (EBS: its id,
    Compute Engine: its name). The next `up` makes the volume, moves the server to it, and leaves the volume that it
    had before as it is, beside it. The entry stays for as long as the volume is in use; with another snapshot the
    volume made from the one before has to be unprotected, for it is deleted."""
    keep_replaced: bool = True
    """Whether volumes that a restore has replaced stay. Off: the next `up` deletes them, once each was unprotected
    by `pulumi state unprotect`."""
    position: int | None = Field(default=None, ge=0, le=63)
    """Its place in the region's address plan, by default its place in the list (from 0). Give it to the
    groups that follow before a group in front of them is removed, and no node changes its address."""


class Region(Model):
    """One cloud region with its network and node groups."""

    cloud: Cloud
    """The cloud."""
    region: RegionName
    """The cloud's own name of the region, for example `eu-central-1` or `europe-west3`."""
    zone: Label
    """The residency zone that this region belongs to."""
    network: Ipv4Network
    """The private IPv4 network of the region, unique in the fleet. IPv6 comes from the cloud."""
    groups: tuple[NodeGroup, ...] = Field(min_length=1)
    """The node groups."""
    availability_zones: tuple[ZoneLetter, ...] = Field(default=(), max_length=4)
    """The letters of the availability zones that nodes are spread over, in this order. Empty: two that the
    region has. Changing them replaces nodes."""
    weight: int = Field(default=100, ge=0, le=255)
    """Its share of the mail among the regions that answer the same sender: all of them where the MX policy is
    `weighted`, those near the sender where it is `geo` (Route 53 allows 0 to 255)."""


class HealthCheck(Model):
    """How the steering zones find out that a server is dead."""

    interval_seconds: Annotated[int, _one_of(*HEALTH_INTERVALS), Words("10 or 30")] = 10
    """Seconds between two probes: 10 or 30 (what Route 53 offers)."""
    failures: int = Field(default=3, ge=1, le=10)
    """Failed probes in a row until the server leaves the answer. Cloud DNS probes every 30 seconds at the
    fastest: there it is as many as fit the same time."""


class Mx(Model):
    """Who receives for the domains, and how senders are spread."""

    policy: MxPolicy = MxPolicy.GEO
    """How a sender's resolver is answered: by geography, by latency, or by weights."""
    primaries: tuple[RegionName, ...] = ()
    """Regions behind the equal-priority primary MX hosts. Empty: every region with an mx group."""
    secondaries: tuple[RegionName, ...] = ()
    """Regions behind the secondary MX hosts. Empty: every region with an mx group. Where the policy is `geo`, a
    secondary leads each sender to another place than the primary does."""
    primary_priority: int = Field(default=10, ge=0, le=65535)
    """Preference of the primary MX hosts (RFC 5321 5.1: lower is preferred)."""
    secondary_priority: int = Field(default=20, ge=0, le=65535)
    """Preference of the secondary MX hosts."""
    ttl_seconds: int = Field(default=60, ge=10, le=300)
    """TTL of the steered A and AAAA sets. With health checks, 60 or less."""
    record_ttl_seconds: int = Field(default=3600, ge=60, le=86400)
    """TTL of the MX records themselves."""
    health: HealthCheck = HealthCheck()
    """The health checks."""


class Parent(Model):
    """The zone of the domains themselves."""

    provider: ParentProvider = ParentProvider.CLOUDFLARE
    """Who serves it."""
    account_id: Annotated[
        str, Field(pattern=r"^(?:[0-9a-f]{32})?$"), Words("32 hexadecimal digits, or empty")
    ] = ""
    """The Cloudflare account that owns the zones that are made here (Cloudflare only)."""
    existing: dict[DomainName, ZoneId] = Field(default_factory=dict)
    """Zones that exist already, by domain: the zone's id (Cloudflare, Route 53) or name (Cloud DNS). Records are added
    to them; they are neither made nor signed nor deleted here. A domain that is not listed gets a new zone."""


class Steering(Model):
    """A delegated zone that holds the names that MX records point at."""

    provider: SteeringProvider
    """Who serves it."""
    label: Label
    """Its label: the zone is `<label>.mx.<primary domain>`."""


class Dns(Model):
    """Where the fleet's names are served."""

    parent: Parent = Parent()
    """The parent zone."""
    steering: tuple[Steering, ...] = Field(
        default=(
            Steering(provider=SteeringProvider.ROUTE53, label="aws"),
            Steering(provider=SteeringProvider.CLOUDDNS, label="gcp"),
        ),
        max_length=4,
    )
    """The steering zones, two or more. Each has its own DNS provider and signer, and an MX host of equal
    priority lives in each."""
    ttl_seconds: int = Field(default=3600, ge=60, le=86400)
    """TTL of static records."""
    dnssec: bool = True
    """Sign every zone (needed for DANE)."""


class PlacementRule(Model):
    """Users whose attribute has one of the values live in `home`."""

    attribute: AttributeName
    """The directory attribute, for example `country`, `department` or `plan`."""
    values: tuple[AttributeValue, ...] = Field(min_length=1)
    """The attribute's values that this rule is for."""
    home: RegionName
    """The home region of these users."""


class Placement(Model):
    """Which region a user's mailbox lives in. The first rule that fits decides."""

    rules: tuple[PlacementRule, ...] = ()
    """The rules, in order."""
    default: RegionName
    """The home of users that no rule fits."""


class Keys(Model):
    """Customer-managed keys of the residency zones."""

    rotation_days: int = Field(default=365, ge=90, le=2560)
    """Days between two rotations of the keys at rest (AWS KMS allows 90 to 2560)."""
    deletion_window_days: int = Field(default=30, ge=7, le=30)
    """Days that a deleted key can still be brought back."""


class Traces(Model):
    """Who did what: audit logs and the alarms on keys."""

    retention_days: int = Field(default=400, ge=1, le=3650)
    """Days that nobody can delete an audit log. It cannot be shortened for what was written already."""
    operators: MailAddress = ""
    """Who gets alarms (an address, better not on this fleet); empty: `operators@` the primary domain."""


class Vault(Model):
    """A place where copies lie that nobody can delete."""

    cloud: Cloud
    """The cloud."""
    region: RegionName
    """The cloud's own name of the region, in a country of the zone whose mail it keeps."""


class Backup(Model):
    """The copies of each store of mail: a replica in another region of its zone, snapshots beside it, and a
    repository in a vault in the other cloud, in the same zone."""

    rpo_minutes: int = Field(default=15, ge=5, le=60)
    """The most minutes of mail that may be lost: the time between two runs into the repository. The replica follows
    within seconds."""
    snapshot_days: int = Field(default=7, ge=1, le=35)
    """Days that the hourly snapshots of the mail volumes are kept."""
    retention_days: int = Field(default=35, ge=1, le=3650)
    """Days that nobody can delete or change what is in a repository. It cannot be shortened for what was written
    already."""
    verify_hours: int = Field(default=24, ge=1, le=168)
    """Hours between two restores of a sample from each repository, compared with what is there."""
    vaults: dict[RegionName, Vault] = Field(default_factory=dict)
    """Where the repositories of a region's mail lie, by region. A region that is not listed gets the nearest place of
    the other cloud in its zone, one of the fleet's own regions if there is any. So a region that joins or leaves may
    move the vault of another one, unless that is listed here: new mail then goes into a new vault, and the old one
    stays as it is. With `protect`, Pulumi refuses such a move."""


class DkimKey(Model):
    """One generation of DKIM keys: one key in each region's HSM."""

    serial: Label
    """The generation's name, part of the selector."""
    stage: KeyStage = KeyStage.SIGNING
    """How far its life has come."""


class Dkim(Model):
    """How outgoing mail is signed."""

    bits: Annotated[int, _one_of(*RSA_BITS), Words("2048, 3072 or 4096")] = 2048
    """RSA modulus length. Both clouds' HSMs make all three; 2048 is what every receiver verifies."""
    selector: Annotated[
        str,
        Field(pattern=r"^[a-z0-9.{}-]+$", max_length=100),
        Words("labels with {region} and {serial} in them"),
    ] = "{region}-{serial}"
    """How selectors are made, from `{region}` and `{serial}`."""
    keys: tuple[DkimKey, ...] = (DkimKey(serial="1"),)
    """The key generations. Exactly one signs."""
    rotation_days: int = Field(default=180, ge=1, le=365)
    """Days after which a generation should be replaced (M3AAWG: at least every six months)."""
    drain_days: int = Field(default=7, ge=1, le=90)
    """Days that a key stays published after its last signature."""


class Tls(Model):
    """TLS floors by kind of link. Between the fleet's own nodes it is always 1.3 with client certificates."""

    clients: TlsVersion = TlsVersion.TLS13
    """Floor for submission, IMAP, POP3."""
    internet: TlsVersion = TlsVersion.TLS12
    """Floor for STARTTLS on port 25, both directions, where TLS is used at all."""


class Authentication(Model):
    """What receivers are told to do with mail that is not ours."""

    dmarc: DmarcPolicy = DmarcPolicy.REJECT
    """The DMARC policy."""
    dmarc_reports: MailAddress = ""
    """Where aggregate reports go (an address); empty: `dmarc@` the primary domain."""
    mta_sts: MtaStsMode = MtaStsMode.ENFORCE
    """The MTA-STS mode."""
    mta_sts_max_age_seconds: int = Field(default=604800, ge=86400, le=31557600)
    """How long senders keep the MTA-STS policy."""
    tls_reports: MailAddress = ""
    """Where TLS reports go (an address); empty: `tls-reports@` the primary domain."""


class Limits(Model):
    """Bounds on mail."""

    message_bytes: int = Field(default=52_428_800, ge=65_536, le=157_286_400)
    """The largest message, in bytes."""
    recipients: int = Field(default=1000, ge=100, le=10_000)
    """Recipients in one transaction (RFC 5321 4.5.3.1.8 demands at least 100)."""
    queue_hours: int = Field(default=120, ge=1, le=240)
    """Hours that a message is retried before it bounces (RFC 5321 4.5.4.1: at least 4 to 5 days)."""


class Endpoints(Model):
    """API endpoints other than the clouds' public ones (FIPS, PrivateLink, sovereign clouds).

    Each is a URL in which `{region}` stands for the region; empty is the public endpoint.
    """

    kms: Endpoint = ""
    """AWS KMS, or Cloud KMS."""
    storage: Endpoint = ""
    """S3, or Cloud Storage."""
    sts: Endpoint = ""
    """AWS STS, or Google's Security Token Service: where a node of the other cloud gets its credentials for a vault."""


class AwsAccount(Model):
    """The AWS account."""

    endpoints: Endpoints = Endpoints()
    """Other API endpoints."""


class GcpAccount(Model):
    """The Google Cloud project."""

    project: Annotated[
        str,
        Field(pattern=r"^(?:[a-z][a-z0-9-]{4,28}[a-z0-9])?$"),
        Words("a project id (6 to 30 lower-case letters, digits and hyphens, a letter first), or empty"),
    ] = ""
    """The project's id; needed when a region is on GCP."""
    identity_pool: Annotated[
        str,
        Field(pattern=r"^(?:mail-[a-z0-9-]{1,27})?$"),
        Words("`mail-` and 1 to 27 lower-case letters, digits and hyphens, or empty"),
    ] = ""
    """The id of the workload identity pool by which nodes at AWS come to their vaults; empty: `mail-` and the fleet's
    name. Google keeps the id of a deleted pool for 30 days: a fleet that comes back before that takes another one."""
    endpoints: Endpoints = Endpoints()
    """Other API endpoints."""


class Clouds(Model):
    """Accounts and endpoints."""

    aws: AwsAccount = AwsAccount()
    """AWS."""
    gcp: GcpAccount = GcpAccount()
    """Google Cloud."""


class Fleet(Model):
    """One mail domain (and its aliases) served by many servers in many places."""

    name: Label = Field(max_length=12)
    """A short name; prefix of every resource's name."""
    domains: tuple[DomainName, ...] = Field(min_length=1)
    """The mail domains. The first is the primary one: hosts and service names live under it."""
    zones: dict[Label, Zone] = Field(min_length=1)
    """The residency zones by name."""
    residency: Residency = Residency.STRICT
    """What a node in a foreign zone may do with a message."""
    regions: tuple[Region, ...] = Field(min_length=1)
    """The regions."""
    mx: Mx = Mx()
    """Receiving."""
    dns: Dns = Dns()
    """Names."""
    placement: Placement
    """Where users live."""
    keys: Keys = Keys()
    """Keys at rest."""
    protect: bool = True
    """Mail volumes are protected: Pulumi deletes none before `pulumi state unprotect`. Off only where mail may be
    lost."""
    traces: Traces = Traces()
    """Audit logs and alarms."""
    backup: Backup = Backup()
    """Copies of the mail."""
    dkim: Dkim = Dkim()
    """Signing."""
    tls: Tls = Tls()
    """TLS floors."""
    authentication: Authentication = Authentication()
    """DMARC, MTA-STS, TLS-RPT."""
    limits: Limits = Limits()
    """Bounds on mail."""
    clouds: Clouds = Clouds()
    """Accounts and endpoints."""

    @property
    def primary_domain(self) -> str:
        """The domain under which hosts and services are named."""
        return self.domains[0]

    def region(self, name: str) -> Region:
        """The region called `name`; KeyError if the fleet has none."""
        for region in self.regions:
            if region.region == name:
                return region
        raise KeyError(name)

    @classmethod
    def load(cls, data: Any) -> Self:
        """The fleet that plain config data declares. Raises ConfigError with every problem found: of single
        fields, and of what does not fit together as far as the fields that it hangs on are well formed."""
        from mailinfra.checks import problems

        sections = frozenset(cls.model_fields)
        found: list[Problem] = []
        try:
            fleet = cls.model_validate(data)
        except ValidationError as error:
            found = [problem(cls, item) for item in error.errors()]
            if not isinstance(data, dict):
                raise ConfigError(found) from None
            sections -= {str(item["loc"][0]) for item in error.errors() if item["loc"]}
            fleet = cls.of_sections(data, sections)
        found += problems(fleet, sections=sections)
        if found:
            raise ConfigError(found)
        return fleet

    @classmethod
    def of_sections(cls, data: dict[str, Any], sections: frozenset[str]) -> Self:
        """A fleet of only these, well-formed sections; the others are not there, not even their defaults."""
        values = {}
        for name in sections & set(data):
            field = cls.model_fields[name]
            kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            values[name] = TypeAdapter(kind).validate_python(data[name])
        part = cast(Self, cls.model_construct(**values))
        for name in set(cls.model_fields) - sections:
            part.__dict__.pop(name, None)  # else its default, which would let checks find fault with it
        return part
