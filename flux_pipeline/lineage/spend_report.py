"""Writes what was spent to the store: an HTML page with plot and tables, and a CSV.

The page is one file without a script. Its Content-Security-Policy allows its own style sheet alone,
because the names in it come from prompt sets that others wrote.

Matplotlib takes a second to import, so only the functions that draw import it; they avoid pyplot,
which keeps global state and is not safe with threads.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from flux_pipeline.html import csp_hash, read_text, render_template
from flux_pipeline.lineage.spend import SPEND_SCHEMA, SUMS, group_spending, total
from flux_pipeline.store.base import Store, StoredObject
from flux_pipeline.text import count_noun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSV_KEY = "spend/by-day.csv"
PAGE_KEY = "spend/index.html"
MOST_ROWS = 1_000
"""Rows that the page shows, the newest; the CSV has all."""
DAYS = 60
"""The newest days that are drawn: more bars can't be told apart."""

_PACKAGE = "flux_pipeline.lineage"
_HEADINGS = {"prompt_set": "prompt set", "usd": "USD", "measured_usd": "measured USD"}
_FORMATS = {"usd": "{:,.4f}", "measured_usd": "{:,.4f}", "seconds": "{:,.1f}"}

_FEWEST_SLOTS = 7  # so that a single day is a bar and no wall
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
_OTHERS = "#909090"
_TEXT = "#010203"  # nothing else has this colour: in the SVG it becomes the page's own
_LONGEST_NAME = 24
_MOST_TICKS = 8
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Bars: TypeAlias = list[tuple[str, list[float]]]
"""For each prompt set, its cost on each day."""


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
    return _inline_svg(out.getvalue())


def spend_png(table: pa.Table) -> bytes:
    """The plot of ``spending`` as a small PNG on white; empty without a cost."""
    figure = _figure(table)
    if figure is None:
        return b""
    out = BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def _figure(table: pa.Table) -> "Figure | None":
    days, bars = _stacked_bars(table)
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
    _label_axes(axes, days[0], slots)
    axes.legend(
        labels=[_legend_name(name) for name, _ in bars],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.02),
        frameon=False,
        fontsize=9,
        labelcolor=_TEXT,
    )
    return figure


def _stacked_bars(table: pa.Table) -> tuple[list[date], Bars]:
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


def _label_axes(axes: Any, first: date, slots: int) -> None:
    """Name the axes: at most eight days, the year where one begins, USD without exponents."""
    step = max(1, -(-slots // _MOST_TICKS))
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


def _legend_name(name: str) -> str:
    """A name as a label: short, and nothing in it that Matplotlib reads as mathematics."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return short.replace("$", "\\$")


def _inline_svg(svg: str) -> str:
    """The SVG element alone, with attributes in place of inline styles, and text in currentColor.

    It holds names of prompt sets and numbers, both escaped by Matplotlib.
    """
    element = svg[svg.index("<svg") :].strip()
    element = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", element, flags=re.DOTALL)
    element = re.sub(r' style="([^"]*)"', _presentation_attributes, element)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    label = 'role="img" aria-label="USD a day by prompt set; the table below has the numbers"'
    return element.replace("<svg", f"<svg {label}", 1).replace(_TEXT, "currentColor")


def _presentation_attributes(style: re.Match[str]) -> str:
    found = []
    for part in style[1].split(";"):
        name, _, value = part.partition(":")
        if name.strip() == "font":
            size = re.search(r"[\d.]+px", value)
            found.append(f' font-size="{size[0]}"' if size else "")
        elif value:
            found.append(f' {name.strip()}="{value.strip()}"')
    return "".join(found)
