"""The lineage table: the current rows of all parts, compacted into one Parquet object.

A row is superseded by a later row of the same row key (request, prediction id, output index). A row
without a prediction id says that nothing came; any later row of the same request and output index
supersedes it. *Later* goes by the time that the row speaks of (``stored_at``, else
``completed_at``, else ``requested_at``, else the day of its part), then by the part's key, then by
the place in the part.

The table is derived: it can be deleted at any time, and is made again from the parts. One PUT
replaces it as a whole, so that a reader sees the earlier table or the new one. Two compactions at
once both leave a right table; what the slower one had not seen comes with the next.

Compaction needs little memory, because it passes over the rows twice: the first pass reads the keys
alone and decides which rows are current, the second one copies those. In between, the rows of the
parts are compressed in a temporary file. Held in memory are one row group, the earlier table as it
is compressed, 32 bytes for each row of the parts (three times that while they are sorted) and 2 for
each row of the earlier table.
"""

import hashlib
import json
import threading
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from io import BufferedRandom
from itertools import chain
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import Any, BinaryIO, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flux_pipeline.iteration import map_ahead
from flux_pipeline.lineage.arrays import array_of, flags_of, mask_of, numbers_of
from flux_pipeline.lineage.parts import list_parts, part_day, read_parts
from flux_pipeline.lineage.record import TIMES
from flux_pipeline.lineage.schema import PARQUET, SCHEMA
from flux_pipeline.store.base import Store

COMPACTED = "lineage/current.parquet"
"""The key of the compacted table; pandas, pyarrow and DuckDB read it as it is."""
PART = "part"
"""The column that names the part a row is from."""
COMPACTED_SCHEMA = SCHEMA.append(
    pa.field(PART, pa.string(), nullable=False, metadata={"description": "the row's part, a key"})
)
_TIMES_LAST_FIRST = TIMES[::-1]
KEY_COLUMNS = ("request_sha256", "prediction_id", "output_index", *_TIMES_LAST_FIRST)
"""The columns that decide which of several rows is current."""

_REWRITTEN_WITHIN = timedelta(days=2)
_ROW_GROUP = 16_384
"""Rows that are decoded at once, about 15 MB."""
_INCLUDED = "flux-pipeline.parts"
"""The key in the file's metadata of the list of parts: so table and list can't disagree."""
_CHECKSUMS = "flux-pipeline.checksums"
"""The key in the file's metadata of the SHA-256 of the parts that may have been written again."""
_THREADS = 8
_REPETITIVE = [
    "aspect_ratio",
    "asset",
    "code_version",
    "config_path",
    "config_sha256",
    "credentials",
    "error",
    "format",
    "hf_lora",
    "model",
    "partition",
    "prompt_name",
    "prompt_set",
    "provider",
    "run_id",
    "seed_source",
    "served_version",
    "status",
    "version",
    PART,
]
"""Columns that are decoded as dictionaries, which halves the cost of a row."""

Number = TypeVar("Number", bound=np.generic)
Integers: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Compaction:
    """What ``compact`` did."""

    uri: str
    rows: int
    parts_read: int
    changed: bool
    """False where the table was already exactly this."""


def compact(store: Store, *, full: bool = False) -> Compaction:
    """Bring the compacted table up to date; a second call changes nothing.

    Reads the parts that it does not include yet, and again those of the newest day and the two days
    before it that have other bytes than they had, because a retried run has written them again;
    ``full`` reads all of them. Safe while others write parts. Raises StoreError.
    """
    keys = list(list_parts(store))
    earlier = None if full else load_compacted(store)
    # Before the parts are read: one that is written meanwhile is then read again the next time.
    checksums = _checksums_of_recent(store, keys)
    todo = [key for key in keys if earlier is None or not earlier.has(key, checksums.get(key))]
    if earlier is not None and not todo:
        return Compaction(f"{store.uri}/{COMPACTED}", earlier.rows, 0, changed=False)
    with TemporaryFile() as result:
        rows = merge(store, earlier, todo, result, checksums)
        del earlier  # so that only one of the two tables is held at a time
        result.seek(0)
        body = result.read()
    before = store.head(COMPACTED)
    changed = before is None or before.sha256 != hashlib.sha256(body).hexdigest()
    if changed:
        store.put(COMPACTED, body, content_type=PARQUET)
    return Compaction(f"{store.uri}/{COMPACTED}", rows, len(todo), changed)


def _checksums_of_recent(store: Store, keys: Sequence[str]) -> Mapping[str, str]:
    """The SHA-256 of each part that may be written again; empty where the store has none."""
    since = part_day(keys[-1]) - _REWRITTEN_WITHIN if keys else date.min
    recent = [key for key in keys if part_day(key) >= since]
    heads = map_ahead(store.head, recent, threads=_THREADS)
    return {key: head.sha256 if head else "" for key, head in zip(recent, heads, strict=True)}


class CompactedTable:
    """A compacted table, in a file or as it is compressed in memory. For any number of threads."""

    def __init__(self, source: pa.NativeFile) -> None:
        """Raise ValueError where ``source`` is no compacted table of this version."""
        self._source = source
        self._readers = threading.local()
        try:
            self._file = pq.ParquetFile(self._source, read_dictionary=_REPETITIVE)
            about = self._file.metadata.metadata or {}
            parts = _unpack(about[_INCLUDED.encode()]).split("\n")
            checksums = about.get(_CHECKSUMS.encode())  # older tables have none
            self._checksums = json.loads(_unpack(checksums)) if checksums else {}
        except (pa.ArrowException, OSError, KeyError, TypeError, zlib.error) as error:
            raise ValueError(f"no compacted table: {error}") from error
        if self._file.schema_arrow.names != COMPACTED_SCHEMA.names:
            raise ValueError("a compacted table of another version")
        self.parts = frozenset(parts) - {""}
        """The keys of all parts that were merged into it, also of those without a current row."""
        self.groups = range(self._file.num_row_groups)
        """The numbers of its row groups."""
        self.rows: int = self._file.metadata.num_rows

    def has(self, part: str, checksum: str | None) -> bool:
        """Whether it includes a part as it is; a checksum of None is one that does not change."""
        if checksum is None:
            return part in self.parts
        return part in self.parts and bool(checksum) and self._checksums.get(part) == checksum

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of one row group; repetitive ones are dictionaries."""
        # On one thread: the columns are too small for more to pay.
        return self._reader().read_row_group(group, columns=list(columns), use_threads=False)

    def _reader(self) -> pq.ParquetFile:
        # One for each thread, because a reader can't be shared; they have the metadata in common.
        try:
            found: pq.ParquetFile = self._readers.file
        except AttributeError:
            found = self._readers.file = pq.ParquetFile(
                self._source,
                metadata=self._file.metadata,
                read_dictionary=_REPETITIVE,
            )
        return found

    def group_rows(self, group: int) -> int:
        """The number of rows of one row group."""
        return int(self._file.metadata.row_group(group).num_rows)

    def read_all(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of all rows, one row group at a time."""
        return (self.read(group, columns) for group in self.groups)


def load_compacted(store: Store) -> CompactedTable | None:
    """The compacted table, None where there is none that can be read. Raises StoreError."""
    if COMPACTED not in store.list(COMPACTED):
        return None
    try:
        return CompactedTable(open_parquet(store, COMPACTED))
    except ValueError:
        return None


def open_parquet(store: Store, key: str) -> pa.NativeFile:
    """An object; of one in a folder the file, of which only what is looked at is read.

    An object is replaced by a new file, never written into, so what is open stays as it was. Raises
    StoreError.
    """
    address = urlsplit(f"{store.uri}/{key}")
    if address.scheme == "file":
        with suppress(OSError):
            # Not mapped: of a mapped table nearly all would count as memory of this process.
            return pa.OSFile(unquote(address.path), "rb")
    return pa.BufferReader(store.get(key))


def merge(
    store: Store,
    earlier: CompactedTable | None,
    parts: Sequence[str],
    into: BinaryIO,
    checksums: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Write the current rows of ``earlier`` and of these parts as a compacted table; count them.

    A part that ``earlier`` includes already is taken as it is now, and its earlier rows are
    dropped. ``checksums`` are noted of the parts that may be written again. Raises StoreError.
    """
    candidates = Candidates()
    with TemporaryFile() as spool:
        fresh = _spool(store, parts, spool, candidates)
        copied = _read_spool(spool)
        if earlier is None:
            return write_compacted(into, _filtered(copied, candidates.current()), parts, checksums)
        keep, touched = _find_touched(earlier, parts, candidates)
        current = candidates.current()
        keep[touched] = current[fresh:]
        before = earlier.read_all(COMPACTED_SCHEMA.names)
        kept = chain(_filtered(before, keep), _filtered(copied, current[:fresh]))
        return write_compacted(into, kept, earlier.parts.union(parts), checksums)


class Candidates:
    """Rows that may supersede each other: 32 bytes are kept of each, whatever its size."""

    def __init__(self) -> None:
        self._parts: dict[str, int] = {}
        self._groups: list[Integers] = []
        self._predictions: list[Integers] = []
        self._times: list[Integers] = []
        self._origins: list[Integers] = []

    def add(self, table: pa.Table, parts: Sequence[str]) -> None:
        """Add rows with KEY_COLUMNS and, for each, the key of the part that it lies in."""
        ids = table.column("prediction_id").to_pylist()
        origins = [self._parts.setdefault(part, len(self._parts)) for part in parts]
        self._groups.append(image_groups(table))
        # Hashes in place of texts: 8 bytes, and equal where the texts are. 0 stands for no id.
        self._predictions.append(
            np.fromiter((hash(one) or 1 if one else 0 for one in ids), np.int64, len(table))
        )
        self._times.append(_times(table, parts))
        self._origins.append(np.array(origins, np.int64))

    def groups(self) -> Integers:
        """The distinct groups of all rows, sorted."""
        return sorted_distinct(_join(self._groups))

    def current(self) -> Mask:
        """For each row, in the order added, whether it is current."""
        groups, predictions = _join(self._groups), _join(self._predictions)
        # Parts are numbered in the order of reading; they rank in the order of their keys.
        ranks = np.empty(len(self._parts), np.int64)
        ranks[[self._parts[part] for part in sorted(self._parts)]] = np.arange(len(self._parts))
        origins = _join(self._origins)
        # lexsort is stable: equal rows keep the order in which they were added.
        order = np.lexsort((ranks[origins], _join(self._times), groups))
        last_of_group = _last_of_runs(groups[order])
        current = np.zeros(len(groups), np.bool_)
        current[order[last_of_group]] = True
        # So far one row of each image. Rows with a prediction id stand beside it: the last of each.
        order = order[np.lexsort((predictions[order], groups[order]))]
        last_of_key = order[_last_of_runs(groups[order], predictions[order])]
        current[last_of_key[predictions[last_of_key] != 0]] = True
        return current


def _spool(
    store: Store, parts: Iterable[str], spool: BufferedRandom, candidates: Candidates
) -> int:
    """Copy parts to the spool and their keys to the candidates; return the number of rows."""
    rows = 0
    field = COMPACTED_SCHEMA.field(PART)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(spool, COMPACTED_SCHEMA, options=options) as writer:
        for key, table in read_parts(store, parts):
            origins = [key] * len(table)
            writer.write_table(table.append_column(field, array_of(origins, pa.string())))
            candidates.add(table, origins)
            rows += len(table)
    return rows


def _read_spool(spool: BufferedRandom) -> Iterator[pa.Table]:
    spool.seek(0)
    with pa.ipc.open_stream(spool) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _find_touched(
    earlier: CompactedTable, again: Iterable[str], candidates: Candidates
) -> tuple[Mask, Mask]:
    """For each earlier row whether its part is not read again, and whether it is now a candidate.

    The earlier rows are current among themselves, so only those of an image that the parts speak
    of too become candidates.
    """
    groups = candidates.groups()
    read_again = array_of(sorted(again), pa.string())
    keep, touched = [np.empty(0, np.bool_)], [np.empty(0, np.bool_)]
    for table in earlier.read_all([*KEY_COLUMNS, PART]):
        keep.append(~flags_of(pc.is_in(table.column(PART), read_again)))
        touched.append(keep[-1] & is_any_of(image_groups(table), groups))
        found = table.filter(mask_of(touched[-1]))
        candidates.add(found, [str(part) for part in found.column(PART).to_pylist()])
    return np.concatenate(keep), np.concatenate(touched)


def _filtered(tables: Iterable[pa.Table], keep: Mask) -> Iterator[pa.Table]:
    start = 0
    for table in tables:
        mask = keep[start : (start := start + len(table))]
        yield table if mask.all() else table.filter(mask_of(mask))


def write_compacted(
    into: BinaryIO,
    tables: Iterable[pa.Table],
    parts: Iterable[str],
    checksums: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Write a compacted table of these rows and parts; return the number of rows.

    The same rows make the same bytes, however they come divided.
    """
    rows = 0
    with pq.ParquetWriter(into, COMPACTED_SCHEMA, compression="zstd") as writer:
        for table in in_row_groups(each.cast(COMPACTED_SCHEMA) for each in tables):
            writer.write_table(table)
            rows += len(table)
        about = {_INCLUDED: _pack("\n".join(sorted(parts)))}
        if checksums:
            about[_CHECKSUMS] = _pack(json.dumps(checksums, sort_keys=True))
        writer.add_key_value_metadata(about)
    return rows


def in_row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, divided into tables of one row group each, however they come divided."""
    held = 0
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        held += len(table)
        while held >= _ROW_GROUP:
            whole = pa.concat_tables(waiting).combine_chunks()
            yield whole.slice(0, _ROW_GROUP)
            waiting = [whole.slice(_ROW_GROUP)]
            held -= _ROW_GROUP
    if held:
        yield pa.concat_tables(waiting).combine_chunks()


def _pack(text: str) -> str:
    return b64encode(zlib.compress(text.encode())).decode()


def _unpack(packed: bytes) -> str:
    return zlib.decompress(b64decode(packed)).decode()


def image_groups(table: pa.Table) -> Integers:
    """For each row a number that stands for its request and output index, within this process."""
    pairs = zip(
        table.column("request_sha256").to_pylist(),
        table.column("output_index").to_pylist(),
        strict=True,
    )
    return np.fromiter(map(hash, pairs), np.int64, len(table))


def sorted_distinct(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The values in order, each once.

    Not ``np.unique``, which puts them into a hash table before it sorts them: ten times the CPU.
    """
    ordered = np.sort(values)
    is_new: Mask = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    return ordered if is_new.all() else ordered[is_new]


def is_any_of(values: npt.NDArray[Number], known: npt.NDArray[Number]) -> Mask:
    """For each value whether it is among ``known``, which is sorted.

    Not ``np.isin``, which sorts what is known anew each time, however few are looked up.
    """
    if not len(known):
        return np.zeros(len(values), np.bool_)
    nearest = known[np.minimum(np.searchsorted(known, values), len(known) - 1)]
    found: Mask = np.equal(nearest, values)
    return found


def _times(table: pa.Table, parts: Sequence[str]) -> Integers:
    """For each row, the time that it speaks of, in milliseconds since 1970."""
    known = last_times(table).cast(pa.int64())
    if known.null_count:
        days = [_midnight(part) for part in parts]
        known = pc.coalesce(known, pa.chunked_array([array_of(days, pa.int64())]))
    return numbers_of(known, np.int64)


def last_times(table: pa.Table) -> Any:
    """For each row the last of its times that is known; null where none is."""
    return pc.coalesce(*(table.column(name) for name in _TIMES_LAST_FIRST))


def _midnight(part: str) -> int:
    return int(datetime.combine(part_day(part), time(), UTC).timestamp()) * 1000


def _join(chunks: list[Integers]) -> Integers:
    return np.concatenate(chunks) if chunks else np.empty(0, np.int64)


def _last_of_runs(*columns: Integers) -> Mask:
    """Where the next row differs in some column."""
    changes = [column[1:] != column[:-1] for column in columns]
    return np.append(np.logical_or.reduce(changes), True)[: len(columns[0])]
