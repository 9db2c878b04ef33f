"""The plot of what was spent: a stacked bar a day, a colour for each prompt set, as SVG.

Drawn by a template of our own: Matplotlib, which drew it before, took half a second of each run
that made something, and 50 MB of each installation.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeAlias

import pyarrow as pa

from flux_pipeline.html import render_template

DAYS = 60
"""The newest days that are drawn: more bars can't be told apart."""

_WIDTH, _HEIGHT = 720, 300  # px, as all lengths here
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 500, 30, 252
"""Where the bars lie; names of prompt sets stand to the right of them."""
_FEWEST_SLOTS = 7  # so that a single day is a bar and no wall
_BAR = 0.8  # of a day's slot
_HEADROOM = 1.08
_MOST_LINES = 5
_MOST_DAYS_NAMED = 8
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
_OTHERS = "#909090"
_LONGEST_NAME = 24
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Costs: TypeAlias = list[tuple[str, list[float]]]
"""For each prompt set, its cost on each day."""


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    colour: str
    outline: str
    """The rectangles of all days, as an SVG path."""


@dataclass(frozen=True, slots=True)
class _Tick:
    at: float
    text: str
    year: int | None = None
    """Below the first day of each year that is named."""


def spend_svg(table: pa.Table, *, alone: bool = False) -> str:
    """The plot of ``spending`` as an SVG element, to be put into a page; empty without a cost.

    Text takes the page's colour and font, and nothing in it is styled inline, so that it is
    readable in light and dark and a strict policy lets it through. ``alone``: as a picture of its
    own, dark on white.
    """
    days, costs = _costs_by_day(table)
    if not costs:
        return ""
    slots = (days[-1] - days[0]).days + 1
    slot = (_RIGHT - _LEFT) / max(slots, _FEWEST_SLOTS)
    first = (_LEFT + _RIGHT - slot * (slots - 1)) / 2  # the middle of the first day
    middles = [first + slot * (day - days[0]).days for day in days]
    most = max(map(sum, zip(*(heights for _, heights in costs), strict=True))) * _HEADROOM
    return render_template(
        "flux_pipeline.lineage",
        "spend_plot.svg.jinja",
        alone=alone,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_RIGHT,
        top=_TOP,
        bottom=_BOTTOM,
        bars=list(_bars(costs, middles, slot * _BAR, most)),
        amounts=list(_amounts(most)),
        days=list(_days(days[0], slots, first, slot)),
    )


def _costs_by_day(table: pa.Table) -> tuple[list[date], Costs]:
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
    found = [(name, list(costs[name].values())) for name in names[:most]]
    if rest := names[most:]:
        together = [sum(costs[name][day] for name in rest) for day in days]
        found.append((f"{len(rest)} others", together))
    return days, found


def _bars(costs: Costs, middles: Sequence[float], width: float, most: float) -> Iterator[_Bar]:
    """Each set's bars, on top of those of the sets before it."""
    lows = [float(_BOTTOM)] * len(middles)
    for (name, usd), colour in zip(costs, (*_COLOURS, _OTHERS), strict=False):
        highs = [low - cost / most * (_BOTTOM - _TOP) for low, cost in zip(lows, usd, strict=True)]
        outline = "".join(
            f"M{middle - width / 2:.2f} {low:.2f}h{width:.2f}V{high:.2f}h{-width:.2f}z"
            for middle, low, high in zip(middles, lows, highs, strict=True)
            if low > high
        )
        short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
        yield _Bar(short, colour, outline)
        lows = highs


def _amounts(most: float) -> Iterator[_Tick]:
    """Round amounts up to ``most``, from 0 on, at most six, written without exponents."""
    finest = most / _MOST_LINES
    power = math.floor(math.log10(finest))
    step, power = next(
        (factor * 10.0**power, power + factor // 10)  # 10 is one power more
        for factor in (1, 2, 5, 10)
        if factor * 10.0**power >= finest
    )
    for count in range(int(most / step) + 1):
        height = _BOTTOM - count * step / most * (_BOTTOM - _TOP)
        yield _Tick(round(height, 2), f"{count * step:,.{max(0, -power)}f}" if count else "0")


def _days(first_day: date, slots: int, first: float, slot: float) -> Iterator[_Tick]:
    """At most eight days, such as ``3 Nov``, with the year where it is another one."""
    year = 0
    for number in range(0, slots, -(-slots // _MOST_DAYS_NAMED)):
        day = first_day + timedelta(days=number)
        name = f"{day.day} {_MONTHS[day.month - 1]}"
        yield _Tick(round(first + slot * number, 2), name, day.year if day.year != year else None)
        year = day.year
