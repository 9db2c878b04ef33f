"""What a run would make, what exists already and what it costs: known before anything is sent."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from itertools import islice

from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.request import Request

_BATCH = 1000


@dataclass(slots=True)
class Forecast:
    """Counts of requests, and what the new ones cost by estimate."""

    requests: int = 0
    images: int = 0
    unchanged: int = 0
    new: int = 0
    """Would be sent."""
    resumed: int = 0
    """Were sent before and not finished: resumed by id, or settled, without paying again."""
    held: int = 0
    refused: int = 0
    """Were refused or failed for good: not sent again."""
    usd: float = 0.0

    def add(self, request: Request, latest: Attempt | None) -> None:
        """Count one request by the latest attempt at it."""
        self.requests += 1
        self.images += request.outputs
        kind = _kind(latest)
        setattr(self, kind, getattr(self, kind) + 1)
        if kind == "new":
            self.usd += request.cost_usd

    def merge(self, other: "Forecast") -> None:
        """Add another forecast to this one."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def seconds(self, creates_per_minute: float) -> float:
        """How long the new requests take at the configured rate, at least."""
        return self.new * 60.0 / creates_per_minute


@dataclass(slots=True)
class SetForecast:
    """One prompt set's forecast, in total and by partition."""

    total: Forecast = field(default_factory=Forecast)
    partitions: dict[str, Forecast] = field(default_factory=dict)


def forecast(requests: Iterable[Request], ledger: Ledger) -> SetForecast:
    """Hold the requests against the ledger; nothing is sent or written.

    Requests stream through: memory grows with the partitions, not with the requests.
    """
    result = SetForecast()
    for batch in _batches(requests):
        latest = ledger.find([request.request_sha256 for request in batch])
        for request in batch:
            attempt = latest.get(request.request_sha256)
            partition = result.partitions.setdefault(request.source.partition, Forecast())
            partition.add(request, attempt)
            result.total.add(request, attempt)
    return result


def _kind(latest: Attempt | None) -> str:
    if latest is None:
        return "new"
    if latest.state.is_open:
        return "resumed"
    if latest.state is State.STORED:
        return "unchanged"
    if latest.state is State.HELD:
        return "held"
    again = latest.state in (State.UNSENT, State.RESENT) or latest.retryable
    return "new" if again else "refused"


def _batches(requests: Iterable[Request]) -> Iterator[list[Request]]:
    iterator = iter(requests)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
