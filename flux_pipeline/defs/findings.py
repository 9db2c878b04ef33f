"""What the checks of a run go by: what is missing or odd, by name, and a sample of the rest.

It is fed report by report and keeps no report. Of every image it keeps three hashes, and names only
the first of what is wrong, so that a run of a million images needs no more than their hashes.
"""

import hashlib
import heapq
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from flux_pipeline.defs.likeness import Likeness
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.produce.report import Ending, PartitionReport, Result
from flux_pipeline.text import safe_text

MOST_NAMED = 20
"""Images that a check names."""
SAMPLE = 12
"""Images that are read back from the store after a run."""
_BLANK = "blank"


@dataclass(slots=True)
class Findings:
    """What one run's images showed; each dictionary says what is wrong, by image or request."""

    run_id: str
    missing: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    misfits: dict[str, str] = field(default_factory=dict)
    """Stored in another size or format than was asked for."""
    blank: dict[str, str] = field(default_factory=dict)
    doubted: dict[str, str] = field(default_factory=dict)
    """Kept in spite of another doubt."""
    likeness: Likeness = field(default_factory=lambda: Likeness(MOST_NAMED))
    hashes: "array[int]" = field(default_factory=lambda: array("q"))
    """Python's hash of the address of every stored image."""
    _sample: list[tuple[int, int, ImageRecord]] = field(default_factory=list)

    def add(self, report: PartitionReport) -> None:
        """Take in one partition."""
        for result in report.results:
            if result.ending is Ending.HELD:
                _name(self.held, _held_name(result), safe_text(result.reason))
            for record in result.records:
                if record.status is ImageStatus.STORED:
                    self._note(result, record)
        for name, reason in missing_images(report):
            _name(self.missing, name, reason)

    @property
    def sample(self) -> list[ImageRecord]:
        """Some of the images, drawn evenly, other ones in every run."""
        return [record for _, _, record in self._sample]

    def _note(self, result: Result, record: ImageRecord) -> None:
        address = record.uri or record.request_sha256
        self.hashes.append(hash(address))
        if misfit := _misfit(result, record):
            _name(self.misfits, address, misfit)
        is_blank = (record.error or "").startswith(_BLANK)
        if record.error:
            _name(self.blank if is_blank else self.doubted, address, safe_text(record.error))
        if not is_blank:  # what a filter left black is all alike
            self.likeness.add(record)
        # The smallest of random numbers are an even sample; the count keeps records uncompared.
        draw = hashlib.sha256(f"{self.run_id}{address}".encode()).digest()
        item = (-int.from_bytes(draw[:8], "big"), len(self.hashes), record)
        if len(self._sample) < SAMPLE:
            heapq.heappush(self._sample, item)
        else:
            heapq.heappushpop(self._sample, item)


def missing_images(report: PartitionReport) -> Iterator[tuple[str, str]]:
    """A name and a reason for every image of a partition that was asked for and is not stored.

    The name is the prompt's, and the prediction's id where there is one, else the request's.
    """
    for result in report.results:
        named = 0
        for record in result.records:
            named += 1
            if record.status is not ImageStatus.STORED:
                whose = record.prediction_id or f"request {record.request_sha256[:12]}"
                name = f"{record.prompt_name}, image {record.output_index} of {whose}"
                yield name, safe_text(record.error or result.reason or "no reason known")
        for index in range(named, result.request.outputs):
            name = f"{_held_name(result)}, image {index}"
            yield name, safe_text(result.reason or "no reason known")


def _held_name(result: Result) -> str:
    source = result.request.source
    return f"{source.prompt_name}, request {result.request.request_sha256[:12]}"


def _misfit(result: Result, record: ImageRecord) -> str:
    """Say how an image is not as asked; a width of 0 px is any size."""
    request, wrong = result.request, []
    if record.format != request.image_format:
        wrong.append(f"{request.image_format} was asked for, this is {record.format}")
    asked, real = (request.width, request.height), (record.width, record.height)
    if request.width and real != asked:
        shown = " x ".join(map(str, real))
        wrong.append(f"{asked[0]} x {asked[1]} px were asked for, these are {shown} px")
    return "; ".join(wrong)


def _name(names: dict[str, str], name: str, what: str) -> None:
    if len(names) < MOST_NAMED:
        names[name] = what
