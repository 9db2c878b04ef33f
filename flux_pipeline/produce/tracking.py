"""Which requests of which partition have ended: a partition is reported once, when all have."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from flux_pipeline.produce.report import PartitionReport, Result
from flux_pipeline.request import Request

THUMBNAILS = 12
"""Kept for one partition's report: more would make its event heavy."""


@dataclass(slots=True)
class Tracker:
    """One partition on its way."""

    partition: str
    begun_at: float = field(default_factory=time.monotonic)
    begun: int = 0
    exhausted: bool = False
    reported: bool = False
    results: list[Result] = field(default_factory=list)
    unrecorded: list[Result] = field(default_factory=list)
    """Results whose rows are not in the lineage table yet."""
    thumbnails: int = 0

    def end(self, result: Result, *, recorded: bool) -> None:
        """Note a result; its thumbnail is dropped where the report has enough."""
        if result.thumbnail:
            self.thumbnails += 1
            if self.thumbnails > THUMBNAILS:
                result = replace(result, thumbnail=b"")
        self.results.append(result)
        if not recorded:
            self.unrecorded.append(result)

    def take_finished(self) -> bool:
        """Whether every request was read and has ended; True once only."""
        finished = self.exhausted and len(self.results) == self.begun and not self.reported
        self.reported |= finished
        return finished

    def report(self, lineage_uri: str | None) -> PartitionReport:
        """The finished partition."""
        return PartitionReport(
            partition=self.partition,
            results=self.results,
            seconds=time.monotonic() - self.begun_at,
            lineage_uri=lineage_uri,
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


def track(partitions: Iterable[tuple[str, Iterable[Request]]]) -> Iterator[Item]:
    """One flat, lazy stream over all partitions, so that batches may span them."""
    for partition, requests in partitions:
        tracker = Tracker(partition)
        for request in requests:
            tracker.begun += 1
            yield Tracked(tracker, request)
        tracker.exhausted = True
        yield Exhausted(tracker)
