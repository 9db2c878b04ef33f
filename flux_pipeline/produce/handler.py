"""Performs what the core asks for, for one request: sockets, disks and the database."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, singledispatchmethod

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
    """Which of these ids the ledger holds already; blocking, and seldom asked."""
    ingest: ImageIngest
    schedule: PollSchedule
    policy: Policy
    run: RunContext
    threads: anyio.CapacityLimiter
    resends_left: int
    clock: Callable[[], float] = time.monotonic
    denied: AccessDenied | None = None
    """Set by the first 401, 402 or 403: nothing more is sent in this run."""


@dataclass(slots=True)
class EffectHandler:
    """One request's hands."""

    services: RunServices
    request: Request
    holder: str
    """This request's own: two of one name could renew for each other."""
    intent: Intent
    budgets: Sequence[Budget]

    @singledispatchmethod
    async def perform(self, effect: fx.Effect) -> object:
        """Perform one effect; the outcome is as its class says."""
        raise TypeError(f"no such effect: {effect!r}")

    @perform.register
    async def _(self, _effect: fx.AwaitPermit) -> None:
        if self.services.denied is None:
            await self.services.provider.permit()

    @perform.register
    async def _(self, effect: fx.ClaimAttempt) -> Claim:
        claim = partial(_claim, self.intent, self.holder, effect.after, self.budgets)
        return await self.services.ledger.call(claim)

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
            group.start_soon(self._keep_claim, effect.attempt)
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

    async def _keep_claim(self, attempt: Attempt) -> None:
        """Renew the claim while a list of many pages is read, which may take longer than it."""
        while True:
            await anyio.sleep(self.services.policy.lease / 3)
            if not await self.services.ledger.call(
                lambda ledger: ledger.renew(attempt, holder=self.holder)
            ):
                return


def _claim(
    intent: Intent, holder: str, after: int, budgets: Sequence[Budget], ledger: Ledger
) -> Claim:
    return ledger.claim(intent, holder=holder, after=after, budgets=budgets)
