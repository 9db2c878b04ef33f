"""The producer runs the engine behind a blocking iterator, for Dagster and the command line.

The event loop runs in a thread of its own (anyio's portal). So an interrupt of the calling thread
is never lost, and a caller that reads its reports slowly holds up no paid image.
"""

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from uuid import uuid4

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from flux_pipeline.garbage_collector import fewer_collections
from flux_pipeline.images.allocator import give_back_freed_memory
from flux_pipeline.images.signing import ManifestSigner
from flux_pipeline.ledger.base import Intent
from flux_pipeline.ledger.codec import dump_request
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.ledger.uploads import SqlUploads
from flux_pipeline.ledger.writer import LedgerWriter
from flux_pipeline.lineage.record import EMULATED
from flux_pipeline.models import shared_input
from flux_pipeline.produce.bounds import Bounds
from flux_pipeline.produce.brake import SendLimit, current_limit
from flux_pipeline.produce.budgets import Limits, micros
from flux_pipeline.produce.downloads import Downloads
from flux_pipeline.produce.engine import Engine
from flux_pipeline.produce.followers import Follower, Followers
from flux_pipeline.produce.handler import ClaimRenewals, EffectHandler, RunServices
from flux_pipeline.produce.in_flight import InFlight
from flux_pipeline.produce.ingest import ImageIngest
from flux_pipeline.produce.pictures import InputFiles, InputPreparer
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.recorder import Recorder
from flux_pipeline.produce.report import (
    Observer,
    PartitionReport,
    Progress,
    Stop,
    current_follower,
    current_observer,
)
from flux_pipeline.produce.shutdown import (
    OpenStream,
    raise_signals,
    second_signal_exits,
    signals_deferred,
)
from flux_pipeline.produce.spool import Spool
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.polling import PollSchedule
from flux_pipeline.redaction import redact_input
from flux_pipeline.request import Request
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store
from flux_pipeline.store.unavailable import UnavailableStore

log = logging.getLogger(__name__)
LEFT_RUNNING = "stopped: %d predictions run on; the next run resumes them by id"
"""The warning of a run that was interrupted; its argument is how many the provider goes on with."""
SAY_EVERY = 5.0
"""s between two lines of progress; in Dagster's log each costs 2-4 ms."""
_MOST_AT_ONCE = 100
_GROUP_SECONDS = 0.25
"""s between two groups of reports, where they come that fast."""
_THREADS = 8  # that decode and store; images.inspection lets as many decode as there are cores
Partitions = Iterable[tuple[str, Iterable[Request]]]


def _nothing_to_note() -> None:
    """Stand in where ledger and store are not marked."""


def _no_secret(_name: str) -> None:
    """Stand in where no environment is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """Makes the images of requests. What was made before is free; what was begun is resumed."""

    open_provider: Callable[[], AbstractAsyncContextManager[Provider]]
    store: Store
    ledger: SqlLedger
    spool: Spool
    """Where outputs wait while the store fails."""
    policy: Policy = field(default_factory=Policy)
    concurrency: int | None = None
    """Requests in flight at most; None: as many as the rate and their time make."""
    aigc_producer: str = ""
    embed_prompt: bool = True
    signer: ManifestSigner | None = None
    note_recorded: Callable[[], None] = _nothing_to_note
    """Called once at the end of a run that has recorded something; blocking."""
    provider_name: str = ""
    """The provider's host, or ``record.EMULATED``, as the lineage names it."""
    account: str = ""
    """The provider's address: uploads are remembered for it alone."""
    input_files: InputFiles = "auto"
    """How pictures are sent."""
    read_secret: Callable[[str], str | None] = _no_secret
    """Gives the value of an environment variable that a secret input names."""
    open_archive: Callable[[str], Store] = open_store
    """Opens the archive of images that were removed."""
    not_ours: frozenset[str] = frozenset()
    """Ids of predictions that belong to no request here, beyond those in the ledger: a lost create
    is not settled with one of them."""

    @contextmanager
    def stream(
        self,
        partitions: Partitions,
        *,
        run: RunContext,
        limits: Limits | None = None,
        asked: int = 0,
        observe: Observer | None = None,
        expected: int = 0,
        say: Callable[[str], None] | None = None,
        followers: Followers | None = None,
    ) -> Iterator["Reports"]:
        """Yield an iterator of reports, one for each partition, in the order they finish.

        ``asked`` is the number of requests, as far as known: it sets how many of unknown fate may
        be sent again. ``observe`` defaults to the context's observer. ``say`` is called with a line
        of progress every few seconds, on the caller's thread: how many of ``expected`` images are
        done, and what the run waits for. ``followers`` are begun as soon as what they are made for
        is stored, and end before the iterator does. An exception in the block, also an interrupt,
        drains: creates under way end and their ids are written.
        """
        give_back_freed_memory()  # the threads that start here keep that of the pictures
        send, receive = anyio.create_memory_object_stream[PartitionReport](1000)
        engines: list[Engine] = []
        limit = current_limit()
        progress = Progress(expected, emulated=self.provider_name == EMULATED)
        current_follower()(progress)
        followers = Followers(
            [replace(each, run=self._named(each.run)) for each in (followers or Followers()).sets]
        )

        async def work() -> None:
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="image") as workers:
                parts = self._engine(
                    self._named(run),
                    limits=limits or Limits(),
                    asked=asked,
                    observe=observe or current_observer(),
                    progress=progress,
                    reports=send,
                    followers=followers,
                    limit=limit,
                    workers=workers,
                )
                async with send, parts as engine:
                    engines.append(engine)
                    await engine.feed(partitions)

        with fewer_collections(), _first_error_alone(), receive:
            stack = ExitStack()
            with signals_deferred() as came:
                portal = stack.enter_context(start_blocking_portal())
                future = portal.start_task_soon(work)
                end = OpenStream(partial(_end, stack, portal, future, engines))
            try:
                raise_signals(came)
                yield Reports(_report_groups(portal, receive, progress, say or _say_nothing))
                future.result()
            finally:
                end()
                give_back_freed_memory()

    @asynccontextmanager
    async def _engine(
        self,
        run: RunContext,
        *,
        limits: Limits,
        asked: int,
        observe: Observer,
        progress: Progress,
        reports: MemoryObjectSendStream[PartitionReport],
        followers: Followers,
        limit: SendLimit,
        workers: ThreadPoolExecutor,
    ) -> AsyncIterator[Engine]:
        async with (
            self.open_provider() as provider,
            LedgerWriter(self.ledger) as ledger,
            Recorder(self.store, ledger, run, self.note_recorded) as recorder,
            _renewing(ClaimRenewals(ledger, self.policy.lease)) as renewals,
            anyio.create_task_group() as group,
        ):
            progress.paused = provider.paused
            services = RunServices(
                provider=provider,
                ledger=ledger,
                renewals=renewals,
                known_ids=self._known_ids,
                not_ours=self.not_ours,
                ingest=ImageIngest(
                    self.store, _now, self.aigc_producer, self.embed_prompt, self.signer
                ),
                inputs=InputPreparer(
                    provider,
                    SqlUploads(self.ledger, self.account),
                    self.store,
                    self.policy,
                    mode=self.input_files,
                    read_secret=self.read_secret,
                ),
                schedule=PollSchedule(self.policy.expected_seconds),
                policy=self.policy,
                run=run,
                threads=anyio.CapacityLimiter(min(self.concurrency or _THREADS, _THREADS)),
                workers=workers,
                downloads=Downloads(),
                resends_left=max(5, asked // 100),
                spool=self.spool,
                limit=limit,
                open_archive=self.open_archive,
            )
            if isinstance(self.store, UnavailableStore):
                reason = f"nothing is created while the store can't be used: {self.store.reason}"
                services.brake.stop(Stop.STORE, reason)

            # A random name a run and a number a request: asking the system for each costs more.
            holders, numbers = uuid4().hex, count()

            def make_handler(request: Request, follower: Follower | None) -> EffectHandler:
                name = request.source.prompt_set
                own = follower.limits if follower else limits
                return EffectHandler(
                    services=services,
                    request=request,
                    holder=f"{holders}-{next(numbers)}",
                    intent=Intent(
                        request_sha256=request.request_sha256,
                        prompt_set=name,
                        run_id=run.run_id,
                        cost_micros=micros(request.cost_usd) or 0,
                        request_json=dump_request(_redacted(request)),
                        input_sha256=shared_input(request),
                    ),
                    budgets=own.budgets(run_id=run.run_id, prompt_set=name, now=_now()),
                    run=follower.run if follower else None,
                )

            yield Engine(
                services=services,
                recorder=recorder,
                make_handler=make_handler,
                observe=observe,
                progress=progress,
                reports=reports,
                bounds=Bounds(
                    InFlight(services.schedule.predict_seconds),
                    (
                        anyio.Semaphore(self.concurrency, fast_acquire=True)
                        if self.concurrency
                        else None
                    ),
                ),
                group=group,
                followers=followers,
            )

    def _named(self, run: RunContext) -> RunContext:
        """The same run with the provider that it asks."""
        return replace(run, provider=self.provider_name)

    def _known_ids(self, prediction_ids: Sequence[str]) -> set[str]:
        return self.ledger.known_ids(prediction_ids) | self.not_ours.intersection(prediction_ids)


class Reports(Iterator[PartitionReport]):
    """The reports of finished partitions: an iterator of each, or of those that are there."""

    def __init__(self, groups: Iterator[Sequence[PartitionReport]]) -> None:
        self._groups = groups
        self._ready: deque[PartitionReport] = deque()

    def __next__(self) -> PartitionReport:
        """Wait for the next one."""
        while not self._ready:
            self._ready.extend(next(self._groups))
        return self._ready.popleft()

    def groups(self) -> Iterator[Sequence[PartitionReport]]:
        """Wait for the next one and give it with all that have finished too, at most 100."""
        return self._groups


def _report_groups(
    portal: BlockingPortal,
    receive: MemoryObjectReceiveStream[PartitionReport],
    progress: Progress,
    say: Callable[[str], None],
) -> Iterator[Sequence[PartitionReport]]:
    """Yield the reports, and say the progress in between, also while no report comes.

    A group comes at once, or a little after the one before it: what it costs to tell Dagster of it
    is shared by those that end meanwhile.
    """
    given_at = -_GROUP_SECONDS

    async def next_ones(patience: float) -> Sequence[PartitionReport]:
        found: list[PartitionReport] = []
        with anyio.move_on_after(patience):
            found.append(await receive.receive())
        with suppress(anyio.WouldBlock, anyio.EndOfStream):
            with anyio.move_on_after(given_at + _GROUP_SECONDS - time.monotonic()):
                while 0 < len(found) < _MOST_AT_ONCE:
                    found.append(await receive.receive())
            while 0 < len(found) < _MOST_AT_ONCE:
                found.append(receive.receive_nowait())
        return found

    said_at = time.monotonic()
    while True:
        try:
            reports = portal.call(next_ones, max(said_at + SAY_EVERY - time.monotonic(), 0.0))
        except anyio.EndOfStream:
            return
        if reports:
            given_at = time.monotonic()
            yield reports
        if time.monotonic() - said_at >= SAY_EVERY:
            said_at = time.monotonic()
            say(progress.line())


def _say_nothing(_line: str) -> None:
    """Drop a line of progress."""


def _end(
    stack: ExitStack, portal: BlockingPortal, future: Future[None], engines: Sequence[Engine]
) -> None:
    """Drain if the work is not done, and stop the event loop."""
    if future.done():
        stack.close()
        return
    with second_signal_exits():
        _drain(portal, future, engines)
        stack.close()


def _drain(portal: BlockingPortal, future: Future[None], engines: Sequence[Engine]) -> None:
    for engine in engines:
        portal.call(engine.drain)
    if not engines:
        future.cancel()  # not begun yet
    wait([future])
    running = sum(engine.running for engine in engines)  # also what was accepted meanwhile
    if running:
        log.warning(LEFT_RUNNING, running)


@asynccontextmanager
async def _renewing(renewals: ClaimRenewals) -> AsyncIterator[ClaimRenewals]:
    """Renew the claims of those that wait, as long as the block runs."""
    async with anyio.create_task_group() as group:
        group.start_soon(renewals.run)
        yield renewals
        group.cancel_scope.cancel()


@contextmanager
def _first_error_alone() -> Iterator[None]:
    """Raise the first of a task group's errors alone: several slots fail for one reason."""
    try:
        yield
    except ExceptionGroup as group:
        first: Exception = group
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def _redacted(request: Request) -> Request:
    """The request as it may be kept; itself where nothing in its input is secret."""
    redacted = redact_input(request.input)
    return request if redacted == request.input else replace(request, input=redacted)


def _now() -> datetime:
    return datetime.now(UTC)
