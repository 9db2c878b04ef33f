"""What a run leaves on standard output: one JSON object, or a table and where everything lies."""

import json
from collections.abc import Mapping
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from flux_pipeline.cli.progress import Watch
from flux_pipeline.produce.report import Tally

_MOST_REASONS = 10


def summary_json(tallies: Mapping[str, Tally], total: Tally) -> str:
    """``{sets: {name: counts}, total: counts}`` on one line; USD rounded to a millionth."""
    return json.dumps(
        {"sets": {name: _counts(tally) for name, tally in tallies.items()}, "total": _counts(total)}
    )


def print_summary(watch: Watch, places: Mapping[str, str]) -> None:
    """The table, then why images are missing, then where the things that were made lie."""
    table = Table("prompt set", box=None, pad_edge=False)
    for heading in ("images", "new", "unchanged", "refused", "failed", "held", "USD"):
        table.add_column(heading, justify="right")
    total = watch.total
    for name, tally in sorted(watch.tallies.items()):
        table.add_row(name, *_cells(tally))
    if len(watch.tallies) > 1:
        table.add_row("total", *_cells(total), style="bold")
    console = Console()
    console.print(table)
    for reason, count in list(watch.reasons.items())[:_MOST_REASONS]:
        click.echo(f"{count} x {reason}")
    if len(watch.reasons) > _MOST_REASONS:
        click.echo(f"and {len(watch.reasons) - _MOST_REASONS} more reasons: see the lineage table")
    for notice in watch.notices[:_MOST_REASONS]:
        click.echo(f"note: {notice}")
    width = max(map(len, places)) + 2
    click.echo()
    for what, where in places.items():
        click.echo(f"{what:<{width}}{where}")


def _counts(tally: Tally) -> dict[str, int | float]:
    return asdict(tally) | {"usd": round(tally.usd, 6)}


def _cells(tally: Tally) -> list[str]:
    counts = (tally.stored, tally.unchanged, tally.refused, tally.failed, tally.held)
    return [str(tally.asked), *map(str, counts), f"{tally.usd:.4f}"]
