"""A JSON array is read value by value, with the line of each, and never held whole."""

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.prompts.json_array import Element, parse_json, read_json_array

_TEXTS = st.text(alphabet='ab"\\,[]{}:\n\r 城\u00e9', max_size=8)
_VALUES = st.recursive(
    _TEXTS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
)


def elements(data: str | bytes) -> list[Element]:
    return list(read_json_array(io.BytesIO(data if isinstance(data, bytes) else data.encode())))


@given(st.lists(_VALUES, max_size=6), st.sampled_from([None, 0, 2]))
def test_the_values_are_those_of_the_array(values: list[Any], indent: int | None) -> None:
    read = elements(json.dumps(values, indent=indent, ensure_ascii=indent is None))
    assert [element.value for element in read] == values
    assert not any(element.problem for element in read)


def test_numbers_keep_their_form_and_lines_are_counted() -> None:
    read = elements('\n[\n  {"a": 1.10},\n  {"a":\n 1e400},\n"x"\n]\n')
    assert [(element.line, element.value) for element in read] == [
        (3, {"a": "1.10"}),
        (4, {"a": "1e400"}),
        (6, "x"),
    ]


def test_values_across_the_ends_of_chunks_are_whole() -> None:
    values = [{"prompt": f'{n} "{"x" * (n % 997)}\\ 城'} for n in range(2_000)]
    assert [element.value for element in elements(json.dumps(values))] == values


def test_a_byte_order_mark_is_dropped() -> None:
    assert elements(b'\xef\xbb\xbf["a"]')[0].value == "a"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ('[{"a": 1}, {"a": NaN}, {"a": 2}]', ["", "NaN is no JSON", ""]),
        ('[{"a": 1, "a": 2}, {"a": 2}]', ['"a" stands twice', ""]),
        ('[{"a": }, {"a": 2}]', ["Expecting value", ""]),
        ('[{"a": 1} {"a": 2}, "x"]', ["Extra data", ""]),
        ('["a",]', ["", "Expecting value"]),
        ("[" + "[" * 100_000 + "]" * 100_000 + ', "a"]', ["nested too deeply", ""]),
    ],
)
def test_a_value_that_is_wrong_costs_no_other(text: str, problems: list[str]) -> None:
    read = elements(text)
    assert len(read) == len(problems)
    for element, words in zip(read, problems, strict=True):
        assert words in element.problem
        assert bool(words) == bool(element.problem)
        assert not element.is_last


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["a", {"b": "c', "cut off"),
        ('["a"', "cut off"),
        ('["a"] ["b"]', "more stands behind"),
        ('["a", "' + "x" * 1_100_000 + '"]', "longer than 1 MiB"),
        ('["a", {"b: "c",\n "d: "e"}, "f"]', "Expecting ':'"),
    ],
)
def test_where_the_rest_is_lost_is_said(text: str, words: str) -> None:
    last = elements(text)[-1]
    assert last.is_last
    assert words in last.problem


@pytest.mark.parametrize("text", ["", "{}", '{"a": ["b"]}', '"a"', '{"a": 1}\n{"a": 2}\n'])
def test_what_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON array.*jsonl"):
        elements(text)


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        elements(b'["caf\xe9"]')


def test_memory_does_not_grow_with_the_file() -> None:
    file = io.BytesIO(json.dumps([{"prompt": "x" * 100}] * 30_000).encode())
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_json_array(file)) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_text_is_parsed_with_its_numbers_as_written() -> None:
    assert parse_json('{"a": [010.0]}'.replace("010.0", "10.0")) == {"a": ["10.0"]}
