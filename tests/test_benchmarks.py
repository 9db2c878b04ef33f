"""The table of the documents is the one that the kept figures make."""

from benchmarks.results import load
from benchmarks.table import PAGE, table


def test_the_performance_page_shows_the_kept_figures() -> None:
    assert table(load()) in PAGE.read_text(encoding="utf-8")
