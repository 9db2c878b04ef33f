"""The state of one request on its way through the core, shared by the core's stages."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.prediction import Prediction
from flux_pipeline.produce.effects import Close, Effect
from flux_pipeline.produce.policy import Policy
from flux_pipeline.produce.records import build_record
from flux_pipeline.produce.report import Ending, Result, Stop
from flux_pipeline.produce.run import RunContext
from flux_pipeline.request import Request

T = TypeVar("T")

Stage: TypeAlias = Generator[Effect, Any, T]
"""Yields effects, takes their outcomes, returns T."""

Step: TypeAlias = Prediction | Attempt | Result
"""Where a stage leaves off: with a prediction to go on with, with an attempt (as this worker knows
it) after which the claim is decided anew, or at the end."""


@dataclass(slots=True)
class Course:
    """What the stages of one request know and count."""

    request: Request
    run: RunContext
    policy: Policy
    clock: Callable[[], float]
    """Monotonic seconds; never the wall clock, which jumps."""
    begun_at: float
    created: int = 0
    polls: int = 0
    never_sent: int = 0
    transient: int = 0
    canceled: int = 0
    thumbnail: bytes = b""
    notices: list[str] = field(default_factory=list)

    def record(
        self,
        index: int,
        status: ImageStatus,
        error: str | None,
        attempt: Attempt | None = None,
        prediction: Prediction | None = None,
    ) -> ImageRecord:
        """A record for one image of this request."""
        return build_record(
            self.request,
            self.run,
            index=index,
            status=status,
            error=error,
            attempt=attempt,
            prediction=prediction,
            polls=self.polls,
        )

    def records_without_image(
        self, status: ImageStatus, error: str, attempt: Attempt | None = None
    ) -> tuple[ImageRecord, ...]:
        """A record for every image asked for, none of which exists."""
        return tuple(
            self.record(index, status, error, attempt) for index in range(self.request.outputs)
        )

    def end(
        self,
        ending: Ending,
        records: Iterable[ImageRecord],
        reason: str = "",
        stop: Stop | None = None,
    ) -> Result:
        """The result, with what this run created for it."""
        return Result(
            request=self.request,
            ending=ending,
            records=tuple(records),
            reason=reason,
            stop=stop,
            created=self.created,
            usd=self.created * self.request.cost_usd,
            thumbnail=self.thumbnail,
            notices=tuple(self.notices),
        )

    def fail(
        self, reason: str, attempt: Attempt | None = None, *, stop: Stop | None = None
    ) -> Result:
        """The result of a request that has no image, with the reason in each record."""
        records = self.records_without_image(ImageStatus.FAILED, reason, attempt)
        return self.end(Ending.FAILED, records, reason, stop)


def close(
    attempt: Attempt,
    state: State,
    *,
    error: str | None = None,
    retryable: bool = False,
    records: tuple[ImageRecord, ...] = (),
    resolution: str | None = None,
) -> Stage[Attempt]:
    """Close an attempt, and return it as this worker then knows it.

    Where it was no longer ours to close it comes back open, so that the claim decides anew: to take
    it for closed would let a second create follow one that somebody else has finished.
    """
    closed: bool = yield Close(attempt, state, error, retryable, records, resolution)
    return replace(attempt, state=state, retryable=retryable) if closed else attempt
