"""Rebuilds missing lineage rows and ledger entries, from each other and from the stored images.

Existing rows are left as they are, and so are entries unless the store proves them wrong, as those
of a restored backup are: this can be interrupted and repeated at any time. What a run is at work on
is left to it.
Rows are rebuilt from the ledger where it has the request; only the images that it doesn't know are
read, and rebuilt from their labels.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import Enum
from itertools import chain, groupby
from typing import Any
from uuid import uuid4

from flux_pipeline.audit.inventory import Inventory, load_ledger, load_lineage
from flux_pipeline.audit.ownership import accept_generation
from flux_pipeline.audit.verify import READERS, Progress, no_progress
from flux_pipeline.errors import ImageError, StoreError
from flux_pipeline.images.formats import detect_format, image_sha256
from flux_pipeline.images.labels import Label, parse_packet, read_label
from flux_pipeline.iteration import batched, map_ahead
from flux_pipeline.ledger.base import Attempt, Claimed, Intent, Ledger, State
from flux_pipeline.ledger.codec import dump_reply, dump_request
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import (
    ContentCredentials,
    ImageRecord,
    ImageStatus,
    records_from_json,
    records_to_json,
)
from flux_pipeline.lineage.schema import records_to_batch
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.budgets import micros
from flux_pipeline.produce.ingest import image_key, sidecar_key
from flux_pipeline.produce.records import source_of
from flux_pipeline.request import JsonValue, Request
from flux_pipeline.store.base import IMAGES, Store, StoredObject

_BATCH = 500
"""Requests whose rows become one part, and whose entries one transaction."""
_ACCEPTED = frozenset({State.ACCEPTED, State.SUCCEEDED})
_STORED_WITHOUT = "the ledger has its request as stored without it: see `flux-pipeline verify`"
_RESOLUTION = "rebuilt from the stored objects"
_RECORD_FIELDS = frozenset(field.name for field in fields(ImageRecord))
_LABEL_FIELDS = _RECORD_FIELDS & {field.name for field in fields(Label)}
_TIMES = ("requested_at", "completed_at")
_LEFT_OUT = (
    "no such object when the ledger was rebuilt: the provider had left it out, or it was lost"
)


@dataclass(slots=True)
class Reindexed:
    """What a reindexing has done."""

    images: int = 0
    """Objects below ``images/``."""
    rows: int = 0
    """Lineage rows written."""
    entries: int = 0
    """Requests entered in the ledger."""
    failed: dict[str, str] = field(default_factory=dict)
    """Keys of objects, and of lineage parts, that could not be used, with the reason."""


def reindex(store: Store, ledger: SqlLedger, *, progress: Progress = no_progress) -> Reindexed:
    """Give every stored image its lineage row, and its request an entry in the ledger.

    ``progress`` is called with the number of objects read and of all. Budgets are not charged: what
    they had counted before the ledger was lost stays forgotten.

    Raises:
        StoreError, LedgerError: What was written before stays; run it again.
    """
    with Inventory() as inventory:
        inventory.add_stored(store.list(IMAGES))
        reindexer = Reindexer(store, ledger, inventory, Reindexed(images=inventory.count()))
        for broken in load_lineage(store, inventory):
            reindexer.result.failed[broken.id] = broken.message
        for _ in load_ledger(ledger.attempts(), inventory, store_uri=store.uri):
            pass  # findings in the ledger's histories are reported by `verify`
        for attempts in batched(_last_closed(ledger.attempts()), _BATCH):
            reindexer.write_missing_rows(attempts)
        groups = map_ahead(
            lambda keys: read_group(store, keys), _unentered(inventory), threads=READERS
        )
        read = 0
        for batch in batched(groups, _BATCH):
            reindexer.enter(batch)
            read += sum(len(group.keys) for group in batch)
            progress(read, reindexer.result.images)
    accept_generation(ledger, store)
    return reindexer.result


def _last_closed(attempts: Iterable[Attempt]) -> Iterator[Attempt]:
    """The last attempt of each request, duplicates aside, if it is over and has records."""
    for _, history in groupby(attempts, key=lambda attempt: attempt.request_sha256):
        followed = [each for each in history if each.state is not State.DUPLICATE]
        if followed and not followed[-1].state.is_open and _has_records(followed[-1]):
            yield followed[-1]


def _has_records(attempt: Attempt) -> bool:
    try:
        return bool(records_from_json(attempt.images))
    except ValueError:
        return False  # `verify` reports it


def _unentered(inventory: Inventory) -> Iterator[list[str]]:
    """The keys of each request that the ledger doesn't have as stored."""
    # Keys come sorted, and those of one request differ behind their last hyphen alone.
    keys = (row.key for row in inventory.unentered())
    for _, group in groupby(keys, key=lambda key: key.rpartition("-")[0]):
        yield list(group)


@dataclass(frozen=True, slots=True)
class ObjectGroup:
    """The stored objects of one request, and the records rebuilt from them."""

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
    """Writes missing lineage rows and ledger entries.

    Entries are written before rows, as a run does it: after a crash in between, the next reindexing
    or rescue finds the entry unrecorded and writes its rows.
    """

    store: Store
    ledger: SqlLedger
    inventory: Inventory
    result: Reindexed
    run_id: str = field(default_factory=lambda: f"reindex-{uuid4().hex[:12]}")
    parts: int = 0

    def write_missing_rows(self, attempts: Iterable[Attempt]) -> None:
        """Write the rows of these attempts that the lineage table lacks."""
        recorded = []
        missing: list[ImageRecord] = []
        for attempt in attempts:
            lacking = self._without_row(records_from_json(attempt.images))
            missing += lacking
            if lacking or not attempt.recorded:
                recorded.append(attempt.request_sha256)
        self._write(missing)
        self.ledger.mark_recorded(recorded)

    def enter(self, groups: Iterable[ObjectGroup]) -> None:
        """Write the entries and rows of requests that the ledger doesn't have as stored."""
        usable = {}
        for group in groups:
            self.result.failed |= group.failed
            if group.records:
                dated = tuple(self._dated(record) for record in group.records)
                usable[group.request_sha256] = replace(group, records=dated)
        with self.ledger.transaction() as ledger:
            entries = {
                sha: enter_stored(ledger, group.records, holder=self.run_id)
                for sha, group in usable.items()
            }
        stored = [group for sha, group in usable.items() if entries[sha] is not Entry.LEFT]
        self._write(self._without_row(chain.from_iterable(each.records for each in stored)))
        self.ledger.mark_recorded([each.request_sha256 for each in stored])
        for group in stored:
            if entries[group.request_sha256] is Entry.WRITTEN:
                self.result.entries += 1
            else:
                self.result.failed |= dict.fromkeys(group.keys, _STORED_WITHOUT)

    def _without_row(self, records: Iterable[ImageRecord]) -> list[ImageRecord]:
        return [record for record in records if not self._has_row(record)]

    def _has_row(self, record: ImageRecord) -> bool:
        place = record.request_sha256, record.output_index
        return self.inventory.has_row(*place, status=record.status)

    def _dated(self, record: ImageRecord) -> ImageRecord:
        """The record of an image that was removed and lies there again: stored now, not before."""
        place = record.request_sha256, record.output_index
        was_removed = self.inventory.has_row(*place, status=ImageStatus.REMOVED)
        return replace(record, stored_at=datetime.now(UTC)) if was_removed else record

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


def read_group(store: Store, keys: Sequence[str]) -> ObjectGroup:
    """Read the objects of one request; those that can't be used are in ``failed``."""
    found: dict[int, ImageRecord] = {}
    failed: dict[str, str] = {}
    for key in keys:
        try:
            record = _read(store, key)
        except (ImageError, StoreError) as error:
            failed[key] = str(error)
        else:
            found[record.output_index] = record
    return ObjectGroup(tuple(keys), _complete(found, failed), failed)


def _read(store: Store, key: str) -> ImageRecord:
    stored = store.head(key)
    if stored is None:
        raise StoreError(f"{store.uri}/{key}: is gone")
    body, beside = store.get(key), None
    is_kept = stored.metadata.get("credentials") == ContentCredentials.KEPT
    if is_kept or read_label(body) is None:
        beside = _read_sidecar(store, key)
    return rebuild_record(stored, body, beside)


def _read_sidecar(store: Store, key: str) -> Label | None:
    """The label of an image that was stored as it came; None where it is gone."""
    beside = sidecar_key(key)
    return parse_packet(store.get(beside)) if store.head(beside) else None


def _complete(found: dict[int, ImageRecord], failed: dict[str, str]) -> tuple[ImageRecord, ...]:
    """The records found, and one for each image that is missing beside them."""
    if not found:
        return ()
    first = found[min(found)]
    reasons = {_index(key): reason for key, reason in failed.items()}
    missing = [
        _unusable(first, index, reasons[index]) if index in reasons else _left_out(first, index)
        for index in range(first.num_outputs)
        if index not in found
    ]
    return (*(found[index] for index in sorted(found)), *missing)


def _index(key: str) -> int:
    """The output index in a key; -1 where there is none."""
    digits = key.rpartition("-")[2].partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else -1


class Entry(Enum):
    """What became of one request's entry in the ledger."""

    WRITTEN = "written"
    LEFT = "left"
    """It is under way, and not all of its images are stored: a run or rescue ends it by its id."""
    STORED = "stored"
    """The ledger has it as stored already, without this object."""


def enter_stored(ledger: Ledger, records: Sequence[ImageRecord], *, holder: str) -> Entry:
    """Enter one request in the ledger as stored.

    An attempt in another state, as a restored backup has it, ends as stored, or is followed by one
    that does: the object proves it. ``records``: one for each image asked for, the first of them
    stored. No budget is charged: it was paid for at another time. Call it within one transaction,
    so that the entry is whole or not there.
    """
    first = records[0]
    request = rebuild_request(first)
    latest = ledger.find([request.request_sha256]).get(request.request_sha256)
    if latest is not None and latest.state is State.STORED:
        return Entry.STORED
    attempt = _attempt_of(ledger, latest, _intent_of(request, first), first, holder=holder)
    if attempt is None:
        return Entry.LEFT
    is_whole = all(record.status is ImageStatus.STORED for record in records)
    if attempt.state not in _ACCEPTED:
        reply = dump_reply(Prediction(id=first.prediction_id, status=Status.SUCCEEDED))
        ledger.accept(attempt, prediction_id=first.prediction_id, reply=reply)
    if latest is not None and latest.state.is_open and not is_whole:
        return Entry.LEFT  # its other images may still be had by its id, which is written now
    closed = ledger.close(
        replace(attempt, state=State.ACCEPTED, prediction_id=first.prediction_id),
        State.STORED,
        holder=holder,
        images=records_to_json(records),
        resolution=_RESOLUTION,
    )
    return Entry.WRITTEN if closed else Entry.LEFT


def _intent_of(request: Request, first: ImageRecord) -> Intent:
    return Intent(
        request_sha256=request.request_sha256,
        prompt_set=first.prompt_set,
        run_id=first.run_id,
        cost_micros=micros(request.cost_usd) or 0,
        request_json=dump_request(request),
    )


def _attempt_of(
    ledger: Ledger, latest: Attempt | None, intent: Intent, first: ImageRecord, *, holder: str
) -> Attempt | None:
    """The attempt to be closed as stored; None where it must be left to others.

    It is the latest one where the object can be its own, and one that follows it otherwise.
    """
    after = 0
    if latest is not None and latest.state.is_open:
        if latest.prediction_id not in {None, first.prediction_id}:
            return None
    elif latest is not None:
        if latest.state is State.HELD:
            return latest
        same = latest.prediction_id is not None and latest.prediction_id == first.prediction_id
        if same and ledger.reopen(latest):
            return replace(latest, state=State.ACCEPTED)
        ledger.allow_retry(latest)  # does nothing where another may follow anyway
        after = latest.number
    claim = ledger.claim(intent, holder=holder, after=after, budgets=())
    return claim.attempt if isinstance(claim, Claimed) else None


def rebuild_record(stored: StoredObject, body: bytes, beside: Label | None = None) -> ImageRecord:
    """Rebuild the lineage record of a stored image from its label, in the file or beside it.

    It equals the original record but for values that no file holds: ``stored_at`` and ``polls`` are
    lost, ``attempts`` is 1, and a prompt that was kept out of the file is empty.

    Raises:
        ImageError: The file is broken, has no label of ours, or is not what its label says.
    """
    label = beside or read_label(body)
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
        credentials=stored.metadata.get("credentials"),
    )
    if (key := image_key(rebuild_request(record), record.output_index)) != stored.key:
        raise ImageError(f"it belongs under {key}, by its label: was it copied?")
    return record


def rebuild_request(record: ImageRecord) -> Request:
    """The request of a record, with the redacted input: enough for the ledger, not to be sent."""
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


def _left_out(present: ImageRecord, index: int) -> ImageRecord:
    """The record of an image that was asked for together with a stored one and has no object."""
    # Refused, because an image that is missing among others was mostly left out by the provider.
    return replace(_without_image(present, index), status=ImageStatus.REFUSED, error=_LEFT_OUT)


def _unusable(present: ImageRecord, index: int, reason: str) -> ImageRecord:
    """The record of an image whose object can't be used, from one made by the same request."""
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
        credentials=None,
    )


def labelled_values(label: Label) -> dict[str, JsonValue]:
    """The values of a label by the record's field names, unchecked: anybody can write a label.

    Members that are no fields of the record are dropped.
    """
    named: dict[str, JsonValue] = {name: getattr(label, name) for name in _LABEL_FIELDS}
    named["provider"] = label.provider or None
    return {name: label.extra[name] for name in _RECORD_FIELDS & label.extra.keys()} | named


def _record(label: Label, image_format: str) -> ImageRecord:
    """The record that a label describes.

    Raises:
        ImageError: Values are missing, or fit no column of the table.
    """
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
