"""Prints what the long runs came to, as one table."""

from collections.abc import Callable

import pytest

from tests.produce.conftest import open_pipeline

__all__ = ["open_pipeline", "say"]

Say = Callable[..., None]


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Note the figures of one row of the table."""

    def note(row: str, **figures: object) -> None:
        record_property("row", row)
        record_property("figures", {name.replace("_", " "): str(figures[name]) for name in figures})

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.getoption("markexpr") != "torture":
        return
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    found = [dict(report.user_properties) for report in reports]
    rows = [(each["row"], each["figures"]) for each in found if "row" in each]
    names = list(dict.fromkeys(name for _, figures in rows for name in figures))
    terminalreporter.section("the long runs")
    for cells in [
        ["", *names],
        ["---"] * (len(names) + 1),
        *([row, *(figures.get(name, "") for name in names)] for row, figures in rows),
    ]:
        terminalreporter.write_line(f"| {' | '.join(cells)} |")
