"""The proof as a table for people, or as JSON for machines."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mailinfra.probe.row import Measure, Row


def render(rows: Sequence[Row], console: Console) -> None:
    """Print the table, then why each claim that failed did."""
    table = Table("", "Claim", "Measured", "Limit", "Unit", header_style="bold", row_styles=("", "dim"))
    for row in rows:
        table.add_row(_mark(row), *map(_text, (row.claim, row.measured, row.limit, row.unit)))
    console.print(table)
    failed = [row for row in rows if not row.ok]
    for row in failed:
        why = f" {row.claim} ({', '.join(row.requirements)}): {row.detail}"
        console.print(_mark(row) + Text(why), soft_wrap=True)
    console.print(f"{len(rows) - len(failed)} of {len(rows)} rows hold.")


def as_json(rows: Sequence[Row]) -> str:
    """`{"rows": […]}` in one document."""
    return json.dumps({"rows": [row.to_json() for row in rows]}, indent=1, ensure_ascii=False)


def _mark(row: Row) -> Text:
    return Text("✓", "green") if row.ok else Text("✗", "red")


def _text(value: Measure) -> Text:
    """A cell. Not as markup: an IPv6 address can look like the name of an emoji."""
    return Text(f"{value:g}" if isinstance(value, float) else str(value))
