"""Reads Parquet as rows of text, some thousand at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flux_pipeline.prompts.row import Reader, Report, Row
from flux_pipeline.text import quoted

_BATCH_ROWS = 4_096


def _columns(path: Path) -> tuple[str, ...]:
    try:
        with pq.ParquetFile(path) as file:
            return tuple(file.schema_arrow.names)
    except pa.ArrowInvalid as error:
        raise ValueError(f"is no valid Parquet file: {error}") from error


def _rows(path: Path, columns: Sequence[str], report: Report) -> Iterator[Row]:
    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns), use_threads=False):
                lists = [batch.column(name).to_pylist() for name in columns]
                for index in range(batch.num_rows):
                    number += 1
                    values = {
                        name: text
                        for name, cells in zip(columns, lists, strict=True)
                        if (text := _text(cells[index])) is not None
                    }
                    if len(values) == len(columns):
                        yield Row(number, 0, values)
                    else:
                        _report_gaps(number, values, columns, report)
    except (pa.ArrowException, OSError) as error:
        # pyarrow reports corrupt data as OSError.
        report(0, f"is no valid Parquet file from row {number + 1} on: {error}")


def _report_gaps(number: int, values: Any, columns: Sequence[str], report: Report) -> None:
    for name in columns:
        if name not in values:
            report(0, f"row {number}: {name} is null or nested, not text")


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | dict | bytes):
        return None
    return quoted(value) if isinstance(value, bool) else str(value)


PARQUET = Reader(_columns, _rows)
