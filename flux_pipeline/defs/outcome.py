"""What a run came to, over all its partitions: counts, what failed and why, and what is checked.

It is fed report by report and keeps no report: a run of a million images needs no more memory.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import dagster as dg

from flux_pipeline.defs.findings import Findings
from flux_pipeline.defs.metadata import reasons_of
from flux_pipeline.produce.report import Ending, PartitionReport, Result, Tally
from flux_pipeline.text import count_noun, safe_text

MOST_NAMED = 20
"""Partitions that a message names."""
_MOST_ALIKE = 3
"""Partitions that are named for one reason."""
HELD = "held"


@dataclass(slots=True)
class Waiting:
    """Requests that were not sent, or whose fate nobody knows, until a person does something."""

    reason: str
    requests: int = 0
    usd: float = 0.0
    """What they cost, by estimate."""


@dataclass(slots=True)
class Outcome:
    """One run of one prompt set's images."""

    run_id: str
    tally: Tally = field(default_factory=Tally)
    partitions: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Why a partition has to be run again, by partition."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """What waits for a person, by the name of a ``Stop``, or ``held``."""
    broken: int = 0
    """Requests that failed for another reason than these."""
    incomplete: list[str] = field(default_factory=list)
    """The first partitions in which an image is missing."""
    findings: Findings = field(init=False)
    """What the checks go by."""

    def __post_init__(self) -> None:
        self.findings = Findings(self.run_id)

    def add(self, report: PartitionReport) -> bool:
        """Take in one partition; return whether it is done with, so that it counts as made.

        It is, where every image was stored or is named as refused, and there is any image at all:
        asking again would bring nothing new.
        """
        tally = report.tally
        self.tally.merge(tally)
        self.partitions += 1
        self.findings.add(report)
        for result in report.results:
            self._wait(result)
        if not tally.complete and len(self.incomplete) < MOST_NAMED:
            self.incomplete.append(report.partition)
        kept = tally.stored + tally.unchanged
        done = not tally.failed and not tally.held and (kept > 0 or not tally.asked)
        if not done:
            self.failed[report.partition] = "; ".join(reasons_of(report)) or "no image came"
        return done

    def raise_if_failed(self) -> None:
        """Fail the step for the partitions that failed; those that are done stay made.

        Raises:
            dagster.Failure: Names partitions and reasons. Nothing retries it by itself: what could
                heal by waiting was waited for, and what can't would cost money.
        """
        if self.failed:
            named = dict(list(self.failed.items())[:MOST_NAMED])
            headline = f"{len(self.failed):,} of {count_noun(self.partitions, 'partition')} failed"
            waiting = {name: asdict(each) for name, each in self.waiting.items()}
            raise dg.Failure(
                description="\n".join([headline, *self._reasons(), *self._unsent()]),
                metadata={
                    "flux/failed_partitions": dg.MetadataValue.json(named),
                    **({"flux/waiting": dg.MetadataValue.json(waiting)} if waiting else {}),
                    "flux/broken_requests": self.broken,
                    "flux/cost_usd": round(self.tally.usd, 6),
                },
                allow_retries=False,
            )

    def _reasons(self) -> Iterator[str]:
        """Each reason once, with the partitions that have it."""
        alike: dict[str, list[str]] = {}
        for key, reason in self.failed.items():
            alike.setdefault(reason, []).append(key)
        shown = list(alike.items())[:MOST_NAMED]
        for reason, keys in shown:
            more = f" and {len(keys) - _MOST_ALIKE} more" if len(keys) > _MOST_ALIKE else ""
            yield f"{', '.join(keys[:_MOST_ALIKE])}{more}: {reason}"
        left = len(self.failed) - sum(len(keys) for _, keys in shown)
        if left:
            yield f"and {left} more"

    def _unsent(self) -> Iterator[str]:
        unsent = [each for name, each in self.waiting.items() if name != HELD]
        if unsent:
            requests, usd = sum(e.requests for e in unsent), sum(e.usd for e in unsent)
            yield f"not sent: {count_noun(requests, 'request')} of {usd:.4f} USD"

    def _wait(self, result: Result) -> None:
        held = result.ending is Ending.HELD
        if result.stop is None and not held:
            self.broken += result.ending is Ending.FAILED
            return
        name = HELD if result.stop is None else result.stop.value
        waiting = self.waiting.setdefault(name, Waiting(safe_text(result.reason)))
        waiting.requests += 1
        waiting.usd += result.request.cost_usd
