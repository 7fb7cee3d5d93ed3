"""An estimate: items, their sums, and what no estimate counts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from mailinfra.cost.usage import Load, Usage
from mailinfra.prices import Origin

GLOBAL = "global"
"""The region of what is in no region: DNS."""
PLACES = 9
"""Decimals of an item's USD."""

LEFT_OUT = (
    "taxes, support plans, and what the accounts are billed for beside this fleet",
    "every discount: free tiers, volume tiers, sustained and committed use, savings plans, spot",
    "domain registration, Cloudflare plans above the free one, anti-spam lists",
    "traffic between availability zones, and mail relayed between regions on its way in",
    "CPU credits of burstable machines above their baseline, and disk throughput above gp3's baseline",
    "older key material of rotated keys (AWS: 1 USD a month for each of the first two rotations)",
    "restores: what drills and readers of a vault pull out of it",
    "alarms (SNS, EventBridge, Cloud Monitoring): cents",
)
"""What no estimate counts."""


@dataclass(frozen=True)
class Item:
    """One line of an estimate: `quantity` units of a SKU in a month. `price` is USD for a unit, None where the price
    table has none for the region."""

    account: str
    region: str
    zone: str
    what: str
    sku: str
    quantity: Decimal
    unit: str
    price: Decimal | None
    origin: Origin
    standing: bool

    @property
    def monthly(self) -> Decimal:
        """USD in a month; 0 where there is no price, which makes the estimate incomplete. Rounded far below a cent, so
        that sums are exact and the same in every cut."""
        return round(self.quantity * (self.price or Decimal(0)), PLACES)

    @property
    def missing(self) -> str:
        """What has no price, in words; empty where there is one."""
        return f"no price for {self.sku} in {self.region}" if self.price is None and self.quantity else ""


@dataclass(frozen=True)
class Sum:
    """USD in a month, and how many of the items that it sums have no price."""

    standing: Decimal = Decimal(0)
    by_use: Decimal = Decimal(0)
    missing: int = 0

    @property
    def total(self) -> Decimal:
        """Standing and by use together."""
        return self.standing + self.by_use

    @property
    def complete(self) -> bool:
        """Whether every item has a price."""
        return not self.missing

    def plus(self, item: Item) -> "Sum":
        """With one more item."""
        return Sum(
            self.standing + (item.monthly if item.standing else 0),
            self.by_use + (0 if item.standing else item.monthly),
            self.missing + bool(item.missing),
        )


@dataclass(frozen=True)
class Estimate:
    """What a fleet costs in a month."""

    name: str
    nodes: int
    usage: Usage
    loads: Mapping[str, Load]
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()

    @property
    def sum(self) -> Sum:
        """All of it."""
        return _sum(self.items)

    @property
    def mailboxes(self) -> int:
        """Mailboxes that are counted with."""
        return round(sum((load.mailboxes for load in self.loads.values()), Decimal(0)))

    @property
    def missing(self) -> tuple[str, ...]:
        """What has no price."""
        return tuple(dict.fromkeys(item.missing for item in self.items if item.missing))

    def by(self, key: Callable[[Item], str]) -> dict[str, Sum]:
        """The sums of the items with the same key, in order of their appearance."""
        cut: dict[str, list[Item]] = {}
        for item in self.items:
            cut.setdefault(key(item), []).append(item)
        return {name: _sum(items) for name, items in cut.items()}


def _sum(items: Iterable[Item]) -> Sum:
    total = Sum()
    for item in items:
        total = total.plus(item)
    return total
