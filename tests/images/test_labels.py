"""A label is a value, and comes back from any file that it was written into."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.errors import ImageError
from flux_pipeline.images import jpeg
from flux_pipeline.images.formats import image_sha256, read_structure, read_xmp
from flux_pipeline.images.labels import (
    AIGC_NAMESPACE,
    IPTC_NAMESPACE,
    PLACEHOLDER_TYPE,
    SOURCE_TYPE,
    Label,
    build_packet,
    label_image,
    parse_properties,
    read_label,
    upstream_label,
)
from tests.images.samples import OTHER_PACKET, insert_xmp, pixels, samples
from tests.images.strategies import LABELS


def test_label_is_a_value(label: Label) -> None:
    assert label == replace(label)
    assert hash(label) == hash(replace(label, extra=dict(label.extra)))
    with pytest.raises(FrozenInstanceError):
        label.seed = 1  # type: ignore[misc]


def test_every_field_may_be_left_out() -> None:
    assert Label() == Label(prompt=None, extra={})


def test_produce_id_is_prediction_and_place(label: Label) -> None:
    assert label.produce_id == "ufawqhfynnddngldkgtslldrkq-1"


def test_produce_id_without_a_prediction_is_the_images_hash(label: Label) -> None:
    assert replace(label, prediction_id=None).produce_id == "b" * 64
    assert replace(label, output_index=None).produce_id == "b" * 64


@settings(max_examples=20, deadline=None)
@given(body=st.sampled_from(list(samples().values())), label=LABELS)
def test_label_comes_back_from_the_file(body: bytes, label: Label) -> None:
    label = replace(label, run_id="run")
    labelled = label_image(body, label)
    assert read_label(labelled) == label
    assert label_image(labelled, label) == labelled
    assert label_image(body, label, read_structure(body)) == labelled  # it is not walked again
    assert image_sha256(labelled) == image_sha256(body)


def test_pixels_are_untouched(body: bytes, label: Label) -> None:
    assert pixels(label_image(body, label)) == pixels(body)


def test_label_is_the_packet_and_nothing_else(body: bytes, label: Label) -> None:
    assert read_xmp(label_image(body, label)) == build_packet(label)


def test_labelling_again_replaces_the_label(body: bytes, label: Label) -> None:
    other = replace(label, seed=7, prompt=None, extra={})
    assert label_image(label_image(body, label), other) == label_image(body, other)


def test_file_without_a_label_has_none(body: bytes) -> None:
    assert read_label(body) is None
    assert read_label(insert_xmp(body, OTHER_PACKET)) is None
    assert read_label(insert_xmp(body, b"\xff\0not XML")) is None


def test_upstream_aigc_label_is_kept_and_its_propagator_filled_in(
    body: bytes, label: Label
) -> None:
    theirs = label_image(body, Label(prediction_id="p", output_index=0, producer="them"))
    ours = label_image(theirs, replace(label, producer="us"))
    packet = read_xmp(ours)
    assert packet is not None
    assert packet.count(b"<TC260:AIGC>") == 1
    found = json.loads(upstream_label(packet) or "")
    assert (found["ContentProducer"], found["ProduceID"]) == ("them", "p-0")
    assert (found["ContentPropagator"], found["PropagateID"]) == ("us", label.produce_id)
    assert label_image(ours, replace(label, producer="us")) == ours


def test_upstream_packet_that_is_no_xml_is_replaced(body: bytes, label: Label) -> None:
    assert label_image(insert_xmp(body, b"<!DOCTYPE a>"), label) == label_image(body, label)


@pytest.mark.parametrize("sign", ["雪", "<", "&", "👩", "\x01"])
def test_longest_prompt_fits_into_a_jpg(label: Label, sign: str) -> None:
    prompt = sign * 10_000
    text = json.dumps({"prompt": prompt, "seed": 42}, ensure_ascii=False)
    long = replace(label, prompt=prompt, input=text)
    body = samples()["baseline.jpg"]
    found = read_label(label_image(body, long))
    assert found is not None
    assert found.prediction_id == label.prediction_id
    if sign != "\x01":
        assert found == long


def test_label_that_is_too_long_for_a_jpg_keeps_its_ids(label: Label) -> None:
    long = replace(label, extra={"log": "x" * 70_000})
    found = read_label(label_image(samples()["baseline.jpg"], long))
    assert found == replace(label, prompt=None, input="", extra={})
    for name in ("rgb.png", "lossy.webp"):
        assert read_label(label_image(samples()[name], long)) == long


def test_ids_that_are_too_long_for_a_jpg_are_an_error(label: Label) -> None:
    with pytest.raises(ImageError, match=f"longer than {jpeg.MAX_PACKET} bytes"):
        label_image(samples()["baseline.jpg"], replace(label, run_id="x" * 70_000))


def test_broken_file_is_refused(body: bytes, label: Label) -> None:
    for broken in (b"<html>", body[:-1], body[:-100]):
        with pytest.raises(ImageError):
            label_image(broken, label)
        with pytest.raises(ImageError):
            read_label(broken)


def test_a_placeholder_says_that_no_model_ran(label: Label) -> None:
    placeholder = replace(label, provider="emulator", producer="studio")
    body = label_image(_any(), placeholder)

    found = parse_properties(read_xmp(body) or b"")
    assert found[f"{IPTC_NAMESPACE}DigitalSourceType"] == PLACEHOLDER_TYPE
    assert not [name for name in found if name.startswith(f"{IPTC_NAMESPACE}AI")]
    assert f"{AIGC_NAMESPACE}AIGC" not in found
    assert read_label(body) == placeholder  # reindex needs all of it


def test_an_image_of_any_other_provider_is_made_by_a_model(label: Label) -> None:
    body = label_image(_any(), replace(label, provider="api.replicate.com"))

    found = parse_properties(read_xmp(body) or b"")
    assert found[f"{IPTC_NAMESPACE}DigitalSourceType"] == SOURCE_TYPE
    assert found[f"{IPTC_NAMESPACE}AISystemUsed"] == label.model


def _any() -> bytes:
    return next(iter(samples().values()))
