"""Lineage rows and ledger entries made again: from each other, and from the stored objects alone.

What exists is left as it is, so this can be repeated and interrupted at any time. What the ledger
still has is taken from there; only what it doesn't know is read from the files.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from itertools import chain, groupby
from typing import Any
from uuid import uuid4

from flux_pipeline.audit.inventory import IMAGES, Inventory, survey_ledger, survey_lineage
from flux_pipeline.audit.verify import READERS, Progress, ignore
from flux_pipeline.errors import ImageError, StoreError
from flux_pipeline.images.formats import detect_format, image_sha256
from flux_pipeline.images.labels import Label, read_label
from flux_pipeline.iteration import batched, map_ahead
from flux_pipeline.ledger.base import Attempt, Claimed, Intent, Ledger, State
from flux_pipeline.ledger.codec import dump_reply, dump_request
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import (
    ImageRecord,
    ImageStatus,
    records_from_json,
    records_to_json,
)
from flux_pipeline.lineage.schema import records_to_batch
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.budgets import micros
from flux_pipeline.produce.ingest import image_key
from flux_pipeline.produce.records import source_of
from flux_pipeline.request import JsonValue, Request
from flux_pipeline.store.base import Store, StoredObject

_BATCH = 500
"""Requests whose rows become one part, and whose entries one transaction."""
_RESOLUTION = "rebuilt from the stored objects"
_NAMES = frozenset(field.name for field in fields(ImageRecord))
_LABELLED = _NAMES & {field.name for field in fields(Label)}
_TIMES = ("requested_at", "completed_at")

_LEFT_OUT = (
    "no such object when the ledger was rebuilt: the provider had left it out, or it was lost"
)


@dataclass(slots=True)
class Reindexed:
    """What was done."""

    images: int = 0
    """Objects below ``images/``."""
    rows: int = 0
    """Lineage rows written."""
    entries: int = 0
    """Requests entered in the ledger."""
    failed: dict[str, str] = field(default_factory=dict)
    """Keys of objects, and of lineage parts, that could not be used, with the reason."""


def reindex(store: Store, ledger: SqlLedger, *, progress: Progress = ignore) -> Reindexed:
    """Give every stored image its lineage row, and its request an entry in the ledger.

    ``progress`` is called with the number of objects read and of all. Budgets are not charged: what
    they had counted before the ledger was lost stays forgotten.

    Raises:
        StoreError, LedgerError: What was written before stays; run it again.
    """
    with Inventory() as census:
        census.add_stored(store.list(IMAGES))
        mender = Reindexer(store, ledger, census, Reindexed(images=census.count()))
        for broken in survey_lineage(store, census):
            mender.result.failed[broken.id] = broken.what
        surveyed = survey_ledger(ledger.attempts(), census, store_uri=store.uri)
        for _ in surveyed:  # what is wrong there is for `verify` to tell
            pass
        for attempts in batched(_latest(ledger.attempts()), _BATCH):
            mender.record(attempts)
        reading = map_ahead(
            lambda keys: read_group(store, keys), _unentered(census), threads=READERS
        )
        read = 0
        for groups in batched(reading, _BATCH):
            mender.enter(groups)
            read += sum(len(group.keys) for group in groups)
            progress(read, mender.result.images)
        return mender.result


def _latest(attempts: Iterable[Attempt]) -> Iterator[Attempt]:
    """The attempt of each request whose records are in the lineage table, where it is over."""
    for _, history in groupby(attempts, key=lambda attempt: attempt.request_sha256):
        followed = [each for each in history if each.state is not State.DUPLICATE]
        if followed and not followed[-1].state.is_open and _has_records(followed[-1]):
            yield followed[-1]


def _has_records(attempt: Attempt) -> bool:
    try:
        return bool(records_from_json(attempt.images))
    except ValueError:
        return False  # `verify` names it


def _unentered(census: Inventory) -> Iterator[list[str]]:
    """The keys of each request that the ledger doesn't know: they follow one another."""
    keys = (known.key for known in census.unentered())
    for _, group in groupby(keys, key=lambda key: key.rpartition("-")[0]):
        yield list(group)


@dataclass(frozen=True, slots=True)
class Group:
    """What the objects of one request tell."""

    keys: tuple[str, ...]
    records: tuple[ImageRecord, ...] = ()
    """One for each image asked for, a stored one first; none where no object could be used."""
    failed: dict[str, str] = field(default_factory=dict)
    """Keys of objects that could not be used, with the reason."""

    @property
    def request_sha256(self) -> str:
        """64 hex digits; empty where it is not known."""
        return self.records[0].request_sha256 if self.records else ""


@dataclass(slots=True)
class Reindexer:
    """Writes rows before entries, as a run does: a crash in between costs nothing."""

    store: Store
    ledger: SqlLedger
    census: Inventory
    result: Reindexed
    run_id: str = field(default_factory=lambda: f"reindex-{uuid4().hex[:12]}")
    parts: int = 0

    def record(self, attempts: Iterable[Attempt]) -> None:
        """Write the rows that these attempts had, where the table lacks them."""
        recorded = []
        missing: list[ImageRecord] = []
        for attempt in attempts:
            lacking = self._lacking(records_from_json(attempt.images))
            missing += lacking
            if lacking or not attempt.recorded:
                recorded.append(attempt.request_sha256)
        self._write(missing)
        self.ledger.mark_recorded(recorded)

    def enter(self, groups: Iterable[Group]) -> None:
        """Write rows and entries of requests that the ledger doesn't know."""
        usable = {}
        for group in groups:
            self.result.failed |= group.failed
            if group.records:
                usable[group.request_sha256] = group
        for sha, attempt in self.ledger.find(list(usable)).items():
            reason = f"the ledger has its request as {attempt.state}, which is left as it is"
            self.result.failed |= dict.fromkeys(usable.pop(sha).keys, reason)
        self._write(self._lacking(chain.from_iterable(g.records for g in usable.values())))
        with self.ledger.transaction() as ledger:
            entered = [
                enter_stored(ledger, group.records, holder=self.run_id) for group in usable.values()
            ]
        self.result.entries += sum(entered)

    def _lacking(self, records: Iterable[ImageRecord]) -> list[ImageRecord]:
        return [record for record in records if not self._has_row(record)]

    def _has_row(self, record: ImageRecord) -> bool:
        stored = record.status is ImageStatus.STORED
        return self.census.has_row(record.request_sha256, record.output_index, stored=stored)

    def _write(self, records: Sequence[ImageRecord]) -> None:
        by_asset = sorted(records, key=lambda record: record.asset)
        for asset, rows in groupby(by_asset, key=lambda record: record.asset):
            of_asset = list(rows)
            write_part(
                self.store,
                of_asset,
                asset=asset,
                partition=f"rebuilt-{self.parts}",
                run_id=self.run_id,
                day=datetime.now(UTC).date(),
            )
            self.parts += 1
            self.result.rows += len(of_asset)


def read_group(store: Store, keys: Sequence[str]) -> Group:
    """Read the objects of one request. Never raises for one that can't be used."""
    found: dict[int, ImageRecord] = {}
    failed: dict[str, str] = {}
    for key in keys:
        try:
            record = _read(store, key)
        except (ImageError, StoreError) as error:
            failed[key] = str(error)
        else:
            found[record.output_index] = record
    return Group(tuple(keys), _complete(found, failed), failed)


def _read(store: Store, key: str) -> ImageRecord:
    stored = store.head(key)
    if stored is None:
        raise StoreError(f"{store.uri}/{key}: is gone")
    return rebuild_record(stored, store.get(key))


def _complete(found: dict[int, ImageRecord], failed: dict[str, str]) -> tuple[ImageRecord, ...]:
    """The records found, and one for each image that is missing beside them."""
    if not found:
        return ()
    first = found[min(found)]
    spoiled_at = {_index(key): reason for key, reason in failed.items()}
    missing = [
        spoiled(first, index, spoiled_at[index]) if index in spoiled_at else left_out(first, index)
        for index in range(first.num_outputs)
        if index not in found
    ]
    return (*(found[index] for index in sorted(found)), *missing)


def _index(key: str) -> int:
    """The output index in a key; -1 where there is none."""
    digits = key.rpartition("-")[2].partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else -1


def enter_stored(ledger: Ledger, records: Sequence[ImageRecord], *, holder: str) -> bool:
    """Write one request's attempt as stored and recorded; False where the ledger has any of it.

    ``records``: one for each image asked for, the first of them stored. No budget is charged: it
    was paid for at another time. To be called within one transaction, so that it is there whole or
    not at all.
    """
    first = records[0]
    request = rebuild_request(first)
    if ledger.find([request.request_sha256]):
        return False
    intent = Intent(
        request_sha256=request.request_sha256,
        prompt_set=first.prompt_set,
        run_id=first.run_id,
        cost_micros=micros(request.cost_usd) or 0,
        request_json=dump_request(request),
    )
    claim = ledger.claim(intent, holder=holder, budgets=())
    if not isinstance(claim, Claimed):
        return False
    prediction = Prediction(id=first.prediction_id, status=Status.SUCCEEDED)
    reply = dump_reply(prediction)
    ledger.accept(claim.attempt, prediction_id=prediction.id, reply=reply)
    accepted = replace(claim.attempt, state=State.ACCEPTED, prediction_id=prediction.id)
    ledger.close(
        accepted,
        State.STORED,
        holder=holder,
        images=records_to_json(records),
        resolution=_RESOLUTION,
    )
    ledger.mark_recorded([request.request_sha256])
    return True


def rebuild_record(stored: StoredObject, body: bytes) -> ImageRecord:
    """The record of a stored image, from its label.

    Exact but for what is not in the file: ``stored_at`` and ``polls`` are lost, ``attempts`` counts
    the one that made it, and a prompt that was kept out of the file is empty.

    Raises:
        ImageError: The file is broken, has no label of ours, or is not what its label says.
    """
    label = read_label(body)
    if label is None:
        raise ImageError("it has no label of this pipeline: was it put there by something else?")
    if label.image_sha256 != image_sha256(body):
        raise ImageError("its pixels are not those of its label: somebody edited it")
    if stored.metadata.get("request-sha256", label.request_sha256) != label.request_sha256:
        raise ImageError("its metadata and its label name different requests")
    record = replace(
        _record(label, detect_format(body)),
        file_sha256=stored.sha256,
        uri=stored.uri,
        bytes=stored.size,
    )
    if (key := image_key(rebuild_request(record), record.output_index)) != stored.key:
        raise ImageError(f"it belongs under {key}, by its label: was it copied?")
    return record


def rebuild_request(record: ImageRecord) -> Request:
    """The request of a record, with the input redacted: it is made already, and not sent again."""
    given = json.loads(record.input)
    return Request(
        model=record.model,
        version=record.version,
        input=given,
        request_sha256=record.request_sha256,
        outputs=record.num_outputs,
        width=record.width or 0,
        height=record.height or 0,
        image_format=record.format,
        cost_usd=record.cost_usd * record.num_outputs,
        source=source_of(record),
    )


def left_out(present: ImageRecord, index: int) -> ImageRecord:
    """The record of an image that was asked for beside a stored one, and of which nothing is left.

    Refused, because single images are mostly left out by the provider's own check.
    """
    return replace(_without_image(present, index), status=ImageStatus.REFUSED, error=_LEFT_OUT)


def spoiled(present: ImageRecord, index: int, reason: str) -> ImageRecord:
    """The record of an image beside a stored one that lies in the store and can't be used."""
    return replace(_without_image(present, index), status=ImageStatus.FAILED, error=reason)


def _without_image(present: ImageRecord, index: int) -> ImageRecord:
    return replace(
        present,
        output_index=index,
        image_sha256=None,
        file_sha256=None,
        dhash=None,
        uri=None,
        width=None,
        height=None,
        bytes=None,
    )


def labelled_values(label: Label) -> dict[str, JsonValue]:
    """What a label says of its image, by the record's fields; unchecked, anybody may have made it.

    A member that is no field of today's record is dropped.
    """
    named: dict[str, JsonValue] = {name: getattr(label, name) for name in _LABELLED}
    return {name: label.extra[name] for name in _NAMES & label.extra.keys()} | named


def _record(label: Label, image_format: str) -> ImageRecord:
    """The label's fields as a record."""
    row: dict[str, Any] = labelled_values(label)
    row |= {"status": ImageStatus.STORED, "format": image_format, "attempts": 1}
    row["prompt"] = label.prompt or ""
    try:
        for name in _TIMES:
            if time := row.get(name):
                row[name] = datetime.fromisoformat(time)
        record = ImageRecord(**row)
        records_to_batch([record])  # refuses what fits no column
        dict(json.loads(record.input))
    except (TypeError, ValueError) as error:
        raise ImageError(f"its label is incomplete or was edited ({error})") from None
    return record
