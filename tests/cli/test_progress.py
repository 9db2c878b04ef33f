"""Progress of a run on standard error: it moves before the first picture, and guesses nothing."""

import io
import logging

import pytest
from rich.console import Console
from rich.progress import Progress

from flux_pipeline.cli.progress import Watch, _StateColumn, watching
from flux_pipeline.defs.published import PublishProgress
from flux_pipeline.produce.report import Progress as RunProgress
from flux_pipeline.produce.report import Tally


class Clock:
    """Moves as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_a_run_waits_for_is_said_before_its_first_picture(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    watch = Watch({"tale": 12}, None, clock=clock)
    watch.tick()
    assert capsys.readouterr().err == ""
    clock.now = 15.0
    watch.tick()
    watch.tick()
    assert capsys.readouterr().err == "0/12 images, 0.0000 USD; Dagster starts\n"
    progress = RunProgress(12)
    watch.follow(progress)
    progress.doing["AwaitPoll"] = 7
    clock.now = 30.0
    watch.tick()
    assert capsys.readouterr().err == "0/12 images, 0.0000 USD; 7 at the provider\n"


def test_what_follows_the_last_image_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    watch = Watch({"tale": 0}, None, clock=clock)
    watch.follow(PublishProgress("tale", 300, logging.getLogger(), done=120))
    clock.now = 60.0
    watch.tick()
    said = capsys.readouterr().err
    assert said == "0/? images, 0.0000 USD; publishing tale: 120 of 300 images\n"


def test_a_terminal_shows_it_whenever_the_bar_is_drawn() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    watch = Watch({"tale": 600}, None)
    bar = Progress(_StateColumn(), console=console)
    task = bar.add_task("images", watch=watch)
    assert _StateColumn().render(bar.tasks[task]).plain == "0.0000 USD; Dagster starts"
    watch.follow(RunProgress(600))
    watch.tallies["tale"] = Tally(asked=1, stored=1, usd=0.003)
    assert "left" not in _StateColumn().render(bar.tasks[task]).plain


def test_no_colour_is_written_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    with watching({"tale": 1}) as watch:
        assert watch.bar is None
    assert capsys.readouterr().err == ""
