"""The proof as a table for people, or as JSON for machines."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mailinfra.probe.row import Measure, Row


def render(rows: Sequence[Row], console: Console) -> None:
    """Print the table, then why each claim that failed did."""
    table = Table("", "Claim", "Measured", "Limit", "Unit", header_style="bold", row_styles=("", "dim"))
    for row in rows:
        mark = "[green]✓[/green]" if row.ok else "[red]✗[/red]"
        table.add_row(mark, escape(row.claim), _text(row.measured), _text(row.limit), escape(row.unit))
    console.print(table)
    failed = [row for row in rows if not row.ok]
    for row in failed:
        console.print(
            f"[red]✗[/red] {escape(row.claim)} ({', '.join(row.requirements)}): {escape(row.detail)}"
        )
    console.print(f"{len(rows) - len(failed)} of {len(rows)} claims hold.")


def as_json(rows: Sequence[Row]) -> str:
    """`{"rows": […]}` in one document."""
    return json.dumps({"rows": [row.to_json() for row in rows]}, indent=1, ensure_ascii=False)


def _text(value: Measure) -> str:
    return escape(f"{value:g}" if isinstance(value, float) else str(value))
