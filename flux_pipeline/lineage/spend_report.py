"""Writes what was spent to the store: an HTML page with plot and tables, and a CSV.

The page is one file without a script. Its Content-Security-Policy allows its own style sheet alone,
because the names in it come from prompt sets that others wrote.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from typing import Any

import pyarrow as pa

from flux_pipeline.html import csp_hash, read_text, render_template
from flux_pipeline.lineage.spend import SPEND_SCHEMA, SUMS, group_spending, total
from flux_pipeline.lineage.spend_plot import DAYS, spend_svg
from flux_pipeline.store.base import Store, StoredObject
from flux_pipeline.text import count_noun

CSV_KEY = "spend/by-day.csv"
PAGE_KEY = "spend/index.html"
MOST_ROWS = 1_000
"""Rows that the page shows, the newest; the CSV has all."""

_PACKAGE = "flux_pipeline.lineage"
_HEADINGS = {"prompt_set": "prompt set", "usd": "USD", "measured_usd": "measured USD"}
_FORMATS = {"usd": "{:,.4f}", "measured_usd": "{:,.4f}", "seconds": "{:,.1f}"}


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the page, as texts."""

    title: str
    keys: Sequence[str]
    """The headings of the first columns; those of the sums follow."""
    rows: Sequence[tuple[Sequence[str], Sequence[str]]]


def write_spending(
    store: Store, table: pa.Table, *, now: datetime, emulated: bool = False
) -> StoredObject:
    """Write CSV_KEY and PAGE_KEY from the rows of ``spending``; return the CSV. Raises StoreError.

    USD are rounded to a millionth, seconds to a thousandth.
    """
    page = build_page(table, store_uri=store.uri, now=now, emulated=emulated).encode()
    store.put(PAGE_KEY, page, content_type="text/html; charset=utf-8")
    return store.put(CSV_KEY, build_csv(table).encode(), content_type="text/csv")


def build_page(table: pa.Table, *, store_uri: str, now: datetime, emulated: bool = False) -> str:
    """Build the page: totals, the plot, a table by prompt set and model, and the newest days'."""
    style = read_text(_PACKAGE, "spend_report.css")
    return render_template(
        _PACKAGE,
        "spend_report.html.jinja",
        policy="default-src 'none'; base-uri 'none'; form-action 'none'; style-src "
        + csp_hash(style),
        style=style,
        facts=_facts(total(table), emulated=emulated),
        now=now,
        store_uri=store_uri,
        plot=spend_svg(table),
        days=DAYS,
        sums=[_HEADINGS.get(name, name) for name in SUMS],
        tables=_tables(table) if len(table) else [],
    )


def _facts(sums: Mapping[str, int | float], *, emulated: bool) -> Sequence[str]:
    note = " (emulated: no money)" if emulated else ""
    return [
        f"{sums['usd']:,.4f} USD{note}, estimated",
        count_noun(int(sums["predictions"]), "prediction"),
        count_noun(int(sums["images"]), "image"),
        f"{sums['refused']:,} refused",
        f"{sums['failed']:,} failed",
        f"{sums['seconds']:,.1f} s of prediction",
    ]


def _tables(table: pa.Table) -> Sequence[_Table]:
    newest = table.slice(max(len(table) - MOST_ROWS, 0)).to_pylist()[::-1]
    note = f" (the newest {MOST_ROWS:,}; by-day.csv has all)" if len(table) > MOST_ROWS else ""
    return [
        _table("By prompt set", group_spending(table, "set").to_pylist(), ["prompt_set"]),
        _table("By model", group_spending(table, "model").to_pylist(), ["model"]),
        _table(f"By day{note}", newest, ["day", "prompt_set", "model"]),
    ]


def _table(title: str, rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> _Table:
    cells = [
        (
            ["unknown" if row[key] is None else str(row[key]) for key in keys],
            [_FORMATS.get(name, "{:,}").format(row[name]) for name in SUMS],
        )
        for row in rows
    ]
    return _Table(title, [_HEADINGS.get(key, key) for key in keys], cells)


def build_csv(table: pa.Table) -> str:
    """All rows, oldest day first, under the names of their columns."""
    out = StringIO()
    writer = csv.DictWriter(out, SPEND_SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    for row in table.to_pylist():
        rounded = {
            "usd": round(row["usd"], 6),
            "measured_usd": round(row["measured_usd"], 6),
            "seconds": round(row["seconds"], 3),
        }
        writer.writerow({**row, **rounded})
    return out.getvalue()
