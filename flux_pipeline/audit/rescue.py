"""Finishes what was begun and left: by id, from the ledger alone, without creating anything."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.report import Observer
from flux_pipeline.request import Request

RESCUE_AFTER = 120.0
"""Seconds since the last claim: a live run renews its claims twice within that time."""
MOST = 5000
"""Attempts of one rescue, the oldest; they are in memory (about 4 KB each)."""


@dataclass(slots=True)
class Rescued:
    """What became of the attempts that had been left."""

    found: int = 0
    states: Counter[State] = field(default_factory=Counter)
    """How the requests stand now, by the ledger."""
    notices: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why there is no image, and for how many requests."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Requests that can't be read in the ledger, with the reason."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left that was paid, or may have been: open, held or lost."""
        left = sum(count for state, count in self.states.items() if state in _LEFT)
        return not left and not self.unreadable


_LEFT = frozenset(
    {State.INTENT, State.ACCEPTED, State.SUCCEEDED, State.HELD, State.EXPIRED, State.RESENT}
)


def rescue(
    producer: Producer,
    *,
    run_id: str,
    older_than: float = RESCUE_AFTER,
    observe: Observer | None = None,
) -> Rescued:
    """Finish by id what was accepted and left, settle what may have been, record what is over.

    Nothing is created: what the provider never accepted is closed, and waits for its next run.
    Live runs are left alone: their claims are younger than ``older_than`` (seconds), and what is
    claimed meanwhile is waited for.

    Raises:
        FluxPipelineError: Where ledger or store fail; what was finished before stays finished.
    """
    left = producer.ledger.unfinished(older_than=older_than, limit=MOST)
    return finish(producer, left, run_id=run_id, observe=observe)


def finish(
    producer: Producer,
    attempts: Iterable[Attempt],
    *,
    run_id: str,
    observe: Observer | None = None,
) -> Rescued:
    """Finish these attempts as ``rescue`` does, from the requests that the ledger holds."""
    rescued = Rescued()
    work = _by_partition(attempts, rescued)
    careful = replace(producer, policy=replace(producer.policy, may_create=False))
    for prompt_set, partitions in work.items():
        run = RunContext(run_id, asset=f"{prompt_set}/images")
        asked = sum(map(len, partitions.values()))
        with careful.stream(partitions.items(), run=run, asked=asked, observe=observe) as reports:
            for report in reports:
                for result in report.results:
                    rescued.notices.extend(result.notices)
                    if result.reason:
                        rescued.reasons[result.reason] += 1
    rescued.states.update(_states(producer.ledger, work))
    return rescued


def _by_partition(
    attempts: Iterable[Attempt], rescued: Rescued
) -> Mapping[str, Mapping[str, list[Request]]]:
    """Requests by prompt set and partition: so they are recorded as their own run would have."""
    work: dict[str, dict[str, list[Request]]] = {}
    for attempt in attempts:
        rescued.found += 1
        try:
            request = load_request(attempt.intent.request_json)
        except LedgerError as error:
            rescued.unreadable[attempt.request_sha256] = str(error)
            continue
        source = request.source
        partitions = work.setdefault(source.prompt_set, {})
        partitions.setdefault(source.partition, []).append(request)
    return work


def _states(ledger: Ledger, work: Mapping[str, Mapping[str, list[Request]]]) -> Iterator[State]:
    for partitions in work.values():
        for requests in partitions.values():
            found = ledger.find([request.request_sha256 for request in requests])
            yield from (attempt.state for attempt in found.values())
