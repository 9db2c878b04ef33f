"""Stops a run's creates when what they make could not be kept.

Without it a wrong setting is paid for once a prompt: every picture is made, and none can be fetched
or stored. The brake looks at failures that follow each other without any success between them.
What was accepted before goes on being fetched.
"""

import re
from collections import Counter
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
    """Why nothing more is created; None while creating is allowed."""
    _store_is_back: anyio.Event | None = None
    """Set when the store takes an image again, or is given up; None while it does not fail."""
    _in_a_row: Counter[str] = field(default_factory=Counter)

    def stop(self, kind: Stop, reason: str) -> Stopped:
        """Create nothing more in this run; the first reason stands."""
        self.stopped = self.stopped or Stopped(kind, reason)
        self._let_go()
        return self.stopped

    async def wait_for_store(self) -> None:
        """Wait while the store fails and is still tried: nothing is made that can't be kept."""
        if self._store_is_back is not None:
            await self._store_is_back.wait()

    def note_stored(self) -> None:
        """An image was stored: the failures before it were no rule."""
        self._in_a_row.clear()
        self._let_go()

    def note_failure(self, what: str, reason: str) -> None:
        """Count a failure of one prediction; ``what`` names the step in words."""
        kind = f"{what}: {kind_of(reason)}"
        self._in_a_row[kind] += 1
        if self._in_a_row[kind] >= MOST_IN_A_ROW:
            times = f"{MOST_IN_A_ROW} times in a row {what}"
            self.stop(Stop.FAILURES, f"nothing more is created, because {times}: {reason}")

    def note_store_failure(self, reason: str, *, is_last_try: bool) -> None:
        """The store refused an image: creates wait, and stop when the tries are used up."""
        if is_last_try:
            self.stop(Stop.STORE, f"nothing more is created while the store fails: {reason}")
        elif self.stopped is None and self._store_is_back is None:
            self._store_is_back = anyio.Event()

    def _let_go(self) -> None:
        if self._store_is_back is not None:
            self._store_is_back.set()
            self._store_is_back = None


def kind_of(reason: str) -> str:
    """The reason without what differs from one failure to the next: ids, numbers, addresses."""
    return " ".join(_VARYING.sub("…", reason).split())
