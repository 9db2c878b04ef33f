"""Reads the lineage table into a pandas DataFrame."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.lineage.asked import read_asked
from flux_pipeline.lineage.query import Condition, contains, equals, open_snapshot
from flux_pipeline.lineage.record import TIMES, ImageStatus
from flux_pipeline.lineage.schema import SCHEMA, request_days
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store

if TYPE_CHECKING:
    import pandas as pd

CURRENT = "current"
"""The column that is computed: whether a prompt set asks for the image now."""
_JUDGED_BY = ("request_sha256", "prompt_set", "partition")


def read_lineage(
    store: Store | str,
    *,
    prompt_set: str | None = None,
    prompt: str | None = None,
    run_id: str | None = None,
    status: ImageStatus | str | None = None,
    day: date | tuple[date, date] | None = None,
    current: bool | None = None,
    columns: Sequence[str] | None = None,
) -> "pd.DataFrame":
    """The current rows of the lineage table as a DataFrame, one row for each image asked for.

    ``store`` is an open store or its URI, such as ``file:data/store`` or ``s3://bucket/pictures``.
    Rows written since the last compaction are included. The rows that are left meet every filter:
    ``prompt_set``, ``run_id`` and ``status`` equal the value; ``prompt`` contains the text in any
    case; the request was made on ``day`` (UTC) or, of a pair, from its first to its last day.
    Filters are applied while reading: of what they leave out only the filtered columns are decoded.

    The column ``current`` says whether the prompt sets asked for the image when they were read
    last; NA where that is not known (see ``lineage.asked``). With ``current=True`` or ``False``
    only such rows are left.

    ``columns`` are those of ``SCHEMA`` that are wanted, in this order, and ``current``; None is all
    of them. Texts
    have the dtype ``string``, integers ``Int64`` (``dhash``: ``UInt64``), both with ``pd.NA`` where
    a value is missing; other numbers ``float64`` with NaN; times ``datetime64[ms, UTC]`` with NaT.
    Without rows the columns and dtypes are the same.

    The trap: all rows in all columns take 1 to 2 KB of memory each.

    Raises StoreError where the URI is none or the store can't be read, and KeyError for a column
    that the table does not have.
    """
    names = [*SCHEMA.names, CURRENT] if columns is None else list(columns)
    needed = dict.fromkeys(name for name in names if name != CURRENT)
    is_judged = current is not None or CURRENT in names
    if is_judged:
        needed |= dict.fromkeys(_JUDGED_BY)
    schema = pa.schema([_widened(SCHEMA.field(name)) for name in needed])
    conditions = _conditions(prompt_set=prompt_set, run_id=run_id, status=status)
    if day is not None:
        conditions.append(_on_days(*(day if isinstance(day, tuple) else (day, day))))
    if prompt is not None:
        conditions.append(contains("prompt", prompt))
    opened = open_store(store) if isinstance(store, str) else store
    table = open_snapshot(opened).read(conditions, schema)
    if is_judged:
        judged = _are_current(opened, table)
        table = table.append_column(pa.field(CURRENT, pa.bool_()), judged)
        if current is not None:
            table = table.filter(pc.equal(judged, pa.scalar(current)))
    return _to_frame(table.select(names))


def _are_current(store: Store, table: pa.Table) -> "pa.Array[Any]":
    columns = ([str(one) for one in table.column(name).to_pylist()] for name in _JUDGED_BY)
    return pa.array(read_asked(store).are_current(*columns), pa.bool_())


def _widened(field: "pa.Field[pa.DataType]") -> "pa.Field[pa.DataType]":
    """The field with the one type that all integers have, or all floats; dhash needs 64 bits."""
    if pa.types.is_integer(field.type) and field.type != pa.uint64():
        return pa.field(field.name, pa.int64())
    return pa.field(field.name, pa.float64() if pa.types.is_floating(field.type) else field.type)


def _conditions(**values: str | None) -> list[Condition]:
    return [equals(column, value) for column, value in values.items() if value is not None]


def _on_days(first: date, last: date) -> Condition:
    def test(*times: Any) -> Any:
        days = request_days(*times)
        begun = pc.greater_equal(days, pa.scalar(first, pa.date32()))
        return pc.and_(begun, pc.less_equal(days, pa.scalar(last, pa.date32())))

    return Condition(TIMES, test)


def _to_frame(table: pa.Table) -> "pd.DataFrame":
    import pandas as pd  # noqa: PLC0415  it takes half a second, and few callers need it

    dtypes: dict[pa.DataType, Any] = {
        pa.string(): pd.StringDtype("pyarrow"),
        pa.int64(): pd.Int64Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    frame: pd.DataFrame = table.to_pandas(types_mapper=dtypes.get)
    return frame
