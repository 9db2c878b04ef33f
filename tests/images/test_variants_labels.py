"""A variant says of itself what its picture says: in XMP and in TC260:AIGC."""

import json
from dataclasses import replace
from typing import Any

import pytest

from flux_pipeline.images.formats import read_xmp
from flux_pipeline.images.inspection import read_evidence
from flux_pipeline.images.jpeg import MAX_PACKET
from flux_pipeline.images.labels import (
    AIGC_NAMESPACE,
    IPTC_NAMESPACE,
    PLACEHOLDER,
    PLACEHOLDER_TYPE,
    SOURCE_TYPE,
    Label,
    build_packet,
    derived_packet,
    label_image,
    parse_properties,
    read_label,
)
from flux_pipeline.images.variants import RenderedVariant, render_variants
from flux_pipeline.variant import FORMATS, VariantSpec
from tests.images.samples import OTHER_PACKET, insert_xmp, samples

SPECS = [VariantSpec(name=name, width=30, format=name) for name in FORMATS]  # type: ignore[arg-type]
SOURCE = IPTC_NAMESPACE + "DigitalSourceType"
AIGC = AIGC_NAMESPACE + "AIGC"


def render(body: bytes, **options: Any) -> list[RenderedVariant]:
    return list(render_variants(body, SPECS, **options).variants)


def properties(body: bytes) -> dict[str, str]:
    return parse_properties(read_xmp(body) or b"")


class TestXmp:
    def test_every_format_says_what_made_the_picture_and_names_it(self, label: Label) -> None:
        handed_on = replace(label, input="", extra={})
        for found in render(label_image(samples()["rgb.png"], label)):
            assert properties(found.data)[SOURCE] == SOURCE_TYPE
            assert read_label(found.data) == handed_on

    def test_the_tc260_label_is_handed_on_as_it_stands(self, label: Label) -> None:
        body = label_image(samples()["lossy.webp"], replace(label, producer="91110000MA00"))
        written = properties(body)[AIGC]
        assert json.loads(written)["ContentProducer"] == "91110000MA00"
        for found in render(body):
            assert properties(found.data)[AIGC] == written

    def test_a_placeholder_stays_one(self, label: Label) -> None:
        body = label_image(samples()["rgb.png"], replace(label, provider=PLACEHOLDER))
        for found in render(body):
            assert properties(found.data)[SOURCE] == PLACEHOLDER_TYPE
            seen = read_label(found.data)
            assert seen is not None
            assert (seen.is_placeholder, seen.prompt) == (True, label.prompt)

    def test_another_tool_s_source_type_and_label_are_handed_on(self) -> None:
        composite = (
            "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
        )
        packet = build_packet(Label(), upstream='{"Label":"1","ContentProducer":"somebody"}')
        packet = packet.replace(SOURCE_TYPE.encode(), composite.encode())
        for found in render(insert_xmp(samples()["rgb.png"], packet)):
            assert properties(found.data)[SOURCE] == composite
            assert json.loads(properties(found.data)[AIGC])["ContentProducer"] == "somebody"

    def test_the_label_beside_a_picture_stored_as_it_came_is_its_own(self, label: Label) -> None:
        body = insert_xmp(samples()["rgb.png"], OTHER_PACKET)
        for found in render(body, sidecar=build_packet(label)):
            assert read_label(found.data) == replace(label, input="", extra={})

    def test_a_picture_without_a_label_gets_none(self) -> None:
        for body in (samples()["rgb.png"], insert_xmp(samples()["rgb.png"], OTHER_PACKET)):
            assert [read_xmp(found.data) for found in render(body)] == [None] * len(SPECS)

    def test_without_a_prompt_in_the_file_there_is_none_in_its_variants(self, label: Label) -> None:
        body = label_image(samples()["rgb.png"], replace(label, prompt=None))
        for found in render(body):
            assert "雪の城" not in found.data.decode("utf-8", "replace")

    def test_the_label_of_a_thumbnail_is_short(self, label: Label) -> None:
        """A long input, and the row that reindex reads, stay with the original."""
        long = replace(
            label, input=json.dumps({"prompt": "x" * 5_000}), extra={"note": "y" * 5_000}
        )
        packet = derived_packet(build_packet(long))
        assert packet is not None
        assert len(packet) < 2_000

    def test_a_prompt_too_long_for_a_jpg_is_left_out_and_the_rest_stays(self, label: Label) -> None:
        long = replace(label, prompt="<" * MAX_PACKET, producer="91110000MA00")
        packet = derived_packet(build_packet(long))
        assert packet is not None
        assert len(packet) <= MAX_PACKET
        found = parse_properties(packet)
        assert (found[SOURCE], AIGC in found) == (SOURCE_TYPE, True)

    def test_ids_that_are_too_long_are_left_out_and_what_the_law_wants_stays(self) -> None:
        label = Label(
            request_sha256="f" * (MAX_PACKET + 1), producer="91110000MA00", output_index=0
        )
        packet = derived_packet(build_packet(label))
        assert packet is not None
        assert {SOURCE, AIGC} == {name for name in parse_properties(packet) if "about" not in name}

    def test_creators_and_rights_that_others_have_written_are_handed_on(self, label: Label) -> None:
        foreign = with_rights(
            "<rdf:Seq><rdf:li>Zoë &amp; 李</rdf:li><rdf:li>Bob</rdf:li></rdf:Seq>",
            '<rdf:Alt><rdf:li xml:lang="x-default">© A</rdf:li>'
            '<rdf:li xml:lang="de-DE">© B</rdf:li></rdf:Alt>',
        )
        labelled = build_packet(label).replace(
            b"</rdf:Description>", inside(foreign) + b"</rdf:Description>"
        )
        for body, sidecar in ((foreign, None), (labelled, None), (foreign, build_packet(label))):
            for found in render(insert_xmp(samples()["rgb.png"], body), sidecar=sidecar):
                assert inside(read_xmp(found.data) or b"") == inside(foreign)
                is_labelled = body is labelled or sidecar is not None
                assert (read_label(found.data) is not None) is is_labelled

    def test_rights_that_are_no_lists_or_too_long_are_not_handed_on(self, label: Label) -> None:
        assert derived_packet(with_rights("Bob", "")) is None
        assert derived_packet(with_rights("<rdf:Seq><rdf:li> </rdf:li></rdf:Seq>", "")) is None
        long = with_rights(f"<rdf:Seq><rdf:li>{'x' * MAX_PACKET}</rdf:li></rdf:Seq>", "")
        packet = derived_packet(build_packet(label), own=long)
        assert packet is not None
        assert packet == derived_packet(build_packet(replace(label, prompt=None)))

    def test_bytes_that_are_no_packet_hand_nothing_on(self) -> None:
        assert derived_packet(b"") is None
        assert derived_packet(b"<!DOCTYPE a><a/>") is None


DC = "http://purl.org/dc/elements/1.1/"


def with_rights(creator: str, rights: str) -> bytes:
    """A packet of another tool, which says whose a picture is."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description>'
        f'<dc:creator xmlns:dc="{DC}">{creator}</dc:creator>'
        f'<dc:rights xmlns:dc="{DC}">{rights}</dc:rights>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def inside(packet: bytes) -> bytes:
    """Creators and rights as a packet has them."""
    begin = packet.index(b"<dc:creator")
    return packet[begin : packet.index(b"</dc:rights>") + len(b"</dc:rights>")]


class TestTracing:
    @pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.format)
    def test_a_variant_leads_back_to_its_picture_even_where_it_was_cut(
        self, label: Label, spec: VariantSpec
    ) -> None:
        cut = replace(spec, height=20, fit="cover", focus="left")
        (found,) = render_variants(label_image(samples()["rgb.png"], label), [cut]).variants
        seen = read_evidence(found.data).label
        assert seen is not None
        assert (seen.request_sha256, seen.output_index) == (label.request_sha256, 1)

    def test_a_broken_avif_has_no_label_and_raises_nothing(self, label: Label) -> None:
        body = label_image(samples()["rgb.png"], label)
        (found,) = render_variants(body, [VariantSpec(name="v", format="avif")]).variants
        for broken in (found.data[:60], found.data[:20] + bytes(400)):
            assert read_evidence(broken).label is None
