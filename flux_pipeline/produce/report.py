"""Results of a run: one Result a request, one PartitionReport a partition, Tally and Progress."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from http import HTTPStatus
from typing import Protocol, TypeAlias

from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.request import Request
from flux_pipeline.text import show_usd

_ACTIVITIES: Mapping[str, str] = {
    "AwaitPermit": "wait for the rate",
    "Send": "being sent",
    "AwaitPoll": "at the provider",
    "Poll": "at the provider",
    "StoreOutput": "being fetched",
    "FindInList": "looked for at the provider",
    "Sleep": "wait for another run or a next try",
}
"""What a request is doing, by the effect that is being performed; other effects take no time."""
_MINUTE = 60.0  # s
_EARLY = 10.0  # s within which a rate says nothing of the time left
_FEW = 5  # images, of which a rate says nothing either
_PAUSE = 1.0  # s; a shorter pause of the provider is not worth a word


class ResultStatus(StrEnum):
    """How a request ended in this run."""

    STORED = "stored"
    """Every image is stored, or named as refused, now."""
    UNCHANGED = "unchanged"
    """It had been stored before: nothing was sent."""
    REFUSED = "refused"
    FAILED = "failed"
    """Also: not sent; ``Result.is_unsent`` says where a budget or a limit was the cause."""
    HELD = "held"
    """May have been paid and can't be proven: `flux-pipeline held` ends it."""


class Stop(StrEnum):
    """The cause that kept a request from being sent or settled; a person can remove it."""

    RUN_BUDGET = "run_budget"
    MONTH_BUDGET = "month_budget"
    DAY_BUDGET = "day_budget"
    LIMIT = "limit"
    """As many requests were sent as this run was told to send (`--limit`)."""
    CREDIT = "credit"
    """The provider answered 402."""
    KEY = "key"
    """The provider answered 401 or 403."""
    REJECTED = "rejected"
    """The provider answered 400, 404, 405 …: its address or the form of our calls is wrong."""
    PROXY = "proxy"
    """The proxy refused us, or the provider's host: it answered 407 or 403."""
    FAILURES = "failures"
    """The same failure came several times in a row."""
    STORE = "store"
    """What would be made could not be stored."""
    LEDGER = "ledger"
    """The ledger has forgotten what is stored."""

    @classmethod
    def of_budget(cls, scope: str) -> "Stop":
        """The stop of a budget that is used up, by its scope."""
        return cls(f"{scope.partition(':')[0]}_budget")

    @classmethod
    def of_denial(cls, code: int) -> "Stop":
        """The stop of an ``AccessDenied``, by its HTTP status."""
        return cls.CREDIT if code == HTTPStatus.PAYMENT_REQUIRED else cls.KEY


_USED_UP = frozenset({Stop.RUN_BUDGET, Stop.MONTH_BUDGET, Stop.DAY_BUDGET, Stop.LIMIT})
"""Causes that somebody has set on purpose: what they stop has not failed."""


@dataclass(frozen=True, slots=True)
class LeftOpen:
    """A prediction that is paid and not stored yet; the next run or a rescue goes on with it."""

    prediction: str
    """Its id."""
    why: str
    seconds: float
    """Until the provider may delete its outputs; 0 or less where they may be gone any moment."""

    def __str__(self) -> str:
        return (
            f"paid, not stored yet, {time_left(self.seconds)}: prediction {self.prediction}:"
            f" {self.why}; the next run or `flux-pipeline rescue` fetches it"
        )


def time_left(seconds: float) -> str:
    """Say how long outputs are still there."""
    if seconds < _MINUTE:
        return "it may be gone any moment"
    minutes = int(seconds // _MINUTE)
    return f"about {minutes} minute{'s' * (minutes != 1)} left"


@dataclass(frozen=True, slots=True)
class Result:
    """One request's end, with a record for every image asked for."""

    request: Request
    status: ResultStatus
    records: tuple[ImageRecord, ...]
    reason: str = ""
    stop: Stop | None = None
    left_open: LeftOpen | None = None
    """Set where images are paid and not stored yet."""
    created: int = 0
    """Predictions that the provider accepted for it in this run."""
    usd: float = 0.0
    """What those cost, estimated."""
    thumbnail: bytes = field(default=b"", repr=False)
    """A small WebP of the first stored image; empty for what was unchanged."""
    notices: tuple[str, ...] = ()
    """What a person should know, such as "possibly paid twice"."""

    @property
    def is_unsent(self) -> bool:
        """Whether a budget or a limit was used up before anything was sent for it in this run."""
        return self.stop in _USED_UP and not self.created


@dataclass(slots=True)
class Tally:
    """Counts over many results: of images, but for ``requests`` and ``created`` (predictions)."""

    requests: int = field(default=0, compare=False)
    asked: int = 0
    stored: int = 0
    unchanged: int = 0
    refused: int = 0
    failed: int = 0
    unsent: int = 0
    """Not sent, because a budget or the limit of requests was used up."""
    held: int = 0
    created: int = 0
    usd: float = 0.0

    def add(self, result: Result) -> None:
        """Count one result."""
        self.requests += 1
        self.asked += result.request.outputs
        self.created += result.created
        self.usd += result.usd
        if result.status is ResultStatus.HELD:
            self.held += result.request.outputs
            return
        if result.is_unsent:
            self.unsent += result.request.outputs
            return
        kept = 0
        for record in result.records:
            kept += record.status is ImageStatus.STORED
            self.refused += record.status is ImageStatus.REFUSED
            self.failed += record.status is ImageStatus.FAILED
        if result.status is ResultStatus.UNCHANGED:
            self.unchanged += kept
        else:
            self.stored += kept

    def merge(self, other: "Tally") -> None:
        """Add another tally to this one."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def complete(self) -> bool:
        """Whether every image asked for is stored."""
        return self.asked == self.stored + self.unchanged


@dataclass(frozen=True)  # without slots, for cached_property
class PartitionReport:
    """One partition, finished: every request of it has ended and its lineage part is written."""

    partition: str
    results: Sequence[Result]
    seconds: float
    lineage_uri: str | None = None
    """The Parquet part that was written; None where nothing was new."""

    @cached_property
    def tally(self) -> Tally:
        """The counts of this partition, which nobody changes."""
        tally = Tally()
        for result in self.results:
            tally.add(result)
        return tally

    @property
    def records(self) -> Iterable[ImageRecord]:
        """Every record, in the order of the requests."""
        return (record for result in self.results for record in result.records)


@dataclass(slots=True)
class Progress:
    """One run's counts. Written on the engine's thread, read from any."""

    expected: int
    """Images asked for; 0 where that isn't known."""
    emulated: bool = False
    """Whether what it costs is no money, because the emulator makes the images."""
    paused: Callable[[], float] = lambda: 0.0
    """How long, in s, the provider still wants nothing sent."""
    tally: Tally = field(default_factory=Tally)
    doing: Counter[str] = field(default_factory=Counter)
    """How many requests are at which effect."""
    clock: Callable[[], float] = time.monotonic
    begun_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun_at = self.clock()

    def add(self, result: Result) -> None:
        """Count one result."""
        self.tally.add(result)

    def line(self) -> str:
        """One line: done and asked, cost, rate, the time left, and what is waited for."""
        seconds = self.clock() - self.begun_at
        said = progress_line(self.tally, self.expected, seconds, emulated=self.emulated)
        return "; ".join([said, *self.waiting()])

    def waiting(self) -> list[str]:
        """What is waited for, each with its count, the most first."""
        counts: Counter[str] = Counter()
        for effect, count in list(self.doing.items()):
            if count > 0 and effect in _ACTIVITIES:
                counts[_ACTIVITIES[effect]] += count
        said = [f"{count} {words}" for words, count in counts.most_common()]
        if (pause := self.paused()) > _PAUSE:
            said.insert(0, f"the provider wants a pause of {pause:.0f} s")
        return said


def progress_line(tally: Tally, expected: int, seconds: float, *, emulated: bool = False) -> str:
    """Say ``12/200 images, 0.0360 USD, 1.2/s, 157 s left``, and how many were not made.

    Rate and time left are said only once they mean something.
    """
    cost = show_usd(tally.usd, emulated=emulated)
    said = [f"{tally.asked}/{expected or '?'} images", cost]
    if tally.asked:
        said.append(f"{tally.asked / max(seconds, 0.001):.1f}/s")
    if left := seconds_left(tally, expected, seconds):  # nothing is said of 0
        said.append(f"{left:.0f} s left")
    missing = {
        "refused": tally.refused,
        "failed": tally.failed,
        "not sent": tally.unsent,
        "held": tally.held,
    }
    return ", ".join([*said, *(f"{count} {name}" for name, count in missing.items() if count)])


def seconds_left(tally: Tally, expected: int, seconds: float) -> float | None:
    """The time left, in s, at the rate of what came to its end in this run; None if that is little.

    What was there before came at once, and says nothing of what has to be made.
    """
    ended = tally.asked - tally.unchanged - tally.unsent
    if not expected or ended < _FEW or seconds < _EARLY:
        return None
    return max(expected - tally.asked, 0) * seconds / ended


Observer: TypeAlias = Callable[[Result], None]
"""Called on the engine's thread, once a request; must not block."""


def ignore_result(_result: Result) -> None:
    """Do nothing: the observer where none is set."""


_current: ContextVar[Observer] = ContextVar("observer", default=ignore_result)


def current_observer() -> Observer:
    """The observer that ``observing`` has set for the running context."""
    return _current.get()


class UnderWay(Protocol):
    """Something of a run that takes time, such as a ``Progress``."""

    def waiting(self) -> list[str]:
        """What is waited for now."""
        ...


Follower: TypeAlias = Callable[[UnderWay], None]
"""Called with the progress of each run when it begins, to be read as it goes on."""


def ignore_progress(_progress: UnderWay) -> None:
    """Do nothing: the follower where none is set."""


_follower: ContextVar[Follower] = ContextVar("follower", default=ignore_progress)


def current_follower() -> Follower:
    """The follower that ``observing`` has set for the running context."""
    return _follower.get()


@contextmanager
def observing(observer: Observer, follow: Follower = ignore_progress) -> Iterator[None]:
    """Call ``observer`` with every result of the runs that are started in this block.

    So the command line sees results that Dagster, in the same process, would give only later.
    ``follow`` is called with the progress of each, from which it sees what is waited for.
    """
    token, following = _current.set(observer), _follower.set(follow)
    try:
        yield
    finally:
        _current.reset(token)
        _follower.reset(following)
