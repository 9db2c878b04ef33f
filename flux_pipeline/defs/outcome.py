"""What a run came to, over all its partitions: counts, what failed and why, and what is checked.

It is fed report by report and keeps no report: a run of a million images needs no more memory.
"""

import hashlib
import heapq
from dataclasses import dataclass, field

import dagster as dg

from flux_pipeline.defs.metadata import reasons_of
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.produce.report import PartitionReport, Tally

MOST_NAMED = 20
"""Partitions or images that a message or a check names."""
SAMPLE = 12
"""Images that are read back from the store after a run."""


@dataclass(slots=True)
class Outcome:
    """One run of one prompt set's images."""

    run_id: str
    tally: Tally = field(default_factory=Tally)
    partitions: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Why a partition has to be run again, by partition."""
    incomplete: list[str] = field(default_factory=list)
    """The first partitions in which an image is missing."""
    flagged: dict[str, str] = field(default_factory=dict)
    """What is odd about the first images that inspection had doubts about, by address."""
    twins: list[str] = field(default_factory=list)
    """The addresses of the first images whose pixels came twice."""
    _seen: set[bytes] = field(default_factory=set)
    _images: int = 0
    _sample: list[tuple[int, int, ImageRecord]] = field(default_factory=list)

    def add(self, report: PartitionReport) -> bool:
        """Take in one partition; return whether it is done with, so that it counts as made.

        It is, where every image was stored or is named as refused, and there is any image at all:
        asking again would bring nothing new.
        """
        tally = report.tally
        self.tally.merge(tally)
        self.partitions += 1
        for record in report.records:
            if record.status is ImageStatus.STORED:
                self._note(record)
        if not tally.complete and len(self.incomplete) < MOST_NAMED:
            self.incomplete.append(report.partition)
        kept = tally.stored + tally.unchanged
        done = not tally.failed and not tally.held and (kept > 0 or not tally.asked)
        if not done:
            self.failed[report.partition] = "; ".join(reasons_of(report)) or "no image came"
        return done

    @property
    def sample(self) -> list[ImageRecord]:
        """Some of the images, drawn evenly, other ones in every run."""
        return [record for _, _, record in self._sample]

    def raise_if_failed(self) -> None:
        """Fail the step for the partitions that failed; those that are done stay made.

        Raises:
            dagster.Failure: Names partitions and reasons. Nothing retries it by itself: what could
                heal by waiting was waited for, and what can't would cost money.
        """
        if self.failed:
            named = dict(list(self.failed.items())[:MOST_NAMED])
            lines = [f"{key}: {reason}" for key, reason in named.items()]
            if len(self.failed) > len(named):
                lines.append(f"and {len(self.failed) - len(named)} more")
            raise dg.Failure(
                description=f"{len(self.failed)} of {self.partitions} partitions failed\n"
                + "\n".join(lines),
                metadata={
                    "flux/failed_partitions": dg.MetadataValue.json(named),
                    "flux/cost_usd": round(self.tally.usd, 6),
                },
                allow_retries=False,
            )

    def _note(self, record: ImageRecord) -> None:
        address = record.uri or record.request_sha256
        if record.error and len(self.flagged) < MOST_NAMED:
            self.flagged[address] = record.error
        if record.image_sha256:
            pixels = bytes.fromhex(record.image_sha256)[:8]
            if pixels in self._seen and len(self.twins) < MOST_NAMED:
                self.twins.append(address)
            self._seen.add(pixels)
        # The smallest of random numbers are an even sample; the count keeps records uncompared.
        self._images += 1
        draw = hashlib.sha256(f"{self.run_id}{address}".encode()).digest()
        item = (-int.from_bytes(draw[:8], "big"), self._images, record)
        if len(self._sample) < SAMPLE:
            heapq.heappush(self._sample, item)
        else:
            heapq.heappushpop(self._sample, item)
