"""The plot of what was spent: days, amounts and names are right, and a page can take it in."""

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from flux_pipeline.lineage.spend_plot import DAYS, spend_svg
from tests.lineage.test_spend_report import HOSTILE, a_row, a_table


def texts(svg: str) -> list[str]:
    """What the plot says: days, amounts, names."""
    found = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314
    return ["".join(each.itertext()).strip() for each in found]


def test_the_plot_names_sets_days_and_unit() -> None:
    shown = texts(spend_svg(a_table(a_row(0), a_row(1), a_row(1, "summer", 0.1))))
    assert {"winter", "summer", "1 Nov", "2026", "2 Nov", "USD a day, estimated"} <= set(shown)
    assert shown.index("winter") < shown.index("summer")


def test_days_without_spending_keep_their_place_and_years_are_named() -> None:
    shown = texts(spend_svg(a_table(a_row(59), a_row(62))))
    assert [text for text in shown if text[-3:] in {"Dec", "Jan"}] == [
        "30 Dec",
        "31 Dec",
        "1 Jan",
        "2 Jan",
    ]
    assert {"2026", "2027"} <= set(shown)


def test_many_sets_are_six_and_the_others() -> None:
    rows = [a_row(0, f"set_{number}", usd=10.0 - number) for number in range(9)]
    shown = texts(spend_svg(a_table(*rows)))
    assert [text for text in shown if text.startswith("set_")] == [f"set_{n}" for n in range(6)]
    assert "3 others" in shown


def test_many_days_are_the_newest() -> None:
    shown = texts(spend_svg(a_table(*(a_row(day) for day in range(DAYS + 30)))))
    assert "1 Nov" not in shown
    assert "1 Dec" in shown


def test_tiny_amounts_are_written_out() -> None:
    shown = texts(spend_svg(a_table(a_row(usd=0.000_4))))
    assert "0.0004" in " ".join(shown)
    assert not [text for text in shown if "e-" in text or "×" in text]


def test_the_picture_of_its_own_is_small_and_dark_on_white() -> None:
    rows = [a_row(day, f"s{number}") for day in range(60) for number in range(9)]
    picture = spend_svg(a_table(*rows), alone=True)
    assert len(picture) < 20_000
    assert 'fill="#ffffff"' in picture
    assert texts(picture) == texts(spend_svg(a_table(*rows)))


def test_bars_are_as_high_as_their_cost_and_stand_on_each_other() -> None:
    svg = spend_svg(a_table(a_row(0, usd=0.5), a_row(1, usd=1.0), a_row(1, "summer", 0.25)))
    winter, summer = (
        [
            (float(low), float(high))
            for low, high in re.findall(r"M[\d.]+ ([\d.]+)h[\d.]+V([\d.]+)h", d)
        ]
        for d in re.findall(r'<path fill="#[0-9a-f]+" d="([^"]+)"', svg)
    )
    (half, whole), (quarter,) = [[low - high for low, high in each] for each in (winter, summer)]
    assert (whole, quarter) == pytest.approx((2 * half, half / 2), abs=0.05)
    assert summer[0][0] == winter[1][1]


@pytest.mark.parametrize("rows", [[], [a_row(usd=0.0)], [a_row(day=0) | {"day": None}]])
def test_without_a_cost_on_a_day_there_is_no_plot(rows: list[Any]) -> None:
    assert spend_svg(a_table(*rows)) == ""


def test_the_plot_has_no_inline_style_and_takes_the_colour_of_the_page() -> None:
    svg = spend_svg(a_table(a_row()))
    assert "style" not in svg
    assert "currentColor" in svg
    assert svg.startswith("<svg role=")
    assert svg == spend_svg(a_table(a_row()))


def test_a_name_is_escaped_and_cut() -> None:
    shown = texts(spend_svg(a_table(a_row(prompt_set=HOSTILE), a_row(1, "a" * 30, 0.1))))
    assert shown[-2:] == [f"{HOSTILE[:23]}…", f"{'a' * 23}…"]
