"""The Arrow schema of the lineage table, and the conversion of records to it and back.

Every column has a description and, where it measures something, a unit. Both are in the field's
metadata; the Dagster UI shows them from there.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flux_pipeline.lineage.arrays import array_of, values_of
from flux_pipeline.lineage.columns import LINEAGE_COLUMNS, REQUIRED, Column
from flux_pipeline.lineage.record import ImageRecord, ImageStatus

PARQUET = "application/vnd.apache.parquet"
"""The content type of Parquet objects."""
_TIME = pa.timestamp("ms", tz="UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: Mapping[str, pa.DataType] = {
    str(kind): kind
    for kind in (
        *(pa.string(), _TIME, pa.date32(), pa.float32(), pa.float64()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint64()),
    )
}


def arrow_schema(columns: Iterable[Column], required: Container[str] = ()) -> pa.Schema:
    """The schema of these columns; ``description`` and ``unit`` are in each field's metadata."""
    return pa.schema([_field(each, nullable=each.name not in required) for each in columns])


def _field(column: Column, *, nullable: bool) -> "pa.Field[pa.DataType]":
    metadata = {"description": column.description}
    metadata |= {"unit": column.unit} if column.unit else {}
    return pa.field(column.name, _KINDS[column.kind], nullable=nullable, metadata=metadata)


SCHEMA = arrow_schema(LINEAGE_COLUMNS, REQUIRED)


def records_to_batch(records: Iterable[ImageRecord]) -> pa.RecordBatch:
    """Records as one batch of SCHEMA.

    Not exact: times are cut to whole milliseconds, ``predict_seconds`` to 32 bits. Raises
    ValueError where a value does not fit its column or a time has no zone.
    """
    rows = list(records)
    columns = [_array(field, [getattr(row, field.name) for row in rows]) for field in SCHEMA]
    return pa.record_batch(columns, schema=SCHEMA)


def batch_to_records(batch: pa.RecordBatch | pa.Table) -> Iterator[ImageRecord]:
    """The records of a batch or table that has at least the columns of SCHEMA."""
    columns = [values_of(batch.column(name)) for name in SCHEMA.names]
    status = SCHEMA.get_field_index("status")
    for row in zip(*columns, strict=True):
        values = dict(zip(SCHEMA.names, row, strict=True))
        values["status"] = ImageStatus(row[status])
        yield ImageRecord(**values)


def request_days(*times: Any) -> Any:
    """For each row the UTC day of its request, from the values of TIMES; null where none is known.

    A row whose request's time was lost counts to the next day that is known of it.
    """
    return pc.coalesce(*times).cast(pa.date32())


def to_parquet(
    table: pa.Table, *, compression: Literal["zstd", "none"] = "zstd", dictionaries: bool = True
) -> bytes:
    """A table as one Parquet file; the same table makes the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(), sink, compression=compression, use_dictionary=dictionaries
    )
    return sink.getvalue().to_pybytes()


def _array(field: "pa.Field[pa.DataType]", values: list[Any]) -> "pa.Array[Any]":
    try:
        if field.type == _TIME:
            values = [None if value is None else _milliseconds(value) for value in values]
        found = array_of(values, field.type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"image record: {field.name}: {error}") from None
    if found.null_count and not field.nullable:
        raise ValueError(f"image record: {field.name} is missing")
    return found


def _milliseconds(time: datetime) -> int:
    if time.tzinfo is None:
        raise ValueError("has no time zone")
    return (time.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
