"""Parts, and an earlier compacted table, merged into one compacted table in bounded memory.

Two passes: the first looks at the keys alone and decides what is current; the second copies the
current rows. In between, the parts' rows lie compressed in a temporary file. What is held in memory
is one row group, the earlier table as it is compressed, 32 bytes for each row of the parts (three
times that while they are sorted) and 2 for each row of the earlier table.
"""

from collections.abc import Iterable, Iterator, Sequence
from io import BufferedRandom
from itertools import chain
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.lineage.compacted import COMPACTED_SCHEMA, PART, CompactedTable, write_compacted
from flux_pipeline.lineage.current import KEY_COLUMNS, Candidates, Mask, image_groups, is_any_of
from flux_pipeline.lineage.parts import read_parts
from flux_pipeline.store.base import Store


def merge(
    store: Store, earlier: CompactedTable | None, parts: Sequence[str], into: BinaryIO
) -> int:
    """Write the current rows of ``earlier`` and of these parts as a compacted table; count them.

    A part that ``earlier`` includes already is taken as it is now, and its earlier rows are
    dropped. Raises StoreError.
    """
    candidates = Candidates()
    with TemporaryFile() as spool:
        fresh = _spool(store, parts, spool, candidates)
        copied = _spooled(spool)
        if earlier is None:
            return write_compacted(into, _kept(copied, candidates.current()), parts)
        keep, touched = _look_at(earlier, parts, candidates)
        current = candidates.current()
        keep[touched] = current[fresh:]
        before = earlier.read_all(COMPACTED_SCHEMA.names)
        kept = chain(_kept(before, keep), _kept(copied, current[:fresh]))
        return write_compacted(into, kept, earlier.parts.union(parts))


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
            writer.write_table(table.append_column(field, pa.array(origins, pa.string())))
            candidates.add(table, origins)
            rows += len(table)
    return rows


def _spooled(spool: BufferedRandom) -> Iterator[pa.Table]:
    spool.seek(0)
    with pa.ipc.open_stream(spool) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _look_at(
    earlier: CompactedTable, again: Iterable[str], candidates: Candidates
) -> tuple[Mask, Mask]:
    """For each earlier row whether its part is not read again, and whether it is now a candidate.

    The earlier rows are current among themselves, so only those of an image that the parts speak
    of too become candidates.
    """
    groups = candidates.groups()
    read_again = pa.array(sorted(again), pa.string())
    keep, touched = [np.empty(0, np.bool_)], [np.empty(0, np.bool_)]
    for table in earlier.read_all([*KEY_COLUMNS, PART]):
        keep.append(~pc.is_in(table.column(PART), read_again).to_numpy())
        touched.append(keep[-1] & is_any_of(image_groups(table), groups))
        found = table.filter(pa.array(touched[-1]))
        candidates.add(found, [str(part) for part in found.column(PART).to_pylist()])
    return np.concatenate(keep), np.concatenate(touched)


def _kept(tables: Iterable[pa.Table], keep: Mask) -> Iterator[pa.Table]:
    start = 0
    for table in tables:
        mask = keep[start : (start := start + len(table))]
        yield table if mask.all() else table.filter(pa.array(mask))
