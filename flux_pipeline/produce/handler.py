"""Performs the effects that the core yields, over sockets, disks and the database.

Every effect is one method of ``EffectHandler``, chosen by the effect's class. The handler decides
nothing about a request; only the stop after a first 401, 402 or 403, or a proxy's refusal, is kept
here, because it concerns all requests of a run.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

import anyio
from anyio import from_thread, to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from flux_pipeline.errors import DownloadError, StoreError
from flux_pipeline.iteration import batched
from flux_pipeline.ledger.base import Adoption, Attempt, Budget, Claim, Intent, Ledger, State
from flux_pipeline.ledger.codec import dump_reply
from flux_pipeline.ledger.leases import elapsed_since_boot
from flux_pipeline.ledger.writer import LedgerWriter
from flux_pipeline.lineage.record import ImageRecord, ImageStatus, records_to_json
from flux_pipeline.outcomes import (
    Accepted,
    AccessDenied,
    CreateOutcome,
    FindOutcome,
    NeverSent,
    Polled,
    PollOutcome,
    Rejected,
    Stopped,
    Throttled,
)
from flux_pipeline.prediction import Prediction
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.brake import Brake, SendLimit
from flux_pipeline.produce.core import is_unread_input
from flux_pipeline.produce.downloads import Downloads
from flux_pipeline.produce.ingest import ImageIngest
from flux_pipeline.produce.pictures import InputPreparer, SentInput, hide
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.records import build_record
from flux_pipeline.produce.removal import Removal
from flux_pipeline.produce.report import Stop
from flux_pipeline.produce.spool import Spool
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.listing import KnownIds
from flux_pipeline.provider.polling import PollSchedule
from flux_pipeline.request import Request
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store

P = ParamSpec("P")
T = TypeVar("T")
_KEPT = frozenset({State.ACCEPTED, State.SUCCEEDED, State.STORED})
"""States of an attempt whose image may be in the store."""
_RENEWED_AT_ONCE = 200
"""Claims in one transaction: others wait for it."""


@dataclass(slots=True)
class ClaimRenewals:
    """Renews the claims of requests that wait for longer than their lease; for one event loop.

    One task renews all of them: a task for each would cost more than the image's other tasks.
    """

    ledger: LedgerWriter
    lease: float
    """s; claims are renewed three times as often."""
    waiting: dict[str, Attempt] = field(default_factory=dict)
    """By holder."""

    @contextmanager
    def while_waiting(self, attempt: Attempt, *, holder: str) -> Iterator[None]:
        """Have a claim renewed in this block, while ``run`` runs."""
        self.waiting[holder] = attempt
        try:
            yield
        finally:
            self.waiting.pop(holder, None)

    async def run(self) -> None:
        """Renew until canceled. A claim that another has taken is not renewed again.

        Raises:
            LedgerError: The database failed.
        """
        while True:
            await anyio.sleep(self.lease / 3)
            for group in batched(list(self.waiting.items()), _RENEWED_AT_ONCE):
                lost = await self.ledger.call(partial(_renew, group))
                for holder, attempt in lost:
                    if self.waiting.get(holder) is attempt:  # it may have gone on meanwhile
                        del self.waiting[holder]


def _renew(group: Sequence[tuple[str, Attempt]], ledger: Ledger) -> Sequence[tuple[str, Attempt]]:
    """Renew these claims; return those that are others' by now."""
    return [each for each in group if not ledger.renew(each[1], holder=each[0])]


@dataclass(slots=True)
class RunServices:
    """What all requests of one run share."""

    provider: Provider
    ledger: LedgerWriter
    renewals: ClaimRenewals
    known_ids: Callable[[Sequence[str]], set[str]]
    """Returns those of the ids that the ledger holds already; blocks, and is seldom called."""
    not_ours: frozenset[str] = field(default=frozenset(), kw_only=True)
    """Ids that belong to no request here, beyond those that the ledger holds."""
    ingest: ImageIngest
    inputs: InputPreparer
    schedule: PollSchedule
    policy: Policy
    run: RunContext
    threads: anyio.CapacityLimiter
    """How many threads decode, label and store."""
    workers: ThreadPoolExecutor
    """Those threads; as many as the limiter allows. What calls back into the loop runs in anyio's,
    whose hand-over costs twice as much."""
    downloads: Downloads
    resends_left: int
    """How many requests of unknown fate this run may still send again."""
    spool: Spool
    brake: Brake = field(default_factory=Brake)
    limit: SendLimit = field(default_factory=SendLimit)
    open_archive: Callable[[str], Store] = open_store
    """Opens the archive of images that were removed."""
    clock: Callable[[], float] = time.monotonic
    listing: anyio.Lock = field(default_factory=lambda: anyio.Lock(fast_acquire=True))
    """Held while a set is listed: 64 requests that begin together need one listing."""
    accepted: int = 0
    """Creates that the provider accepted: its address and our form are right, then."""


_Performer: TypeAlias = Callable[[Any, Any], Awaitable[object]]
_PERFORMERS: dict[type[fx.Effect], _Performer] = {}
"""The method of ``EffectHandler`` for each effect. Not ``singledispatchmethod``, which makes a new
function at each of the ten effects of an image."""


def _performs(kind: type[fx.Effect]) -> Callable[[_Performer], _Performer]:
    def register(method: _Performer) -> _Performer:
        _PERFORMERS[kind] = method
        return method

    return register


@dataclass(slots=True)
class EffectHandler:
    """Performs the effects of one request."""

    services: RunServices
    request: Request
    holder: str
    """Names this request's claims. Unique, because equal holders could renew each other's."""
    intent: Intent
    budgets: Sequence[Budget]
    run: RunContext | None = None
    """The run of a set that follows; None for that of the services."""
    claimed_at: float = 0.0
    """When the last claim was asked for, in seconds since this host's boot."""
    sent_input: SentInput | None = None
    """What is sent, from its preparation to the create."""
    taken: set[str] = field(default_factory=set)
    """Ids in the list that another attempt turned out to hold."""

    def perform(self, effect: fx.Effect) -> Awaitable[object]:
        """Perform one effect, and return the outcome that its class describes."""
        perform = _PERFORMERS.get(type(effect))
        if perform is None:
            raise TypeError(f"no such effect: {effect!r}")
        return perform(self, effect)

    @_performs(fx.FindStored)
    async def _(self, _effect: fx.FindStored) -> Stopped | None:
        uri = await self._find_stored()
        if uri is None or isinstance(uri, Stopped) or await self._is_kept_by_another():
            return uri if isinstance(uri, Stopped) else None
        reason = (
            f"{uri} is stored already, and the ledger has forgotten it: an older backup was"
            " restored; run `flux-pipeline reindex`, then nothing is paid again"
        )
        return self.services.brake.stop(Stop.LEDGER, reason)

    @_performs(fx.PrepareInput)
    async def _(self, _effect: fx.PrepareInput) -> fx.NotReady | None:
        services = self.services
        if services.brake.stopped is not None:
            return None  # the permit says so
        unoffered = services.provider.find_unoffered(self.request)
        if unoffered is not None:
            return fx.NotReady(unoffered)
        prepared = await services.inputs.prepare(self.request)
        if isinstance(prepared, fx.NotReady):
            return prepared
        self.sent_input = prepared
        return None

    @_performs(fx.AwaitPermit)
    async def _(self, _effect: fx.AwaitPermit) -> Stopped | None:
        brake, limit = self.services.brake, self.services.limit
        await brake.wait()
        if limit.is_reached:
            return brake.stop(Stop.LIMIT, limit.reason)
        if brake.stopped is None:
            await self.services.provider.permit()
            await brake.wait()
        return brake.stopped

    @_performs(fx.ClaimAttempt)
    async def _(self, effect: fx.ClaimAttempt) -> Claim:
        self.claimed_at = elapsed_since_boot()
        return await self.services.ledger.call(
            lambda ledger: ledger.claim(
                self.intent, holder=self.holder, after=effect.after, budgets=self.budgets
            ),
            can_wait=True,  # nothing was sent yet
        )

    @_performs(fx.RenewClaim)
    async def _(self, effect: fx.RenewClaim) -> bool:
        return await self.services.ledger.call(
            lambda ledger: ledger.renew(effect.attempt, holder=self.holder)
        )

    @_performs(fx.Send)
    async def _(self, effect: fx.Send) -> CreateOutcome:
        services = self.services
        if services.brake.stopped is not None:
            return services.brake.stopped
        if services.clock() > effect.not_after:
            return NeverSent("the claim had grown too old before the request could be sent")
        sent, self.sent_input = self.sent_input, None  # it may be large, and is sent once
        if sent is None or services.inputs.now() > sent.send_before:
            return NeverSent("the address of a picture would have ended before it is read")
        if not services.limit.take():
            return services.brake.stop(Stop.LIMIT, services.limit.reason)
        outcome = hide(
            await services.provider.create(self.request, sent_input=sent.values, permitted=True),
            sent.secrets,
        )
        match outcome:
            case Accepted():
                services.accepted += 1
            case NeverSent() | Throttled():
                services.limit.give_back()  # it is sent again, and counted then
            case AccessDenied(code, detail):
                services.brake.stop(Stop.of_denial(code), f"the provider answered {code}: {detail}")
            case Stopped(kind, reason):
                services.brake.stop(Stop(kind), reason)
            case Rejected(code, detail) if not services.accepted:
                # Nothing was ever accepted: this is no matter of the one prompt.
                services.brake.stop(Stop.REJECTED, f"the provider answered {code}: {detail}")
        return outcome

    @_performs(fx.WriteAccepted)
    async def _(self, effect: fx.WriteAccepted) -> State:
        prediction = effect.prediction
        return await self.services.ledger.call(
            lambda ledger: ledger.accept(
                effect.attempt, prediction_id=prediction.id, reply=dump_reply(prediction)
            )
        )

    @_performs(fx.WriteFound)
    async def _(self, effect: fx.WriteFound) -> Adoption:
        prediction = effect.prediction
        reply = dump_reply(prediction)
        adoption = await self.services.ledger.call(
            lambda ledger: ledger.adopt(
                effect.attempt, holder=self.holder, prediction_id=prediction.id, reply=reply
            )
        )
        if adoption is Adoption.TAKEN and prediction.id is not None:
            self.taken.add(prediction.id)
        return adoption

    @_performs(fx.WriteSucceeded)
    async def _(self, effect: fx.WriteSucceeded) -> bool:
        reply = dump_reply(effect.prediction)
        return await self.services.ledger.call(
            lambda ledger: ledger.succeed(effect.attempt, reply=reply), can_wait=True
        )

    @_performs(fx.Close)
    async def _(self, effect: fx.Close) -> bool:
        images = records_to_json(effect.records)
        if effect.state is State.FAILED and effect.error:
            self.services.brake.note_failure("a prediction failed", effect.error)
            if is_unread_input(effect.error):
                with anyio.CancelScope(shield=True):  # the attempt is closed in any case
                    await self.services.inputs.retire(self.request)
        return await self.services.ledger.call(
            lambda ledger: ledger.close(
                effect.attempt,
                effect.state,
                holder=self.holder,
                error=effect.error,
                retryable=effect.retryable,
                images=images,
                resolution=effect.resolution,
            ),
            can_wait=True,
        )

    @_performs(fx.ReadHistory)
    async def _(self, _effect: fx.ReadHistory) -> Sequence[Attempt]:
        return await self.services.ledger.call(
            lambda ledger: ledger.history(self.request.request_sha256)
        )

    @_performs(fx.TakeResend)
    async def _(self, _effect: fx.TakeResend) -> bool:
        self.services.resends_left -= 1
        return self.services.resends_left >= 0

    @_performs(fx.FindInList)
    async def _(self, effect: fx.FindInList) -> FindOutcome:
        attempt, age = effect.attempt, effect.attempt.steady_age
        if age is not None:
            age += elapsed_since_boot() - self.claimed_at
        with self.services.renewals.while_waiting(attempt, holder=self.holder):
            outcome = await self.services.provider.find(
                self.request,
                since=attempt.intent_at,
                age=age,
                known=await self._known_ids(),
                sent_as=await self.services.inputs.addresses(self.request),
            )
        return hide(outcome, self._secrets())

    @_performs(fx.AwaitPoll)
    async def _(self, effect: fx.AwaitPoll) -> bool:
        return await self.services.schedule.pause(
            self.request.model,
            elapsed=effect.elapsed + effect.age,
            polls=effect.polls,
            waited=effect.waited,
            name=self.holder,
            most=self.services.policy.lease / 3,
        )

    @_performs(fx.Poll)
    async def _(self, effect: fx.Poll) -> PollOutcome:
        outcome = hide(await self.services.provider.poll(effect.prediction_id), self._secrets())
        if isinstance(outcome, Polled) and outcome.prediction.status.is_final:
            self.services.schedule.observe(self.request.model, outcome.prediction, name=self.holder)
        return outcome

    @_performs(fx.Cancel)
    async def _(self, effect: fx.Cancel) -> PollOutcome:
        return hide(await self.services.provider.cancel(effect.prediction_id), self._secrets())

    @_performs(fx.StoreOutput)
    async def _(self, effect: fx.StoreOutput) -> fx.StoreOutcome:
        await self._take_place(effect.attempt)
        try:
            outcome = await self._store_output(effect)
        finally:
            self.services.downloads.limiter.release()
        brake = self.services.brake
        match outcome:
            case fx.Stored():
                brake.note_stored()
            case fx.NotStored("store", reason):
                is_last_try = effect.is_last_try("store")
                brake.note_store_failure(self.holder, reason, is_last_try=is_last_try)
            case fx.NotStored(because, reason) if because == "refused" or effect.is_last_try(
                because
            ):
                brake.note_failure("a picture could not be fetched", reason)
            case fx.NotStored():
                brake.note_delay(self.holder)
        return outcome

    @_performs(fx.FindImage)
    async def _(self, effect: fx.FindImage) -> fx.StoreOutcome:
        record = self._build_record(effect.attempt, effect.prediction, effect.index, effect.polls)
        body = await self._read_spool(record)
        if body is not None:
            return await self._ingest(record, body, was_spooled=True)
        return await to_thread.run_sync(
            self.services.ingest.find_image, self.request, record, limiter=self.services.threads
        )

    @_performs(fx.EndRemoval)
    async def _(self, effect: fx.EndRemoval) -> Attempt | fx.NotReady:
        removal = self._removal()
        try:
            return await self._in_thread(lambda: removal.settle(effect.attempt))
        except StoreError as error:
            return fx.NotReady(f"its removal was begun and can't be ended: {error}")

    @_performs(fx.BringBack)
    async def _(self, effect: fx.BringBack) -> Attempt | fx.NotReady | str | None:
        removal = self._removal()
        try:
            attempt, missing = await self._in_thread(lambda: removal.bring_back(effect.attempt))
        except StoreError as error:
            return fx.NotReady(
                f"it was archived and can't be brought back, which would cost nothing: {error}"
            )
        return attempt or missing or None

    def _removal(self) -> Removal:
        services = self.services

        def call(work: Callable[[Ledger], T]) -> T:
            return from_thread.run(services.ledger.call, work)

        return Removal(
            services.ingest.store, call, self.holder, services.ingest.now, services.open_archive
        )

    async def _work(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``work`` in one of the workers; a cancel waits until it has ended."""
        await checkpoint_if_cancelled()
        threads = self.services.threads
        try:
            threads.acquire_nowait()  # without the turn of the loop that acquire takes
        except anyio.WouldBlock:
            await threads.acquire()
        try:
            with anyio.CancelScope(shield=True):
                answer: T = await asyncio.get_running_loop().run_in_executor(
                    self.services.workers, partial(work, *args, **kwargs)
                )
            return answer
        finally:
            threads.release()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self.services.threads)

    @_performs(fx.Sleep)
    async def _(self, effect: fx.Sleep) -> None:
        await anyio.sleep(max(effect.seconds, 0.0))

    def _secrets(self) -> tuple[str, ...]:
        """The values of this request's secrets, which another run may have sent."""
        return self.services.inputs.secret_values(self.request)

    async def _find_stored(self) -> str | Stopped | None:
        """Find a stored image of this request; a store that fails is asked again for a while."""
        services, failures = self.services, 0
        while services.brake.stopped is None:
            try:
                uri = await self._look_for_stored(failures)
            except StoreError as error:
                failures += 1
                is_last_try = failures >= services.policy.store_tries
                services.brake.note_store_failure(self.holder, str(error), is_last_try=is_last_try)
                if not is_last_try:
                    await anyio.sleep(services.policy.wait_after(failures))
            else:
                services.brake.forget(self.holder)
                return uri
        return services.brake.stopped

    async def _look_for_stored(self, failures: int) -> str | None:
        """Look once. Where the set is listed for that, one lists it for all that wait here.

        After a failure nobody is waited for: how long a store may fail counts for each request.
        """
        ingest = self.services.ingest
        if ingest.is_known_absent(self.request):
            return None
        if failures or not ingest.is_listing_due(self.request):
            return await self._in_thread(lambda: ingest.find(self.request))
        async with self.services.listing:
            if self.services.brake.stopped is not None or ingest.is_known_absent(self.request):
                return None
            return await self._in_thread(lambda: ingest.find(self.request))

    async def _is_kept_by_another(self) -> bool:
        """Whether the ledger knows of the stored image: another run may have made it just now."""
        sha = self.request.request_sha256
        latest = (await self.services.ledger.call(lambda ledger: ledger.find([sha]))).get(sha)
        return latest is not None and latest.state in _KEPT

    async def _take_place(self, attempt: Attempt) -> None:
        """Take a place for one picture in memory; the claim is renewed while none is free."""
        places = self.services.downloads.limiter
        try:
            places.acquire_nowait()
        except anyio.WouldBlock:
            with self.services.renewals.while_waiting(attempt, holder=self.holder):
                await places.acquire()

    async def _store_output(self, effect: fx.StoreOutput) -> fx.StoreOutcome:
        output = effect.output
        record = self._build_record(effect.attempt, effect.prediction, output.index, effect.polls)
        body = await self._read_spool(record)
        was_spooled = body is not None
        if body is None:
            try:
                body = await self.services.provider.download(output)
            except DownloadError as error:
                reason = f"output {output.index}: {error}"
                if error.gone:
                    return fx.NotStored("gone", reason)
                return fx.NotStored("again" if error.retryable else "refused", reason)
        return await self._ingest(record, body, was_spooled=was_spooled)

    async def _read_spool(self, record: ImageRecord) -> bytes | None:
        spool = self.services.spool
        if not spool.exists():  # asked without a thread, because it seldom does
            return None
        return await to_thread.run_sync(spool.find, *_place(record))

    async def _ingest(
        self, record: ImageRecord, body: bytes, *, was_spooled: bool
    ) -> fx.StoreOutcome:
        """Store the image; its bytes wait in the spool while the store fails."""
        services, place = self.services, _place(record)
        services.downloads.note_size(len(body))
        outcome = await self._work(services.ingest.ingest, self.request, record, body)
        if isinstance(outcome, fx.Stored):
            if was_spooled:
                await to_thread.run_sync(services.spool.forget, *place)
        elif outcome.because == "store" and await to_thread.run_sync(
            services.spool.keep, *place, body
        ):
            kept = f"{outcome.reason}; kept in {services.spool.folder} until then"
            return fx.NotStored("store", kept)
        return outcome

    def _build_record(
        self, attempt: Attempt, prediction: Prediction, index: int, polls: int
    ) -> ImageRecord:
        return build_record(
            self.request,
            self.run or self.services.run,
            index=index,
            status=ImageStatus.STORED,
            attempt=attempt,
            prediction=prediction,
            polls=polls,
        )

    async def _known_ids(self) -> KnownIds:
        """The ids that belong to other attempts, before a reading of the list begins.

        Of takes of one input exactly those at that moment: one that was adopted while the list was
        read may have left another prediction to this request, which that reading does not show.
        """
        shared = self.intent.input_sha256
        if not shared:
            return self.services.known_ids
        held = await self.services.ledger.call(lambda ledger: ledger.ids_of_input(shared))
        return held | self.taken | self.services.not_ours


def _place(record: ImageRecord) -> tuple[str, str | None, int]:
    """Where an output waits in the spool."""
    return record.request_sha256, record.prediction_id, record.output_index
