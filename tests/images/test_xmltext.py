from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flux_pipeline.images.labels import from_xml, json_text, to_xml

HOSTILE = [
    "",
    " ",
    "\n",
    "\t a\n",
    "\x00",
    "\x1b[31mred",
    "a\r\nb",
    "\x7f\x85",
    "\ud800",
    "\ufffe\uffff",
    '"',
    '"quoted"',
    '"broken',
    "]]>",
    "<!--",
    "<![CDATA[x]]>",
    "<script>alert(1)</script>",
    "&amp;&#0;&lol;",
    "\u202eabc\u200b",
    "👩‍👩‍👧 \U0001fffe",
    "{'a': 1}",
]


@given(st.text())
def test_every_text_comes_back_through_an_xml_parser(text: str) -> None:
    assert parsed(to_xml(text)) == text


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_comes_back_through_an_xml_parser(text: str) -> None:
    assert parsed(to_xml(text)) == text


def parsed(content: str) -> str:
    return from_xml(ET.fromstring(f"<a>{content}</a>".encode()).text or "")  # noqa: S314 - ours


@pytest.mark.parametrize("text", ["a castle", "雪の城", "line\nline", "{}", "قلعة", "a 👩‍👧 b"])
def test_usual_text_is_written_as_it_is(text: str) -> None:
    assert to_xml(text) == text


@given(st.text(min_size=1))
@example("a\x01b")
def test_content_never_holds_a_tag(text: str) -> None:
    assert "<" not in to_xml(text)
    assert ">" not in to_xml(text)


@given(st.text())
def test_reading_never_fails(content: str) -> None:
    from_xml(content)
    from_xml('"' + content)


def test_quoted_content_that_is_no_json_is_taken_as_it_is() -> None:
    assert from_xml('"half') == '"half'
    assert from_xml('"a" b') == '"a" b'
    assert from_xml('"' + "[" * 100_000) == '"' + "[" * 100_000


def test_quotes_are_left_readable() -> None:
    assert to_xml('<a b="c">&</a>') == '&lt;a b="c"&gt;&amp;&lt;/a&gt;'


def test_json_is_compact_sorted_and_readable() -> None:
    assert json_text({"b": [1, 2.5, None, True], "a": "城"}) == '{"a":"城","b":[1,2.5,null,true]}'
    assert json_text({"b": 1, "a": 2}, sort_keys=False) == '{"b":1,"a":2}'
    assert json_text("\x7f\ud800\n") == '"\\u007f\\ud800\\n"'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_has_no_such_number(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(number)
