"""A second opinion on every file that we write: what ExifTool reads in it."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from flux_pipeline.images.containers import image_sha256
from flux_pipeline.images.label import Label
from flux_pipeline.images.labelling import label_image
from flux_pipeline.images.xmp import insert_xmp, read_xmp

ExifTool = Callable[..., str]


def test_labelled_file_is_valid(exiftool: ExifTool, body: bytes, label: Label) -> None:
    before = exiftool(body, "-validate", "-warning", "-a", "-s3")
    after = exiftool(label_image(body, label), "-validate", "-warning", "-a", "-s3")
    assert "XMP" not in after
    assert after == before or before.startswith("OK")
    assert "rror" not in after


def test_label_is_read_by_others(exiftool: ExifTool, body: bytes, label: Label) -> None:
    labelled = label_image(body, replace(label, producer="00119144"))
    (found,) = json.loads(exiftool(labelled, "-j", "-G1", "-XMP:all", "-api", "struct=1"))
    assert found["XMP-iptcExt:DigitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert found["XMP-flux:PredictionID"] == label.prediction_id
    assert found["XMP-flux:Input"] == label.input
    assert str(found["XMP-flux:Seed"]) == "42"
    texts = {key.partition(":")[2].lower(): value for key, value in found.items()}
    assert texts["aisystemused"] == label.model
    assert texts["aisystemversionused"] == label.version
    assert texts["aipromptinformation"] == label.prompt
    assert json.loads(texts["aigc"])["ContentProducer"] == "00119144"


def test_packet_is_found_where_we_put_it(exiftool: ExifTool, body: bytes, label: Label) -> None:
    labelled = label_image(body, label)
    assert exiftool(labelled, "-b", "-XMP") == (read_xmp(labelled) or b"").decode()


def test_hash_of_coded_pixels_is_the_same_value(exiftool: ExifTool, body: bytes) -> None:
    if tuple(map(int, exiftool(body, "-s3", "-ExifToolVersion").split("."))) < (12, 63):
        pytest.skip("this ExifTool knows no ImageDataHash")
    options = ("-s3", "-api", "ImageHashType=SHA256", "-ImageDataHash")
    assert exiftool(body, *options) == image_sha256(body)
    assert exiftool(insert_xmp(body, b"<x/>"), *options) == image_sha256(body)
