"""Parts, and an earlier compacted table, merged into one compacted table in bounded memory.

Two passes: the first looks at the keys alone and decides what is current; the second copies the
current rows. In between, the parts' rows lie compressed in a temporary file. What is held in memory
is one row group, 32 bytes for each row of the parts and one for each row of the earlier table, and
in the end the compressed result.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedRandom
from itertools import chain
from tempfile import TemporaryFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flux_pipeline.lineage.current import KEY_COLUMNS, Candidates, Mask, image_groups
from flux_pipeline.lineage.parts import read_parts
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.store.base import Store

PART = "part"
COMPACTED_SCHEMA = SCHEMA.append(
    pa.field(
        PART,
        pa.string(),
        nullable=False,
        metadata={"description": "the key of the part that the row is from"},
    )
)
"""SCHEMA, and where each row is from."""
_ROWS = 16_384
_INCLUDED = b"flux-pipeline.parts"


@dataclass(frozen=True, slots=True)
class Merged:
    """One compacted table."""

    body: bytes
    """Parquet."""
    rows: int


def included_parts(table: pq.ParquetFile) -> frozenset[str]:
    """The keys of the parts that were merged into a compacted table. Raises ValueError."""
    packed = (table.metadata.metadata or {}).get(_INCLUDED)
    if packed is None or table.schema_arrow.names != COMPACTED_SCHEMA.names:
        raise ValueError("not a compacted lineage table of this version")
    return frozenset(zlib.decompress(b64decode(packed)).decode().split("\n")) - {""}


def merge(store: Store, earlier: pq.ParquetFile | None, parts: Iterable[str]) -> Merged:
    """The current rows of ``earlier`` and ``parts`` together.

    A part that ``earlier`` includes already is taken as it is now, and its earlier rows are
    dropped. Raises StoreError.
    """
    keys = list(parts)
    included = frozenset(keys) | (included_parts(earlier) if earlier else frozenset())
    candidates = Candidates()
    with TemporaryFile() as spool, TemporaryFile() as result:
        fresh = _spool(store, keys, spool, candidates)
        keep, touched = _look_at(earlier, frozenset(keys), candidates)
        current = candidates.current()
        keep[touched] = current[fresh:]
        tables = chain(
            _kept(_row_groups(earlier, COMPACTED_SCHEMA.names), keep),
            _kept(_spooled(spool), current[:fresh]),
        )
        rows = _write(result, tables, included)
        result.seek(0)
        return Merged(result.read(), rows)


def _spool(store: Store, keys: list[str], spool: BufferedRandom, candidates: Candidates) -> int:
    """Copy parts to the spool and their keys to the candidates; return the number of rows."""
    rows = 0
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(spool, COMPACTED_SCHEMA, options=options) as writer:
        for key, table in read_parts(store, keys):
            origins = [key] * len(table)
            field = COMPACTED_SCHEMA.field(PART)
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
    earlier: pq.ParquetFile | None, again: frozenset[str], candidates: Candidates
) -> tuple[Mask, Mask]:
    """For each earlier row whether its part is not read again, and whether it is now a candidate.

    The earlier rows are current among themselves, so only those of an image that the parts speak
    of too become candidates.
    """
    groups = candidates.groups()
    keep: list[Mask] = []
    touched: list[Mask] = []
    for table in _row_groups(earlier, [*KEY_COLUMNS, PART]):
        keep.append(~pc.is_in(table.column(PART), pa.array(again, pa.string())).to_numpy())
        touched.append(keep[-1] & np.isin(image_groups(table), groups))
        found = table.filter(pa.array(touched[-1]))
        candidates.add(found, [str(part) for part in found.column(PART).to_pylist()])
    empty = np.empty(0, np.bool_)
    return np.concatenate([empty, *keep]), np.concatenate([empty, *touched])


def _row_groups(table: pq.ParquetFile | None, columns: list[str]) -> Iterator[pa.Table]:
    if table is not None:
        for number in range(table.num_row_groups):
            yield table.read_row_group(number, columns=columns)


def _kept(tables: Iterable[pa.Table], keep: Mask) -> Iterator[pa.Table]:
    start = 0
    for table in tables:
        mask = keep[start : (start := start + len(table))]
        yield table if mask.all() else table.filter(pa.array(mask))


def _write(result: BufferedRandom, tables: Iterable[pa.Table], included: frozenset[str]) -> int:
    """Write row groups of one size, so that the same rows make the same bytes; return the rows."""
    rows, held = 0, 0
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(result, COMPACTED_SCHEMA, compression="zstd") as writer:
        for table in tables:
            waiting.append(table)
            held += len(table)
            while held >= _ROWS:
                whole = pa.concat_tables(waiting).combine_chunks()
                writer.write_table(whole.slice(0, _ROWS))
                waiting, held, rows = [whole.slice(_ROWS)], held - _ROWS, rows + _ROWS
        if held:
            writer.write_table(pa.concat_tables(waiting).combine_chunks())
        packed = b64encode(zlib.compress("\n".join(sorted(included)).encode()))
        writer.add_key_value_metadata({_INCLUDED.decode(): packed.decode()})
    return rows + held
