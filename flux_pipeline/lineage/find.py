"""Images found again among all that were recorded: by a hash, an id, their prompt, their looks.

Searched are the compacted table and, merged in memory, the parts that it does not include yet: what
was made a minute ago is found too. A search reads one column, and whole rows only where it found
something.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flux_pipeline.lineage.compact import load_compacted
from flux_pipeline.lineage.current import KEY_COLUMNS, Candidates, Integers, Mask
from flux_pipeline.lineage.merging import PART, included_parts, merge, open_table
from flux_pipeline.lineage.parts import list_parts
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.lineage.schema import SCHEMA, batch_to_records
from flux_pipeline.store.base import Store

Column: TypeAlias = Literal[
    "file_sha256",
    "image_sha256",
    "partition",
    "prediction_id",
    "prompt_name",
    "prompt_set",
    "request_sha256",
    "run_id",
    "uri",
]
"""What can be searched for an exact value."""
NEAR = 6
"""Bits of 64 in which the difference hashes of an image and its resized copy differ at most."""
LIMIT = 100
_Place: TypeAlias = tuple[int, int]
"""A table's number and a row group's."""


class Lineage:
    """The current rows of every image, as they were when this was opened; newest parts first.

    Holds the compacted table in memory as it is compressed (about 0.2 KB a row). Thread-safe.
    """

    def __init__(self, tables: list[pq.ParquetFile]) -> None:
        self._tables = tables
        self._hidden = self._superseded() if len(tables) > 1 else {}

    def find(self, column: Column, value: str, *, limit: int = LIMIT) -> list[ImageRecord]:
        """The images with exactly this value in this column, at most ``limit``."""
        return list(self._records(column, lambda values: pc.equal(values, value), limit))

    def find_prompt(self, text: str, *, limit: int = LIMIT) -> list[ImageRecord]:
        """The images whose prompt contains this text in any case, at most ``limit``."""
        return list(
            self._records(
                "prompt",
                lambda values: pc.match_substring(values, text, ignore_case=True),
                limit,
            )
        )

    def find_similar(
        self, dhash: int, *, distance: int = NEAR, limit: int = LIMIT
    ) -> list[tuple[int, ImageRecord]]:
        """The images that look like this one, each after the number of bits that differ, least first.

        A difference hash proves nothing: look at what is found.
        """

        def near(values: pa.ChunkedArray) -> pa.ChunkedArray:
            known = np.bitwise_count(pc.fill_null(values, 0).to_numpy() ^ np.uint64(dhash))
            return pc.and_(pc.is_valid(values), pa.chunked_array([known <= distance]))

        found = self._records("dhash", near, None)
        pairs = [((record.dhash or 0) ^ dhash, record) for record in found]
        ranked = sorted(((bits.bit_count(), record) for bits, record in pairs), key=lambda p: p[0])
        return ranked[:limit]

    def _records(
        self, column: str, test: Callable[[pa.ChunkedArray], Any], limit: int | None
    ) -> Iterator[ImageRecord]:
        for (number, group), rows in self._matches(column, test):
            wanted = rows[:limit]
            yield from batch_to_records(_read(self._tables[number], group, SCHEMA.names).take(wanted))
            if limit is not None:
                limit -= len(wanted)
                if not limit:
                    return

    def _matches(
        self, column: str, test: Callable[[pa.ChunkedArray], Any]
    ) -> Iterator[tuple[_Place, Integers]]:
        """Where the current rows lie whose column passes the test, the last ones first."""
        for number in reversed(range(len(self._tables))):
            table = self._tables[number]
            for group in reversed(range(table.num_row_groups)):
                values = _read(table, group, [column]).column(0)
                passed = pc.fill_null(test(values), False).to_numpy()  # noqa: FBT003 - Arrow's form
                if (hidden := self._hidden.get((number, group))) is not None:
                    passed = passed & ~hidden
                if passed.any():
                    yield (number, group), np.flatnonzero(passed)[::-1]

    def _superseded(self) -> dict[_Place, Mask]:
        """The rows of one table that are superseded by rows of another.

        Each table's rows are current among themselves, so only requests that are in several matter.
        """
        seen = [pc.unique(_column(table, "request_sha256")) for table in self._tables]
        both = seen[0].filter(pc.is_in(seen[0], seen[1]))
        candidates = Candidates()
        places: list[tuple[_Place, Integers, int]] = []
        self._hidden: dict[_Place, Mask] = {}
        if len(both):
            for place, rows in self._matches("request_sha256", lambda values: pc.is_in(values, both)):
                table = self._tables[place[0]]
                found = _read(table, place[1], [*KEY_COLUMNS, PART]).take(rows)
                candidates.add(found, found.column(PART).to_pylist())
                places.append((place, rows, table.metadata.row_group(place[1]).num_rows))
        current = candidates.current()
        hidden = {}
        for place, rows, size in places:
            hidden[place] = np.zeros(size, np.bool_)
            hidden[place][rows] = ~current[: len(rows)]
            current = current[len(rows) :]
        return hidden
