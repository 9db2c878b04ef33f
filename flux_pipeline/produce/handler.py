"""Performs the effects that the core yields, over sockets, disks and the database.

Every effect is one method of ``EffectHandler``, chosen by the effect's class. The handler decides
nothing about a request; only the stop after a first 401, 402 or 403 is kept here, because it
concerns all requests of a run.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatchmethod

import anyio
from anyio import to_thread

from flux_pipeline.errors import DownloadError
from flux_pipeline.ledger.base import Attempt, Budget, Claim, Intent, Ledger, State
from flux_pipeline.ledger.codec import dump_reply
from flux_pipeline.ledger.writer import LedgerWriter
from flux_pipeline.lineage.record import ImageStatus, records_to_json
from flux_pipeline.outcomes import (
    AccessDenied,
    CreateOutcome,
    FindOutcome,
    NeverSent,
    Polled,
    PollOutcome,
)
from flux_pipeline.prediction import Status
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.ingest import ImageIngest
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.records import build_record
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.polling import PollSchedule
from flux_pipeline.request import Request


@dataclass(slots=True)
class RunServices:
    """What all requests of one run share."""

    provider: Provider
    ledger: LedgerWriter
    known_ids: Callable[[Sequence[str]], set[str]]
    """Returns those of the ids that the ledger holds already; blocks, and is seldom called."""
    ingest: ImageIngest
    schedule: PollSchedule
    policy: Policy
    run: RunContext
    threads: anyio.CapacityLimiter
    """For decoding, labelling and storing."""
    resends_left: int
    """How many requests of unknown fate this run may still send again."""
    clock: Callable[[], float] = time.monotonic
    denied: AccessDenied | None = None
    """Set by the first 401, 402 or 403: nothing more is sent in this run."""


@dataclass(slots=True)
class EffectHandler:
    """Performs the effects of one request."""

    services: RunServices
    request: Request
    holder: str
    """Names this request's claims. Unique, because equal holders could renew each other's."""
    intent: Intent
    budgets: Sequence[Budget]

    @singledispatchmethod
    async def perform(self, effect: fx.Effect) -> object:
        """Perform one effect, and return the outcome that its class describes."""
        raise TypeError(f"no such effect: {effect!r}")

    @perform.register
    async def _(self, _effect: fx.AwaitPermit) -> None:
        if self.services.denied is None:
            await self.services.provider.permit()

    @perform.register
    async def _(self, effect: fx.ClaimAttempt) -> Claim:
        return await self.services.ledger.call(
            lambda ledger: ledger.claim(
                self.intent, holder=self.holder, after=effect.after, budgets=self.budgets
            )
        )

    @perform.register
    async def _(self, effect: fx.RenewClaim) -> bool:
        return await self.services.ledger.call(
            lambda ledger: ledger.renew(effect.attempt, holder=self.holder)
        )

    @perform.register
    async def _(self, effect: fx.Send) -> CreateOutcome:
        if self.services.denied is not None:
            return self.services.denied
        if self.services.clock() > effect.not_after:
            return NeverSent("the claim had grown too old before the request could be sent")
        outcome = await self.services.provider.create(self.request, permitted=True)
        if isinstance(outcome, AccessDenied):
            self.services.denied = outcome
        return outcome

    @perform.register
    async def _(self, effect: fx.WriteAccepted) -> State:
        prediction = effect.prediction
        return await self.services.ledger.call(
            lambda ledger: ledger.accept(
                effect.attempt, prediction_id=prediction.id, reply=dump_reply(prediction)
            )
        )

    @perform.register
    async def _(self, effect: fx.WriteFound) -> bool:
        attempt, prediction = effect.attempt, effect.prediction
        reply = dump_reply(prediction)

        def write(ledger: Ledger) -> bool:  # both in one transaction
            if not ledger.renew(attempt, holder=self.holder):
                return False
            ledger.accept(attempt, prediction_id=prediction.id, reply=reply)
            return True

        return await self.services.ledger.call(write)

    @perform.register
    async def _(self, effect: fx.WriteSucceeded) -> bool:
        reply = dump_reply(effect.prediction)
        return await self.services.ledger.call(
            lambda ledger: ledger.succeed(effect.attempt, reply=reply)
        )

    @perform.register
    async def _(self, effect: fx.Close) -> bool:
        images = records_to_json(effect.records)
        return await self.services.ledger.call(
            lambda ledger: ledger.close(
                effect.attempt,
                effect.state,
                holder=self.holder,
                error=effect.error,
                retryable=effect.retryable,
                images=images,
                resolution=effect.resolution,
            )
        )

    @perform.register
    async def _(self, _effect: fx.ReadHistory) -> Sequence[Attempt]:
        return await self.services.ledger.call(
            lambda ledger: ledger.history(self.request.request_sha256)
        )

    @perform.register
    async def _(self, _effect: fx.TakeResend) -> bool:
        self.services.resends_left -= 1
        return self.services.resends_left >= 0

    @perform.register
    async def _(self, effect: fx.FindInList) -> FindOutcome:
        async with anyio.create_task_group() as group:
            group.start_soon(self._renew_repeatedly, effect.attempt)
            outcome = await self.services.provider.find(
                self.request, since=effect.attempt.intent_at, known=self.services.known_ids
            )
            group.cancel_scope.cancel()
        return outcome

    @perform.register
    async def _(self, effect: fx.AwaitPoll) -> None:
        schedule, model = self.services.schedule, self.request.model
        await anyio.sleep(schedule.wait(model, elapsed=effect.elapsed, polls=effect.polls))

    @perform.register
    async def _(self, effect: fx.Poll) -> PollOutcome:
        outcome = await self.services.provider.poll(effect.prediction_id)
        if isinstance(outcome, Polled) and outcome.prediction.status is Status.SUCCEEDED:
            self.services.schedule.observe(self.request.model, outcome.prediction)
        return outcome

    @perform.register
    async def _(self, effect: fx.Cancel) -> PollOutcome:
        return await self.services.provider.cancel(effect.prediction_id)

    @perform.register
    async def _(self, effect: fx.StoreOutput) -> fx.StoreOutcome:
        services = self.services
        try:
            body = await services.provider.download(effect.output)
        except DownloadError as error:
            reason = f"output {effect.output.index}: {error}"
            if error.gone:
                return fx.NotStored("gone", reason)
            return fx.NotStored("again" if error.retryable else "unusable", reason)
        record = build_record(
            self.request,
            services.run,
            index=effect.output.index,
            status=ImageStatus.STORED,
            attempt=effect.attempt,
            prediction=effect.prediction,
            polls=effect.polls,
        )
        return await to_thread.run_sync(
            services.ingest.ingest, self.request, record, body, limiter=services.threads
        )

    @perform.register
    async def _(self, effect: fx.Sleep) -> None:
        await anyio.sleep(max(effect.seconds, 0.0))

    async def _renew_repeatedly(self, attempt: Attempt) -> None:
        """Renew the claim until canceled: reading a list of many pages may outlast the lease."""
        while True:
            await anyio.sleep(self.services.policy.lease / 3)
            if not await self.services.ledger.call(
                lambda ledger: ledger.renew(attempt, holder=self.holder)
            ):
                return
