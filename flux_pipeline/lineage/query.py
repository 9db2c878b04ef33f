"""Searches the lineage table as it is now: by a hash, an id, a prompt or the looks of an image.

A snapshot is the compacted table and, beside it, what was written since. A search reads one column
of every row, and the others only of those parts of the table in which something was found.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.iteration import batched, map_ahead
from flux_pipeline.lineage.arrays import array_of, flags_of, mask_of, rows_of, scalar_of
from flux_pipeline.lineage.parts import list_parts
from flux_pipeline.lineage.record import EMULATED, ImageRecord
from flux_pipeline.lineage.schema import SCHEMA, batch_to_records
from flux_pipeline.lineage.table import (
    COMPACTED_SCHEMA,
    KEY_COLUMNS,
    PART,
    Candidates,
    CompactedTable,
    Integers,
    Mask,
    is_any_of,
    load_compacted,
    merge,
    sorted_distinct,
)
from flux_pipeline.store.base import Store

Column: TypeAlias = Literal[
    "asset",
    "config_sha256",
    "file_sha256",
    "image_sha256",
    "partition",
    "prediction_id",
    "prompt_name",
    "prompt_set",
    "request_sha256",
    "run_id",
    "status",
    "uri",
]
"""What can be searched for an exact value."""
SAME_IMAGE = 6
"""Bits of 64 in which the difference hashes of an image and its resized copy differ at most."""
LIMIT = 100

_REQUEST = "request_sha256"
_THREADS = 4
"""A row group decodes in 2 ms, so that more threads wait for each other."""
_ASKED_SINGLY = 256
"""Images that are looked up one by one; for more the whole set is listed, 1,000 keys a request."""
_LISTED_FOR_A_HEAD = 50
"""Keys that a listing gives at the price of one lookup: of a larger set, more are looked up."""
_READERS = 8
_BATCH = 4_096

_FALSE = scalar_of(False, pa.bool_())  # noqa: FBT003

_Place: TypeAlias = tuple[int, int]
"""The number of a table and of a row group in it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What the wanted rows have in common."""

    columns: Sequence[str]
    test: Callable[..., Any]
    """From the values of these columns, chunked arrays, to booleans or nulls, an Arrow array."""


def equals(column: str, value: str) -> Condition:
    """The column has exactly this value."""
    wanted = scalar_of(value, pa.string())
    return Condition([column], lambda values: pc.equal(values, wanted))


def contains(column: str, text: str) -> Condition:
    """The column contains this text, in any case."""
    return Condition([column], lambda values: pc.match_substring(values, text, ignore_case=True))


class Snapshot:
    """The current rows of a compacted table and, beside it, of one of what was written since.

    One that lies in a folder is read where it lies; one of a bucket is held as it is compressed,
    about 0.2 KB a row.
    """

    def __init__(self, compacted: CompactedTable, fresh: CompactedTable | None = None) -> None:
        self._tables = [compacted] if fresh is None else [compacted, fresh]
        self._hidden: dict[_Place, Mask] = {}
        self._hidden = self._superseded()

    def find(self, conditions: Sequence[Condition], columns: Sequence[str]) -> Iterator[pa.Table]:
        """These columns of the rows that meet all conditions, the last row first.

        Reads the columns of the first condition everywhere, and others only of row groups in which
        some rows are left.
        """
        for place, rows in self._matches(conditions):
            yield self._read(place, columns).take(rows_of(rows))

    def read(self, conditions: Sequence[Condition], schema: pa.Schema) -> pa.Table:
        """The rows that meet all conditions as one table of this schema, the first row first."""
        found = [
            self._read(place, schema.names).take(rows[::-1]).cast(schema)
            for place, rows in self._matches(conditions)
        ]
        return pa.concat_tables([pa.Table.from_batches([], schema), *reversed(found)])

    def _matches(self, conditions: Sequence[Condition]) -> Iterator[tuple[_Place, Integers]]:
        places = [
            (number, group)
            for number, table in reversed(list(enumerate(self._tables)))
            for group in reversed(table.groups)
        ]
        match = partial(self._matching_rows, conditions)
        threads = min(_THREADS, os.cpu_count() or 1)
        few = threads == 1 or len(places) <= threads
        found = map(match, places) if few else map_ahead(match, places, threads=threads)
        for place, rows in zip(places, found, strict=True):
            if len(rows):
                yield place, rows

    def _matching_rows(self, conditions: Sequence[Condition], place: _Place) -> Integers:
        """The numbers of the rows of one row group, the last one first."""
        mask = ~self._hidden.get(place, self._no_rows(place))
        for condition in conditions:
            if mask.any():
                values = self._read(place, condition.columns).columns
                mask &= flags_of(condition.test(*values).fill_null(_FALSE))
        return np.flatnonzero(mask)[::-1]

    def _no_rows(self, place: _Place) -> Mask:
        number, group = place
        return np.zeros(self._tables[number].group_rows(group), np.bool_)

    def _read(self, place: _Place, columns: Sequence[str]) -> pa.Table:
        number, group = place
        return self._tables[number].read(group, columns)

    def _superseded(self) -> dict[_Place, Mask]:
        """The rows of one table that rows of the other supersede.

        The rows of one table are current among themselves, so only the requests that both know
        have to be looked at: mostly none.
        """
        if len(self._tables) == 1 or not len(both := _shared_requests(*self._tables)):
            return {}
        shared = Condition([_REQUEST], lambda values: pc.is_in(values, both))
        found = list(self._matches([shared]))
        candidates = Candidates()
        for place, rows in found:
            table = self._read(place, [*KEY_COLUMNS, PART]).take(rows_of(rows))
            candidates.add(table, [str(part) for part in table.column(PART).to_pylist()])
        current = candidates.current()
        hidden = {}
        for place, rows in found:
            hidden[place] = self._no_rows(place)
            hidden[place][rows] = ~current[: len(rows)]
            current = current[len(rows) :]
        return hidden


def _shared_requests(compacted: CompactedTable, fresh: CompactedTable) -> Any:
    recent = _distinct(fresh.read_all([_REQUEST]))
    shared = (
        table.filter(pc.is_in(table.column(0), recent)) for table in compacted.read_all([_REQUEST])
    )
    return _distinct(shared)


def _distinct(tables: Iterable[pa.Table]) -> Any:
    nothing = pa.Table.from_batches([], COMPACTED_SCHEMA).select([_REQUEST])
    return pa.concat_tables([nothing, *tables]).column(0).unique()


def open_snapshot(store: Store) -> Snapshot:
    """Everything recorded so far. Raises StoreError.

    Takes as long as it takes to read the parts that were not compacted yet. The trap: a part that
    was compacted and then written again is seen as it was, until the next compaction.
    """
    compacted = load_compacted(store)
    included = compacted.parts if compacted else frozenset()
    fresh = [key for key in list_parts(store) if key not in included]
    if compacted and not fresh:
        return Snapshot(compacted)
    merged = BytesIO()
    merge(store, None, fresh, merged)
    added = CompactedTable(pa.BufferReader(merged.getvalue()))
    return Snapshot(compacted, added) if compacted else Snapshot(added)


def is_emulated(snapshot: Snapshot) -> bool:
    """Whether images are the emulator's placeholders: a store holds theirs or others, never both.

    False where all rows are older than the column that says so.
    """
    return next(snapshot.find([equals("provider", EMULATED)], ["provider"]), None) is not None


def find_exact(
    snapshot: Snapshot, column: Column, value: str, *, limit: int | None = LIMIT
) -> list[ImageRecord]:
    """The images with exactly this value in this column, last first, at most ``limit``."""
    return list(islice(_records(snapshot, [equals(column, value)]), limit))


def find_prefix(
    snapshot: Snapshot, column: Column, prefix: str, *, limit: int | None = LIMIT
) -> list[ImageRecord]:
    """The images whose value in this column begins so, last first, at most ``limit``."""
    begins = Condition([column], lambda values: pc.starts_with(values, prefix))
    return list(islice(_records(snapshot, [begins]), limit))


def find_all(
    snapshot: Snapshot,
    *,
    prompt: str | None = None,
    run_id: str | None = None,
    prompt_set: str | None = None,
    limit: int | None = LIMIT,
) -> list[ImageRecord]:
    """The images of this run and prompt set whose prompt contains this text in any case.

    None is any; last first, at most ``limit``.
    """
    conditions = [
        *([] if prompt_set is None else [equals("prompt_set", prompt_set)]),
        *([] if run_id is None else [equals("run_id", run_id)]),
        *([] if prompt is None else [contains("prompt", prompt)]),
    ]
    return list(islice(_records(snapshot, conditions), limit))


def find_similar(
    snapshot: Snapshot, dhash: int, *, distance: int = SAME_IMAGE, limit: int | None = LIMIT
) -> list[tuple[int, ImageRecord]]:
    """The images that look like this one, each with the number of bits that differ, least first.

    A difference hash proves nothing, and a cropped copy is not found: look at what comes.
    """
    found = [
        (hamming_distance(record.dhash or 0, dhash), record)
        for record in _records(snapshot, [Condition(["dhash"], partial(_near, dhash, distance))])
    ]
    return sorted(found, key=lambda pair: pair[0])[:limit]


def hamming_distance(one: int, other: int) -> int:
    """The number of bits, 0 to 64, in which two difference hashes differ."""
    return (one ^ other).bit_count()


def _near(dhash: int, distance: int, values: Any) -> Any:
    bits = np.bitwise_count(
        values.fill_null(scalar_of(0, values.type)).to_numpy() ^ np.uint64(dhash)
    )
    return mask_of((bits <= distance) & values.is_valid().to_numpy())


def _records(snapshot: Snapshot, conditions: Sequence[Condition]) -> Iterator[ImageRecord]:
    for table in snapshot.find(conditions, SCHEMA.names):
        for batch in table.to_batches(max_chunksize=LIMIT):
            yield from batch_to_records(batch)


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """What is missing of a run's images; addresses where they are known."""

    rows: int
    """Stored images that have no row."""
    unrecorded: Sequence[str]
    """Those of them that are still known by address."""
    lost: Sequence[str]
    """Images that the table says are stored, and the store has not."""


def find_unrecorded(
    store: Store, prompt_set: str, hashes: Iterable[int], newest: Sequence[str]
) -> Unrecorded:
    """Look for the row and the object of every image that a run stored or found stored.

    ``hashes`` are Python's own of the addresses, in this process: 8 bytes an image, so that a run
    of any size can be asked about. ``newest`` are the last addresses in full. Raises StoreError.
    """
    known = sorted_distinct(np.fromiter(hashes, np.int64))
    if not len(known):
        return Unrecorded(0, (), ())
    snapshot = open_snapshot(store)
    names = {hash(address): address for address in newest}
    has_address = _has_address(known, names)
    recorded = _recorded(snapshot, [equals("prompt_set", prompt_set), has_address], known)
    if not recorded.all():  # the row may be another set's, which asked for the same before
        recorded |= _recorded(snapshot, [has_address], known)
    lost = _lost(store, _to_look_up(store, prompt_set, snapshot, known, names))
    without = known[~recorded].tolist()
    return Unrecorded(len(without), [names[one] for one in without if one in names], lost)


def _has_address(known: Integers, names: dict[int, str]) -> Condition:
    """The row has one of the known addresses, where all are named; else any."""
    named = [names[one] for one in known.tolist() if one in names]
    if len(named) < len(known):
        return Condition(["uri"], pc.is_valid)
    wanted = array_of(named, pa.string())
    return Condition(["uri"], lambda uris: pc.is_in(uris, wanted))


def _recorded(snapshot: Snapshot, conditions: Sequence[Condition], known: Integers) -> Mask:
    """For each hash whether it is that of an address in a row that meets the conditions."""
    found = np.zeros(len(known), np.bool_)
    for table in snapshot.find(conditions, ["uri"]):
        found |= is_any_of(known, np.sort(_hashes(table.column(0))))
    return found


def _to_look_up(
    store: Store, prompt_set: str, snapshot: Snapshot, known: Integers, names: dict[int, str]
) -> list[str]:
    """The addresses whose objects have to be asked for one by one."""
    if all(one in names for one in known.tolist()) and (
        len(known) <= _ASKED_SINGLY
        or len(known) <= _count_rows(snapshot, prompt_set) // _LISTED_FOR_A_HEAD
    ):
        return [names[one] for one in known.tolist()]
    there, place = np.zeros(len(known), np.bool_), store.uri
    for keys in batched(store.list(f"images/{prompt_set}/"), _BATCH):
        listed = np.array([hash(f"{place}/{key}") for key in keys], np.int64)
        there |= is_any_of(known, np.sort(listed))
    rest = known[~there]
    if not len(rest):
        return []
    unlisted = Condition(["uri"], lambda uris: mask_of(is_any_of(_hashes(uris), rest)))
    tables = snapshot.find([unlisted], ["uri"])
    return [str(uri) for table in tables for uri in table.column(0).to_pylist()]


def _count_rows(snapshot: Snapshot, prompt_set: str) -> int:
    return sum(map(len, snapshot.find([equals("prompt_set", prompt_set)], ["prompt_set"])))


def _lost(store: Store, addresses: Sequence[str]) -> list[str]:
    """Those that lie in another store, or nowhere."""

    def is_lost(address: str) -> bool:
        key = address.removeprefix(f"{store.uri}/")
        return key == address or store.head(key) is None

    gone = map_ahead(is_lost, addresses, threads=_READERS)
    return [address for address, lost in zip(addresses, gone, strict=True) if lost]


def _hashes(values: Any) -> Integers:
    found = values.to_pylist()
    return np.fromiter((hash(one) for one in found), np.int64, len(found))
