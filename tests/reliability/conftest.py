"""Prints what the long runs came to, as one table."""

from collections.abc import Callable

import pytest

from tests.produce.conftest import open_pipeline

__all__ = ["open_pipeline", "say"]

Say = Callable[..., None]


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Note the figures of one row of the table; a test may note several."""

    def note(row: str, **figures: object) -> None:
        texts = {name.replace("_", " "): str(figures[name]) for name in figures}
        record_property("row", [row, texts])

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.getoption("markexpr") != "torture":
        return
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    rows = [row for report in reports for name, row in report.user_properties if name == "row"]
    names = list(dict.fromkeys(name for _, figures in rows for name in figures))
    terminalreporter.section("the long runs")
    for cells in [
        ["", *names],
        ["---"] * (len(names) + 1),
        *([row, *(figures.get(name, "") for name in names)] for row, figures in rows),
    ]:
        terminalreporter.write_line(f"| {' | '.join(cells)} |")
