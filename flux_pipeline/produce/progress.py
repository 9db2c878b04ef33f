"""How far a run is and what it waits for: in the words of the run's log and of the terminal."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flux_pipeline.produce.report import Result, Tally

_WORDS: Mapping[str, str] = {
    "AwaitPermit": "wait for the rate",
    "Send": "being sent",
    "AwaitPoll": "at the provider",
    "Poll": "at the provider",
    "Keep": "being fetched",
    "FindInList": "looked for at the provider",
    "Sleep": "wait for another run or a next try",
}
"""What a request does, by the effect that is being performed; the rest takes no time."""
_EARLY = 10.0  # s within which a rate says nothing of the time left
_PAUSE = 1.0  # s; a shorter pause of the provider is not worth a word


@dataclass(slots=True)
class Progress:
    """One run's counts. Written on the engine's thread, read from any."""

    expected: int
    """Images asked for; 0 where that isn't known."""
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
        said = progress_line(self.tally, self.expected, seconds)
        return "; ".join([said, *self._waiting()])

    def _waiting(self) -> list[str]:
        counts: Counter[str] = Counter()
        for effect, count in list(self.doing.items()):
            if count > 0 and effect in _WORDS:
                counts[_WORDS[effect]] += count
        said = [f"{count} {words}" for words, count in counts.most_common()]
        if (pause := self.paused()) > _PAUSE:
            said.insert(0, f"the provider wants a pause of {pause:.0f} s")
        return said


def progress_line(tally: Tally, expected: int, seconds: float) -> str:
    """Say ``12/200 images, 0.0360 USD, 1.2/s, 157 s left``, and how many were not made."""
    rate = tally.asked / max(seconds, 0.001)
    said = [f"{tally.asked}/{expected or '?'} images", f"{tally.usd:.4f} USD", f"{rate:.1f}/s"]
    if rate and expected and seconds >= _EARLY:
        said.append(f"{max(expected - tally.asked, 0) / rate:.0f} s left")
    missing = {"refused": tally.refused, "failed": tally.failed, "held": tally.held}
    return ", ".join([*said, *(f"{count} {name}" for name, count in missing.items() if count)])
