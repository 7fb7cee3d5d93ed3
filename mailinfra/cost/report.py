"""Estimates as text, JSON and CSV."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mailinfra.cost.bill import LEFT_OUT, Estimate, Item, Sum
from mailinfra.prices import AS_OF, HOURS, Origin

CSV_COLUMNS = (
    "stack",
    "account",
    "region",
    "zone",
    "what",
    "sku",
    "quantity",
    "unit",
    "usd_per_unit",
    "origin",
    "kind",
    "usd_a_month",
)


def as_json(estimates: Sequence[Estimate]) -> str:
    """The estimates with every item and every cut. Sums are USD a month; a sum that is not `complete` has items without
    a price in it, which count as 0."""
    document = {
        "as_of": AS_OF.isoformat(),
        "currency": "USD",
        "hours_a_month": HOURS,
        "left_out": list(LEFT_OUT),
        "stacks": [_stack(found) for found in estimates],
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def as_csv(estimates: Iterable[Estimate]) -> str:
    """Every item, a line each; where there is no price, its two columns are empty."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(CSV_COLUMNS)
    for found in estimates:
        for item in found.items:
            priced = item.price is not None
            lines.writerow(
                [
                    found.name,
                    item.account,
                    item.region,
                    item.zone,
                    item.what,
                    item.sku,
                    _number(item.quantity),
                    item.unit,
                    _number(item.price) if item.price is not None else "",
                    item.origin.value if priced else "",
                    _kind(item),
                    _number(item.monthly) if priced else "",
                ]
            )
    return text.getvalue()


def show(estimates: Sequence[Estimate], console: Console, *, items: bool = False) -> None:
    """Print the estimates: each by region and by account, on demand with every item, then side by side."""
    for found in estimates:
        console.print(_by_region(found))
        console.print(_by_account(found))
        if items:
            console.print(_all_items(found))
        for note in (*found.notes, *found.missing):
            console.print(f"[yellow]![/yellow] {escape(note)}")
        console.print()
    if len(estimates) > 1:
        console.print(_side_by_side(estimates))
        console.print()
    everything = sum((found.sum.total for found in estimates), Decimal(0))
    origins = ", ".join(
        f"{_part(amount, everything)} {origin.value}"
        for origin in Origin
        if (amount := sum((_of(found, origin) for found in estimates), Decimal(0)))
    )
    console.print(
        f"USD a month ({HOURS} hours), list prices as of {AS_OF} (where the numbers come from: {origins}; see "
        "docs/cost.md). Standing: also when no mail comes."
    )
    console.print(f"Not counted: {escape('; '.join(LEFT_OUT))}.")


def _by_region(found: Estimate) -> Table:
    size = f"{found.nodes:,} nodes, {found.mailboxes:,} mailboxes"
    table = _table(f"{escape(found.name)}: {size}", "region", "zone", "account")
    zones: dict[str, list[str]] = {}
    for item in found.items:
        if item.zone not in zones.setdefault(_place(item), []):
            zones[_place(item)].append(item.zone)
    for place, total in found.by(_place).items():
        region, account = place.split("\t")
        table.add_row(region, ", ".join(filter(None, zones[place])), escape(account), *_cells(total))
    table.add_section()
    table.add_row("all", "", "", *_cells(found.sum), style="bold")
    return table


def _place(item: Item) -> str:
    return f"{item.region}\t{item.account}"


def _by_account(found: Estimate) -> Table:
    table = _table("", "account")
    for account, total in found.by(lambda item: item.account).items():
        table.add_row(escape(account), *_cells(total))
    return table


def _all_items(found: Estimate) -> Table:
    table = _table("", "region", "what", "SKU", "quantity", "USD a unit", sums=("USD a month",))
    for item in found.items:
        price = "no price" if item.price is None else f"{item.price.normalize():f}"
        table.add_row(
            item.region,
            escape(item.what),
            item.sku,
            f"{item.quantity:,.1f} {item.unit}",
            price,
            "?" if item.price is None else _usd(item.monthly),
        )
    return table


def _side_by_side(estimates: Sequence[Estimate]) -> Table:
    table = _table("side by side", "stack", "nodes", "mailboxes")
    for found in estimates:
        table.add_row(escape(found.name), f"{found.nodes:,}", f"{found.mailboxes:,}", *_cells(found.sum))
    return table


def _table(title: str, *columns: str, sums: Sequence[str] = ("standing", "by use", "USD a month")) -> Table:
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column)
    for column in sums:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(total: Sum) -> tuple[str, str, str]:
    more = "" if total.complete else " + ?"
    return _usd(total.standing), _usd(total.by_use), _usd(total.total) + more


def _usd(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def _part(amount: Decimal, whole: Decimal) -> str:
    return f"{amount / whole:.0%}" if whole else "nothing"


def _of(found: Estimate, origin: Origin) -> Decimal:
    return sum((item.monthly for item in found.items if item.origin is origin), Decimal(0))


def _stack(found: Estimate) -> dict[str, Any]:
    return {
        "stack": found.name,
        "nodes": found.nodes,
        "mailboxes": found.mailboxes,
        "usage": {name: _plain(value) for name, value in found.usage},
        **_sums(found.sum),
        "missing": list(found.missing),
        "notes": list(found.notes),
        "accounts": _cut(found.by(lambda item: item.account), "account"),
        "regions": _cut(found.by(lambda item: item.region), "region"),
        "zones": _cut(found.by(lambda item: item.zone), "zone"),
        "origins": _cut(found.by(lambda item: item.origin.value), "origin"),
        "items": [
            {
                "account": item.account,
                "region": item.region,
                "zone": item.zone,
                "what": item.what,
                "sku": item.sku,
                "quantity": float(item.quantity),
                "unit": item.unit,
                "usd_per_unit": None if item.price is None else float(item.price),
                "origin": item.origin.value,
                "kind": _kind(item),
                "usd_a_month": None if item.price is None else float(item.monthly),
            }
            for item in found.items
        ],
    }


def _cut(cut: dict[str, Sum], name: str) -> list[dict[str, Any]]:
    return [{name: key, **_sums(total)} for key, total in cut.items()]


def _sums(total: Sum) -> dict[str, Any]:
    return {
        "standing": float(total.standing),
        "by_use": float(total.by_use),
        "total": float(total.total),
        "complete": total.complete,
    }


def _plain(value: Decimal | int | None) -> float | int | None:
    return float(value) if isinstance(value, Decimal) else value


def _kind(item: Item) -> str:
    return "standing" if item.standing else "by use"


def _number(value: Decimal) -> str:
    return f"{round(value, 6).normalize():f}"
