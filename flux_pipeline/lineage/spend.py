"""Adds up the lineage table: counts, cost and time by day, prompt set and model.

Arrow and NumPy do it one row group at a time. pandas or DuckDB would be shorter, and would add the
time that they take to import to every ``flux-pipeline spend``.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.lineage.arrays import array_of, numbers_of, rows_of, scalar_of
from flux_pipeline.lineage.columns import SPEND_COLUMNS
from flux_pipeline.lineage.query import Snapshot
from flux_pipeline.lineage.record import TIMES, ImageStatus
from flux_pipeline.lineage.schema import arrow_schema, request_days
from flux_pipeline.lineage.table import Integers, is_any_of

By: TypeAlias = Literal["day", "set", "model"]
"""What rows of ``spending`` can be added up by."""
_STATUSES = {
    "images": ImageStatus.STORED,
    "refused": ImageStatus.REFUSED,
    "failed": ImageStatus.FAILED,
}

SPEND_SCHEMA = arrow_schema(SPEND_COLUMNS)
SUMS = SPEND_SCHEMA.names[3:]
"""The columns that can be added up."""
_KEYS = SPEND_SCHEMA.names[:3]


def spending(snapshot: Snapshot) -> pa.Table:
    """One row of SPEND_SCHEMA for each day (UTC), prompt set and model, in this order.

    A row of the lineage table is an image, so a prediction of four is four rows: it is counted
    once, and so are its seconds; its cost is the sum of its images' shares. The day is the
    request's, when it was paid for. What a budget or a limit kept back is left out. Memory grows
    with the result, and by 16 bytes a prediction. The trap: an attempt that failed and was sent
    again is not in the table, though it may have been paid; the ledger's budgets have it.
    """
    columns = [
        *TIMES,
        "prompt_set",
        "model",
        "status",
        "cost_usd",
        "measured_usd",
        "prediction_id",
        "predict_seconds",
        "attempts",
    ]
    counted, timed = _SeenIds(), _SeenIds()
    found = (_sent(table) for table in snapshot.find([], columns))
    parts = [_summed(_spend_rows(table, counted, timed)) for table in found]
    total = _summed(pa.concat_tables(parts)) if parts else pa.Table.from_batches([], SPEND_SCHEMA)
    return total.cast(SPEND_SCHEMA).sort_by([(key, "ascending") for key in _KEYS])


def select_spending(
    table: pa.Table,
    *,
    prompt_sets: tuple[str, ...] = (),
    since: date | None = None,
    until: date | None = None,
) -> pa.Table:
    """The rows of these prompt sets (none: all) and days, both ends included."""
    if prompt_sets:
        wanted = array_of(prompt_sets, pa.string())
        table = table.filter(pc.is_in(table.column("prompt_set"), wanted))
    if since:
        table = table.filter(pc.greater_equal(table.column("day"), pa.scalar(since)))
    if until:
        table = table.filter(pc.less_equal(table.column("day"), pa.scalar(until)))
    return table


def group_spending(table: pa.Table, by: By) -> pa.Table:
    """The rows added up by day, prompt set or model, and sorted by it."""
    key = {"day": "day", "set": "prompt_set", "model": "model"}[by]
    return _summed(table, [key]).sort_by(key)


def total(table: pa.Table) -> dict[str, int | float]:
    """The sum of every column that can be added up; 0 of nothing."""
    return {name: pc.sum(table.column(name)).as_py() or 0 for name in SUMS}


class _SeenIds:
    """The ids that came so far; 8 bytes are kept of each."""

    def __init__(self) -> None:
        self._known: Integers = np.empty(0, np.int64)

    def mark_first(self, ids: list[str | None]) -> Any:
        """1 for each id that comes for the first time, else 0; None is no id."""
        hashes = np.fromiter((hash(one) if one else 0 for one in ids), np.int64, len(ids))
        there = np.array([bool(one) for one in ids], np.bool_)
        found, at = np.unique(hashes[there], return_index=True)
        new = ~is_any_of(found, self._known)
        firsts = np.zeros(len(ids), np.int64)
        firsts[np.flatnonzero(there)[at[new]]] = 1
        # Two sorted runs: a stable sort merges them in one pass.
        self._known = np.sort(np.concatenate([self._known, found[new]]), kind="stable")
        return firsts


def _sent(rows: pa.Table) -> pa.Table:
    """The rows without those of requests that were never sent."""
    was_tried = pc.greater(rows.column("attempts"), scalar_of(0, pa.int16()))
    status = rows.column("status").cast(pa.string())
    has_ended = pc.not_equal(status, scalar_of(ImageStatus.FAILED.value, pa.string()))
    return rows.filter(pc.or_(was_tried, has_ended))


def _spend_rows(rows: pa.Table, counted: _SeenIds, timed: _SeenIds) -> pa.Table:
    """Each row of the lineage table as a row of SPEND_SCHEMA."""
    status = rows.column("status").cast(pa.string())
    ids = rows.column("prediction_id").to_pylist()
    seconds = rows.column("predict_seconds").cast(pa.float64()).to_pylist()
    # Not every row of a prediction has its time: one that was lost has none.
    has_time = [one if known is not None else None for one, known in zip(ids, seconds, strict=True)]
    once = timed.mark_first(has_time) * np.array([known or 0.0 for known in seconds])
    columns: list[Any] = [
        request_days(*(rows.column(name) for name in TIMES)),
        rows.column("prompt_set").cast(pa.string()),
        rows.column("model").cast(pa.string()),
        array_of(counted.mark_first(ids).tolist(), pa.int64()),
        *(_counted(status, one) for one in _STATUSES.values()),
        rows.column("cost_usd").cast(pa.float64()),
        pc.coalesce(rows.column("measured_usd"), rows.column("cost_usd")).cast(pa.float64()),
        array_of(once.tolist(), pa.float64()),
    ]
    return pa.Table.from_arrays(columns, schema=SPEND_SCHEMA)


def _counted(statuses: Any, wanted: ImageStatus) -> Any:
    """1 for each row of this status, else 0."""
    counted = pc.equal(statuses, scalar_of(wanted.value, pa.string()))
    if wanted is ImageStatus.STORED:  # what was removed since was made and paid for all the same
        removed = pc.equal(statuses, scalar_of(ImageStatus.REMOVED.value, pa.string()))
        counted = pc.or_(counted, removed)
    return counted.cast(pa.int64())


def _summed(rows: pa.Table, keys: Sequence[str] = _KEYS) -> pa.Table:
    """Equal rows of these columns added up, in no order; not by ``group_by``: it imports pandas."""
    alike, firsts = _number_alike([rows.column(key) for key in keys])
    first_rows: Any = rows.take(rows_of(firsts))
    sums = [_sum_alike(rows.column(name), alike, len(firsts)) for name in SUMS]
    columns: list[Any] = [*(first_rows.column(key) for key in keys), *sums]
    return pa.Table.from_arrays(columns, names=[*keys, *SUMS])


def _number_alike(columns: Sequence[Any]) -> tuple[Integers, Integers]:
    """For each row a number, from 0, that equal rows share; and the first row of each number."""
    alike = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        codes = column.combine_chunks().dictionary_encode(null_encoding="encode")
        together = codes.indices.cast(pa.int64())
        alike = alike * (len(codes.dictionary) + 1) + numbers_of(together, np.int64)
    _, firsts, numbers = np.unique(alike, return_index=True, return_inverse=True)
    return numbers, firsts


def _sum_alike(column: Any, alike: Integers, count: int) -> "pa.Array[Any]":
    """The sum of the values for each number of ``alike``, which are below ``count``."""
    known = column.cast(pa.float64()).fill_null(scalar_of(0.0, pa.float64()))
    values = numbers_of(known, np.float64)
    sums = np.bincount(alike, weights=values, minlength=count)
    return array_of(sums.tolist(), pa.float64()).cast(column.type)
