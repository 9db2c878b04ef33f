"""YAML is read as text with lines; the libraries' own readings are what it is built against."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts.yaml_document import MAX_DEPTH, Document, parse_yaml

texts = st.text(alphabet="ab:é城-{}[]'\" \n#&*!|>%@`", max_size=12)
trees = st.recursive(
    texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


def parsed(data: bytes) -> tuple[object, tuple[Problem, ...]]:
    try:
        return parse_yaml(data, "x.yaml").value, ()
    except ConfigError as error:
        return None, error.problems


def test_lines_of_keys_and_items() -> None:
    document = parse_yaml(b"# x\na: b\nc:\n  d: e\n  f:\n    - g\n    - h: i\n", "x.yaml")
    assert document.value == {"a": "b", "c": {"d": "e", "f": ["g", {"h": "i"}]}}
    assert document.line("a") == 2
    assert document.line("c", "f", "1", "h") == 7
    assert document.line("c", "f", "0") == 6


def test_a_key_that_is_missing_has_the_line_of_what_is_around_it() -> None:
    document = parse_yaml(b"a:\n  b:\n    c: d\n", "x.yaml")
    assert document.line("a", "b", "missing") == 2
    assert document.line("missing") == 0


def test_a_mapping_without_lines_has_line_0() -> None:
    assert Document("x", {"a": "b"}).line("a") == 0


@given(st.dictionaries(texts, trees, min_size=1, max_size=4))
def test_reads_what_other_writers_write(value: dict[str, object]) -> None:
    written = json.dumps(value).encode()
    assert parse_yaml(written, "x.yaml").value == value
    styled = yaml.safe_dump(value, allow_unicode=True, default_flow_style=False).encode()
    assert parse_yaml(styled, "x.yaml").value == value


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_a_problem_with_the_file(data: bytes) -> None:
    document, problems = parsed(data)
    assert isinstance(document, dict) != bool(problems)
    assert all(problem.path == "x.yaml" for problem in problems)


@given(st.text(alphabet="ab:-[]{}, \n\t&*!|>'\"#%?\x85\u2028", max_size=60))
def test_any_text_gives_a_document_or_a_problem_with_the_file(text: str) -> None:
    document, problems = parsed(text.encode())
    assert isinstance(document, dict) != bool(problems)
    assert all(problem.message for problem in problems)


def test_the_library_drops_a_duplicate_key_without_a_word() -> None:
    # What the duplicate check is for: were this to change, it could go.
    assert yaml.safe_load("a: b\na: c\n") == {"a": "c"}


def test_every_duplicate_is_reported_with_both_lines() -> None:
    document = parse_yaml(b"a: {x: 1, x: 2}\nb: 1\na: {x: 3}\nb: 2\n", "x.yaml")
    assert [(p.line, p.key) for p in document.duplicates] == [(1, "a.x"), (3, "a"), (4, "b")]
    assert "line 1" in document.duplicates[1].message
    assert document.value == {"a": {"x": "1"}, "b": "1"}


def test_duplicates_are_said_with_whatever_else_is_wrong() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_yaml(b"a: 1\na: !x 2\n", "x.yaml")
    assert len(raised.value.problems) == 2


def test_a_mapping_as_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="a key must be text"):
        parse_yaml(b"? {a: b}\n: c\n", "x.yaml")
    with pytest.raises(ConfigError, match="braces need quotes"):
        parse_yaml(b"prompts: {a: {{b}} }\n", "x.yaml")


def test_depth_up_to_the_limit_is_fine() -> None:
    nested = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert parse_yaml(f"a: {nested}\n".encode(), "x.yaml").value
    with pytest.raises(ConfigError, match="nested more than"):
        parse_yaml(f"a: [{nested}]\n".encode(), "x.yaml")


def test_control_characters_are_named_with_their_line() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_yaml(b"a: b\nc: \x1b[31m\n", "x.yaml")
    (problem,) = raised.value.problems
    assert problem.line == 2
    assert "escape in double quotes" in problem.message


def test_several_aliases_and_tags_come_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_yaml(b"a: &x 1\nb: *x\nc: !t 2\nd: !!int 3\n", "x.yaml")
    assert [problem.line for problem in raised.value.problems] == [1, 2, 3, 4]
