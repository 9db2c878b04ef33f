"""Labels as XMP packets and back, with the properties where other tools look."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.images.labels import Detail, Label, build_packet, parse_packet, upstream_label
from flux_pipeline.request import JsonValue
from tests.images.strategies import LABELS, TEXT, WITHOUT_PROMPT

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
FLUX = "{urn:flux-pipeline:label:1.0/}"


def elements(packet: bytes) -> dict[str, str | None]:
    root = ET.fromstring(packet)  # noqa: S314 - made by us
    description = root.find(f"{RDF}RDF/{RDF}Description")
    assert description is not None
    return {child.tag: child.text for child in description}


@settings(deadline=None, max_examples=25)
@given(LABELS)
def test_every_label_comes_back(label: Label) -> None:
    label = replace(label, run_id="run")
    assert parse_packet(build_packet(label)) == label


def test_label_without_anything_of_ours_is_none() -> None:
    assert parse_packet(build_packet(Label(prompt="a castle", model="o/m"))) is None


@settings(deadline=None, max_examples=25)
@given(LABELS)
def test_same_label_makes_the_same_bytes(label: Label) -> None:
    backwards = replace(label, extra=dict(reversed(list(label.extra.items()))))
    assert build_packet(label) == build_packet(backwards)


def test_bytes_of_a_label_never_change(label: Label) -> None:
    # Files in the store are compared with files labelled again: a change here is a new format.
    packet = build_packet(replace(label, producer="001191"))
    assert len(packet) == 2018
    assert hashlib.sha256(packet).hexdigest() == (
        "8afe53446e5206b8b685a6b68d853d67fa3c1ac41a7ecb8cc9bda6826207630b"
    )


@settings(deadline=None, max_examples=25)
@given(LABELS, st.none() | TEXT.filter(str.isprintable))
def test_packet_is_utf8_xml_without_a_document_type(label: Label, upstream: str | None) -> None:
    packet = build_packet(label, upstream=upstream)
    elements(packet)
    assert b"<!" not in packet
    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode())
    assert packet.endswith(b'<?xpacket end="r"?>')


def test_standard_properties_are_where_other_tools_look(label: Label) -> None:
    found = elements(build_packet(label))
    assert found[IPTC + "DigitalSourceType"] == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    )
    assert found[IPTC + "AISystemUsed"] == label.model
    assert found[IPTC + "AISystemVersionUsed"] == label.version
    assert found[IPTC + "AIPromptInformation"] == label.prompt
    assert found["{http://ns.adobe.com/xap/1.0/}CreateDate"] == "2026-11-22T19:30:05.123456+00:00"


def test_own_properties_are_plain_text(label: Label) -> None:
    found = elements(build_packet(label))
    assert found[FLUX + "PredictionID"] == label.prediction_id
    assert found[FLUX + "OutputIndex"] == "1"
    assert found[FLUX + "Seed"] == "42"
    assert found[FLUX + "Input"] == label.input
    assert json.loads(found[FLUX + "Extra"] or "") == label.extra


def test_empty_label_still_says_that_a_model_made_the_image() -> None:
    assert list(elements(build_packet(Label()))) == [IPTC + "DigitalSourceType"]


def test_prompt_stays_out_where_it_is_not_wanted(label: Label) -> None:
    text = json.dumps({"seed": 1, "prompt": "a secret harbour"})
    extra: dict[str, JsonValue] = {"prompt": "a secret harbour", "polls": 1}
    packet = build_packet(replace(label, prompt=None, input=text, extra=extra))
    assert b"harbour" not in packet
    found = parse_packet(packet)
    assert found is not None
    assert (found.prompt, found.input, found.extra) == (None, '{"seed":1}', {"polls": 1})


@pytest.mark.parametrize("text", ["not JSON", "[]", '"prompt"'])
def test_without_a_prompt_the_input_must_be_an_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON object|Expecting value"):
        build_packet(Label(input=text))


def test_time_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="created_at has no time zone"):
        build_packet(Label(created_at=datetime(2026, 11, 22)))  # noqa: DTZ001 - the point


def test_time_in_another_zone_is_the_same_time() -> None:
    local = datetime(2026, 11, 22, 9, 0, tzinfo=timezone(timedelta(hours=8)))
    found = parse_packet(build_packet(Label(run_id="r", created_at=local)))
    assert found is not None
    assert found.created_at == local.astimezone(UTC)


def test_number_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        build_packet(Label(extra={"seconds": float("nan")}))


@settings(deadline=None, max_examples=25)
@given(WITHOUT_PROMPT)
def test_ids_survive_at_every_detail(label: Label) -> None:
    label = replace(label, run_id="run")
    for detail in Detail:
        found = parse_packet(build_packet(label, detail=detail))
        assert found is not None
        assert replace(found, input=label.input, extra=label.extra) == label


def test_less_detail_is_less_text(label: Label) -> None:
    sizes = [len(build_packet(label, detail=detail)) for detail in sorted(Detail)]
    assert sizes == sorted(sizes)
    middle = parse_packet(build_packet(label, detail=Detail.INPUT))
    assert middle == label  # the prompt is read from the input
    least = parse_packet(build_packet(label, detail=Detail.IDS))
    assert least == replace(label, prompt=None, input="", extra={})


def test_aigc_label_has_the_exact_form(label: Label) -> None:
    packet = build_packet(replace(label, producer="00119144"))
    assert (
        b'<TC260:AIGC>{"Label":"1","ContentProducer":"00119144",'
        b'"ProduceID":"ufawqhfynnddngldkgtslldrkq-1","ReservedCode1":"",'
        b'"ContentPropagator":"","PropagateID":"","ReservedCode2":""}</TC260:AIGC>'
    ) in packet
    assert b'xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/"' in packet
    assert upstream_label(packet) is not None


def test_no_producer_is_no_aigc_label(label: Label) -> None:
    assert b"<TC260:AIGC>" not in build_packet(label)
    assert upstream_label(build_packet(label)) is None


def foreign(inner: str, attributes: str = "") -> bytes:
    return (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
        ' xmlns:f="urn:flux-pipeline:label:1.0/" xmlns:t="http://www.tc260.org.cn/ns/AIGC/1.0/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f" {attributes}>{inner}</rdf:Description></rdf:RDF>"
    ).encode()


def test_upstream_label_is_found_in_either_notation() -> None:
    assert upstream_label(foreign("<t:AIGC>{}</t:AIGC>")) == "{}"
    assert upstream_label(foreign("", "t:AIGC='{}'")) == "{}"


@pytest.mark.parametrize("text", ["", "x" * 8193])
def test_upstream_label_of_no_sane_length_is_none(text: str) -> None:
    assert upstream_label(foreign(f"<t:AIGC>{text}</t:AIGC>")) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<html>",
        foreign(""),
        foreign("<xmp:CreateDate>2026-11-22</xmp:CreateDate>"),
        foreign("<f:Seed>1</f:Seed>").replace(b"<rdf:RDF", b"<!DOCTYPE a><rdf:RDF", 1),
    ],
)
def test_packet_without_our_properties_is_no_label(packet: bytes) -> None:
    assert parse_packet(packet) is None


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<f:Seed>1</f:Seed>", Label(seed=1)),
        ("<f:Seed>one</f:Seed>", Label()),
        (f"<f:Seed>{'9' * 5000}</f:Seed>", Label()),
        ("<f:Extra>[1]</f:Extra>", Label()),
        ("<f:Extra>{</f:Extra>", Label()),
        (f"<f:Extra>{'[' * 50_000}</f:Extra>", Label()),
        ("<f:Unknown>1</f:Unknown>", Label()),
        ("<f:RunID/><xmp:CreateDate>soon</xmp:CreateDate>", Label()),
        (
            "<f:RunID>r</f:RunID><xmp:CreateDate>2026-11-22T10:00</xmp:CreateDate>",
            Label(run_id="r"),
        ),
        (
            '<f:Input>{"prompt":"a cat"}</f:Input>',
            Label(prompt="a cat", input='{"prompt":"a cat"}'),
        ),
        ('<f:Input>{"prompt":7}</f:Input>', Label(input='{"prompt":7}')),
    ],
)
def test_field_that_cannot_be_read_keeps_its_default(inner: str, expected: Label) -> None:
    assert parse_packet(foreign(inner)) == expected


@given(st.text(alphabet='<>&;"#/=:fFSed{}[]0', max_size=60))
def test_reading_never_fails(inner: str) -> None:
    parse_packet(foreign(inner))
    upstream_label(foreign(inner))
