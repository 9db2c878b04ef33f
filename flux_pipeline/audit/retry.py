"""Lets failed or refused requests be asked for again, where a person says that it may help."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from flux_pipeline.iteration import batched
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.request import Request

_IN_ONE_QUERY = 500


@dataclass(frozen=True, slots=True)
class Retry:
    """One request that can be asked for again."""

    request: Request = field(repr=False)
    attempt: Attempt

    @property
    def reason(self) -> str:
        """Why there is no image."""
        return self.attempt.error or "no reason given"


def find_retries(
    ledger: Ledger, requests: Iterable[Request], *, states: frozenset[State]
) -> Iterator[Retry]:
    """Those of the requests whose latest attempt ended in one of the states: FAILED or REFUSED."""
    for batch in batched(requests, _IN_ONE_QUERY):
        latest = ledger.find([request.request_sha256 for request in batch])
        for request in batch:
            attempt = latest.get(request.request_sha256)
            if attempt is not None and attempt.state in states:
                yield Retry(request, attempt)


def allow(ledger: Ledger, retries: Iterable[Retry]) -> list[Retry]:
    """Let the next run send them again, within its budgets; return those that still were over.

    Raises:
        LedgerError: The ledger can't be written.
    """
    return [each for each in retries if ledger.allow_retry(each.attempt)]
