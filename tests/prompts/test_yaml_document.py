"""YAML is read as text with line numbers; PyYAML's own writers are what it is tested against."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts.yaml_document import MAX_DEPTH, Document, YamlSection, parse_yaml

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


def test_a_missing_key_has_the_line_of_the_nearest_key_around_it() -> None:
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


def test_the_library_drops_a_duplicate_key_silently() -> None:
    # What the duplicate check is for: were this to change, it could go.
    assert yaml.safe_load("a: b\na: c\n") == {"a": "c"}


def test_every_duplicate_is_reported_with_both_lines() -> None:
    document = parse_yaml(b"a: {x: 1, x: 2}\nb: 1\na: {x: 3}\nb: 2\n", "x.yaml")
    assert [(p.line, p.key) for p in document.duplicates] == [(1, "a.x"), (3, "a"), (4, "b")]
    assert "line 1" in document.duplicates[1].message
    assert document.value == {"a": {"x": "1"}, "b": "1"}


def test_duplicates_are_reported_with_all_other_mistakes() -> None:
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


SEVERAL_DOCUMENTS = b"""\
# a note
type: x
other: {a: &anchor 1, attributes: {b: *anchor}}
attributes:
  a: no
  b: [16:9, {c: 010}]
  a: 2
---

# another
attributes: {a: !!str x}
---
{? [a, key] : b, attributes: d}
--- {attributes: {e: f}}
...
---
attributes:
  g: h
attributes:
  i: j
"""


def read_section(line: int) -> Document:
    return parse_yaml(SEVERAL_DOCUMENTS, "defs.yaml", YamlSection(line, "attributes"))


def test_a_section_is_read_as_if_it_stood_alone() -> None:
    found = read_section(2)
    assert found.value == {"a": "no", "b": ["16:9", {"c": "010"}]}
    assert found.line("b", "1", "c") == 6
    assert [(each.line, each.key) for each in found.duplicates] == [(7, "a")]
    assert read_section(14).value == {"e": "f"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (11, "defs.yaml:11: a: the tag"),
        (13, "defs.yaml:13: holds a single value"),
        (17, "defs.yaml:20: stands twice"),
        (3, "defs.yaml: is empty"),
    ],
)
def test_a_section_that_is_no_mapping_is_refused(line: int, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_section(line)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompts:\n  cat: a cat: on a mat\n", "text that holds a colon and a blank needs quotes"),
        ("prompts:\n  cat：a cat\n  dog: a dog\n", "a full-width colon (：) stands there"),
        ("model：x\nprompts:\n  a: b\n", "a full-width colon (：) stands there"),
        ("model：x\nprompts：\n", "a full-width colon (：) stands there"),
    ],
)
def test_a_colon_that_is_none_or_that_is_one_by_mistake_gets_a_hint(text: str, words: str) -> None:
    _, (problem,) = parsed(text.encode())
    assert words in problem.message


def test_a_file_in_gbk_is_one_message_that_names_the_encoding() -> None:
    _, (problem,) = parsed("prompts:\n  cat: 一只坐在窗台上的猫\n".encode("gbk"))
    assert problem.message.startswith("is GBK by its bytes")
    assert problem.message.endswith(": save as UTF-8")
