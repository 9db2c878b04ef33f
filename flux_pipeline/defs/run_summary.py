"""What a run came to, over all its partitions: counts, what failed and why, and what is checked.

It is fed report by report and keeps no report: a run of a million images needs no more memory.
"""

import hashlib
import heapq
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import dagster as dg
import numpy as np
import numpy.typing as npt

from flux_pipeline.defs.metadata import reasons_of
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.produce.report import PartitionReport, Result, ResultStatus, Tally
from flux_pipeline.text import count_noun, safe_text

MOST_NAMED = 20
"""Partitions that a message names."""
_MOST_ALIKE = 3
"""Partitions that are named for one reason."""
HELD = "held"
SAMPLE = 12
"""Images that are read back from the store after a run."""
_BLANK = "blank"
WINDOW = 4_096
"""Images that an image is compared with by its difference hash: those right before it."""
ALIKE = 3
"""Bits. Fewer than the 6 of a re-encoded copy: pictures of one kind come that near by chance."""


@dataclass(slots=True)
class Waiting:
    """Requests that were not sent, or whose fate nobody knows, until a person does something."""

    reason: str
    requests: int = 0
    usd: float = 0.0
    """What they cost, by estimate."""


@dataclass(slots=True)
class Likeness:
    """Takes stored images one by one; keeps the first ``most`` findings of each kind."""

    most: int
    twins: dict[str, str] = field(default_factory=dict)
    """Addresses of images with the pixels of an earlier one, and the earlier one where known."""
    similar: dict[str, str] = field(default_factory=dict)
    """Addresses of images that look like an earlier one, and which."""
    _pixels: set[bytes] = field(default_factory=set)
    _known: set[int] = field(default_factory=set)
    """Hashes of the addresses."""
    _hashes: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(WINDOW, np.uint64))
    _addresses: list[str] = field(default_factory=list)
    _next: int = 0

    def add(self, record: ImageRecord) -> None:
        """Compare one stored image with those before it.

        The same object twice is no twin: two prompts with the same request share it on purpose.
        """
        address = record.uri or record.request_sha256
        if (mark := hash(address)) in self._known:
            return
        self._known.add(mark)
        looks = record.dhash or 0
        near = self._near(looks) if looks else ""
        pixels = bytes.fromhex(record.image_sha256)[:8] if record.image_sha256 else b""
        if pixels and pixels in self._pixels:
            if len(self.twins) < self.most:
                self.twins[address] = near
        elif near and len(self.similar) < self.most:
            self.similar[address] = near
        self._pixels.add(pixels)
        self._remember(looks, address)

    @property
    def newest(self) -> list[str]:
        """The addresses in the window, in no order."""
        return self._addresses

    def _near(self, looks: int) -> str:
        """The address of the first image in the window that looks like this one."""
        known = self._hashes[: len(self._addresses)]
        bits = np.bitwise_count(known ^ np.uint64(looks))
        found = np.flatnonzero((bits <= ALIKE) & (known != 0))
        return self._addresses[int(found[np.argmin(bits[found])])] if len(found) else ""

    def _remember(self, looks: int, address: str) -> None:
        self._hashes[self._next] = looks
        if self._next < len(self._addresses):
            self._addresses[self._next] = address
        else:
            self._addresses.append(address)
        self._next = (self._next + 1) % WINDOW


@dataclass(slots=True)
class RunFindings:
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
            if result.status is ResultStatus.HELD:
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


@dataclass(slots=True)
class Outcome:
    """One run of one prompt set's images."""

    run_id: str
    tally: Tally = field(default_factory=Tally)
    partitions: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Why a partition has to be run again, by partition."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """What waits for a person, by the name of a ``Stop``, or ``held``."""
    broken: int = 0
    """Requests that failed for another reason than these."""
    incomplete: list[str] = field(default_factory=list)
    """The first partitions in which an image is missing."""
    findings: RunFindings = field(init=False)
    """What the checks go by."""

    def __post_init__(self) -> None:
        self.findings = RunFindings(self.run_id)

    def add(self, report: PartitionReport) -> bool:
        """Take in one partition; return whether it is done with, so that it counts as made.

        It is, where every image was stored or is named as refused, and there is any image at all:
        asking again would bring nothing new.
        """
        tally = report.tally
        self.tally.merge(tally)
        self.partitions += 1
        self.findings.add(report)
        for result in report.results:
            self._wait(result)
        if not tally.complete and len(self.incomplete) < MOST_NAMED:
            self.incomplete.append(report.partition)
        kept = tally.stored + tally.unchanged
        done = not tally.failed and not tally.held and (kept > 0 or not tally.asked)
        if not done:
            self.failed[report.partition] = "; ".join(reasons_of(report)) or "no image came"
        return done

    def raise_if_failed(self) -> None:
        """Fail the step for the partitions that failed; those that are done stay made.

        Raises:
            dagster.Failure: Names partitions and reasons. Nothing retries it by itself: what could
                heal by waiting was waited for, and what can't would cost money.
        """
        if self.failed:
            named = dict(list(self.failed.items())[:MOST_NAMED])
            headline = f"{len(self.failed):,} of {count_noun(self.partitions, 'partition')} failed"
            waiting = {name: asdict(each) for name, each in self.waiting.items()}
            raise dg.Failure(
                description="\n".join([headline, *self._reasons(), *self._unsent()]),
                metadata={
                    "flux/failed_partitions": dg.MetadataValue.json(named),
                    **({"flux/waiting": dg.MetadataValue.json(waiting)} if waiting else {}),
                    "flux/broken_requests": self.broken,
                    "flux/cost_usd": round(self.tally.usd, 6),
                },
                allow_retries=False,
            )

    def _reasons(self) -> Iterator[str]:
        """Each reason once, with the partitions that have it."""
        alike: dict[str, list[str]] = {}
        for key, reason in self.failed.items():
            alike.setdefault(reason, []).append(key)
        shown = list(alike.items())[:MOST_NAMED]
        for reason, keys in shown:
            more = f" and {len(keys) - _MOST_ALIKE} more" if len(keys) > _MOST_ALIKE else ""
            yield f"{', '.join(keys[:_MOST_ALIKE])}{more}: {reason}"
        left = len(self.failed) - sum(len(keys) for _, keys in shown)
        if left:
            yield f"and {left} more"

    def _unsent(self) -> Iterator[str]:
        unsent = [each for name, each in self.waiting.items() if name != HELD]
        if unsent:
            requests, usd = sum(e.requests for e in unsent), sum(e.usd for e in unsent)
            yield f"not sent: {count_noun(requests, 'request')} of {usd:.4f} USD"

    def _wait(self, result: Result) -> None:
        held = result.status is ResultStatus.HELD
        if result.stop is None and not held:
            self.broken += result.status is ResultStatus.FAILED
            return
        name = HELD if result.stop is None else result.stop.value
        waiting = self.waiting.setdefault(name, Waiting(safe_text(result.reason)))
        waiting.requests += 1
        waiting.usd += result.request.cost_usd


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
