"""The stored objects of one request, put together again to what its prediction came to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from flux_pipeline.audit.rebuilding import left_out, rebuild_record, spoiled
from flux_pipeline.errors import ImageError, StoreError
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.store.base import Store


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
