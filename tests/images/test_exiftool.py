"""A second opinion on every file that we write: what ExifTool reads in it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.images.formats import image_sha256, read_xmp
from flux_pipeline.images.labels import Label, label_image, read_label
from tests.images.samples import samples

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


def needs_version(*needed: int) -> None:
    if tuple(map(int, exiftool("-ver").split("."))) < needed:
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


def test_label_is_read_by_others(name: str, opinions: dict[str, Any]) -> None:
    found = opinions[f"labelled-{name}"]
    assert found["xmp-iptcext:digitalsourcetype"].endswith("/trainedAlgorithmicMedia")
    assert found["xmp-iptcext:aisystemused"] == LABEL.model
    assert found["xmp-iptcext:aisystemversionused"] == LABEL.version
    assert found["xmp-iptcext:aipromptinformation"] == LABEL.prompt
    assert found["xmp-flux:predictionid"] == LABEL.prediction_id
    assert found["xmp-flux:seed"] == 42
    assert found["xmp-flux:input"] == LABEL.input
    assert json.loads(found["xmp-tc260:aigc"])["ContentProducer"] == "00119144"


@pytest.mark.parametrize("name", ["rgb.png", "progressive.jpg", "alpha.webp"])
def test_packet_is_found_where_we_put_it(name: str, folder: Path) -> None:
    path = folder / f"labelled-{name}"
    packet = read_xmp(path.read_bytes()) or b""
    assert exiftool("-b", "-XMP", path) == packet.decode()


def test_hash_of_coded_pixels_is_the_same_value(folder: Path) -> None:
    needs_version(12, 63)  # the first with this name and this way of hashing
    printed = exiftool("-j", "-api", "ImageHashType=SHA256", "-ImageDataHash", folder)
    theirs = {found["SourceFile"]: found["ImageDataHash"] for found in json.loads(printed)}
    ours = {path: image_sha256(Path(path).read_bytes()) for path in theirs}
    assert len(theirs) == 2 * len(samples())
    assert theirs == ours


@pytest.mark.parametrize("name", ["rgb.png", "progressive.jpg", "alpha.webp"])
def test_label_survives_an_edit_by_others(name: str, folder: Path, tmp_path: Path) -> None:
    if name.endswith("webp"):
        needs_version(12, 63)
    out = tmp_path / name
    exiftool("-q", "-XMP-dc:Title=edited", "-o", out, folder / f"labelled-{name}")
    assert read_label(out.read_bytes()) == LABEL
