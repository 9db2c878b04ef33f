"""The page of what was spent: right, whole in itself, and shut to foreign text."""

import base64
import csv
import hashlib
import re
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flux_pipeline.lineage.spend import SPEND_SCHEMA
from flux_pipeline.lineage.spend_report import (
    CSV_KEY,
    MOST_ROWS,
    PAGE_KEY,
    build_csv,
    build_page,
    write_spending,
)
from flux_pipeline.store.local import FolderStore

DAY = date(2026, 11, 1)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOSTILE = "</svg><script>alert(1)</script>\" ' & $x$"


def a_row(day: int = 0, prompt_set: str = "winter", usd: float = 0.5, **changes: Any) -> Any:
    counts = {"predictions": 3, "images": 4, "refused": 1, "failed": 2, "seconds": 7.5}
    known = {"day": DAY + timedelta(days=day), "prompt_set": prompt_set, "model": "a/model"}
    return {**known, **counts, "usd": usd, "measured_usd": usd, **changes}


def a_table(*rows: Any) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SPEND_SCHEMA)


def page(*rows: Any) -> str:
    return build_page(a_table(*rows), store_uri="s3://bucket", now=NOW)


def test_the_policy_lets_in_the_style_sheet_alone() -> None:
    html = page(a_row())
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{digest}'"
        in html
    )
    assert "<script" not in html
    assert not re.search(r'\s(style|on\w+|src)="', html)


@pytest.mark.parametrize("rows", [[], [a_row(usd=0.0)]])
def test_a_page_without_a_cost_says_so(rows: list[Any]) -> None:
    assert "Nothing was spent yet" in page(*rows)


def test_foreign_text_stays_text() -> None:
    html = page(a_row(prompt_set=HOSTILE, model=HOSTILE), a_row(prompt_set="_" + HOSTILE))
    assert "<script" not in html
    assert html.count("</svg>") == 1


def test_the_page_has_totals_and_the_newest_day_first() -> None:
    html = page(a_row(0), a_row(1, usd=0.25), a_row(1, "summer"))
    assert "1.2500 USD, estimated · 9 predictions · 12 images · 3 refused · 6 failed" in html
    days = re.findall(r"<td>(2026-11-\d\d)</td>", html)
    assert days == ["2026-11-02", "2026-11-02", "2026-11-01"]
    assert "As of 2026-11-22 12:00 UTC, from the lineage table in s3://bucket." in html


def test_a_long_table_is_cut_and_says_so() -> None:
    html = page(*(a_row(0, f"set{number}", usd=0.0) for number in range(MOST_ROWS + 1)))
    assert len(re.findall("<td>2026-11-01</td>", html)) == MOST_ROWS
    assert "by-day.csv has all" in html


def test_the_csv_has_every_row_with_rounded_numbers(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    table = a_table(a_row(usd=0.1 + 0.2), a_row(1, prompt_set="a,b"))
    stored = write_spending(store, table, now=NOW)
    assert (stored.key, list(store.list("spend/"))) == (CSV_KEY, [CSV_KEY, PAGE_KEY])
    first, second = csv.DictReader(StringIO(store.get(CSV_KEY).decode()))
    assert list(first) == SPEND_SCHEMA.names
    assert (first["day"], first["usd"], first["predictions"]) == ("2026-11-01", "0.3", "3")
    assert second["prompt_set"] == "a,b"
    assert build_csv(a_table()) == ",".join(SPEND_SCHEMA.names) + "\n"
