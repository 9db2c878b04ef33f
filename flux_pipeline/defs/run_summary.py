"""Summary of a run over all its partitions: counts, failures, and what its checks need.

``Outcome`` is given one partition's report after the other and keeps none of them, so that a run of
a million images fits into memory. ``RunFindings`` holds what the checks need, and ``LookAlikes``
finds images that are the same.
"""

import hashlib
import heapq
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from flux_pipeline.defs.metadata import is_emulated, reasons_of
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.produce.report import (
    PartitionReport,
    Result,
    ResultStatus,
    Stop,
    Tally,
    time_left,
)
from flux_pipeline.text import count_noun, first_of, safe_text, show_usd

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST_NAMED = 20
"""Partitions that a message names."""
_MOST_ALIKE = 3
"""Partitions that are named for one reason in the failure's description."""
HELD = "held"
"""The cause of requests that are held, beside the causes in ``Stop``."""
NOT_STORED = "not_stored"
"""The cause of requests that are paid and not stored yet."""
SAMPLE = 12
"""Images that are read back from the store after a run."""
_BLANK = "blank"
"""How the error of an image that is all of one colour begins."""
WINDOW = 4_096
"""Images before it that an image is compared with by its difference hash."""
ALIKE = 3
"""Bits by which the hashes of look-alikes differ at most.

Fewer than the 6 of a re-encoded copy: pictures of one kind come as near as that by chance.
"""
_64_BITS = 2**64 - 1
_DIGITS = 16
"""Hex digits of 64 bits."""
_MOST_NEWEST = 8_192
"""Hashes that are not sorted among the others yet."""
SHAPE_TOLERANCE = 0.08
"""How far the shape of a picture may be from the aspect ratio asked for, as a share of it.

Models round to the sizes that they were trained on: 3:4 is 896 x 1280 px with Imagen, 7 % off
(https://cloud.google.com/vertex-ai/generative-ai/docs/image/generate-images).
"""


@dataclass(slots=True)
class Waiting:
    """Requests of one cause: not sent, held, or paid and not stored, until a person acts."""

    reason: str
    """Of the first of them; of those that are not stored, of the one that vanishes first."""
    requests: int = 0
    usd: float = 0.0
    """Their estimated cost."""


@dataclass(slots=True)
class Outcome:
    """One run of one prompt set's images."""

    run_id: str
    tally: Tally = field(default_factory=Tally)
    partitions: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Why a partition has to be run again, by partition."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """Requests that wait for a person, by cause: a value of ``Stop``, HELD or NOT_STORED."""
    unsent: int = 0
    """Requests that a stop kept from being sent."""
    unsent_usd: float = 0.0
    emulated: bool = False
    """Whether USD are no money, because the emulator makes the images."""
    broken: int = 0
    """Requests that failed for any other cause."""
    limited: int = 0
    """Partitions that are incomplete only because the run sent as many requests as it was told."""
    incomplete: list[str] = field(default_factory=list)
    """The first partitions in which an image is missing."""
    findings: "RunFindings" = field(init=False)
    _seconds_left: float = math.inf
    """Of the outputs that are not stored and vanish first."""

    def __post_init__(self) -> None:
        self.findings = RunFindings(self.run_id)

    def add(self, report: PartitionReport) -> bool:
        """Add one partition; return whether it counts as made.

        It does if every image is stored or refused and at least one is stored (or none was asked
        for): running it again would bring nothing new.
        """
        tally = report.tally
        self.tally.merge(tally)
        self.partitions += 1
        self.emulated = self.emulated or is_emulated(report)
        self.findings.add(report)
        for result in report.results:
            self._add_waiting(result)
        if not tally.complete and len(self.incomplete) < MOST_NAMED:
            self.incomplete.append(report.partition)
        kept = tally.stored + tally.unchanged
        is_open = tally.failed or tally.unsent or tally.held
        done = not is_open and (kept > 0 or not tally.asked)
        if not done:
            self.failed[report.partition] = "; ".join(reasons_of(report)) or "no image came"
            self.limited += _is_limited(report)
        return done

    @property
    def some_made(self) -> bool:
        """Whether a partition counts as made."""
        return self.partitions > len(self.failed)

    def failure(self) -> dg.Failure | None:
        """The failure that names partitions and reasons; None where no partition failed.

        None too where nothing but the limit of requests, which the caller has set for this run
        alone, has kept partitions from being made. Dagster does not retry it: errors that pass
        were waited for already, and repeating the others would cost money.
        """
        if len(self.failed) == self.limited:
            return None
        named = dict(list(self.failed.items())[:MOST_NAMED])
        headline = f"{len(self.failed):,} of {count_noun(self.partitions, 'partition')} failed"
        waiting = {name: asdict(each) for name, each in self.waiting.items()}
        return dg.Failure(
            description="\n".join([headline, *self._reasons(), *self._left()]),
            metadata={
                "flux/failed_partitions": dg.MetadataValue.json(named),
                **({"flux/waiting": dg.MetadataValue.json(waiting)} if waiting else {}),
                "flux/broken_requests": self.broken,
                "flux/cost_usd": round(self.tally.usd, 6),
            },
            allow_retries=False,
        )

    def _reasons(self) -> Iterator[str]:
        """Each kind of reason once, with the partitions that have it."""
        from flux_pipeline.produce.brake import kind_of

        alike: dict[str, list[str]] = {}
        for key, reason in self.failed.items():
            alike.setdefault(kind_of(reason), []).append(key)
        shown = list(alike.values())[:MOST_NAMED]
        for keys in shown:
            yield f"{first_of(keys, _MOST_ALIKE)}: {self.failed[keys[0]]}"
        left = len(self.failed) - sum(map(len, shown))
        if left:
            yield f"and {left} more"

    def _left(self) -> Iterator[str]:
        if self.unsent:
            cost = show_usd(self.unsent_usd, emulated=self.emulated)
            yield f"not sent: {count_noun(self.unsent, 'request')} of {cost}"
        if left := self.waiting.get(NOT_STORED):
            requests = count_noun(left.requests, "request")
            until, cost = time_left(self._seconds_left), show_usd(left.usd, emulated=self.emulated)
            yield (
                f"paid and not stored yet: {requests} of {cost}, {until}; the next run"
                " or `flux-pipeline rescue` fetches what is there"
            )

    def _add_waiting(self, result: Result) -> None:
        cause, cost = _cause_of(result), result.request.cost_usd
        if cause is None:
            self.broken += result.status is ResultStatus.FAILED
            return
        waiting = self.waiting.setdefault(cause, Waiting(safe_text(result.reason)))
        waiting.requests += 1
        waiting.usd += cost
        if result.left_open and result.left_open.seconds < self._seconds_left:
            self._seconds_left = result.left_open.seconds
            waiting.reason = safe_text(result.reason)
        # A request that was sent before has an attempt, also where its poll was refused now.
        if result.stop is not None and not any(record.attempts for record in result.records):
            self.unsent += 1
            self.unsent_usd += cost


def _is_limited(report: PartitionReport) -> bool:
    tally = report.tally
    stopped = [result.stop for result in report.results if result.is_unsent]
    return not (tally.failed or tally.held) and bool(stopped) and set(stopped) == {Stop.LIMIT}


def _cause_of(result: Result) -> str | None:
    """Why a request waits for a person; None where it does not."""
    if result.status is ResultStatus.HELD:
        return HELD
    if result.left_open is not None:
        return NOT_STORED
    return None if result.stop is None else result.stop.value


def missing_images(report: PartitionReport) -> Iterator[tuple[str, str]]:
    """Give a name and a reason for every image of a partition that was asked for and is not stored.

    The name has the prompt's name, and the prediction's id or, where there is none, the request's.
    """
    for result in report.results:
        named = 0
        for record in result.records:
            named += 1
            if record.status is not ImageStatus.STORED:
                made_by = record.prediction_id or f"request {record.request_sha256[:12]}"
                name = f"{record.prompt_name}, image {record.output_index} of {made_by}"
                # What is left open has a deadline and an end, which its record does not say.
                reason = result.reason if result.left_open else record.error or result.reason
                yield name, safe_text(reason or "no reason known")
        for index in range(named, result.request.outputs):
            name = f"{_request_name(result)}, image {index}"
            yield name, safe_text(result.reason or "no reason known")


def _request_name(result: Result) -> str:
    source = result.request.source
    return f"{source.prompt_name}, request {result.request.request_sha256[:12]}"


@dataclass(slots=True)
class RunFindings:
    """What the checks of one run need; each dictionary says what is wrong, by image or request.

    Of every image it keeps three hashes, and of those that are wrong it names the first few.
    """

    run_id: str
    missing: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    misfits: dict[str, str] = field(default_factory=dict)
    """Stored in another size or format than was asked for."""
    blank: dict[str, str] = field(default_factory=dict)
    doubted: dict[str, str] = field(default_factory=dict)
    """Kept in spite of another doubt."""
    look_alikes: "LookAlikes" = field(default_factory=lambda: LookAlikes(MOST_NAMED))
    hashes: "array[int]" = field(default_factory=lambda: array("q"))
    """Python's hash of the address of every stored image."""
    _sample: list[tuple[int, int, ImageRecord]] = field(default_factory=list)

    def add(self, report: PartitionReport) -> None:
        """Add the results of one partition."""
        for result in report.results:
            if result.status is ResultStatus.HELD:
                _name(self.held, _request_name(result), safe_text(result.reason))
            for record in result.records:
                if record.status is ImageStatus.STORED:
                    self._add_image(result, record)
        for name, reason in missing_images(report):
            _name(self.missing, name, reason)

    @property
    def sample(self) -> list[ImageRecord]:
        """Images to read back from the store: drawn evenly, and other ones in every run."""
        return [record for _, _, record in self._sample]

    def _add_image(self, result: Result, record: ImageRecord) -> None:
        address = record.uri or record.request_sha256
        self.hashes.append(hash(address))
        if misfit := _misfit(result, record):
            _name(self.misfits, address, misfit)
        is_blank = (record.error or "").startswith(_BLANK)
        if record.error:
            _name(self.blank if is_blank else self.doubted, address, safe_text(record.error))
        if not is_blank:  # blank images all look alike
            self.look_alikes.add(record)
        # The images with the smallest of random numbers are an even sample. The count is there
        # because a heap would compare records, which have no order, where the numbers are equal.
        draw = hashlib.sha256(f"{self.run_id}{address}".encode()).digest()
        item = (-int.from_bytes(draw[:8], "big"), len(self.hashes), record)
        if len(self._sample) < SAMPLE:
            heapq.heappush(self._sample, item)
        else:
            heapq.heappushpop(self._sample, item)


class _Hashes:
    """Hashes of 64 bits, each once, in 8 bytes: a set of Python's takes 80 for one."""

    def __init__(self) -> None:
        self._newest: set[int] = set()
        self._others: npt.NDArray[np.uint64] | None = None
        """Sorted."""

    def add(self, one: int) -> bool:
        """Add one; return whether it is new."""
        if one in self._newest or self._is_among_others(one):
            return False
        self._newest.add(one)
        if len(self._newest) == _MOST_NEWEST:
            self._sort()
        return True

    def _is_among_others(self, one: int) -> bool:
        if self._others is None:
            return False
        place = self._others.searchsorted(self._others.dtype.type(one))
        return bool(place < len(self._others) and self._others[place] == one)

    def _sort(self) -> None:
        import numpy as np

        newest = np.fromiter(self._newest, np.uint64, len(self._newest))
        self._newest.clear()
        others = newest if self._others is None else np.append(self._others, newest)
        others.sort()
        self._others = others


@dataclass(slots=True)
class LookAlikes:
    """Finds images with the same pixels, and those that look alike by their difference hash.

    Of every image it keeps two hashes of 8 bytes, and of the last ``WINDOW`` the address: memory
    stays small over a million images, but look-alikes are found only among neighbours.
    """

    most: int
    """Findings of each kind that are kept."""
    identical: dict[str, str] = field(default_factory=dict)
    """Addresses of images with the pixels of an earlier one; the earlier address where known."""
    similar: dict[str, str] = field(default_factory=dict)
    """Addresses of images that look like an earlier one, and the earlier address."""
    _pixels: _Hashes = field(default_factory=_Hashes)
    _known: _Hashes = field(default_factory=_Hashes)
    """Of the addresses."""
    _hashes: "npt.NDArray[np.uint64] | None" = None
    """Difference hashes of the images in the window; made with the first."""
    _addresses: list[str] = field(default_factory=list)
    _next: int = 0

    def add(self, record: ImageRecord) -> None:
        """Compare one stored image with those before it."""
        address = record.uri or record.request_sha256
        # Two prompts with the same request share one object on purpose: that is no finding.
        if not self._known.add(hash(address) & _64_BITS):
            return
        dhash = record.dhash or 0
        near = self._near(dhash) if dhash else ""
        pixels = record.image_sha256
        if pixels and not self._pixels.add(int(pixels[:_DIGITS], 16)):
            if len(self.identical) < self.most:
                self.identical[address] = near
        elif near and len(self.similar) < self.most:
            self.similar[address] = near
        self._remember(dhash, address)

    @property
    def newest(self) -> list[str]:
        """The addresses in the window, in no order."""
        return self._addresses

    def _near(self, dhash: int) -> str:
        """The address of the first image in the window that looks like this one."""
        if self._hashes is None:
            return ""
        known = self._hashes[: len(self._addresses)]
        import numpy as np

        bits = np.bitwise_count(known ^ np.uint64(dhash))
        if not len(bits) or bits.min() > ALIKE:
            return ""  # nearly always
        found = np.flatnonzero((bits <= ALIKE) & (known != 0))
        return self._addresses[int(found[np.argmin(bits[found])])] if len(found) else ""

    def _remember(self, dhash: int, address: str) -> None:
        if self._hashes is None:
            import numpy as np

            self._hashes = np.zeros(WINDOW, np.uint64)
        self._hashes[self._next] = dhash
        if self._next < len(self._addresses):
            self._addresses[self._next] = address
        else:
            self._addresses.append(address)
        self._next = (self._next + 1) % WINDOW


def explain_failure(failures: Iterable[dg.DagsterEvent]) -> tuple[str, Mapping[str, Any]]:
    """The description and metadata of the first step's failure; else the message of its error."""
    for event in failures:
        data = event.step_failure_data
        said = data.user_failure_data
        if said and said.description:
            metadata = {name: value.value for name, value in (said.metadata or {}).items()}
            return str(said.description), metadata
        return (str(data.error.message).strip() if data.error else ""), {}
    return "", {}


def _misfit(result: Result, record: ImageRecord) -> str:
    """How an image differs from its request; empty where it does not. 0 px wide is any size."""
    request, wrong = result.request, []
    if request.image_format and record.format != request.image_format:
        wrong.append(f"{request.image_format} was asked for, this is {record.format}")
    asked, real = (request.width, request.height), (record.width, record.height)
    shown = " x ".join(map(str, real))
    if request.width and real != asked:
        wrong.append(f"{asked[0]} x {asked[1]} px were asked for, these are {shown} px")
    elif request.aspect_ratio and not _has_shape(record, request.aspect_ratio):
        wrong.append(f"{request.aspect_ratio} was asked for, these are {shown} px")
    return "; ".join(wrong)


def _has_shape(record: ImageRecord, aspect_ratio: str) -> bool:
    """Whether a picture has about this shape; its size follows from it only by the model's rule."""
    across, down = map(int, aspect_ratio.split(":"))
    width, height = record.width or 0, record.height or 0
    return abs(width * down - height * across) <= SHAPE_TOLERANCE * height * across


def _name(names: dict[str, str], name: str, reason: str) -> None:
    if len(names) < MOST_NAMED:
        names[name] = reason
