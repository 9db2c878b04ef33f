"""Builds Arrow arrays and scalars without pandas, which ``pa.array`` and ``pa.scalar`` import.

A process that makes images or looks for one needs no pandas: it would cost 51 MB and a quarter of a
second.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

T = TypeVar("T")
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
