"""Progress on standard error: a bar on a terminal, else a plain line every few seconds.

``watching`` shows a run's results, ``counting`` any other work that can be counted.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flux_pipeline.produce.reasons import Reasons
from flux_pipeline.produce.report import Result, Tally, progress_line
from flux_pipeline.text import show_usd

_EVERY = 5.0  # s between two plain lines


@dataclass(slots=True)
class Watch:
    """Counts results and shows the counts; called on the engine's thread."""

    expected: Mapping[str, int]
    """Images asked for, by prompt set."""
    bar: Progress | None
    tallies: dict[str, Tally] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    reasons: Reasons = field(default_factory=Reasons)
    """Why images are missing."""
    emulated: bool = False
    """Whether what it costs is no money, because the emulator makes the images."""
    begun_at: float = field(default_factory=time.monotonic)
    _said_at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, result: Result) -> None:
        """Count one result."""
        with self._lock:
            self.tallies.setdefault(result.request.source.prompt_set, Tally()).add(result)
            self.notices.extend(result.notices)
            self.reasons.add(result)
            total = self.total
            if self.bar is not None:
                task = self.bar.task_ids[0]
                cost = show_usd(total.usd, emulated=self.emulated)
                self.bar.update(task, completed=total.asked, cost=cost, rate=self.rate(total))
            elif time.monotonic() - self._said_at >= _EVERY:
                self._said_at = time.monotonic()
                _say(self, total)

    def finish(self) -> None:
        """Count images without a result as failed: the run was stopped before it reached them."""
        for name, expected in self.expected.items():
            tally = self.tallies.setdefault(name, Tally())
            missing = expected - tally.asked
            if missing > 0:
                tally.merge(Tally(asked=missing, failed=missing))
                reason = "not reached: the run was stopped or failed before"
                self.reasons.add_text(reason, missing)

    @property
    def total(self) -> Tally:
        """The counts over all prompt sets."""
        total = Tally()
        for tally in self.tallies.values():
            total.merge(tally)
        return total

    def rate(self, total: Tally) -> float:
        """Images a second since the run began."""
        return total.asked / max(time.monotonic() - self.begun_at, 0.001)


def _say(watch: Watch, total: Tally) -> None:
    """Write one plain line, as in the run's log."""
    seconds = time.monotonic() - watch.begun_at
    expected = sum(watch.expected.values())
    line = progress_line(total, expected, seconds, emulated=watch.emulated)
    sys.stderr.write(f"{line}\n")


@contextmanager
def watching(expected: Mapping[str, int], *, emulated: bool = False) -> Iterator[Watch]:
    """Show the progress of one run; give the watch that takes its results."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Watch(expected, None, emulated=emulated)
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[cost]}"),
        TextColumn("{task.fields[rate]:.1f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        bar.add_task("images", total=sum(expected.values()), cost="", rate=0.0)
        yield Watch(expected, bar, emulated=emulated)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to be called with the numbers of what is done and of all.

    The bar appears with the first call; where there is no terminal, never.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)
