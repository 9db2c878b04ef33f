"""Finds the lineage row of an image file or an id, and says how certain that is.

A file is looked for by its label, by its coded pixels, and by how it looks. Anybody can write a
label into a file, so it is believed only as far as the pixels of its row confirm it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from flux_pipeline.errors import StoreError
from flux_pipeline.images.labels import Label
from flux_pipeline.lineage.query import (
    SAME_IMAGE,
    Column,
    Snapshot,
    find_exact,
    find_prefix,
    find_similar,
    hamming_distance,
)
from flux_pipeline.lineage.record import (
    WAS_STORED,
    ImageRecord,
    ImageStatus,
    original_request,
    record_values,
)
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.request import JsonValue
from flux_pipeline.store.base import Store, is_key, key_of
from flux_pipeline.store.open import open_store
from flux_pipeline.store_options import NO_OPTIONS, StoreOptions
from flux_pipeline.text import first_of

MIN_PREFIX = 8
"""Characters of a hash that are enough to look for it."""
MAX_BYTES = 256 << 20
"""Largest file that is read, bytes: it is held in memory, and no image of ours is a tenth of it."""
_HASH = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_HASH_LENGTH = 64
_COPIED = 16
"""Characters of a hash that people copy; a longer beginning of one is rather another id."""
_MAX_ID = 256
"""Characters; longer text is no id."""
_MOST_NAMED = 3
_ID_COLUMNS: tuple[Column, ...] = ("prediction_id", "run_id", "uri")
_HASH_COLUMNS: tuple[Column, ...] = ("request_sha256", "image_sha256", "file_sha256")

if TYPE_CHECKING:  # an id needs no decoder, and loading one takes longer than the search
    from flux_pipeline.images.inspection import FileEvidence


class AnsweredBy(StrEnum):
    """By which of its properties a row was found."""

    C2PA = "c2pa"
    """The label in the file's signed manifest."""
    XMP = "xmp"
    """The label in the file's XMP packet."""
    PIXELS = "pixels"
    """The hash of the coded pixels."""
    SIMILAR = "similar"
    """The difference hash: how the image looks."""
    ID = "id"
    """The id that was given."""


class Certainty(StrEnum):
    """How certain it is that the row is the one asked for."""

    CERTAIN = "certain"
    """The pixels, or the id asked for, are those of the row."""
    LIKELY = "likely"
    """It looks like the row's image: a copy that was encoded anew or resized, as far as seen."""
    UNVERIFIED = "unverified"
    """The label alone says so, and nothing else confirms it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The row of one image, and how it was found."""

    answered_by: AnsweredBy
    certainty: Certainty
    distance: int | None = None
    """Bits of 64 in which the looks differ; 0 where the pixels are the same, None if unknown."""
    record: ImageRecord | None = None
    """The row; None where only a label speaks."""
    label: Label | None = None
    """The label, where there is no row."""
    notes: list[str] = field(default_factory=list)
    """Doubts and other candidates, for people."""

    @property
    def values(self) -> dict[str, JsonValue]:
        """Every column of the lineage table; None where it is not known."""
        if self.record is not None:
            return record_values(self.record)
        # Imported here: mostly there is a row, and this module loads all that stores an image.
        from flux_pipeline.audit.reindex import labelled_values  # noqa: PLC0415

        labelled = labelled_values(self.label or Label())
        return dict.fromkeys(SCHEMA.names) | {
            name: value for name, value in labelled.items() if value not in {None, ""}
        }

    def with_origin(self) -> "Answer":
        """The same answer, with a note where the image is a reproduction."""
        original = original_request(self.record) if self.record else None
        if self.record is None or original is None:
            return self
        note = f"a reproduction, number {self.record.take}, of request {original}"
        return replace(self, notes=[note, *self.notes])

    @property
    def reproducible(self) -> str | None:
        """The request to give to `flux-pipeline reproduce`; None where there is nothing to make."""
        if self.record is None or self.record.status not in WAS_STORED:
            return None
        return original_request(self.record) or self.record.request_sha256


def answer_to(
    store: Store, snapshot: Snapshot, target: str, *, options: StoreOptions = NO_OPTIONS
) -> tuple[Answer | None, str]:
    """Find the row of a file, URI, key or id; None, and the reason, where there is none.

    ``options`` are for a URI of another bucket.
    """
    unread = "no file, no key in the store, and no id in the lineage table"
    try:
        body = read_target(store, target, options=options)
    except StoreError as error:
        body, unread = None, str(error)
    if body is None:
        may_be_id = len(target) <= _MAX_ID or ":" in target
        found, hashes = _find_id(snapshot, target) if may_be_id else (None, 0)
        if found is None and hashes:
            unread = f"{hashes} hashes begin with it: give more of it"
        return found and found.with_origin(), unread
    # Imported here: an id needs no decoder, and loading one takes longer than the search.
    from flux_pipeline.images.inspection import read_evidence  # noqa: PLC0415

    seen = read_evidence(body)
    if (answer := trace_image(snapshot, seen)) is not None:
        return answer.with_origin(), ""
    return None, _why_unknown(seen.image_sha256, seen.dhash, seen.problem)


def trace_image(snapshot: Snapshot, seen: "FileEvidence") -> Answer | None:
    """Find the row of an image file: by its label, its pixels, its looks, in this order.

    A label is overruled where its row has other pixels and another row has these. None where no row
    is found and the file has no label.
    """
    row = _labelled_row(snapshot, seen.label) if seen.label else None
    named = _check_label(row, seen) if row else None
    if named and named.certainty is not Certainty.UNVERIFIED:
        return named
    doubts = _doubts(row, seen)
    if found := _by_pixels(snapshot, seen, doubts):
        return found
    if seen.label and row is None and seen.label.image_sha256 == seen.image_sha256:
        # Its own label, unedited: a similar image would be another one.
        return _from_label(seen, doubts)
    if similar := _by_looks(snapshot, seen, doubts):
        return similar
    if named:
        return named
    return _from_label(seen, doubts) if seen.label else None


def _labelled_row(snapshot: Snapshot, label: Label) -> ImageRecord | None:
    """The row that a label names: by its request, else by its prediction."""
    column: Column = "request_sha256" if label.request_sha256 else "prediction_id"
    value = label.request_sha256 or label.prediction_id
    rows = find_exact(snapshot, column, value) if value else []
    for row in rows:
        same = row.prediction_id == label.prediction_id or label.prediction_id is None
        if same and row.output_index == (label.output_index or 0):
            return row
    return None


def _check_label(row: ImageRecord, seen: "FileEvidence") -> Answer:
    """The row that the label names, as certain as its pixels confirm it."""
    bits = _bits(row, seen)
    certainty, notes = Certainty.UNVERIFIED, []
    if seen.image_sha256 is not None and seen.image_sha256 == row.image_sha256:
        certainty, bits = Certainty.CERTAIN, 0
    elif bits is None:
        notes.append(
            "its label names this image; whether the pixels are its own could not be compared"
        )
    elif bits <= SAME_IMAGE:
        certainty = Certainty.LIKELY
        notes.append("the pixels were encoded anew or resized: label and looks agree")
    else:
        notes.append(
            f"label and pixels disagree: the image looks different in {bits} of 64 bits, so it was"
            " cropped or edited, or the label is another image's"
        )
    carrier = AnsweredBy(seen.carrier)
    return Answer(answered_by=carrier, certainty=certainty, distance=bits, record=row, notes=notes)


def _by_pixels(snapshot: Snapshot, seen: "FileEvidence", doubts: Sequence[str]) -> Answer | None:
    if seen.image_sha256 is None:
        return None
    rows = find_exact(snapshot, "image_sha256", seen.image_sha256)
    # Its very bytes first: a file that was stored as it came has no label that tells two apart.
    rows.sort(key=lambda row: (row.file_sha256 != seen.file_sha256, *_originals_first(row)))
    if not rows:
        return None
    return Answer(
        answered_by=AnsweredBy.PIXELS,
        certainty=Certainty.CERTAIN,
        distance=0,
        record=rows[0],
        notes=[*doubts, *_also(rows)],
    )


def _by_looks(snapshot: Snapshot, seen: "FileEvidence", doubts: Sequence[str]) -> Answer | None:
    if seen.dhash is None:
        return None
    found = find_similar(snapshot, seen.dhash, distance=SAME_IMAGE)
    if not found:
        return None
    least = found[0][0]
    rows = sorted((row for bits, row in found if bits == least), key=_originals_first)
    different = {row.image_sha256 for row in rows}
    notes = [*doubts]
    if len(different) > 1:
        notes.append(f"{len(different)} different images look as much like it; this is the first")
    return Answer(
        answered_by=AnsweredBy.SIMILAR,
        certainty=Certainty.LIKELY,
        distance=least,
        record=rows[0],
        notes=notes + ([] if len(different) > 1 else _also(rows)),
    )


def _from_label(seen: "FileEvidence", doubts: Sequence[str]) -> Answer:
    """The label's own words, with a note that nothing confirms them."""
    label = seen.label or Label()
    fits = "it fits" if label.image_sha256 == seen.image_sha256 else "it does not fit"
    return Answer(
        answered_by=AnsweredBy(seen.carrier),
        certainty=Certainty.UNVERIFIED,
        label=label,
        notes=[
            *doubts,
            f"all of this is from the label: {fits} the pixels, and nothing else confirms it",
        ],
    )


def _doubts(row: ImageRecord | None, seen: "FileEvidence") -> list[str]:
    """Notes on a label that did not decide the answer."""
    if seen.label is None:
        return []
    named = seen.label.prediction_id or seen.label.request_sha256 or "nothing"
    if row is None:
        return [f"its label names {named}, which the lineage table does not have"]
    return [f"label and pixels disagree: its label names {named}, output {row.output_index}"]


def _bits(row: ImageRecord, seen: "FileEvidence") -> int | None:
    if row.dhash is None or seen.dhash is None:
        return None
    return hamming_distance(row.dhash, seen.dhash)


def _originals_first(row: ImageRecord) -> tuple[bool, bool, str, int]:
    """Stored before missing, originals before reproductions, then the earliest."""
    return (
        row.status is not ImageStatus.STORED,
        original_request(row) is not None,
        str(row.stored_at or ""),
        row.output_index,
    )


def _also(rows: Sequence[ImageRecord]) -> list[str]:
    """A note that names the other rows of the same image."""
    named = [f"{row.prediction_id or row.request_sha256}:{row.output_index}" for row in rows[1:]]
    return [f"the same image: {first_of(named, _MOST_NAMED)}"] if named else []


def trace_id(snapshot: Snapshot, text: str) -> Answer | None:
    """Find the row with an id: of a prediction or run, a URI, or a hash or its beginning.

    Several images under one id are answered by the first of them, with a note. None where no hash,
    or more than one, begins with the text; ``matching_hashes`` tells how many.
    """
    return _find_id(snapshot, text)[0]


def matching_hashes(snapshot: Snapshot, text: str) -> int:
    """How many hashes begin with this text, up to a hundred of each kind; 0 for a whole one."""
    return _find_id(snapshot, text)[1]


def _find_id(snapshot: Snapshot, text: str) -> tuple[Answer | None, int]:
    """As ``trace_id`` and ``matching_hashes``, reading each column of a large table once."""
    is_hash = _HASH.fullmatch(text.lower()) is not None
    likely = is_hash and (len(text) == _HASH_LENGTH or len(text) <= _COPIED)
    found, hashes = _by_hash(snapshot, text.lower()) if likely else (None, 0)
    if found or (likely and len(text) == _HASH_LENGTH):
        return found, hashes
    for column in _ID_COLUMNS:
        if (column != "uri" or ":" in text) and (rows := find_exact(snapshot, column, text)):
            return _answer_by_id(rows, column), hashes
    return _by_hash(snapshot, text.lower()) if is_hash and not likely else (None, hashes)


def _by_hash(snapshot: Snapshot, prefix: str) -> tuple[Answer | None, int]:
    """The row with the one hash that begins with the prefix, and how many hashes do.

    None where several do; of a whole hash the number is 0.
    """
    is_whole = len(prefix) == _HASH_LENGTH
    find = find_exact if is_whole else find_prefix
    found: list[tuple[Column, ImageRecord]] = []
    for column in _HASH_COLUMNS:
        found += [(column, row) for row in find(snapshot, column, prefix)]
        if found and is_whole:
            break
    hashes = {(column, getattr(row, column)) for column, row in found}
    answer = None
    if len({value for _, value in hashes}) == 1:
        answer = _answer_by_id([row for _, row in found], found[0][0])
    return answer, 0 if is_whole else len(hashes)


def _answer_by_id(rows: Sequence[ImageRecord], column: Column) -> Answer:
    ordered = sorted(rows, key=_originals_first)
    notes = []
    if column == "run_id":
        notes = ["this is one image of the run; `flux-pipeline trace --run` lists all"]
    elif len(rows) > 1:
        others = ", ".join(str(row.output_index) for row in ordered[1:])
        notes = _also(ordered)
        if column in {"prediction_id", "request_sha256"}:
            notes = [f"there is more of it: output {others}"]
    return Answer(
        answered_by=AnsweredBy.ID, certainty=Certainty.CERTAIN, record=ordered[0], notes=notes
    )


def read_target(store: Store, target: str, *, options: StoreOptions = NO_OPTIONS) -> bytes | None:
    """The bytes of the file, URI or key; None where the target is none of them, as an id is.

    A URI of the store from before it was moved is looked for where the store is today.

    Raises:
        StoreError: It can't be read.
    """
    scheme, colon, rest = target.partition(":")
    if colon and scheme in {"http", "https"}:
        raise StoreError("nothing is fetched from the web: save the picture, and give the file")
    if colon and scheme in {"file", "s3"}:
        key = key_of(target, store.uri)
        if key != target and is_key(key):
            return store.get(key)
        if scheme == "s3":
            return _read_bucket(target, options)
        return _read_file(Path(_file_path(rest)))
    path = Path(target)
    if _exists(path):
        return _read_file(path)
    return store.get(target) if "/" in target and _is_stored(store, target) else None


def _read_bucket(address: str, options: StoreOptions) -> bytes:
    """Read an object of another bucket, with the same credentials and endpoint."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not is_key(key):
        raise StoreError(f"{address}: not below {bucket} as this pipeline names objects")
    return open_store(f"s3://{bucket}", options).get(key)


def _file_path(rest: str) -> str:
    if not rest.startswith("//"):
        return rest
    return unquote(rest.removeprefix("//").removeprefix("localhost"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL: an id perhaps
        return False


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such name"
        raise StoreError(f"{path}: can't be read ({reason})") from None
    if len(body) > MAX_BYTES:
        raise StoreError(f"{path}: larger than {MAX_BYTES >> 20} MB, which no picture is")
    return body


def _is_stored(store: Store, key: str) -> bool:
    return is_key(key) and store.head(key) is not None


def _why_unknown(image_sha256: str | None, dhash: int | None, problem: str) -> str:
    looked = ["no label of ours"]
    if image_sha256 is not None:
        looked.append("no image with these pixels in the lineage table")
    if dhash is not None:
        looked.append("none that looks like it (a crop of a fifth is another image)")
    elif not problem:
        looked.append("and it is too plain to be told by its looks")
    return "; ".join([*looked, *([problem] if problem else [])])
