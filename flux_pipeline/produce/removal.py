"""Removes stored images on purpose: in an order that a kill at any point can't make untrue.

The order is: copies in the archive, if one is wanted; the claim, with the records as they are to be
(``Ledger.begin_pruning``); the objects; the lineage rows; the end. An attempt that is found in
PRUNING has lost its worker: where every object is there it is stored again, else the rest is
removed (``Removal.settle``). Images that were archived come back the same way (``bring_back``).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Protocol, TypeVar
from uuid import uuid4

from flux_pipeline.errors import StoreError
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import (
    ImageRecord,
    ImageStatus,
    records_from_json,
    records_to_json,
    returned_record,
)
from flux_pipeline.produce.ingest import sidecar_key
from flux_pipeline.store.base import Store

T = TypeVar("T")
_XMP_TYPE = "application/rdf+xml"
_KEY_PARTS = 3
_DIGITS = 12


class CallLedger(Protocol):
    """Makes a call of the ledger, in a transaction that is committed when it returns."""

    def __call__(self, work: Callable[[Ledger], T], /) -> T:
        """Return what ``work`` returns. Raises LedgerError."""
        ...


@dataclass(frozen=True, slots=True)
class Removal:
    """Ends removals of one store, and undoes them. It blocks; thread-safe."""

    store: Store
    call: CallLedger
    holder: str
    """Names the claims."""
    now: Callable[[], datetime]
    """UTC."""
    open_archive: Callable[[str], Store]
    """Opens the archive at a URI."""

    def settle(self, attempt: Attempt) -> Attempt:
        """End a removal, or a return, that was begun and whose claim this worker has taken over.

        What is all there is stored again, and of anything else the rest is removed. Returns the
        attempt as this worker knows it then: still PRUNING where another worker was faster.

        Raises:
            StoreError: It stays as it was begun.
        """
        records = records_from_json(attempt.images)
        if are_all_there(self.store, records):
            return self.give_back(attempt, records)
        if not self.call(lambda ledger: ledger.renew(attempt, holder=self.holder)):
            return attempt
        delete_images(self.store, records)
        write_removed_rows(self.store, records, now=self.now())
        return self._close(attempt, State.PRUNED, records)

    def give_back(self, attempt: Attempt, records: Sequence[ImageRecord]) -> Attempt:
        """Note that the images of a claimed attempt are stored, as if they were stored now."""
        at = self.now()
        return self._close(attempt, State.STORED, [returned_record(one, at=at) for one in records])

    def bring_back(self, attempt: Attempt) -> tuple[Attempt | None, str]:
        """Store the archived copies of a PRUNED attempt again.

        Returns the attempt as it is then, None where there is nothing to bring back; and why not,
        where the archive has no such copies any more.

        Raises:
            StoreError: Archive or store can't be asked; nothing is paid for in their place.
        """
        records = records_from_json(attempt.images)
        removed = [one for one in records if one.status is ImageStatus.REMOVED]
        if not removed or not all(one.archived_uri for one in removed):
            return None, ""
        begun = self.call(
            lambda ledger: ledger.begin_pruning(attempt, holder=self.holder, images=attempt.images)
        )
        if begun is None:
            return None, ""
        missing = ""
        try:
            for record in removed:
                missing = missing or self._copy_back(record)
        except StoreError:
            with suppress(StoreError):  # else whoever takes over the claim settles it
                self._remove_again(begun, records)
            raise
        if not missing:
            return self.give_back(begun, records), ""
        self._remove_again(begun, records)
        return None, missing

    def _remove_again(self, attempt: Attempt, records: Sequence[ImageRecord]) -> None:
        """End a return of which only a part came back."""
        delete_images(self.store, records)
        self._close(attempt, State.PRUNED, records)

    def _copy_back(self, record: ImageRecord) -> str:
        """Copy one image from its archive; return what is missing there, if anything is."""
        archived = record.archived_uri or ""
        key = _last_parts(archived)
        archive = self.open_archive(archived.removesuffix(f"/{key}"))
        found = archive.head(key)
        if found is None:
            return f"{archived}: is not there any more"
        if record.file_sha256 != (found.sha256 or _checksum(archive, key)):
            return f"{archived}: has other bytes than were archived"
        _copy_one(archive, key, self.store, _key_of(record))
        return ""

    def _close(self, attempt: Attempt, state: State, records: Sequence[ImageRecord]) -> Attempt:
        images = records_to_json(records)
        error = "; ".join(dict.fromkeys(one.error for one in records if one.error)) or None
        closed = self.call(
            lambda ledger: ledger.close(
                attempt, state, holder=self.holder, error=error, images=images
            )
        )
        return replace(attempt, state=state, images=images, error=error) if closed else attempt


def are_all_there(store: Store, records: Iterable[ImageRecord]) -> bool:
    """Whether every image of these records lies in the store, with its own bytes.

    Raises:
        StoreError: The store can't be read.
    """
    for record in _removed(records):
        found = store.head(_key_of(record))
        wanted = record.file_sha256
        if found is None or (wanted and found.sha256 and found.sha256 != wanted):
            return False
    return True


def delete_images(store: Store, records: Iterable[ImageRecord]) -> None:
    """Delete the objects of these records, with their labels beside them; again is harmless.

    Raises:
        StoreError: One of them can't be deleted; those before it are.
    """
    for record in _removed(records):
        key = _key_of(record)
        store.delete(key)  # first: without it the label beside it means nothing
        store.delete(sidecar_key(key))


def archive_images(
    store: Store, archive: Store, records: Iterable[ImageRecord]
) -> list[ImageRecord]:
    """Copy the images of these records to another store; return the records that name the copies.

    Each copy is compared with the checksum of the bytes that were recorded.

    Raises:
        StoreError: One can't be copied, or has other bytes than were recorded; nothing is removed.
    """
    copied = []
    for record in records:
        if record.status is not ImageStatus.REMOVED:
            copied.append(record)
            continue
        key = _archive_key(archive, record)
        _copy_one(store, _key_of(record), archive, key)
        if record.file_sha256 != (found := _checksum(archive, key)):
            raise StoreError(
                f"{archive.uri}/{key}: the copy has sha256 {found}, and the image was recorded with"
                f" {record.file_sha256}; `flux-pipeline verify --deep` says which is wrong"
            )
        copied.append(replace(record, archived_uri=f"{archive.uri}/{key}"))
    return copied


def write_removed_rows(store: Store, records: Iterable[ImageRecord], *, now: datetime) -> None:
    """Write the lineage rows that say what was removed. Raises StoreError."""
    run_id = f"prune-{uuid4().hex[:12]}"
    for asset, rows in groupby(sorted(_removed(records), key=_asset), key=_asset):
        day = now.date()
        write_part(store, list(rows), asset=asset, partition="removed", run_id=run_id, day=day)


def _archive_key(archive: Store, record: ImageRecord) -> str:
    """The image's own key, or one beside it where an earlier answer to its request has that."""
    key = _key_of(record)
    taken = archive.head(key)
    if taken is None or (taken.sha256 or _checksum(archive, key)) == record.file_sha256:
        return key
    stem, _, ending = key.rpartition(".")
    return f"{stem}-{(record.file_sha256 or '')[:_DIGITS]}.{ending}"


def _copy_one(source: Store, key: str, target: Store, to: str) -> None:
    """Copy an object with its type and metadata, and the label beside it."""
    stored = source.head(key)
    if stored is None:
        raise StoreError(f"{source.uri}/{key}: there is no such object")
    beside = sidecar_key(key)
    if source.head(beside) is not None:
        target.put(sidecar_key(to), source.get(beside), content_type=_XMP_TYPE)
    metadata = dict(stored.metadata)
    target.put_new(to, source.get(key), content_type=stored.content_type, metadata=metadata)


def _checksum(store: Store, key: str) -> str:
    """The SHA-256 of an object's bytes as they are read."""
    return hashlib.sha256(store.get(key)).hexdigest()


def _removed(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    return [one for one in records if one.status is ImageStatus.REMOVED and one.uri]


def _asset(record: ImageRecord) -> str:
    return record.asset


def _key_of(record: ImageRecord) -> str:
    """The key of an image, even where its store has been moved since."""
    return _last_parts(record.uri or "")


def _last_parts(uri: str) -> str:
    """The key of an image in any store: it has three parts."""
    return "/".join(uri.rsplit("/", _KEY_PARTS)[-_KEY_PARTS:])
