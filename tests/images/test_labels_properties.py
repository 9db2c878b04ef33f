"""XMP properties from bytes of anybody, and any text as XML and back."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flux_pipeline.images.labels import MAX_PACKET, from_xml, json_text, parse_properties, to_xml

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def packet(inner: str, *, attributes: str = "", prolog: str = "") -> bytes:
    return (
        f'{prolog}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
        f'<rdf:Description rdf:about="" xmlns:n="urn:n/" {attributes}>{inner}</rdf:Description>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def test_elements_and_attributes_are_properties() -> None:
    found = parse_properties(packet("<n:A>one</n:A><n:C/>", attributes='n:B="two"'))
    assert found["urn:n/A"] == "one"
    assert found["urn:n/B"] == "two"
    assert found["urn:n/C"] == ""


def test_first_of_two_counts() -> None:
    assert parse_properties(packet("<n:A>one</n:A><n:A>two</n:A>"))["urn:n/A"] == "one"


def test_structures_are_not_text() -> None:
    inner = f'<n:A><rdf:Seq xmlns:rdf="{RDF}"><rdf:li>x</rdf:li></rdf:Seq></n:A>'
    assert "urn:n/A" not in parse_properties(packet(inner))


def test_packet_may_lack_the_outer_element() -> None:
    bare = f'<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description xmlns:n="urn:n/" n:A="1"/></rdf:RDF>'
    assert parse_properties(bare.encode())["urn:n/A"] == "1"


def test_padding_around_a_packet_is_skipped() -> None:
    assert parse_properties(b"\n " + packet("<n:A>1</n:A>") + b" \n\0\0")["urn:n/A"] == "1"


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]>'
THIEF = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("prolog", [BOMB, THIEF, "<!DOCTYPE a>", "<!DOCTYPE a SYSTEM 'x.dtd'>"])
def test_document_types_are_refused_before_parsing(prolog: str) -> None:
    assert parse_properties(packet("<n:A>1</n:A>", prolog=prolog)) == {}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-7"])
def test_document_type_in_another_encoding_is_refused(encoding: str) -> None:
    text = packet("<n:A>&b;</n:A>", prolog=BOMB).decode()
    assert parse_properties(text.encode(encoding)) == {}
    declared = f'<?xml version="1.0" encoding="{encoding}"?>{text}'
    assert parse_properties(declared.encode(encoding)) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"plain text",
        b"<a>",
        b"<a/><b/>",
        b"<a>&undefined;</a>",
        b"<a>\xff</a>",
        b"<a>\0</a>",
        b'<?xml version="1.0" encoding="nonsense"?><a>',
        b"<a/>",
        b"<rdf:RDF/>",
        packet("<n:A>1</n:A>") + b" " * MAX_PACKET,
    ],
)
def test_what_is_no_packet_has_no_properties(body: bytes) -> None:
    assert parse_properties(body) == {}


def test_deep_nesting_does_no_harm() -> None:
    deep = "<n:a>" * 30_000 + "</n:a>" * 30_000
    assert parse_properties(packet(deep)).keys() == {RDF + "about"}


@given(st.binary(max_size=300))
def test_reading_never_fails(body: bytes) -> None:
    parse_properties(body)
    parse_properties(b"<" + body)
    parse_properties(packet("").replace(b"</rdf:D", body + b"</rdf:D"))


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
def test_any_content_is_read(content: str) -> None:
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
