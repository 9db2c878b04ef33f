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
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from flux_pipeline.produce.reasons import Reasons
from flux_pipeline.produce.report import Result, Tally, UnderWay, progress_line

_EVERY = 5.0  # s between two plain lines
_SILENCE = 15.0  # s after which one comes although nothing has ended


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
    clock: Callable[[], float] = time.monotonic
    begun_at: float = field(init=False)
    _said_at: float = field(init=False)
    _counted_at: float = field(init=False)
    """When the last image was counted, by which the rate of all is known."""
    _progress: UnderWay | None = None
    """Of the run that is going on."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.begun_at = self._said_at = self._counted_at = self.clock()

    def __call__(self, result: Result) -> None:
        """Count one result."""
        with self._lock:
            self.tallies.setdefault(result.request.source.prompt_set, Tally()).add(result)
            self.notices.extend(result.notices)
            self.reasons.add(result)
            self._counted_at = self.clock()
            if self.bar is not None:
                self.bar.update(self.bar.task_ids[0], completed=self.total.asked)
            else:
                self._say_after(_EVERY)

    def follow(self, progress: UnderWay) -> None:
        """Show from now on what this run waits for."""
        self._progress = progress

    def tick(self) -> None:
        """Say where the run is if nothing was said for long, as before the first picture."""
        with self._lock:
            if self.bar is None:
                self._say_after(_SILENCE)

    def waiting(self) -> str:
        """What is waited for; empty where that is nothing in particular."""
        if self._progress is None:
            return "Dagster starts"
        return "; ".join(self._progress.waiting())

    def state(self) -> str:
        """Cost, rate and time left, as far as they mean something, and what is waited for."""
        line = self._line().partition(" images, ")[2]
        return "; ".join(filter(None, [line, self.waiting()]))

    def _line(self) -> str:
        total, expected = self.total, sum(self.expected.values())
        until = self._counted_at if total.asked >= expected else self.clock()
        return progress_line(total, expected, until - self.begun_at, emulated=self.emulated)

    def _say_after(self, seconds: float) -> None:
        """Write one plain line, as in the run's log, unless the last one is younger than this."""
        if self.clock() - self._said_at >= seconds:
            self._said_at = self.clock()
            sys.stderr.write("; ".join(filter(None, [self._line(), self.waiting()])) + "\n")

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


@contextmanager
def watching(expected: Mapping[str, int], *, emulated: bool = False) -> Iterator[Watch]:
    """Show the progress of one run; give the watch that takes its results."""
    console = Console(stderr=True)
    if not console.is_terminal:
        watch = Watch(expected, None, emulated=emulated)
        with _ticking(watch):
            yield watch
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _StateColumn(),
        console=console,
    )
    with bar:
        watch = Watch(expected, bar, emulated=emulated)
        bar.add_task("images", total=sum(expected.values()), watch=watch)
        yield watch


class _StateColumn(ProgressColumn):
    """The watch's state, as it is whenever the bar is drawn: it moves before the first picture."""

    def render(self, task: Task) -> Text:
        """Read the state of the task's watch."""
        return Text(task.fields["watch"].state())


@contextmanager
def _ticking(watch: Watch) -> Iterator[None]:
    """Tick the watch every second, on a thread of its own."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(1.0):
            watch.tick()

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


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
