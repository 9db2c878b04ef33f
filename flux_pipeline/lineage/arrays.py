"""Converts between Arrow and Python or NumPy without pandas, which pyarrow's own ways import.

Those are ``pa.array``, ``pa.scalar``, ``to_numpy`` and times in ``to_pylist``. A process that makes
images or looks for one needs no pandas: it would cost 51 MB and a quarter of a second.
"""

from array import array
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

T = TypeVar("T")
Number = TypeVar("Number", bound=np.generic)
_CODES = {
    pa.int8(): "b",
    pa.int16(): "h",
    pa.int32(): "i",
    pa.int64(): "q",
    pa.uint64(): "Q",
    pa.float32(): "f",
    pa.float64(): "d",
}
"""Codes of the standard library's ``array``, which holds numbers as Arrow does."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS = {
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
"""By unit of a time."""


def array_of(values: Sequence[Any], kind: pa.DataType) -> "pa.Array[Any]":
    """Values, None among them, as an array of text, bytes, booleans, numbers or times.

    Times are given as whole numbers of their unit.

    Raises:
        ValueError, TypeError, OverflowError: A value is not of that kind, or does not fit.
    """
    known = None if None not in values else _bits([value is not None for value in values])
    if pa.types.is_string(kind):
        buffers = _joined([_checked(value, str).encode() for value in values])
    elif pa.types.is_binary(kind):
        buffers = _joined([_checked(value, bytes) for value in values])
    elif pa.types.is_boolean(kind):
        buffers = [_bits([bool(value) for value in values])]
    else:
        code = "q" if pa.types.is_timestamp(kind) else _CODES[kind]
        buffers = [pa.py_buffer(array(code, [0 if value is None else value for value in values]))]
    return pa.Array.from_buffers(kind, len(values), [known, *buffers])


def scalar_of(value: Any, kind: pa.DataType) -> Any:
    """One value as a scalar, for a comparison with a column."""
    return array_of([value], kind)[0]


def values_of(column: Any) -> list[Any]:
    """The values of a column or array as ``to_pylist`` has them, times in UTC."""
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    tick = _TICKS[column.type.unit]
    ticks = column.cast(pa.int64()).to_pylist()
    return [None if each is None else _EPOCH + each * tick for each in ticks]


def dicts_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table as ``to_pylist`` has them, times in UTC."""
    columns = [values_of(column) for column in table.columns]
    for values in zip(*columns, strict=True):
        yield dict(zip(table.column_names, values, strict=True))


def flags_of(column: Any) -> npt.NDArray[np.bool_]:
    """The booleans of a column or array, none of which is null, for NumPy."""
    return numbers_of(column.cast(pa.uint8()), np.uint8).view(np.bool_)


def numbers_of(column: Any, kind: type[Number]) -> npt.NDArray[Number]:
    """The numbers of a column or array, which are of this kind and none of them null, for NumPy."""
    chunks: list[Any] = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [
        np.frombuffer(each.buffers()[1], kind, len(each), each.offset * np.dtype(kind).itemsize)
        for each in chunks
        if len(each)
    ]
    return np.concatenate([np.empty(0, kind), *parts])


def rows_of(numbers: npt.NDArray[np.int64]) -> "pa.Array[Any]":
    """Numbers of rows, for ``take``."""
    return same_numbers(numbers.astype(np.int64), pa.int64())


def same_numbers(numbers: npt.NDArray[Number], kind: pa.DataType) -> "pa.Array[Any]":
    """NumPy's numbers as Arrow's, which are of the same kind; not copied, so without gaps."""
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers.data)])


def mask_of(flags: npt.NDArray[np.bool_]) -> "pa.Array[Any]":
    """NumPy's booleans as Arrow's, as many."""
    bits = pa.py_buffer(np.packbits(flags, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.bool_(), len(flags), [None, bits])


def _checked(value: Any, kind: type[T]) -> T:
    """The value, if it is of its kind, and an empty one for None."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} was expected, not {type(value).__name__}")
    return value


def _joined(texts: Sequence[bytes]) -> "list[pa.Buffer]":
    ends = array("i", accumulate(map(len, texts), initial=0))
    return [pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]


def _bits(flags: Sequence[bool]) -> "pa.Buffer":
    """One bit a flag, the first one lowest."""
    packed = bytearray((len(flags) + 7) // 8)
    for place, flag in enumerate(flags):
        packed[place >> 3] |= flag << (place & 7)
    return pa.py_buffer(bytes(packed))
