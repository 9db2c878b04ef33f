"""Which rows are current, where the same image was recorded more than once.

A row is superseded by a later row of the same row key (request, prediction id, output index), and a
row without a prediction id by any later row of the same request and output index: it says that
nothing came, and then something did.

*Later* is the time that the row speaks of (``stored_at``, else ``completed_at``, else
``requested_at``, else the day of its part), then the part's key, then the place in the part.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.lineage.parts import part_day

KEY_COLUMNS = (
    "request_sha256",
    "prediction_id",
    "output_index",
    "stored_at",
    "completed_at",
    "requested_at",
)
"""The columns that decide."""
Integers: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


def image_groups(table: pa.Table) -> Integers:
    """For each row a number that stands for its request and output index, within this process."""
    pairs = zip(
        table.column("request_sha256").to_pylist(),
        table.column("output_index").to_pylist(),
        strict=True,
    )
    return np.fromiter(map(hash, pairs), np.int64, len(table))


def is_any_of(values: Integers, known: Integers) -> Mask:
    """For each value whether it is among ``known``, which is sorted."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    nearest = known[np.minimum(np.searchsorted(known, values), len(known) - 1)]
    return np.equal(nearest, values)


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
        self._predictions.append(
            np.fromiter((hash(one) or 1 if one else 0 for one in ids), np.int64, len(table))
        )
        self._times.append(_times(table, parts))
        self._origins.append(np.array(origins, np.int64))

    def groups(self) -> Integers:
        """The distinct groups of all rows, sorted."""
        return np.unique(_join(self._groups))

    def current(self) -> Mask:
        """For each row, in the order added, whether it is current."""
        groups, predictions = _join(self._groups), _join(self._predictions)
        ranks = np.empty(len(self._parts), np.int64)
        ranks[[self._parts[part] for part in sorted(self._parts)]] = np.arange(len(self._parts))
        origins = _join(self._origins)
        # lexsort is stable: equal rows keep the order in which they were added.
        order = np.lexsort((ranks[origins], _join(self._times), groups))
        last_of_group = _last_of_runs(groups[order])
        current = np.zeros(len(groups), np.bool_)
        current[order[last_of_group]] = True
        order = order[np.lexsort((predictions[order], groups[order]))]
        last_of_key = order[_last_of_runs(groups[order], predictions[order])]
        current[last_of_key[predictions[last_of_key] != 0]] = True
        return current


def _times(table: pa.Table, parts: Sequence[str]) -> Integers:
    """Milliseconds since 1970."""
    known = pc.coalesce(*(table.column(name) for name in KEY_COLUMNS[3:])).cast(pa.int64())
    if known.null_count:
        days = [_midnight(part) for part in parts]
        known = pc.coalesce(known, pa.chunked_array([days], pa.int64()))
    return known.to_numpy()


def _midnight(part: str) -> int:
    return int(datetime.combine(part_day(part), time(), UTC).timestamp()) * 1000


def _join(chunks: list[Integers]) -> Integers:
    return np.concatenate(chunks) if chunks else np.empty(0, np.int64)


def _last_of_runs(*columns: Integers) -> Mask:
    """Where the next row differs in some column."""
    changes = [column[1:] != column[:-1] for column in columns]
    return np.append(np.logical_or.reduce(changes), True)[: len(columns[0])]
