"""The form of a compacted table: current rows, where each is from, and which parts are in it.

One Parquet object, so that pandas and DuckDB read it as it is. The list of the parts lies in the
file's own metadata: table and list can't disagree.
"""

import threading
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from flux_pipeline.lineage.schema import SCHEMA

PART = "part"
"""The column that names the part a row is from."""
COMPACTED_SCHEMA = SCHEMA.append(
    pa.field(PART, pa.string(), nullable=False, metadata={"description": "the row's part, a key"})
)
_ROWS = 16_384
"""Rows of a row group: what is decoded at once, about 15 MB."""
_INCLUDED = "flux-pipeline.parts"
_REPETITIVE = [
    "aspect_ratio",
    "asset",
    "code_version",
    "config_path",
    "config_sha256",
    "error",
    "format",
    "hf_lora",
    "model",
    "partition",
    "prompt_name",
    "prompt_set",
    "run_id",
    "seed_source",
    "served_version",
    "status",
    "version",
    PART,
]
"""Columns that are decoded as dictionaries, which halves the cost of a row."""


class CompactedTable:
    """A compacted table in memory, compressed as it is stored. For any number of threads."""

    def __init__(self, body: bytes | pa.Buffer) -> None:
        """Raise ValueError where ``body`` is no compacted table of this version."""
        self._body = body
        self._readers = threading.local()
        try:
            self._file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=_REPETITIVE)
            packed = (self._file.metadata.metadata or {})[_INCLUDED.encode()]
            parts = zlib.decompress(b64decode(packed)).decode().split("\n")
        except (pa.ArrowException, OSError, KeyError, TypeError, zlib.error) as error:
            raise ValueError(f"no compacted table: {error}") from error
        if self._file.schema_arrow.names != COMPACTED_SCHEMA.names:
            raise ValueError("a compacted table of another version")
        self.parts = frozenset(parts) - {""}
        """The keys of all parts that were merged into it, also of those without a current row."""
        self.groups = range(self._file.num_row_groups)
        """The numbers of its row groups."""

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of one row group; repetitive ones are dictionaries."""
        # On one thread: the columns are too small for more to pay.
        return self._reader().read_row_group(group, columns=list(columns), use_threads=False)

    def _reader(self) -> pq.ParquetFile:
        """This thread's own: one reader can't be shared. All have the metadata in common."""
        try:
            found: pq.ParquetFile = self._readers.file
        except AttributeError:
            found = self._readers.file = pq.ParquetFile(
                pa.BufferReader(self._body),
                metadata=self._file.metadata,
                read_dictionary=_REPETITIVE,
            )
        return found

    def read_all(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of all rows, one row group at a time."""
        return (self.read(group, columns) for group in self.groups)


def write_compacted(into: BinaryIO, tables: Iterable[pa.Table], parts: Iterable[str]) -> int:
    """Write a compacted table of these rows and parts; return the number of rows.

    The same rows make the same bytes, however they come divided.
    """
    rows, held = 0, 0
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(into, COMPACTED_SCHEMA, compression="zstd") as writer:
        for table in tables:
            waiting.append(table.cast(COMPACTED_SCHEMA))
            held += len(table)
            while held >= _ROWS:
                whole = pa.concat_tables(waiting).combine_chunks()
                writer.write_table(whole.slice(0, _ROWS))
                waiting, held, rows = [whole.slice(_ROWS)], held - _ROWS, rows + _ROWS
        if held:
            writer.write_table(pa.concat_tables(waiting).combine_chunks())
        packed = b64encode(zlib.compress("\n".join(sorted(parts)).encode()))
        writer.add_key_value_metadata({_INCLUDED: packed.decode()})
    return rows + held
