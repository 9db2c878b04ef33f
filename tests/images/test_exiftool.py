"""A second opinion on every file that we write: what ExifTool reads in it."""

import json
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.images.formats import image_sha256, read_xmp
from flux_pipeline.images.labels import (
    AIGC_NAMESPACE,
    Label,
    label_image,
    read_label,
    upstream_label,
)
from tests.images.samples import insert_xmp, samples

pytestmark = pytest.mark.skipif(
    shutil.which("exiftool") is None,
    reason="ExifTool is missing: apt-get install libimage-exiftool-perl",
)
LABEL = Label(
    prompt='雪の城 <b>"frosted" & bright</b>',
    prediction_id="ufawqhfynnddngldkgtslldrkq",
    output_index=1,
    seed=42,
    model="lucataco/flux-schnell-lora",
    version="c" * 64,
    input='{"prompt":"雪の城 <b>\\"frosted\\" & bright</b>","seed":42}',
    producer="00119144",
)


def exiftool(*arguments: str | Path) -> str:
    command = ["exiftool", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return done.stdout


@cache
def installed_version() -> tuple[int, ...]:
    return tuple(map(int, exiftool("-ver").split(".")))


def needs_version(*needed: int) -> None:
    if installed_version() < needed:
        pytest.skip(f"needs ExifTool {'.'.join(map(str, needed))}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every sample, plain and labelled."""
    path = tmp_path_factory.mktemp("exiftool")
    for name, body in samples().items():
        (path / f"plain-{name}").write_bytes(body)
        (path / f"labelled-{name}").write_bytes(label_image(body, LABEL))
    return path


@pytest.fixture(scope="module")
def opinions(folder: Path) -> dict[str, dict[str, Any]]:
    """File name to what ExifTool says of it, by lower-case tag name."""
    printed = exiftool("-j", "-a", "-G1", "-XMP:all", "-validate", "-warning", folder)
    return {
        Path(found.pop("SourceFile")).name: {key.lower(): value for key, value in found.items()}
        for found in json.loads(printed)
    }


def test_label_gives_no_cause_for_a_remark(name: str, opinions: dict[str, Any]) -> None:
    before, after = (opinions[f"{state}-{name}"] for state in ("plain", "labelled"))
    if before["exiftool:validate"] == "OK":
        assert after["exiftool:validate"] == "OK"
    assert "XMP" not in after.get("exiftool:warning", "")
    assert "exiftool:error" not in after


def test_label_is_read_by_others(name: str, body: bytes, opinions: dict[str, Any]) -> None:
    found = opinions[f"labelled-{name}"]
    assert found["xmp-iptcext:digitalsourcetype"].endswith("/trainedAlgorithmicMedia")
    assert found["xmp-iptcext:aisystemused"] == LABEL.model
    assert found["xmp-iptcext:aisystemversionused"] == LABEL.version
    assert found["xmp-iptcext:aipromptinformation"] == LABEL.prompt
    assert found["xmp-flux:predictionid"] == LABEL.prediction_id
    assert found["xmp-flux:seed"] == 42
    assert found["xmp-flux:input"] == LABEL.input
    aigc = found["xmp-tc260:aigc"]
    assert json.loads(aigc) == {
        "Label": "1",
        "ContentProducer": "00119144",
        "ProduceID": "ufawqhfynnddngldkgtslldrkq-1",
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    packet = read_xmp(label_image(body, LABEL)) or b""
    assert upstream_label(packet) == aigc
    assert packet.count(f'xmlns:TC260="{AIGC_NAMESPACE}"'.encode()) == 1


def test_packet_is_found_where_we_put_it(folder: Path) -> None:
    files = [folder / f"labelled-{name}" for name in ("rgb.png", "progressive.jpg", "alpha.webp")]
    exiftool("-q", "-b", "-XMP", "-w", "%d%f.xmp", *files)
    for file in files:
        assert file.with_suffix(".xmp").read_bytes() == read_xmp(file.read_bytes())


def test_hash_of_coded_pixels_is_the_same_value(folder: Path) -> None:
    needs_version(12, 63)  # the first with this name and this way of hashing
    printed = exiftool("-j", "-api", "ImageHashType=SHA256", "-ImageDataHash", folder)
    theirs = {found["SourceFile"]: found["ImageDataHash"] for found in json.loads(printed)}
    ours = {path: image_sha256(Path(path).read_bytes()) for path in theirs}
    assert len(theirs) == 2 * len(samples())
    assert theirs == ours


@pytest.fixture
def labelled(tmp_path: Path) -> list[Path]:
    """A labelled file of each format, for a tool that takes all of them in one call."""
    files = [tmp_path / name for name in ("rgb.png", "baseline.jpg", "lossy.webp")]
    for file in files:
        file.write_bytes(label_image(samples()[file.name], LABEL))
    return files


def test_aigc_label_of_another_producer_is_kept_through_their_tool(labelled: list[Path]) -> None:
    """An upstream label, written as an attribute as ExifTool's own shorthand does, stays as is."""
    theirs = '{"Label":"1","ContentProducer":"them","ProduceID":"7","PropagateID":"8"}'
    attribute = theirs.replace('"', "&quot;")
    packet = (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF"
        " xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description rdf:about=''"
        f' xmlns:TC260="{AIGC_NAMESPACE}" TC260:AIGC="{attribute}"/></rdf:RDF></x:xmpmeta>'
    )
    for file in labelled:
        upstream = insert_xmp(file.read_bytes(), packet.encode())
        file.write_bytes(label_image(upstream, LABEL))
        assert upstream_label(read_xmp(file.read_bytes()) or b"") == theirs
    for found in json.loads(exiftool("-j", "-XMP:all", *labelled)):
        shown = {name.lower(): value for name, value in found.items()}
        assert (json.loads(shown["aigc"]), shown["predictionid"]) == (
            json.loads(theirs),
            LABEL.prediction_id,
        )


def test_iptc_properties_are_those_that_exiftool_writes_by_their_names(
    labelled: list[Path],
) -> None:
    """Its tables have the names of IPTC 2025.1 in later versions; older ones only read them."""
    needs_version(13, 58)
    given = {"AISystemUsed": "m", "AISystemVersionUsed": "v", "AIPromptInformation": "p"}
    tags = [f"-XMP-iptcExt:{name}={value}" for name, value in given.items()]
    exiftool("-q", "-overwrite_original", *tags, *labelled)
    expected = replace(LABEL, model="m", version="v", prompt="p")
    for file in labelled:
        assert read_label(file.read_bytes()) == expected
