"""What is assumed of a fleet's use, and each region's share of it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, ValidationError

from mailinfra.errors import ConfigError
from mailinfra.fleet import Model
from mailinfra.plan import FleetPlan, RegionPlan
from mailinfra.prices import DAYS
from mailinfra.wording import Words, problem

KIB_IN_GIB = 1024**2

Number = Annotated[Decimal, Field(ge=0, le=10**9), Words("a number")]
Part = Annotated[Decimal, Field(ge=0, le=1), Words("a number")]
Count = Annotated[int | None, Field(ge=0, le=10**9)]


class Usage(Model):
    """What is assumed of a fleet's use. A month has 30.4 days."""

    mailboxes: Count = None
    """Mailboxes in the whole fleet, spread over the regions by the size of their mail volumes. None: as many as the
    volumes hold (see `fill`)."""
    mailbox_gib: Number = Decimal(2)
    """GiB of mail in a mailbox."""
    fill: Part = Decimal("0.5")
    """The part (0 to 1) of a mail volume in use where `mailboxes` is None; half of that is another region's replica in
    a zone that has replicas."""
    messages_per_day: Number = Decimal(60)
    """Messages that a mailbox receives in a day."""
    sends_per_day: Number = Decimal(20)
    """Messages that a mailbox sends to the internet in a day. Each is signed once."""
    message_kib: Number = Decimal(75)
    """KiB of a message, on average."""
    reads_per_message: Number = Decimal(2)
    """Clients that fetch each received message."""
    queries_per_message: Number = Decimal(4)
    """Questions to the steering zones for a received message, and to the parent zones for one received or sent."""
    changed_per_mail: Number = Decimal(3)
    """GiB of changed blocks in a mail volume for each GiB of new mail: indexes, moves, compaction. What hourly,
    incremental snapshots keep."""
    repository_ratio: Number = Decimal("0.7")
    """GiB in a repository for each GiB of mail, after compression and deduplication."""
    flow_mib_per_node_day: Number = Decimal(64)
    """MiB of flow logs of a node in a day without mail: health checks, polling, scans of the internet."""
    gcp_log_mib_per_node_day: Number = Decimal(128)
    """The same at Google Cloud, where a record is JSON and firewall rules log each connection too."""
    log_kib_per_message: Number = Decimal(4)
    """KiB of flow logs for a message received or sent."""
    event_kib: Number = Decimal("1.5")
    """KiB of an audit log's entry."""
    archive_ratio: Number = Decimal("0.1")
    """Bytes in the traces' bucket for each byte of log at AWS, which writes them compressed."""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Self:
        """The defaults, with some numbers given as text. ConfigError with every problem."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            raise ConfigError([problem(cls, item) for item in error.errors()], "the assumed use") from None


@dataclass(frozen=True)
class Load:
    """A region's share of the use in a month.

    GiB: its users' mail, other regions' mail that it follows, the new mail of each. Messages: its users'.
    """

    mailboxes: Decimal = Decimal(0)
    own_gib: Decimal = Decimal(0)
    replica_gib: Decimal = Decimal(0)
    new_gib: Decimal = Decimal(0)
    new_replica_gib: Decimal = Decimal(0)
    received: Decimal = Decimal(0)
    sent: Decimal = Decimal(0)


def volume(region: RegionPlan) -> Decimal:
    """GiB of a region's mail volumes."""
    return Decimal(sum(group.data_gib * len(group.nodes) for group in region.groups))


def loads(whole: FleetPlan, usage: Usage) -> dict[str, Load]:
    """Each region's share. Mailboxes are spread by the size of mail volumes; placement rules do not say how many users
    they fit."""
    volumes = {store.region: volume(whole.region(store.region)) for store in whole.copies}
    replicated = {store.zone for store in whole.copies if store.replica}
    all_of_it = sum(volumes.values(), Decimal(0))
    received, sent = usage.messages_per_day * DAYS, usage.sends_per_day * DAYS
    shares = {region.name: Load() for region in whole.regions}
    for store in whole.copies:
        if usage.mailboxes is not None:
            mailboxes = usage.mailboxes * volumes[store.region] / all_of_it
        elif usage.mailbox_gib:
            share = volumes[store.region] * usage.fill / (2 if store.zone in replicated else 1)
            mailboxes = Decimal(math.floor(share / usage.mailbox_gib))
        else:
            mailboxes = Decimal(0)
        shares[store.region] = Load(
            mailboxes=mailboxes,
            own_gib=mailboxes * usage.mailbox_gib,
            new_gib=mailboxes * received * usage.message_kib / KIB_IN_GIB,
            received=mailboxes * received,
            sent=mailboxes * sent,
        )
    for store in whole.copies:
        if store.replica:
            from_, to = shares[store.region], shares[store.replica]
            shares[store.replica] = replace(
                to,
                replica_gib=to.replica_gib + from_.own_gib,
                new_replica_gib=to.new_replica_gib + from_.new_gib,
            )
    return shares


def notes(whole: FleetPlan, shares: Mapping[str, Load]) -> Iterator[str]:
    """What is odd about the shares: mail that does not fit where it should lie."""
    for region in whole.regions:
        wanted, room = shares[region.name].own_gib + shares[region.name].replica_gib, volume(region)
        if wanted > room:
            yield f"{region.name}: {wanted:,.0f} GiB of mail do not fit its mail volumes of {room:,.0f} GiB"
