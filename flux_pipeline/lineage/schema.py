"""The Arrow schema of the lineage table, and the conversion of records to it and back.

Every column has a description and, where it measures something, a unit. Both are in the field's
metadata; the Dagster UI shows them from there.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flux_pipeline.lineage.arrays import array_of
from flux_pipeline.lineage.record import ImageRecord, ImageStatus

PARQUET = "application/vnd.apache.parquet"
"""The content type of Parquet objects."""
_TIME = pa.timestamp("ms", tz="UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REQUIRED = frozenset(
    field.name
    for field in dataclasses.fields(ImageRecord)
    if type(None) not in getattr(field.type, "__args__", ())
)


def described_field(
    name: str, kind: pa.DataType, doc: str, unit: str = "", *, nullable: bool = True
) -> "pa.Field[pa.DataType]":
    """A field whose metadata has ``description`` and, if there is one, ``unit``."""
    metadata = {"description": doc} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


def _column(name: str, kind: pa.DataType, doc: str, unit: str = "") -> "pa.Field[pa.DataType]":
    return described_field(name, kind, doc, unit, nullable=name not in _REQUIRED)


SCHEMA = pa.schema(
    [
        _column("image_sha256", pa.string(), "SHA-256 of the coded pixels alone"),
        _column("file_sha256", pa.string(), "SHA-256 of the stored bytes"),
        _column("dhash", pa.uint64(), "64-bit difference hash; a copy differs by at most 6 bits"),
        _column("prediction_id", pa.string(), "the provider's id; row key, with output_index"),
        _column("output_index", pa.int8(), "0-based, from the provider's file name"),
        _column("request_sha256", pa.string(), "fingerprint of version and effective input"),
        _column("prompt_set", pa.string(), "the prompt set's name"),
        _column("prompt_name", pa.string(), "the prompt's name in its set"),
        _column("take", pa.int32(), "1-based; another take is another seed"),
        _column("partition", pa.string(), "Dagster partition; empty where there is none"),
        _column("model", pa.string(), "owner/name"),
        _column("version", pa.string(), "the version asked for"),
        _column("served_version", pa.string(), "the version that the provider says it ran"),
        _column("provider", pa.string(), "the provider's host, or emulator: then no model ran"),
        _column("prompt", pa.string(), "the prompt as sent"),
        _column("hf_lora", pa.string(), "LoRA weights, redacted"),
        _column("lora_scale", pa.float64(), "strength of the LoRA, 0 to 1"),
        _column("aspect_ratio", pa.string(), "such as 16:9"),
        _column("num_inference_steps", pa.int16(), "denoising steps"),
        _column("num_outputs", pa.int8(), "images asked for in the same prediction"),
        _column("seed", pa.int64(), "the seed that made it, where known"),
        _column("seed_source", pa.string(), "request, log or unknown"),
        _column("input", pa.string(), "the input that was sent, redacted, as canonical JSON"),
        _column(
            "input_images",
            pa.string(),
            "pictures that went in, as JSON: name of the input, sha256, uri, request_sha256",
        ),
        _column(
            "run_id", pa.string(), "the run that paid, which is not always the run that stored"
        ),
        _column("asset", pa.string(), "Dagster asset key"),
        _column("config_path", pa.string(), "the prompt set's file"),
        _column("config_sha256", pa.string(), "SHA-256 of that file and its tables"),
        _column(
            "code_version",
            pa.string(),
            "git commit of the prompt set's folder, with + where the file was edited",
        ),
        _column("status", pa.string(), "stored, refused, failed or removed"),
        _column(
            "error",
            pa.string(),
            "why there is no image; on a stored one, what is doubtful about it",
        ),
        _column("uri", pa.string(), "where the image lies, or a removed one lay"),
        _column("format", pa.string(), "webp, jpg or png"),
        _column("width", pa.int32(), "width", "px"),
        _column("height", pa.int32(), "height", "px"),
        _column("bytes", pa.int64(), "size of the stored file", "bytes"),
        _column(
            "credentials",
            pa.string(),
            "content credentials (C2PA): kept, ours, none or invalid as received",
        ),
        _column(
            "requested_at",
            _TIME,
            "when the intent was written, right before it was sent",
            "UTC, ms",
        ),
        _column("completed_at", _TIME, "when the provider finished", "UTC, ms"),
        _column("stored_at", _TIME, "when the image was stored", "UTC, ms"),
        _column("removed_at", _TIME, "when the image was removed on purpose", "UTC, ms"),
        _column("archived_uri", pa.string(), "where a copy of a removed image lies"),
        _column("predict_seconds", pa.float32(), "time of the prediction at the provider", "s"),
        _column("attempts", pa.int16(), "number of the attempt that it came from"),
        _column("polls", pa.int16(), "status requests of this prediction"),
        _column("cost_usd", pa.float64(), "estimated share of the prediction's price", "USD"),
        _column(
            "measured_usd",
            pa.float64(),
            "that share by the provider's metrics, where they tell; never an invoice",
            "USD",
        ),
    ]
)


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
    columns = [batch.column(name).to_pylist() for name in SCHEMA.names]
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
