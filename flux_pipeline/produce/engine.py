"""The engine runs the state machines of many requests at once, with bounded memory.

It performs what each state machine (``produce.core``) yields and sends the outcome back. A request
that needs nothing costs no task. Requests that are prepared are bounded, and creates under way, and
images (by the handler); those that are waited for are as many as the rate and their time make
(``produce.in_flight``). A cancel stops everything except what may have been paid a moment ago:
creates under way are waited for, and their ids written, within ``DRAIN_SECONDS``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectSendStream

from flux_pipeline.iteration import batched
from flux_pipeline.ledger.base import Attempt
from flux_pipeline.lineage.record import records_from_json
from flux_pipeline.outcomes import NeverSent
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.bounds import Bounds, Place
from flux_pipeline.produce.core import Stage, produce
from flux_pipeline.produce.followers import EARLY, Follower, Followers
from flux_pipeline.produce.handler import EffectHandler, RunServices
from flux_pipeline.produce.recorder import Item, Recorder, Tracked, Tracker, track
from flux_pipeline.produce.report import PartitionReport, Progress, Result, ResultStatus
from flux_pipeline.request import Request

DRAIN_SECONDS = 20.0
"""How long creates under way may take after a cancel; within the 30 s that supervisors wait."""
_BATCH = 500  # requests that are looked up in the ledger at once

_POLLING = (fx.AwaitPoll, fx.Poll)


@dataclass(frozen=True, slots=True)
class Early:
    """One request of a set that follows, begun before that set's own step."""

    follower: Follower
    request: Request


@dataclass(slots=True)
class Engine:
    """Runs the requests of one run; lives on one event loop."""

    services: RunServices
    recorder: Recorder
    make_handler: Callable[[Request, Follower | None], EffectHandler]
    observe: Callable[[Result], None]
    progress: Progress
    reports: MemoryObjectSendStream[PartitionReport]
    bounds: Bounds
    group: TaskGroup
    followers: Followers = field(default_factory=Followers)
    running: int = 0
    """Predictions that were accepted and have not ended."""
    _shields: set[anyio.CancelScope] = field(default_factory=set)
    _draining: bool = False

    async def feed(self, partitions: Iterable[tuple[str, Iterable[Request]]]) -> None:
        """Start every request, and return when all have been started.

        They end in the task group. A partition's report is sent when its last request has ended.
        """
        for batch in batched(track(partitions), _BATCH):
            latest = await self._latest(batch)
            for item in sorted(batch, key=lambda item: _priority(item, latest)):
                if isinstance(item, Tracked):
                    await self._start(item, latest.get(item.request.request_sha256))
                else:
                    await self._report(item.tracker)

    def drain(self) -> None:
        """Cancel the run: nothing new is sent; creates under way end and their ids are written."""
        self._draining = True
        for shield in self._shields:
            shield.deadline = anyio.current_time() + DRAIN_SECONDS
        self.group.cancel_scope.cancel()

    async def _latest(self, batch: list[Item]) -> Mapping[str, Attempt]:
        wanted = [item.request.request_sha256 for item in batch if isinstance(item, Tracked)]
        return await self.services.ledger.call(lambda ledger: ledger.find(wanted))

    async def _start(self, item: Tracked, attempt: Attempt | None) -> None:
        early = EARLY.take(self.services.run.run_id, item.request)
        if early is not None:  # begun with the set before; it was observed then
            item.tracker.end(early, recorded=False)
            self.progress.add(early)
            await self._report(item.tracker)
            return
        await self._begin(item, attempt)

    async def _begin(self, item: Tracked | Early, attempt: Attempt | None) -> None:
        follower = item.follower if isinstance(item, Early) else None
        stage = produce(
            item.request,
            latest=attempt,
            run=follower.run if follower else self.services.run,
            policy=self.services.policy,
            clock=self.services.clock,
            load_records=records_from_json,
        )
        try:
            effect = next(stage)
        except StopIteration as ended:
            recorded = attempt is not None and attempt.recorded
            await self._end(item, ended.value, recorded=recorded)
            await self._follow(ended.value)
            return
        if self.bounds.cap is not None:
            await self.bounds.cap.acquire()
        await self.bounds.preparing.acquire()
        self.group.start_soon(self._drive, item, stage, effect)

    async def _follow(self, result: Result) -> None:
        """Begin what follows from a result in other sets; wait for places, not for their ends."""
        if not self.followers.sets or self._draining:
            return
        found = await to_thread.run_sync(lambda: list(self.followers.requests(result)))
        shas = [request.request_sha256 for _, request in found]
        latest = await self.services.ledger.call(lambda ledger: ledger.find(shas))
        for follower, request in found:
            await self._begin(Early(follower, request), latest.get(request.request_sha256))

    async def _drive(self, item: Tracked | Early, stage: Stage[Result], effect: fx.Effect) -> None:
        follower = item.follower if isinstance(item, Early) else None
        handler = self.make_handler(item.request, follower)
        place = Place(self.bounds, item.request.model, handler.holder)
        accepted = False
        try:
            while True:
                if isinstance(effect, _POLLING) and not accepted:  # accepted by an earlier run
                    accepted, self.running = True, self.running + 1
                outcome = await self._perform(handler, place, effect)
                if isinstance(effect, fx.WriteAccepted) and not accepted:
                    accepted, self.running = True, self.running + 1
                if isinstance(outcome, fx.Stored):
                    await self.recorder.add_thumbnail(outcome)
                effect = stage.send(outcome)
        except StopIteration as ended:
            self.running -= accepted
            await self._end(item, ended.value, recorded=False)
            # Not from within this task, which holds a place until it ends.
            if self.followers.sets:
                self.group.start_soon(self._follow, ended.value)
        finally:
            self.services.brake.forget(handler.holder)
            self.services.schedule.forget(item.request.model, handler.holder)
            place.leave()

    async def _perform(self, handler: EffectHandler, place: Place, effect: fx.Effect) -> Any:
        name = type(effect).__name__
        self.progress.doing[name] += 1
        try:
            await place.make_room(effect)
            if isinstance(effect, fx.Send):
                return await self._send(handler, effect)
            return await handler.perform(effect)
        finally:
            self.progress.doing[name] -= 1

    async def _send(self, handler: EffectHandler, effect: fx.Send) -> Any:
        """Perform a create; a cancel cuts it short when ``DRAIN_SECONDS`` of a drain are over.

        Nor does a cancel come between the create and the write of its id: the ledger's calls are
        not cut short either (``LedgerWriter.call``), and nothing is waited for in between.
        """
        if self._draining:
            return NeverSent("the run was stopped")
        with anyio.CancelScope(shield=True) as shield:
            self._shields.add(shield)
            try:
                return await handler.perform(effect)
            finally:
                self._shields.discard(shield)
        await checkpoint()  # the drain's time is over: here the cancel takes hold
        raise TimeoutError("a create had to be given up")

    async def _end(self, item: Tracked | Early, result: Result, *, recorded: bool) -> None:
        if isinstance(item, Early):
            # The rest is tried again, or told, by its own set's step, as without a chain.
            if result.status is ResultStatus.STORED:
                EARLY.keep(self.services.run.run_id, result)
                self.observe(result)
            return
        tracker = item.tracker
        tracker.end(result, recorded=recorded)
        self.progress.add(result)
        self.observe(result)
        await self._report(tracker)

    async def _report(self, tracker: Tracker) -> None:
        if not tracker.take_finished():
            return
        if not tracker.unrecorded:
            await self.reports.send(tracker.report())
            return
        await self.bounds.recording.acquire()
        # Not within this task, which holds a place: rows wait for those of other partitions.
        self.group.start_soon(self._record, tracker)

    async def _record(self, tracker: Tracker) -> None:
        try:
            await self.recorder.record(tracker)
            await self.reports.send(tracker.report())
        finally:
            self.bounds.recording.release()


def _priority(item: Item, latest: Mapping[str, Attempt]) -> tuple[int, float, str]:
    """Sort key: open attempts first, oldest first, because outputs expire; then by weights.

    By weights, such as a LoRA, because the provider reloads them whenever they change.
    """
    if not isinstance(item, Tracked):
        return 2, 0.0, ""
    attempt = latest.get(item.request.request_sha256)
    if attempt is not None and attempt.state.is_open:
        return 0, attempt.intent_at, ""
    return 1, 0.0, item.request.weights
