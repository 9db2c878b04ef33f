"""The names of a label's properties, as other people's tools know them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flux_pipeline.images.formats import read_xmp
from flux_pipeline.images.labels import AIGC_NAMESPACE as NAMESPACE
from flux_pipeline.images.labels import label_image, read_label, upstream_label
from tests.images.samples import insert_xmp, samples
from tests.images.test_wild import LABEL, tool


@pytest.fixture(params=["rgb.png", "baseline.jpg", "lossy.webp"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A labelled file of each format."""
    path = tmp_path / str(request.param)
    path.write_bytes(label_image(samples()[path.name], LABEL))
    return path


def test_aigc_label_is_one_json_object_that_exiftool_reads(file: Path) -> None:
    (found,) = json.loads(tool("exiftool", "-j", "-G1", "-XMP:all", file))
    text = {name.lower(): value for name, value in found.items()}["xmp-tc260:aigc"]
    assert json.loads(text) == {
        "Label": "1",
        "ContentProducer": "00119144",
        "ProduceID": "ufawqhfynnddngldkgtslldrkq-1",
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    packet = read_xmp(file.read_bytes()) or b""
    assert upstream_label(packet) == text
    assert packet.count(f'xmlns:TC260="{NAMESPACE}"'.encode()) == 1


def test_aigc_label_of_another_producer_is_kept_through_their_tool(file: Path) -> None:
    """An upstream label, written as an attribute as ExifTool's own shorthand does, stays as is."""
    theirs = '{"Label":"1","ContentProducer":"them","ProduceID":"7","PropagateID":"8"}'
    attribute = theirs.replace('"', "&quot;")
    packet = (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF"
        " xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description rdf:about=''"
        f' xmlns:TC260="{NAMESPACE}" TC260:AIGC="{attribute}"/></rdf:RDF></x:xmpmeta>'
    )
    file.write_bytes(insert_xmp(file.read_bytes(), packet.encode()))
    file.write_bytes(label_image(file.read_bytes(), LABEL))
    assert upstream_label(read_xmp(file.read_bytes()) or b"") == theirs
    (found,) = json.loads(tool("exiftool", "-j", "-XMP:all", file))
    shown = {name.lower(): value for name, value in found.items()}
    assert (json.loads(shown["aigc"]), shown["predictionid"]) == (
        json.loads(theirs),
        LABEL.prediction_id,
    )


def test_iptc_properties_are_those_that_exiftool_writes_by_their_names(file: Path) -> None:
    """Its tables have the names of IPTC 2025.1 in later versions; older ones only read them."""
    if tuple(map(int, tool("exiftool", "-ver").split("."))) < (13, 58):
        pytest.skip("needs ExifTool 13.58")
    given = {"AISystemUsed": "m", "AISystemVersionUsed": "v", "AIPromptInformation": "p"}
    tags = [f"-XMP-iptcExt:{name}={value}" for name, value in given.items()]
    tool("exiftool", "-q", "-overwrite_original", *tags, file)
    expected = replace(LABEL, model="m", version="v", prompt="p")
    assert read_label(file.read_bytes()) == expected
