"""Finishes attempts that a dead run left open, from the ledger alone; never creates a prediction.

Accepted predictions are polled by id and their images stored. A create without an answer is looked
for in the provider's list, and then closed, held or given up as the policy says.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from flux_pipeline.errors import LedgerError, StoreError
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.reasons import Reasons
from flux_pipeline.produce.report import Observer
from flux_pipeline.request import Request

RESCUE_AFTER = 120.0
"""Age of a claim, s: a live run renews its claims twice within that time."""
MOST = 5000
"""Attempts of one rescue, the oldest; they are in memory (about 4 KB each)."""


_UNFINISHED = frozenset(
    {
        State.INTENT,
        State.ACCEPTED,
        State.SUCCEEDED,
        State.PRUNING,
        State.HELD,
        State.EXPIRED,
        State.RESENT,
    }
)
"""States in which a prediction was paid for, or may have been, and has no image; or a removal is
not ended."""


@dataclass(slots=True)
class Rescued:
    """The outcome of a rescue."""

    found: int = 0
    """Attempts that had been left open."""
    states: Counter[State] = field(default_factory=Counter)
    """The requests by their state in the ledger now."""
    notices: list[str] = field(default_factory=list)
    reasons: Reasons = field(default_factory=Reasons)
    """Why images are missing."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Requests that can't be read in the ledger, with the reason."""
    store_error: StoreError | None = None
    """Why lineage rows, or images, could not be stored; what was fetched waits in the spool."""

    @property
    def complete(self) -> bool:
        """Whether all is stored and recorded, and nothing paid is left open, held or lost."""
        left = sum(count for state, count in self.states.items() if state in _UNFINISHED)
        return not left and not self.unreadable and self.store_error is None


def rescue(
    producer: Producer,
    *,
    run_id: str,
    older_than: float = RESCUE_AFTER,
    observe: Observer | None = None,
) -> Rescued:
    """Finish attempts whose claim is older than ``older_than`` (s), and record their images.

    Nothing is created: a request that the provider never accepted is closed, and waits for its next
    run. Live runs are left alone: their claims are younger, and a request that is claimed meanwhile
    is waited for.

    A store that fails is no error: what is paid is fetched all the same, of every prompt set.

    Raises:
        LedgerError: What was finished before stays finished.
    """
    left = producer.ledger.unfinished(older_than=older_than, limit=MOST)
    return finish(producer, left, run_id=run_id, observe=observe)


def rescue_expired(producer: Producer, *, run_id: str, observe: Observer | None = None) -> Rescued:
    """Look again for what was paid and is recorded as gone, by its id; nothing is created.

    A prediction is found as long as the provider keeps it, whatever the ledger has believed: what
    is still there is stored, and what is gone is closed as expired once more.

    Raises:
        LedgerError: As ``rescue``.
    """
    ledger = producer.ledger
    lost = [*ledger.in_state(State.EXPIRED, limit=MOST), *_paid_and_failed(ledger)]
    opened = [attempt for attempt in lost if ledger.reopen(attempt)]
    return finish(producer, opened, run_id=run_id, observe=observe)


def _paid_and_failed(ledger: Ledger) -> Iterator[Attempt]:
    """Attempts whose prediction succeeded, and that an earlier version closed without its image."""
    for attempt in ledger.in_state(State.FAILED, limit=MOST):
        if attempt.prediction_id and "paid, not stored" in (attempt.error or ""):
            yield attempt


def finish(
    producer: Producer,
    attempts: Iterable[Attempt],
    *,
    run_id: str,
    observe: Observer | None = None,
) -> Rescued:
    """Finish these attempts as ``rescue`` does."""
    rescued = Rescued()
    work = _by_partition(attempts, rescued)
    no_creates = replace(producer, policy=replace(producer.policy, may_create=False))
    for prompt_set, partitions in work.items():
        run = RunContext(run_id, asset=f"{prompt_set}/images")
        asked = sum(map(len, partitions.values()))
        try:
            with no_creates.stream(
                partitions.items(), run=run, asked=asked, observe=observe
            ) as reports:
                for report in reports:
                    for result in report.results:
                        rescued.notices.extend(result.notices)
                        rescued.reasons.add(result)
        except StoreError as error:  # the other prompt sets are fetched before they vanish
            rescued.store_error = rescued.store_error or error
    rescued.states.update(_states(producer.ledger, work))
    return rescued


def _by_partition(
    attempts: Iterable[Attempt], rescued: Rescued
) -> Mapping[str, Mapping[str, list[Request]]]:
    """Requests by prompt set and partition, to be recorded as their own run would have done."""
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
