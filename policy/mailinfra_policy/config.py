"""The pack's config: zones, floors, intervals, exceptions. One document, JSON or YAML, checked whole before use."""

import re
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mailinfra.errors import ConfigError, Problem
from mailinfra.places import PLACES


class Model(BaseModel):
    """Strict and frozen: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Level(StrEnum):
    """What a rule's finding does."""

    MANDATORY = "mandatory"
    ADVISORY = "advisory"
    OFF = "off"


Version = Literal["1.2", "1.3"]


def _country(value: str) -> str:
    if not re.fullmatch("[A-Z]{2}", value):
        raise ValueError("a country's two capital letters (ISO 3166-1)")
    return value


Country = Annotated[str, AfterValidator(_country)]


class Zone(Model):
    """A residency zone: where its data may lie."""

    countries: frozenset[Country]
    """The countries that data of the zone may lie in; empty only if it is `anywhere`."""
    regions: frozenset[str] = frozenset()
    """Only these cloud regions of those countries; empty: all of them."""
    anywhere: bool = False
    """For what is published anyway (DNS keys, public images): it may lie anywhere."""
    resources: tuple[str, ...] = ()
    """Globs on `type::name`, the tail of the URN, of what belongs to the zone and can carry no tag:
    `cloudflare:index/r2Bucket:R2Bucket::eu-*`. A resource's own tag or label goes first."""


class Tls(Model):
    """TLS floors by kind of link."""

    public: Version = "1.3"
    """HTTPS to the world: load balancers, CDN, APIs, zone settings."""
    clients: Version = "1.3"
    """Mail clients: submission, IMAP, POP3."""
    internet: Version = "1.2"
    """STARTTLS on port 25, where the other side is a stranger."""
    fleet: Version = "1.3"
    """Between the fleet's own nodes."""
    services: Version = "1.2"
    """The clouds' own services (databases, caches, queues, file systems), where the cloud offers no 1.3 floor."""
    plain_ports: frozenset[Annotated[int, Field(ge=1, le=65535)]] = frozenset(
        {20, 21, 23, 80, 110, 119, 143, 389, 512, 513, 514, 1883, 3268, 11211}
    )
    """Ports of protocols without TLS, or with TLS only if the client asks: closed. 80 may redirect, so firewalls may
    let it through. Port 25 is no plain port: its floor is the servers' own."""


class Keys(Model):
    """Keys at rest."""

    rotation_days: int = Field(default=365, ge=1)
    """The longest interval between two rotations."""
    deletion_days: int = Field(default=30, ge=7, le=30)
    """The shortest time between asking for a key's end and its end (AWS allows at most 30)."""
    dkim_bits: int = Field(default=2048, ge=1024)
    """The smallest RSA key that signs mail."""


class Backups(Model):
    """Copies of the stores of mail."""

    stores: frozenset[str] = frozenset({"mail"})
    """The data classes whose stores need three copies."""
    rpo_minutes: int = Field(default=60, ge=1)
    """The longest time between two copies."""
    retention_days: int = Field(default=30, ge=1)
    """How long a copy cannot be changed or deleted."""
    copies: int = Field(default=3, ge=1)
    """How many copies of each store there are, the store itself included."""
    media: int = Field(default=2, ge=1)
    """On how many kinds of media (disks, snapshots, objects, vaults, file systems, databases)."""
    object_lock: Literal["COMPLIANCE", "GOVERNANCE"] = "COMPLIANCE"
    """The weakest lock that counts: with `GOVERNANCE` whoever has the right to may take it off."""
    of_tag: str = "backup-of"
    """The tag or label of a copy that names what it is a copy of: a residency zone, a region, or a store's name
    (several parted by spaces or `_`)."""
    interval_tag: str = "backup-interval-minutes"
    """The tag or label of such a copy that says how old it may get, in whole minutes; 0: it follows at once."""


class Dns(Model):
    """Mail in the DNS."""

    checked_ttl: int = Field(default=60, ge=1)
    """The longest TTL of a health-checked set, in seconds."""
    spf_lookups: int = Field(default=10, ge=1, le=10)
    """The most look-ups that an SPF record may cost (RFC 7208 4.6.4)."""


class Exposure(Model):
    """What the world may reach."""

    role_ports: Mapping[str, frozenset[int]] = Field(
        default_factory=lambda: {
            # 443: its MTA-STS policy (RFC 8461 3.3).
            "mx": frozenset({25, 443}),
            "submission": frozenset({465, 587}),
            "imap": frozenset({993}),
            "pop3": frozenset({995}),
            "web": frozenset({443}),
        }
    )
    """The ports that each role may open to the world."""
    role_tag: str = "roles"
    """The tag or label that names a firewall's or a node's roles (several joined with `_` or a space). Firewalls of
    Google Cloud have no labels: there it begins the network tag, `roles-mx-web`."""
    widest_ipv4: int = Field(default=12, ge=1, le=32)
    """A source with more public IPv4 addresses than a network of this prefix length is the world."""
    widest_ipv6: int = Field(default=28, ge=1, le=128)
    """The same for IPv6."""
    admin_ports: frozenset[int] = frozenset(
        {22, 23, 135, 445, 2375, 2376, 3306, 3389, 5432, 5900, 5985, 5986, 6443}
    )
    """Never open to the world, whatever the role."""


class Traces(Model):
    """Logs and alarms."""

    retention_days: int = Field(default=365, ge=1)
    """How long audit and access logs are kept."""
    log_classes: frozenset[str] = frozenset({"logs"})
    """The data classes of logs: what has another one is no audit or access log."""


class Tags(Model):
    """The tags (labels on GCP) that the rules read."""

    zone: str = "residency-zone"
    """Names the residency zone."""
    data: str = "data-class"
    """Names the class of data that a store holds."""
    owner: str = "managed-by"
    """Names who answers for the resource."""


class Exception_(Model):  # noqa: N801 (the word is taken)
    """One accepted violation."""

    rule: str
    """The rule's id."""
    resource: str
    """A glob on `type::name`, the tail of the URN: `aws:s3/bucket:Bucket::logs-*`."""
    reason: str = Field(min_length=10)
    """Why it is accepted, in a sentence."""
    expires: date
    """The last day on which it holds."""


class RuleConfig(Model):
    """How one rule is applied."""

    level: Level = Level.MANDATORY
    """`off` rules are listed in the report."""


class Config(Model):
    """Everything that the rules ask for besides the resources."""

    zones: Mapping[str, Zone] = Field(default_factory=dict)
    """The residency zones by name; no country in two of them."""
    zone: str = ""
    """The zone of what has no zone tag; empty: such a store is a violation."""
    unknown: Literal["later", "violation"] = "later"
    """What `pulumi preview` makes of a value that is not known yet: a note, decided when the update knows it and before
    the resource is made; or a violation at once. A rule on the whole stack never waits."""
    tags: Tags = Tags()
    """The names of the tags."""
    tls: Tls = Tls()
    """TLS floors."""
    keys: Keys = Keys()
    """Keys."""
    backups: Backups = Backups()
    """Backups."""
    dns: Dns = Dns()
    """DNS."""
    exposure: Exposure = Exposure()
    """Exposure."""
    traces: Traces = Traces()
    """Logs."""
    rules: Mapping[str, RuleConfig] = Field(default_factory=dict)
    """Rules that are applied otherwise than as mandatory, by id."""
    exceptions: tuple[Exception_, ...] = ()
    """Accepted violations."""

    def level(self, rule: str) -> Level:
        """How a rule is applied."""
        found = self.rules.get(rule)
        return found.level if found else Level.MANDATORY


WHAT = "the policy pack's config"


def of_engine(data: Any) -> Any:
    """The document in what `pulumi --policy-pack-config` takes: `{"config": {…}, "<rule>": "advisory", …}`; a document
    that is not of this form as it is. What is wrong with it, `load` tells."""
    if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
        return data
    levels = {"disabled": Level.OFF, "advisory": Level.ADVISORY, "mandatory": Level.MANDATORY}
    chosen = {}
    for rule, level in data.items():
        if rule not in ("config", "all"):
            word = level.get("enforcementLevel") if isinstance(level, dict) else level
            chosen[rule] = {"level": levels.get(str(word), word)}
    return {**data["config"], "rules": {**data["config"].get("rules", {}), **chosen}}


def load(data: Any, rules: frozenset[str]) -> Config:
    """A config from a document; raises ConfigError with every problem found. `rules` are the ids that exist."""
    try:
        config = Config.model_validate(data if data is not None else {})
    except ValidationError as error:
        raise ConfigError(
            (
                Problem(_path(item["loc"]), _found(item["input"]), item["msg"])
                for item in error.errors(include_url=False)
            ),
            WHAT,
        ) from None
    if problems := [*_problems(config, rules)]:
        raise ConfigError(problems, WHAT)
    return config


def _problems(config: Config, rules: frozenset[str]) -> list[Problem]:
    problems: list[Problem] = []
    owner: dict[str, str] = {}
    for name, zone in config.zones.items():
        if bool(zone.countries) == zone.anywhere:
            found = ", ".join(sorted(zone.countries)) or "nothing"
            wanted = "nothing, since the zone is `anywhere`" if zone.anywhere else "at least one country"
            problems.append(Problem(f"zones.{name}.countries", found, wanted))
        problems += [
            Problem(f"zones.{name}.resources[{index}]", pattern, _PATTERN)
            for index, pattern in enumerate(zone.resources)
            if not _names_something(pattern)
        ]
        for country in sorted(zone.countries):
            if country in owner:
                problems.append(
                    Problem(
                        f"zones.{name}.countries", country, f"a country that is not in zone {owner[country]}"
                    )
                )
            owner[country] = name
        for region in sorted(zone.regions):
            place = PLACES.get(region)
            if place is None:
                problems.append(Problem(f"zones.{name}.regions", region, "a region of AWS or GCP"))
            elif place.country not in zone.countries:
                problems.append(
                    Problem(
                        f"zones.{name}.regions",
                        f"{region} in {place.country}",
                        "a region in the zone's countries",
                    )
                )
    if config.zone and config.zone not in config.zones:
        problems.append(Problem("zone", config.zone, _choice(config.zones)))
    problems += [Problem(f"rules.{rule}", rule, _choice(rules)) for rule in config.rules if rule not in rules]
    for index, item in enumerate(config.exceptions):
        path = f"exceptions[{index}]"
        if item.rule not in rules:
            problems.append(Problem(f"{path}.rule", item.rule, _choice(rules)))
        if not _names_something(item.resource):
            problems.append(Problem(f"{path}.resource", item.resource, _PATTERN))
    return problems


_PATTERN = "a pattern of `type::name` that names something"


def _names_something(pattern: str) -> bool:
    return "::" in pattern and pattern.replace("*", "").replace("?", "") not in {"", "::"}


def _choice(names: Any) -> str:
    return "one of " + ", ".join(sorted(names)) if names else "nothing (there are none)"


def _path(place: tuple[int | str, ...]) -> str:
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "(the document)"


def _found(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
