"""All current rows as they are at one moment: the compacted table, and what was written since."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.lineage.compact import load_compacted
from flux_pipeline.lineage.compacted import COMPACTED_SCHEMA, PART, CompactedTable
from flux_pipeline.lineage.current import KEY_COLUMNS, Candidates, Integers, Mask
from flux_pipeline.lineage.merging import merge
from flux_pipeline.lineage.parts import list_parts
from flux_pipeline.store.base import Store

Test: TypeAlias = Callable[[Any], Any]
"""From one column's values, a chunked array, to booleans or nulls, an Arrow array as long."""
_Place: TypeAlias = tuple[int, int]
"""The number of a table and of a row group in it."""

_REQUEST = "request_sha256"
_THREADS = 4
"""A row group decodes in 2 ms, so that more threads wait for each other."""


class Snapshot:
    """The current rows of a compacted table and, beside it, of one of what was written since.

    Holds the tables as they are compressed, about 0.2 KB a row; those in a folder are mapped.
    """

    def __init__(self, compacted: CompactedTable, fresh: CompactedTable | None = None) -> None:
        self._tables = [compacted] if fresh is None else [compacted, fresh]
        self._hidden: dict[_Place, Mask] = {}
        self._hidden = self._superseded()

    def find(self, column: str, test: Test, columns: Sequence[str]) -> Iterator[pa.Table]:
        """These columns of the rows whose ``column`` passes the test, the last row first.

        Reads one column of everything, and the others only of row groups with a hit.
        """
        for place, rows in self._matches(column, test):
            yield self._read(place, columns).take(rows)

    def _matches(self, column: str, test: Test) -> Iterator[tuple[_Place, Integers]]:
        def look(place: _Place) -> Integers:
            passed = test(self._read(place, [column]).column(0)).fill_null(False)  # noqa: FBT003
            hidden = self._hidden.get(place, np.zeros(len(passed), np.bool_))
            return np.flatnonzero(np.asarray(passed) & ~hidden)[::-1]

        places = [
            (number, group)
            for number, table in reversed(list(enumerate(self._tables)))
            for group in reversed(table.groups)
        ]
        for place, rows in zip(places, _ahead(places, look), strict=True):
            if len(rows):
                yield place, rows

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
        found = list(self._matches(_REQUEST, lambda values: pc.is_in(values, both)))
        candidates = Candidates()
        for place, rows in found:
            table = self._read(place, [*KEY_COLUMNS, PART]).take(rows)
            candidates.add(table, [str(part) for part in table.column(PART).to_pylist()])
        current = candidates.current()
        hidden = {}
        for place, rows in found:
            hidden[place] = np.zeros(len(self._read(place, ["output_index"])), np.bool_)
            hidden[place][rows] = ~current[: len(rows)]
            current = current[len(rows) :]
        return hidden


def _ahead(places: Sequence[_Place], look: Callable[[_Place], Integers]) -> Iterator[Integers]:
    """Look at the places in their order, on a few threads, a few places ahead and no more."""
    threads = min(_THREADS, os.cpu_count() or 1)
    if threads == 1 or len(places) <= threads:
        yield from map(look, places)
        return
    remaining = iter(places)
    with ThreadPoolExecutor(threads, thread_name_prefix="lineage") as pool:
        running = deque(pool.submit(look, place) for place in islice(remaining, 2 * threads))
        try:
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(look, place) for place in islice(remaining, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _shared_requests(compacted: CompactedTable, fresh: CompactedTable) -> Any:
    recent = _distinct(fresh.read_all([_REQUEST]))
    shared = (
        table.filter(pc.is_in(table.column(0), recent)) for table in compacted.read_all([_REQUEST])
    )
    return _distinct(shared)


def _distinct(tables: Iterable[pa.Table]) -> Any:
    nothing = COMPACTED_SCHEMA.empty_table().select([_REQUEST])
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
    added = CompactedTable(merged.getvalue())
    return Snapshot(compacted, added) if compacted else Snapshot(added)
