"""Stops a run's creates when what they make could not be kept, or when there are enough of them.

Without it a wrong setting is paid for once a prompt: every picture is made, and none can be fetched
or stored. The brake looks at failures that follow each other without any success between them.
What was accepted before goes on being fetched.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import anyio

from flux_pipeline.outcomes import Stopped
from flux_pipeline.produce.report import Stop

MOST_IN_A_ROW = 5
"""Failures of one kind, without a stored image between them, after which nothing is created."""
# Ids, numbers and addresses differ from one failure to the next; the kind is what stays. The
# number in "answered 404" is no id: it says which failure it is.
_VARYING = re.compile(
    r"https?://\S+|(?<=\bprediction )[^\s:]+|(?<!answered )\b[0-9a-z]*\d[0-9a-z_-]*\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Brake:
    """One run's brake. Lives on one event loop."""

    stopped: Stopped | None = None
    """Why nothing more is created; None while it is allowed."""
    _in_a_row: Counter[str] = field(default_factory=Counter)
    _store_fails_for: set[str] = field(default_factory=set)
    """Requests (by holder) whose images the store has refused, and that try again."""
    _delayed: set[str] = field(default_factory=set)
    """Requests (by holder) whose outputs can't be fetched yet, and that try again."""
    _changed: anyio.Event | None = None
    """Set when a request leaves these sets; None while nobody waits."""

    def stop(self, kind: Stop, reason: str) -> Stopped:
        """Create nothing more in this run; the first reason stands."""
        self.stopped = self.stopped or Stopped(kind, reason)
        self._let_go()
        return self.stopped

    async def wait(self) -> None:
        """Wait while what is made can't be kept, and this is still tried: creates pause here.

        One image that the store refuses is enough; outputs often show up late, so there it takes
        several. It ends with the next image that is stored, when the tries are used up, and when
        the requests that try have ended.
        """
        while self.stopped is None and self._is_paused:
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()

    @property
    def _is_paused(self) -> bool:
        return bool(self._store_fails_for) or len(self._delayed) >= MOST_IN_A_ROW

    def note_stored(self) -> None:
        """An image was stored: the failures before it were no rule."""
        self._in_a_row.clear()
        if self._store_fails_for or self._delayed:
            self._store_fails_for.clear()
            self._delayed.clear()
            self._let_go()

    def note_failure(self, what: str, reason: str) -> None:
        """Count a failure of one prediction; ``what`` names the step in words."""
        kind = f"{what}: {kind_of(reason)}"
        self._in_a_row[kind] += 1
        if self._in_a_row[kind] >= MOST_IN_A_ROW:
            times = f"{MOST_IN_A_ROW} times in a row {what}"
            self.stop(Stop.FAILURES, f"nothing more is created, because {times}: {reason}")

    def note_store_failure(self, holder: str, reason: str, *, is_last_try: bool) -> None:
        """The store refused an image: creates pause, and stop when the tries are used up."""
        self._store_fails_for.add(holder)
        if is_last_try:
            self.stop(Stop.STORE, f"nothing more is created while the store fails: {reason}")

    def note_delay(self, holder: str) -> None:
        """An output can't be fetched yet, and is tried again."""
        self._delayed.add(holder)

    def forget(self, holder: str) -> None:
        """A request has ended, or its store answers again: it holds up no create any more."""
        if holder in self._store_fails_for or holder in self._delayed:
            self._store_fails_for.discard(holder)
            self._delayed.discard(holder)
            self._let_go()

    def _let_go(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


@dataclass(slots=True)
class SendLimit:
    """How many requests may still be sent, over all runs that share this object."""

    most: int | None = None
    """None for any number."""
    sent: int = 0

    def take(self) -> bool:
        """Count one request that is about to be sent; False where there were enough."""
        if self.is_reached:
            return False
        self.sent += 1
        return True

    def give_back(self) -> None:
        """Count one less: what ``take`` counted was not accepted, and may be sent again."""
        self.sent -= 1

    @property
    def is_reached(self) -> bool:
        """Whether nothing more may be sent."""
        return self.most is not None and self.sent >= self.most

    @property
    def reason(self) -> str:
        """Why nothing more is sent."""
        return f"--limit {self.most} is reached; run again for the next ones"


_limit: ContextVar[SendLimit | None] = ContextVar("send_limit", default=None)


def current_limit() -> SendLimit:
    """The limit that ``limiting`` has set for the running context; else none."""
    return _limit.get() or SendLimit()


@contextmanager
def limiting(most: int | None) -> Iterator[SendLimit]:
    """Let the runs that are started in this block send ``most`` requests together."""
    limit = SendLimit(most)
    token = _limit.set(limit)
    try:
        yield limit
    finally:
        _limit.reset(token)


def kind_of(reason: str) -> str:
    """The reason without what differs from one failure to the next: ids, numbers, addresses."""
    return " ".join(_VARYING.sub("…", reason).split())
