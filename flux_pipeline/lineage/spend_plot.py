"""USD a day by prompt set, as stacked bars: a PNG for the UI, an SVG for a page.

Matplotlib takes a second to import, so that only who draws imports it; no pyplot, which keeps
figures in global state and would not go with threads.
"""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DAYS = 60
"""The newest days that are drawn: more bars can't be told apart."""
_FEWEST_SLOTS = 7  # so that a single day is a bar and no wall
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
_OTHERS = "#909090"
_TEXT = "#010203"  # nothing else has this colour: in the SVG it becomes the page's own
_LONGEST_NAME = 24
_PER_LABEL = 8
Bars: TypeAlias = list[tuple[str, list[float]]]


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


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
