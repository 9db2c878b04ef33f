"""What was spent, as files in the store: a page with plot and tables, and a CSV for spreadsheets.

The page is whole in itself. It has no script, and its policy lets nothing in but its own style
sheet: names in it come from files that others wrote.
"""

import base64
import csv
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from html import escape
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from flux_pipeline.lineage.spend import SPEND_SCHEMA, group_spending, total
from flux_pipeline.store.base import Store, StoredObject
from flux_pipeline.text import count_noun

CSV_KEY = "spend/by-day.csv"
PAGE_KEY = "spend/index.html"
MOST_ROWS = 1_000
"""Rows that the page shows, the newest; the CSV has all."""
_HEADINGS = {"prompt_set": "prompt set", "usd": "USD"}

_GROUPS: Sequence[tuple[str, Any, str]] = (
    ("prompt set", "set", "prompt_set"),
    ("model", "model", "model"),
)

_FORMATS = {"usd": "{:,.4f}", "seconds": "{:,.1f}"}
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

DAYS = 60
"""The newest days that are drawn: more bars can't be told apart."""
_FEWEST_SLOTS = 7  # so that a single day is a bar and no wall
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
_OTHERS = "#909090"
_TEXT = "#010203"  # nothing else has this colour: in the SVG it becomes the page's own
_LONGEST_NAME = 24
_PER_LABEL = 8
Bars: TypeAlias = list[tuple[str, list[float]]]
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


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


if TYPE_CHECKING:
    from matplotlib.figure import Figure


def spend_svg(table: pa.Table) -> str:
    """The plot of ``spending`` as an SVG element, to be put into a page; empty without a cost.

    Text takes the page's colour and font, and nothing in it is styled inline, so that it is
    readable in light and dark and a strict policy lets it through.
    """
    figure = _figure(table)
    if figure is None:
        return ""
    import matplotlib as mpl  # noqa: PLC0415

    out = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "spend"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _bare(out.getvalue())


def spend_png(table: pa.Table) -> bytes:
    """The plot of ``spending`` as a small PNG on white; empty without a cost."""
    figure = _figure(table)
    if figure is None:
        return b""
    out = BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def _figure(table: pa.Table) -> "Figure | None":
    days, bars = _bars(table)
    if not bars:
        return None
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    slots = (days[-1] - days[0]).days + 1
    places = [(day - days[0]).days for day in days]
    bottom = [0.0] * len(days)
    for (_, heights), colour in zip(bars, (*_COLOURS, _OTHERS), strict=False):
        axes.bar(places, heights, bottom=bottom, width=0.8, color=colour)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    margin = max(_FEWEST_SLOTS - slots, 0) / 2
    axes.set_xlim(-0.6 - margin, slots - 0.4 + margin)
    axes.set_ylim(0, max(bottom) * 1.08)
    _label(axes, days[0], slots)
    axes.legend(
        labels=[_shown(name) for name, _ in bars],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.02),
        frameon=False,
        fontsize=9,
        labelcolor=_TEXT,
    )
    return figure


def _bars(table: pa.Table) -> tuple[list[date], Bars]:
    """The newest days with a cost, and for each set, the dearest first, its cost on each of them.

    Sets beyond the colours are one: "n others".
    """
    rows = [row for row in table.to_pylist() if row["day"] is not None and row["usd"] > 0]
    if not rows:
        return [], []
    oldest = max(row["day"] for row in rows) - timedelta(days=DAYS - 1)
    rows = [row for row in rows if row["day"] >= oldest]
    days = sorted({row["day"] for row in rows})
    costs: dict[str, dict[date, float]] = {}
    for row in rows:
        by_day = costs.setdefault(row["prompt_set"], dict.fromkeys(days, 0.0))
        by_day[row["day"]] += row["usd"]
    names = sorted(costs, key=lambda name: (-sum(costs[name].values()), name))
    most = len(_COLOURS) if len(names) > len(_COLOURS) + 1 else len(names)
    bars = [(name, list(costs[name].values())) for name in names[:most]]
    if rest := names[most:]:
        together = [sum(costs[name][day] for name in rest) for day in days]
        bars.append((f"{len(rest)} others", together))
    return days, bars


def _label(axes: Any, first: date, slots: int) -> None:
    """Name the axes: at most eight days, the year where one begins, USD without exponents."""
    step = max(1, -(-slots // _PER_LABEL))
    ticks = range(0, slots, step)
    days = [first + timedelta(days=tick) for tick in ticks]
    axes.set_xticks(list(ticks), _day_names(days))
    axes.set_ylabel("USD a day, estimated", color=_TEXT, fontsize=9)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    axes.tick_params(length=0, labelsize=9, colors=_TEXT)
    axes.grid(axis="y", color="#808080", alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color("#808080")


def _day_names(days: Sequence[date]) -> list[str]:
    """``3 Nov``, and below the first day of each year that is shown, the year."""
    names, year = [], 0
    for day in days:
        name = f"{day.day} {_MONTHS[day.month - 1]}"
        names.append(f"{name}\n{day.year}" if day.year != year else name)
        year = day.year
    return names


def _shown(name: str) -> str:
    """A name as a label: short, and nothing in it that Matplotlib reads as mathematics."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return short.replace("$", "\\$")


def _bare(svg: str) -> str:
    """The SVG element alone, with attributes in place of inline styles, and text in currentColor.

    It holds names of prompt sets and numbers, both escaped by Matplotlib.
    """
    element = svg[svg.index("<svg") :].strip()
    element = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", element, flags=re.DOTALL)
    element = re.sub(r' style="([^"]*)"', _attributes, element)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    label = 'role="img" aria-label="USD a day by prompt set; the table below has the numbers"'
    return element.replace("<svg", f"<svg {label}", 1).replace(_TEXT, "currentColor")


def _attributes(style: re.Match[str]) -> str:
    found = []
    for part in style[1].split(";"):
        name, _, value = part.partition(":")
        if name.strip() == "font":
            size = re.search(r"[\d.]+px", value)
            found.append(f' font-size="{size[0]}"' if size else "")
        elif value:
            found.append(f' {name.strip()}="{value.strip()}"')
    return "".join(found)
