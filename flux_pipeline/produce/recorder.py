"""Records a run: lineage parts, which the ledger notes, and packs of thumbnails.

Also tracks which requests of a partition have ended, because a partition is recorded and reported
once, when all of them have. Partitions that end within a quarter of a second share a lineage part.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeAlias

import anyio
from anyio import to_thread

from flux_pipeline.errors import StoreError
from flux_pipeline.ledger.writer import LedgerWriter
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.thumbnails import write_pack
from flux_pipeline.produce.effects import Stored
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.report import PartitionReport, Result
from flux_pipeline.request import Request
from flux_pipeline.store.base import Store

log = logging.getLogger(__name__)
PACK_SIZE = 256
"""Thumbnails of one pack, about 1 MB: a PUT for each image would cost more than making it."""
_LAST_SECONDS = 10.0  # for writing the last rows and packs, also in a run that is stopped
_PART_SECONDS = 0.25
"""s between two lineage parts: to write one, and to read it again, costs as much as an image."""
_MOST_OF_A_PART = 200
"""Partitions that share one."""
_THUMBNAILS_REPORTED = 12  # of one partition: more would make its event heavy


@dataclass(slots=True, eq=False)
class Tracker:
    """One partition, from its first request to its report."""

    partition: str
    started_at: float = field(default_factory=time.monotonic)
    started: int = 0
    exhausted: bool = False
    reported: bool = False
    results: list[Result] = field(default_factory=list)
    unrecorded: list[Result] = field(default_factory=list)
    """Results whose rows are not in the lineage table yet."""
    thumbnails: int = 0
    lineage_uri: str | None = None
    """The part with those rows, once it is written."""

    def end(self, result: Result, *, recorded: bool) -> None:
        """Add a result; its thumbnail is dropped if the report has enough of them."""
        if result.thumbnail:
            self.thumbnails += 1
            if self.thumbnails > _THUMBNAILS_REPORTED:
                result = replace(result, thumbnail=b"")
        self.results.append(result)
        if not recorded:
            self.unrecorded.append(result)

    def take_finished(self) -> bool:
        """Whether every request was read and has ended; returns True only once."""
        finished = self.exhausted and len(self.results) == self.started and not self.reported
        self.reported |= finished
        return finished

    def report(self) -> PartitionReport:
        """The finished partition."""
        return PartitionReport(
            partition=self.partition,
            results=self.results,
            seconds=time.monotonic() - self.started_at,
            lineage_uri=self.lineage_uri,
        )


@dataclass(frozen=True, slots=True)
class Tracked:
    """One request of a partition."""

    tracker: Tracker
    request: Request


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A partition of which every request was read."""

    tracker: Tracker


Item: TypeAlias = Tracked | Exhausted


@dataclass(slots=True)
class Recorder:
    """Records what one run made; lives on one event loop.

    At the end of its context, rows and thumbnails that wait are written.
    """

    store: Store
    ledger: LedgerWriter
    run: RunContext
    note_recorded: Callable[[], None]
    """Called at the end where something was recorded; blocking."""
    _problems: list[StoreError] = field(default_factory=list)
    _recorded: list[str] = field(default_factory=list)
    """Uris of the parts that were written."""
    _waiting: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By prompt set, then by the image's hash."""
    _ended: list[Tracker] = field(default_factory=list)
    """Partitions whose rows wait to be written."""
    _writing: anyio.Lock = field(default_factory=anyio.Lock)
    _next_part_at: float = -math.inf
    """By the event loop's clock."""

    async def record(self, tracker: Tracker) -> None:
        """Write the rows that the table lacks, as a part with those of others that end now.

        The part's key is fixed by asset, run and its first partition, so writing it again replaces
        it. Only what is in the table is noted as recorded, so a crash in between costs one more
        part. A store that fails ends the run when all that is under way is fetched, and not before:
        then StoreError is raised on leaving the context, and the next run writes the rows.
        """
        if not any(result.records for result in tracker.unrecorded):
            return
        self._ended.append(tracker)
        async with self._writing:
            if tracker in self._ended:  # not written with another's meanwhile
                await anyio.sleep_until(self._next_part_at)
                await self._write_part()

    async def _write_part(self) -> None:
        group = self._ended[:_MOST_OF_A_PART]
        del self._ended[:_MOST_OF_A_PART]
        unrecorded = [result for tracker in group for result in tracker.unrecorded]
        records = [record for result in unrecorded for record in result.records]
        try:
            part = await to_thread.run_sync(
                lambda: write_part(
                    self.store,
                    records,
                    asset=self.run.asset,
                    partition=group[0].partition,
                    run_id=self.run.run_id,
                    day=datetime.now(UTC).date(),
                )
            )
        except StoreError as error:
            self._problems.append(error)
            return
        for tracker in group:
            tracker.lineage_uri = part.uri
        self._recorded.append(part.uri)
        self._next_part_at = anyio.current_time() + _PART_SECONDS
        written = [result.request.request_sha256 for result in unrecorded]
        await self.ledger.call(lambda ledger: ledger.mark_recorded(written), can_wait=True)

    async def add_thumbnail(self, stored: Stored) -> None:
        """Add a stored image's thumbnail; write a pack when there are enough for one.

        A crash loses those that wait: the gallery then shows the images themselves.
        """
        image, record = stored.record.image_sha256, stored.record
        # Without a difference hash an earlier answer is stored there: not the image we saw.
        if not stored.thumbnail or image is None or record.dhash is None:
            return
        waiting = self._waiting.setdefault(record.prompt_set, {})
        waiting[image] = stored.thumbnail
        if len(waiting) >= PACK_SIZE:
            await self._write_pack(record.prompt_set)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with anyio.move_on_after(_LAST_SECONDS, shield=True):
            while self._ended:  # the run was stopped before their turn
                await self._write_part()
            for prompt_set in list(self._waiting):
                await self._write_pack(prompt_set)
            if self._recorded and not self._problems:
                await to_thread.run_sync(self.note_recorded)
        if self._problems and error is None:
            raise self._problems[0]

    async def _write_pack(self, prompt_set: str) -> None:
        waiting = self._waiting.pop(prompt_set)
        day = datetime.now(UTC).date()
        try:
            await to_thread.run_sync(
                lambda: write_pack(self.store, prompt_set, waiting, day=day),
                abandon_on_cancel=True,
            )
        except StoreError as error:  # no image is lost by it
            log.warning("%d thumbnails were not stored: %s", len(waiting), error)


def track(partitions: Iterable[tuple[str, Iterable[Request]]]) -> Iterator[Item]:
    """Flatten all partitions into one lazy stream, so that batches may span them."""
    for partition, requests in partitions:
        tracker = Tracker(partition)
        for request in requests:
            tracker.started += 1
            yield Tracked(tracker, request)
        tracker.exhausted = True
        yield Exhausted(tracker)
