"""What a fleet's components are charged for: the items of an estimate, part by part."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from mailinfra.cost.bill import GLOBAL, Estimate, Item
from mailinfra.cost.usage import KIB_IN_GIB, Load, Usage, loads, notes
from mailinfra.fleet import Cloud, KeyStage, ParentProvider, Role, SteeringProvider
from mailinfra.node.backup.vault import GENERATION_DAYS
from mailinfra.plan import FleetPlan, GroupPlan, RegionPlan
from mailinfra.prices import DAYS, HOURS, PRICES, Prices

MIB_IN_GIB = 1024
POLL_SECONDS = 10
"""Seconds between two looks of a node's agent at its control bucket (`mailinfra.node.agent.__main__.INTERVAL`)."""
ACCOUNT_ROLES = frozenset({Role.SUBMISSION, Role.IMAP, Role.POP3, Role.MAILBOX})
"""Roles whose agent looks at accounts too (`mailinfra.node.agent.directory.Directory`)."""
METRICS = 7
"""Metrics that EC2's detailed monitoring is charged as, for each instance (CloudWatch pricing)."""
PACK_MIB = 16
"""A restic repository's pack size, so its objects' size (restic's default)."""
OBJECTS_A_RUN = 4
"""Objects that a run into the repository writes besides packs: index, snapshot, lock."""
PASSES = Decimal(HOURS * 3600) / POLL_SECONDS
"""Looks of a node's agent at its control bucket in a month."""
MILLION = Decimal(10**6)


def estimate(
    whole: FleetPlan, usage: Usage | None = None, prices: Prices = PRICES, name: str = ""
) -> Estimate:
    """What a planned fleet costs in a month."""
    usage = usage or Usage()
    shares = loads(whole, usage)
    bill = _Bill(whole, usage, prices, shares)
    items = tuple(item for part in _PARTS for item in part(bill) if item.quantity)
    found = tuple(notes(whole, shares))
    return Estimate(name or whole.fleet.name, len(whole.nodes), usage, shares, items, found)


@dataclass(frozen=True)
class _Bill:
    """What the parts of an estimate are made from."""

    whole: FleetPlan
    usage: Usage
    prices: Prices
    loads: Mapping[str, Load]

    def account(self, cloud: Cloud) -> str:
        """How an account is called."""
        if cloud is Cloud.AWS:
            return "AWS"
        return f"Google Cloud {self.whole.fleet.clouds.gcp.project}".rstrip()

    def item(
        self,
        cloud: Cloud,
        region: str,
        zone: str,
        what: str,
        sku: str,
        quantity: Decimal | int,
        *,
        standing: bool = False,
        account: str = "",
    ) -> Item:
        """An item; KeyError for a SKU that the table has not, which is a defect."""
        known = self.prices[sku]
        return Item(
            account or self.account(cloud),
            region,
            zone,
            what,
            sku,
            Decimal(quantity),
            known.unit,
            known.at(region),
            known.origin,
            standing,
        )

    def in_region(
        self, region: RegionPlan, what: str, sku: str, quantity: Decimal | int, *, standing: bool = False
    ) -> Item:
        """An item of one of the fleet's regions; its cloud's name is put before the SKU's."""
        return self.item(
            region.cloud, region.name, region.zone, what, f"{region.cloud}.{sku}", quantity, standing=standing
        )

    def way(self, origin: Cloud, target: Cloud) -> str:
        """The SKU, without its cloud, of traffic between regions of these clouds: within one, or over the internet."""
        return "regions" if origin is target else "internet"


def _machines(bill: _Bill) -> Iterator[Item]:
    disk = {Cloud.AWS: "gp3", Cloud.GCP: "pd-balanced"}
    for region in bill.whole.regions:
        for group in region.groups:
            count = len(group.nodes)
            label = f"{group.name}: {count} × {group.machine_type}"
            yield bill.in_region(region, label, group.machine_type, count * HOURS, standing=True)
            yield bill.in_region(
                region,
                f"{group.name}: system disks",
                disk[region.cloud],
                count * group.disk_gib,
                standing=True,
            )
            yield bill.in_region(
                region,
                f"{group.name}: mail volumes",
                disk[region.cloud],
                count * group.data_gib,
                standing=True,
            )
        nodes = len(region.nodes)
        yield bill.in_region(region, "public IPv4 addresses", "ipv4", nodes * HOURS, standing=True)
        if region.cloud is Cloud.AWS:
            yield bill.in_region(region, "detailed monitoring", "metric", nodes * METRICS, standing=True)


def _keys(bill: _Bill) -> Iterator[Item]:
    """Keys at rest (and on AWS one of the traces), of the authority, and for DKIM; signatures under the last."""
    fleet = bill.whole.fleet
    rsa = "kms.rsa-2048" if fleet.dkim.bits == 2048 else "kms.asymmetric"
    for region in bill.whole.regions:
        dkim = [key for key in bill.whole.dkim_keys if key.region == region.name]
        if region.cloud is Cloud.AWS:
            yield bill.in_region(region, "KMS keys", "kms.key", 3 + len(dkim), standing=True)
        else:
            cheap = len(dkim) if fleet.dkim.bits == 2048 else 0
            yield bill.in_region(region, "HSM keys", "kms.key", 1 + cheap, standing=True)
            dear = 1 + len(dkim) - cheap
            yield bill.in_region(region, "HSM keys (EC, long RSA)", "kms.key.asymmetric", dear, standing=True)
    for region in _homes(bill, Role.SUBMISSION):
        if any(key.region == region.name and key.stage is KeyStage.SIGNING for key in bill.whole.dkim_keys):
            sent = _share(bill, region, Role.SUBMISSION, lambda load: load.sent)
            yield bill.in_region(region, "DKIM signatures", rsa, sent / 10_000)
            if region.cloud is Cloud.GCP:
                # There each signature makes a log entry that is charged; CloudTrail's first copy is free.
                gib = sent * bill.usage.event_kib / KIB_IN_GIB
                yield bill.in_region(region, "audit logs of DKIM signatures", "logs", gib)


def _homes(bill: _Bill, role: Role) -> list[RegionPlan]:
    return [region for region in bill.whole.regions if _has(region, role)]


def _has(region: RegionPlan, role: Role) -> bool:
    return any(role in group.roles and group.nodes for group in region.groups)


def _share(bill: _Bill, region: RegionPlan, role: Role, of: Callable[[Load], Decimal]) -> Decimal:
    """A region's part of a role's work in its zone: its own users', and an even part of those whose region has no such
    node."""
    zone = [other for other in bill.whole.regions if other.zone == region.zone]
    able = [other for other in zone if _has(other, role)]
    homeless = sum((of(bill.loads[other.name]) for other in zone if not _has(other, role)), Decimal(0))
    return of(bill.loads[region.name]) + homeless / len(able)


def _control(bill: _Bill) -> Iterator[Item]:
    """The nodes' polling of the control bucket. The bucket itself is some MiB."""
    for region in bill.whole.regions:
        gets, lists = _requests(region)
        name = "s3" if region.cloud is Cloud.AWS else "storage"
        yield bill.in_region(
            region, "control bucket: reads", f"{name}.get", gets * PASSES / 1000, standing=True
        )
        yield bill.in_region(
            region, "control bucket: lists", f"{name}.put", lists * PASSES / 1000, standing=True
        )


def _requests(region: RegionPlan) -> tuple[int, int]:
    """Objects that a region's nodes ask for, and lists that they make, each time they look."""

    def gets(group: GroupPlan) -> int:
        return 3 if ACCOUNT_ROLES & set(group.roles) else 2

    return (
        sum(gets(group) * len(group.nodes) for group in region.groups),
        sum(2 * len(group.nodes) for group in region.groups if group.is_issuer),
    )


def _traces(bill: _Bill) -> Iterator[Item]:
    """Flow logs and audit logs: their making, and their keeping once the bucket is as full as it gets."""
    usage, months = bill.usage, Decimal(bill.whole.fleet.traces.retention_days) / DAYS
    for region in bill.whole.regions:
        load, nodes = bill.loads[region.name], len(region.nodes)
        events = Decimal(sum(_requests(region))) * PASSES
        event_gib = events * usage.event_kib / KIB_IN_GIB
        mail_gib = (load.received + load.sent) * usage.log_kib_per_message / KIB_IN_GIB
        if region.cloud is Cloud.AWS:
            idle_gib = nodes * usage.flow_mib_per_node_day * DAYS / MIB_IN_GIB
            yield bill.in_region(
                region, "CloudTrail data events", "data-event", events / 100_000, standing=True
            )
            yield bill.in_region(region, "flow logs", "flow-logs", idle_gib, standing=True)
            yield bill.in_region(region, "flow logs of mail", "flow-logs", mail_gib)
            kept = (event_gib + idle_gib) * usage.archive_ratio * months
            yield bill.in_region(region, "traces kept", "s3", kept, standing=True)
            yield bill.in_region(region, "traces of mail kept", "s3", mail_gib * usage.archive_ratio * months)
        else:
            idle_gib = nodes * usage.gcp_log_mib_per_node_day * DAYS / MIB_IN_GIB
            yield bill.in_region(
                region, "audit, flow and firewall logs", "logs", idle_gib + event_gib, standing=True
            )
            yield bill.in_region(region, "flow logs of mail", "logs", mail_gib)
            yield bill.in_region(region, "traces kept", "storage", event_gib * months, standing=True)


def _copies(bill: _Bill) -> Iterator[Item]:
    """The copies of the mail: replicas, snapshots, vaults."""
    usage, backup = bill.usage, bill.whole.fleet.backup
    runs = Decimal(HOURS * 60) / backup.rpo_minutes
    for store in bill.whole.copies:
        region, load = bill.whole.region(store.region), bill.loads[store.region]
        changed = (load.new_gib + load.new_replica_gib) * usage.changed_per_mail / DAYS * backup.snapshot_days
        kept = load.own_gib + load.replica_gib + changed
        yield bill.in_region(region, "snapshots of mail volumes", "snapshot", kept)
        if store.replica:
            way = bill.way(region.cloud, bill.whole.region(store.replica).cloud)
            yield bill.in_region(region, f"replica to {store.replica}", way, load.new_gib)
        if store.vault is None:
            continue
        cloud, place = store.vault.cloud, store.vault.region
        what, name = f"vault of {store.region}", "s3" if cloud is Cloud.AWS else "storage"
        nodes = sum(len(group.nodes) for group in region.groups if Role.MAILBOX in group.roles)
        # Each generation begins with a whole copy and lives until the lock of what came last into it has run out.
        written = (load.own_gib * DAYS / GENERATION_DAYS + load.new_gib) * usage.repository_ratio
        generations = Decimal(GENERATION_DAYS + backup.retention_days) / GENERATION_DAYS
        stored = load.own_gib * usage.repository_ratio * generations
        yield bill.in_region(region, f"to the vault in {place}", bill.way(region.cloud, cloud), written)
        vault = (cloud, place, store.zone)
        yield bill.item(*vault, f"{what}: repositories", f"{cloud}.{name}", stored)
        packs = written * MIB_IN_GIB / PACK_MIB
        yield bill.item(*vault, f"{what}: writes of packs", f"{cloud}.{name}.put", packs / 1000)
        marks = runs * OBJECTS_A_RUN * nodes
        yield bill.item(*vault, f"{what}: writes of runs", f"{cloud}.{name}.put", marks / 1000, standing=True)
        yield bill.item(*vault, f"{what}: key", f"{cloud}.kms.key", 1, standing=True)


def _traffic(bill: _Bill) -> Iterator[Item]:
    """Mail on its way out: to the internet, and before that to a region from which it may leave; to its readers."""
    kib = bill.usage.message_kib / KIB_IN_GIB
    for region in bill.whole.regions:
        load = bill.loads[region.name]
        read = load.received * bill.usage.reads_per_message * kib
        yield bill.in_region(region, "mail to its readers", "internet", read)
        exits = [other for other in _homes(bill, Role.EGRESS) if other.zone == region.zone]
        if region in exits:
            sent = _share(bill, region, Role.EGRESS, lambda load: load.sent) * kib
            yield bill.in_region(region, "mail to the internet", "internet", sent)
        elif exits:
            way = bill.way(region.cloud, exits[0].cloud)
            yield bill.in_region(region, "mail to the egress nodes", way, load.sent * kib)


def _dns(bill: _Bill) -> Iterator[Item]:
    """Zones, the keys that sign them, health checks, queries."""
    fleet, loads = bill.whole.fleet, bill.loads.values()
    received = sum((load.received for load in loads), Decimal(0)) * bill.usage.queries_per_message
    sent = sum((load.sent for load in loads), Decimal(0)) * bill.usage.queries_per_message
    own = [domain for domain in fleet.domains if domain not in fleet.dns.parent.existing]
    provider = fleet.dns.parent.provider
    if provider is ParentProvider.CLOUDFLARE:
        yield _global(bill, None, "parent zones", "cloudflare.zone", len(own), standing=True)
    elif provider is ParentProvider.ROUTE53:
        yield _global(bill, Cloud.AWS, "parent zones", "route53.zone", len(own), standing=True)
        yield _global(
            bill,
            Cloud.AWS,
            "queries to parent zones",
            "route53.queries.weighted",
            (received + sent) / MILLION,
        )
        yield _ksk(bill, len(own))
    else:
        yield _global(bill, Cloud.GCP, "parent zones", "clouddns.zone", len(own), standing=True)
        yield _query_logs(bill, "parent zones", received + sent)
        yield _global(
            bill, Cloud.GCP, "queries to parent zones", "clouddns.queries", (received + sent) / MILLION
        )
    for item in bill.whole.steering:
        queries = received / len(bill.whole.steering) / MILLION
        if item.provider is SteeringProvider.ROUTE53:
            yield _global(bill, Cloud.AWS, f"zone {item.zone}", "route53.zone", 1, standing=True)
            yield _ksk(bill, 1)
            yield _global(
                bill, Cloud.AWS, f"queries to {item.zone}", f"route53.queries.{fleet.mx.policy}", queries
            )
        else:
            yield _global(bill, Cloud.GCP, f"zone {item.zone}", "clouddns.zone", 1, standing=True)
            routed = "clouddns.queries.routed"
            yield _global(bill, Cloud.GCP, f"queries to {item.zone}", routed, queries)
            yield _query_logs(bill, item.zone, queries * MILLION)
            checked = {
                (host, one.type) for one in item.clouddns for entry in one.items for host in entry.hosts
            }
            yield _global(
                bill,
                Cloud.GCP,
                f"health checks of {item.zone}",
                "clouddns.check",
                len(checked),
                standing=True,
            )
    yield from _route53_checks(bill)


def _route53_checks(bill: _Bill) -> Iterator[Item]:
    clouds = {node.fqdn: bill.whole.region(node.region).cloud for node in bill.whole.nodes}
    for item in bill.whole.steering:
        for cloud, kind in ((Cloud.AWS, "aws"), (Cloud.GCP, "other")):
            for fast, sku in ((True, "fast-check"), (False, "check")):
                count = sum(
                    clouds[probe.host] is cloud and (probe.interval_seconds < 30) is fast
                    for probe in item.probes
                )
                what = f"health checks of {item.zone}, {'AWS' if cloud is Cloud.AWS else 'other'} addresses"
                yield _global(bill, Cloud.AWS, what, f"route53.{sku}.{kind}", count, standing=True)


def _query_logs(bill: _Bill, zone: str, queries: Decimal) -> Item:
    """Cloud DNS logs each query."""
    gib = queries * bill.usage.event_kib / KIB_IN_GIB
    return _global(bill, Cloud.GCP, f"query logs of {zone}", "gcp.logs", gib)


def _ksk(bill: _Bill, zones: int) -> Item:
    """The keys under which Route 53 signs zones: in us-east-1, as it demands."""
    count = zones if bill.whole.fleet.dns.dnssec else 0
    return bill.item(Cloud.AWS, "us-east-1", "", "DNSSEC keys", "aws.kms.key", count, standing=True)


def _global(
    bill: _Bill, cloud: Cloud | None, what: str, sku: str, quantity: Decimal | int, *, standing: bool = False
) -> Item:
    account = "" if cloud else "Cloudflare"
    return bill.item(cloud or Cloud.AWS, GLOBAL, "", what, sku, quantity, standing=standing, account=account)


_PARTS: tuple[Callable[[_Bill], Iterator[Item]], ...] = (
    _machines,
    _keys,
    _control,
    _traces,
    _copies,
    _traffic,
    _dns,
)
