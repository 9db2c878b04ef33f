"""What was spent, as files in the store: a page with plot and tables, and a CSV for spreadsheets.

The page is whole in itself. It has no script, and its policy lets nothing in but its own style
sheet: names in it come from files that others wrote.
"""

import base64
import csv
import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from io import StringIO
from typing import Any

import pyarrow as pa

from flux_pipeline.lineage.spend_plot import DAYS, spend_svg
from flux_pipeline.lineage.spending import SPEND_SCHEMA, group_spending, total
from flux_pipeline.store.base import Store, StoredObject
from flux_pipeline.text import count_noun

CSV_KEY = "spend/by-day.csv"
PAGE_KEY = "spend/index.html"
MOST_ROWS = 1_000
"""Rows that the page shows, the newest; the CSV has all."""
_HEADINGS = {"prompt_set": "prompt set", "usd": "USD"}


def write_spending(store: Store, table: pa.Table, *, now: datetime) -> StoredObject:
    """Write CSV_KEY and PAGE_KEY from the rows of ``spending``; return the CSV. Raises StoreError.

    USD are rounded to a millionth, seconds to a thousandth.
    """
    page = build_page(table, store_uri=store.uri, now=now).encode()
    store.put(PAGE_KEY, page, content_type="text/html; charset=utf-8")
    return store.put(CSV_KEY, build_csv(table).encode(), content_type="text/csv")


def build_csv(table: pa.Table) -> str:
    """All rows, oldest day first, under the names of their columns."""
    out = StringIO()
    writer = csv.DictWriter(out, SPEND_SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    for row in table.to_pylist():
        rounded = {"usd": round(row["usd"], 6), "seconds": round(row["seconds"], 3)}
        writer.writerow({**row, **rounded})
    return out.getvalue()


def build_page(table: pa.Table, *, store_uri: str, now: datetime) -> str:
    """Build the page: totals, the plot, a table by prompt set and model, and the newest days'."""
    sums = total(table)
    facts = [
        f"{sums['usd']:,.4f} USD, estimated",
        count_noun(int(sums["predictions"]), "prediction"),
        count_noun(int(sums["images"]), "image"),
        f"{sums['refused']:,} refused",
        f"{sums['failed']:,} failed",
        f"{sums['seconds']:,.1f} s of prediction",
    ]
    newest = table.slice(max(len(table) - MOST_ROWS, 0)).to_pylist()[::-1]
    note = f" (the newest {MOST_ROWS:,}; by-day.csv has all)" if len(table) > MOST_ROWS else ""
    sections = [
        f"<figure>{svg}<figcaption>USD a day (UTC) by prompt set, at most the newest {DAYS} days."
        "</figcaption></figure>"
        if (svg := spend_svg(table))
        else "<p>Nothing was spent yet.</p>",
        *(
            _section(f"By {what}", group_spending(table, by).to_pylist(), [column])
            for what, by, column in _GROUPS
            if len(table)
        ),
        _section(f"By day{note}", newest, ["day", "prompt_set", "model"]) if newest else "",
    ]
    return _PAGE.format(
        policy=_POLICY,
        style=_STYLE,
        facts=" · ".join(facts),
        about=f"As of {now:%Y-%m-%d %H:%M} UTC, from the lineage table in {escape(store_uri)}.",
        sections="\n".join(sections),
    )


_GROUPS: Sequence[tuple[str, Any, str]] = (
    ("prompt set", "set", "prompt_set"),
    ("model", "model", "model"),
)
_FORMATS = {"usd": "{:,.4f}", "seconds": "{:,.1f}"}


def _section(title: str, rows: Iterable[dict[str, Any]], keys: Sequence[str]) -> str:
    columns = [*keys, *SPEND_SCHEMA.names[3:]]
    heads = "".join(
        f'<th scope="col"{"" if name in keys else _RIGHT}>{_HEADINGS.get(name, name)}</th>'
        for name in columns
    )
    body = "\n".join(
        "<tr>" + "".join(_cell(row[name], name, name in keys) for name in columns) + "</tr>"
        for row in rows
    )
    return (
        f"<section><h2>{title}</h2>\n<div><table><thead><tr>{heads}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _cell(value: Any, name: str, is_key: bool) -> str:  # noqa: FBT001  positional in a template
    if is_key:
        return f"<td>{'unknown' if value is None else escape(str(value))}</td>"
    return f"<td{_RIGHT}>{_FORMATS.get(name, '{:,}').format(value)}</td>"


_RIGHT = ' class="n"'
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
figure { margin: 1.5rem 0; max-width: 60rem; } svg { width: 100%; height: auto; }
svg text { font-family: system-ui, sans-serif; } figcaption, p { opacity: .8; margin: .25rem 0; }
div { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #8884; }
th { white-space: nowrap; } .n { text-align: right; } td:first-child { white-space: nowrap; }
"""
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Spend</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>Spend</h1>
<p>{facts}</p>
<p>{about}</p>
{sections}
</main>
</body>
</html>
"""
