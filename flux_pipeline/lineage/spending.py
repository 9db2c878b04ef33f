"""Counts and cost by day, prompt set and model: the lineage table made small."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.lineage.snapshot import Snapshot

_KEYS = ["day", "prompt_set", "model"]
_COUNTS = [status.value for status in ImageStatus]
_SUMS = [*_COUNTS, "usd"]
_TIMES = ["requested_at", "completed_at", "stored_at"]


@dataclass(frozen=True, slots=True)
class Totals:
    """What one prompt set has come to."""

    stored: int
    """Images."""
    missing: int
    """Images that were refused or failed."""
    usd: float


def total_of(table: pa.Table, prompt_set: str) -> Totals:
    """Add up one prompt set's rows of ``spending``."""
    rows = table.filter(pc.equal(table.column("prompt_set"), pa.scalar(prompt_set)))
    stored, refused, failed, usd = (pc.sum(rows.column(name)).as_py() or 0 for name in _SUMS)
    return Totals(stored, refused + failed, float(usd))


def spending(snapshot: Snapshot) -> pa.Table:
    """One row for each day (UTC), prompt set and model, in this order.

    Columns: ``day`` (date; null where no time is known), ``prompt_set``, ``model``, then images
    ``stored``, ``refused`` and ``failed``, and ``usd``, an estimate. The day is the request's, when
    it was paid for. Memory grows with the result, not with the rows.
    """
    columns = [*_TIMES, "prompt_set", "model", "status", "cost_usd"]
    parts = [_summed(_prepared(table)) for table in snapshot.find("status", pc.is_valid, columns)]
    total = _summed(pa.concat_tables(parts)) if parts else _SCHEMA.empty_table()
    return total.sort_by([(key, "ascending") for key in _KEYS])


def _prepared(rows: pa.Table) -> pa.Table:
    status = rows.column("status").cast(pa.string())
    columns: list[Any] = [
        pc.coalesce(*(rows.column(name) for name in _TIMES)).cast(pa.date32()),
        rows.column("prompt_set").cast(pa.string()),
        rows.column("model").cast(pa.string()),
        *(pc.equal(status, pa.scalar(name)).cast(pa.int64()) for name in _COUNTS),
        rows.column("cost_usd").cast(pa.float64()),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _summed(rows: pa.Table) -> pa.Table:
    grouped = rows.group_by(_KEYS).aggregate([(name, "sum") for name in _SUMS])
    ordered = grouped.select([*_KEYS, *(f"{name}_sum" for name in _SUMS)])
    return ordered.rename_columns([*_KEYS, *_SUMS])


_TYPES: dict[str, pa.DataType] = {
    "day": pa.date32(),
    "prompt_set": pa.string(),
    "model": pa.string(),
    **dict.fromkeys(_COUNTS, pa.int64()),
    "usd": pa.float64(),
}
_SCHEMA = pa.schema(_TYPES)
