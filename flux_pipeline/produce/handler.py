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
from flux_pipeline.ledger.transaction import Transaction
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
from flux_pipeline.produce.ingest import Keeper
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.records import build_record
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.polling import PollSchedule
from flux_pipeline.request import Request


@dataclass(slots=True)
class Seams:
    """What all requests of one run share."""

    provider: Provider
    ledger: LedgerWriter[Transaction]
    known_ids: Callable[[Sequence[str]], set[str]]
    """Which of these ids the ledger holds already; blocking, and seldom asked."""
    keeper: Keeper
    schedule: PollSchedule
    policy: Policy
    run: RunContext
    threads: anyio.CapacityLimiter
    resends_left: int
    clock: Callable[[], float] = time.monotonic
    denied: AccessDenied | None = None
    """Set by the first 401, 402 or 403: nothing more is sent in this run."""


@dataclass(slots=True)
class Performer:
    """One request's hands."""

    seams: Seams
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
        if self.seams.denied is None:
            await self.seams.provider.permit()

    @perform.register
    async def _(self, effect: fx.ClaimAttempt) -> Claim:
        claim = partial(_claim, self.intent, self.holder, effect.after, self.budgets)
        return await self.seams.ledger.call(claim)

    @perform.register
    async def _(self, effect: fx.RenewClaim) -> bool:
        return await self.seams.ledger.call(
            lambda ledger: ledger.renew(effect.attempt, holder=self.holder)
        )

    @perform.register
    async def _(self, effect: fx.Send) -> CreateOutcome:
        if self.seams.denied is not None:
            return self.seams.denied
        if self.seams.clock() > effect.not_after:
            return NeverSent("the claim had grown too old before the request could be sent")
        outcome = await self.seams.provider.create(self.request, permitted=True)
        if isinstance(outcome, AccessDenied):
            self.seams.denied = outcome
        return outcome

    @perform.register
    async def _(self, effect: fx.WriteAccepted) -> State:
        prediction = effect.prediction
        return await self.seams.ledger.call(
            lambda ledger: ledger.accept(
                effect.attempt, prediction_id=prediction.id, reply=dump_reply(prediction)
            )
        )

    @perform.register
    async def _(self, effect: fx.WriteFound) -> bool:
        attempt, prediction = effect.attempt, effect.prediction
        reply = dump_reply(prediction)

        def write(ledger: Transaction) -> bool:  # both in one transaction
            if not ledger.renew(attempt, holder=self.holder):
                return False
            ledger.accept(attempt, prediction_id=prediction.id, reply=reply)
            return True

        return await self.seams.ledger.call(write)

    @perform.register
    async def _(self, effect: fx.WriteSucceeded) -> bool:
        reply = dump_reply(effect.prediction)
        return await self.seams.ledger.call(
            lambda ledger: ledger.succeed(effect.attempt, reply=reply)
        )

    @perform.register
    async def _(self, effect: fx.Close) -> bool:
        images = records_to_json(effect.records)
        return await self.seams.ledger.call(
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
        return await self.seams.ledger.call(
            lambda ledger: ledger.history(self.request.request_sha256)
        )

    @perform.register
    async def _(self, _effect: fx.TakeResend) -> bool:
        self.seams.resends_left -= 1
        return self.seams.resends_left >= 0

    @perform.register
    async def _(self, effect: fx.FindInList) -> FindOutcome:
        async with anyio.create_task_group() as group:
            group.start_soon(self._keep_claim, effect.attempt)
            outcome = await self.seams.provider.find(
                self.request, since=effect.attempt.intent_at, known=self.seams.known_ids
            )
            group.cancel_scope.cancel()
        return outcome

    @perform.register
    async def _(self, effect: fx.AwaitPoll) -> None:
        schedule, model = self.seams.schedule, self.request.model
        await anyio.sleep(schedule.wait(model, elapsed=effect.elapsed, polls=effect.polls))

    @perform.register
    async def _(self, effect: fx.Poll) -> PollOutcome:
        outcome = await self.seams.provider.poll(effect.prediction_id)
        if isinstance(outcome, Polled) and outcome.prediction.status is Status.SUCCEEDED:
            self.seams.schedule.observe(self.request.model, outcome.prediction)
        return outcome

    @perform.register
    async def _(self, effect: fx.Cancel) -> PollOutcome:
        return await self.seams.provider.cancel(effect.prediction_id)

    @perform.register
    async def _(self, effect: fx.Keep) -> fx.KeepOutcome:
        seams = self.seams
        try:
            body = await seams.provider.download(effect.output)
        except DownloadError as error:
            reason = f"output {effect.output.index}: {error}"
            if error.gone:
                return fx.NotKept("gone", reason)
            return fx.NotKept("again" if error.retryable else "unusable", reason)
        record = build_record(
            self.request,
            seams.run,
            index=effect.output.index,
            status=ImageStatus.STORED,
            attempt=effect.attempt,
            prediction=effect.prediction,
            polls=effect.polls,
        )
        return await to_thread.run_sync(
            seams.keeper.keep, self.request, record, body, limiter=seams.threads
        )

    @perform.register
    async def _(self, effect: fx.Sleep) -> None:
        await anyio.sleep(max(effect.seconds, 0.0))

    async def _keep_claim(self, attempt: Attempt) -> None:
        """Renew the claim while a list of many pages is read, which may take longer than it."""
        while True:
            await anyio.sleep(self.seams.policy.lease / 3)
            if not await self.seams.ledger.call(
                lambda ledger: ledger.renew(attempt, holder=self.holder)
            ):
                return


def _claim(
    intent: Intent, holder: str, after: int, budgets: Sequence[Budget], ledger: Ledger
) -> Claim:
    return ledger.claim(intent, holder=holder, after=after, budgets=budgets)
