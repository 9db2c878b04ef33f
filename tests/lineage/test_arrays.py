from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.lineage.arrays import array_of, flags_of, mask_of, rows_of, scalar_of, values_of


def values_of_kind(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_string(kind):
        return st.text()
    if pa.types.is_binary(kind):
        return st.binary()
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_floating(kind):
        return st.floats(width=32, allow_nan=False)
    if pa.types.is_timestamp(kind):
        return st.integers(-(10**12), 10**14)  # ms that Python's dates reach
    bits = kind.bit_width
    low, high = (0, 2**bits) if kind == pa.uint64() else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return st.integers(low, high - 1)


KINDS = [
    *(
        pa.string(),
        pa.binary(),
        pa.bool_(),
        pa.int8(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.uint64(),
    ),
    *(pa.float32(), pa.float64(), pa.timestamp("ms", tz="UTC")),
]


@given(st.data(), st.sampled_from(KINDS))
def test_it_is_what_pyarrow_makes_of_the_same_values(data: st.DataObject, kind: Any) -> None:
    values = data.draw(st.lists(st.none() | values_of_kind(kind), max_size=20))

    found = array_of(values, kind)

    found.validate(full=True)
    assert found.equals(pa.array(values, kind))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (128, pa.int8()),
        (-1, pa.uint64()),
        (2**63, pa.int64()),
        (0.5, pa.int32()),
        ("1", pa.float64()),
        (1, pa.string()),
        (b"text", pa.string()),
        ("text", pa.binary()),
        ("\ud800", pa.string()),
    ],
)
def test_what_does_not_fit_is_an_error(value: object, kind: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        array_of([value], kind)


@given(st.lists(st.booleans(), max_size=40))
def test_numpys_booleans_become_arrows(flags: list[bool]) -> None:
    mask = mask_of(np.array(flags, np.bool_))
    assert mask.to_pylist() == flags
    assert flags_of(mask).tolist() == flags
    assert flags_of(pa.chunked_array([mask, mask.slice(1)], pa.bool_())).tolist() == [
        *flags,
        *flags[1:],
    ]


@given(st.data(), st.sampled_from(KINDS))
def test_a_columns_values_are_those_that_pyarrow_gives(data: st.DataObject, kind: Any) -> None:
    found = array_of(data.draw(st.lists(st.none() | values_of_kind(kind), max_size=20)), kind)

    assert values_of(found) == found.to_pylist()


def test_rows_are_taken_by_numpys_numbers() -> None:
    table = pa.table({"name": ["a", "b", "c"]})
    taken = table.take(rows_of(np.array([2, 0], np.int64)))
    assert taken.column("name").to_pylist() == ["c", "a"]


@given(st.data(), st.sampled_from(KINDS))
def test_a_scalar_is_its_value(data: st.DataObject, kind: pa.DataType) -> None:
    value = data.draw(values_of_kind(kind))
    assert scalar_of(value, kind).equals(array_of([value], kind)[0])
    assert scalar_of(value, kind).type == kind
