"""`flux-pipeline spend`: adds up what was paid by day, prompt set or model."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from flux_pipeline.cli.workspace import read_settings, sets_argument
from flux_pipeline.text import usd_heading

if TYPE_CHECKING:
    import pyarrow as pa

    from flux_pipeline.lineage.spend import By

_MOST_DAYS = 31
"""Rows of the table, the newest days; --json has all."""
_DATE = click.DateTime(["%Y-%m-%d"])


@click.command()
@sets_argument
@click.option(
    "--by",
    type=click.Choice(["day", "set", "model"]),
    default="day",
    show_default=True,
    help="What a row stands for.",
)
@click.option("--since", type=_DATE, metavar="DATE", help="From this day on, UTC.")
@click.option("--until", type=_DATE, metavar="DATE", help="Up to this day and with it, UTC.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no table.")
def spend(
    sets: tuple[str, ...],
    by: "By",
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """Add up predictions, images, cost and time, from the lineage table as it is now.

    USD are estimates from the models' price tables. What was sent again after it had failed counts
    once; a budget counts every attempt.
    """
    from flux_pipeline.lineage.query import is_emulated, open_snapshot
    from flux_pipeline.lineage.spend import group_spending, select_spending, spending, total
    from flux_pipeline.store.open import open_store

    settings = read_settings(None)
    snapshot = open_snapshot(open_store(settings.store, settings.store_options))
    everything, emulated = spending(snapshot), is_emulated(snapshot)
    known = sorted({str(name) for name in everything.column("prompt_set").to_pylist()})
    if missing := [name for name in sets if name not in known]:
        raise click.BadParameter(
            f"the lineage table has no prompt set {', '.join(missing)};"
            f" it has {', '.join(known) or 'none'}"
        )
    chosen = select_spending(
        everything,
        prompt_sets=sets,
        since=since.date() if since else None,
        until=until.date() if until else None,
    )
    grouped, sums = group_spending(chosen, by), total(chosen)
    if as_json:
        rows = [_rounded(row) for row in grouped.to_pylist()]
        printed = {"by": by, "rows": rows, "total": _rounded(sums), "emulated": emulated}
        click.echo(json.dumps(printed))
    else:
        _print_table(by, grouped, sums, emulated=emulated)


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {**row, "seconds": round(row["seconds"], 3)}
    found |= {name: round(row[name], 6) for name in ("usd", "measured_usd")}
    if found.get("day"):
        found["day"] = found["day"].isoformat()
    return found


def _print_table(
    by: str, grouped: "pa.Table", sums: Mapping[str, int | float], *, emulated: bool
) -> None:
    from rich.table import Table

    from flux_pipeline.cli import tables

    rows = grouped.to_pylist()
    left_out = max(len(rows) - _MOST_DAYS, 0) if by == "day" else 0
    table = Table({"set": "prompt set"}.get(by, by), box=None, pad_edge=False)
    usd = usd_heading(emulated=emulated)
    for heading in ("predictions", "images", "refused", "failed", usd, "measured", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    key = grouped.column_names[0]
    for row in rows[left_out:]:
        table.add_row("unknown" if row[key] is None else str(row[key]), *_cells(row))
    if len(rows) != 1:
        table.add_row("total", *_cells(sums), style="bold")
    tables.print_table(table)
    if left_out:
        click.echo(f"and {left_out} days before; the total has them, and --json")


def _cells(row: Mapping[str, Any]) -> list[str]:
    counts = (row["predictions"], row["images"], row["refused"], row["failed"])
    money = (row["usd"], row["measured_usd"])
    return [
        *(f"{count:,}" for count in counts),
        *(f"{usd:.4f}" for usd in money),
        f"{row['seconds']:,.1f}",
    ]
