"""`make bench`: every figure as a ratio against a named reference, measured in this run on this machine.

`python -m bench [PART …]` runs only the parts named: planning, dkim, preview, path.
"""

import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PARTS = ("planning", "dkim", "preview", "policy", "check", "path")
RESULTS = Path(__file__).parent / "results.json"


def measured(parts: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of the parts, as they come."""
    for part in parts:
        started = time.monotonic()
        sys.stderr.write(f"{part} …\n")
        yield from importlib.import_module(f"bench.{part}").rows()
        sys.stderr.write(f"{part}: {time.monotonic() - started:.0f} s\n")


def holds(row: dict[str, Any]) -> bool:
    """Whether a row's ratio is within its limit; a row without a limit is for information."""
    if row["limit"] is None:
        return True
    return bool(row["ratio"] <= row["limit"] if row["better"] == "lower" else row["ratio"] >= row["limit"])


def main(arguments: list[str]) -> int:
    """Measure, print the table, write the results; 1 where a limit is not held, 2 for a part that there is not."""
    unknown = sorted(set(arguments) - set(PARTS))
    if unknown:
        sys.stderr.write(f"part: found {', '.join(unknown)}; allowed: {', '.join(PARTS)}\n")
        return 2
    rows = list(measured(arguments or list(PARTS)))
    table = Table("figure", "ours", "reference", "unit", "ratio", "limit", "")
    for row in rows:
        sign = "≤" if row["better"] == "lower" else "≥"
        limit = "" if row["limit"] is None else f"{sign} {row['limit']:g}"
        mark = "[green]✓[/green]" if holds(row) else "[red]✗[/red]"
        reference = "" if row["reference"] is None else f"{row['reference']:.4g}"
        table.add_row(
            row["name"], f"{row['ours']:.4g}", reference, row["unit"], f"{row['ratio']:.3g}", limit, mark
        )
    Console(width=None if sys.stdout.isatty() else 150, highlight=False).print(table)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(map(holds, rows)) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
