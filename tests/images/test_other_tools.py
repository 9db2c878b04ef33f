"""Labelled files after other people's tools: what is left of the label, and what still finds them.

What is lost is asserted too: docs/labels.md says it in a table.
"""

import io
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from flux_pipeline.images.c2pa import inspect_manifest, read_manifest
from flux_pipeline.images.formats import image_sha256, read_xmp
from flux_pipeline.images.inspection import Inspection, inspect_image
from flux_pipeline.images.labels import Label, label_image, read_label
from flux_pipeline.images.signing import open_signer
from flux_pipeline.lineage.query import SAME_IMAGE, hamming_distance
from tests.images.certificates import issue
from tests.images.samples import encode, picture

WIDTH, HEIGHT = 280, 210
LABEL = Label(
    prompt='雪の城 <b>"frosted" & bright</b> قلعة 👩‍👩‍👧',
    prediction_id="ufawqhfynnddngldkgtslldrkq",
    request_sha256="a" * 64,
    output_index=1,
    seed=42,
    run_id="run",
    model="lucataco/flux-schnell-lora",
    version="c" * 64,
    producer="00119144",
)
PACKAGES = {
    "exiftool": "libimage-exiftool-perl",
    "cwebp": "webp",
    "dwebp": "webp",
    "webpmux": "webp",
    "jpegtran": "libjpeg-turbo-progs",
    "djpeg": "libjpeg-turbo-progs",
    "cjpeg": "libjpeg-turbo-progs",
}
FORMATS = ("png", "jpg", "webp")


def tool(name: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is missing: apt-get install {PACKAGES[name]}")
    done = subprocess.run(
        [name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        cwd=cwd,
    )
    return done.stdout


@pytest.fixture(scope="module")
def originals() -> Mapping[str, bytes]:
    image = picture(WIDTH, HEIGHT)
    bodies = {
        "png": encode(image, "PNG"),
        "jpg": encode(image, "JPEG", quality=90),
        "webp": encode(image, "WEBP", quality=90),
    }
    return {name: label_image(body, LABEL) for name, body in bodies.items()}


@pytest.fixture(params=FORMATS)
def file(request: pytest.FixtureRequest, originals: Mapping[str, bytes], tmp_path: Path) -> Path:
    """A labelled file of each format."""
    path = tmp_path / f"original.{request.param}"
    path.write_bytes(originals[request.param])
    return path


def look(body: bytes, image_format: str) -> Inspection:
    return inspect_image(body, image_format=image_format, width=0, height=0)


def assert_same(path: Path, file: Path, *, label: Label | None) -> None:
    """The same coded pixels, so the pixel hash finds it; and this label."""
    assert image_sha256(path.read_bytes()) == image_sha256(file.read_bytes())
    assert read_label(path.read_bytes()) == label


def assert_similar(path: Path, file: Path, *, label: Label | None) -> None:
    """Other pixels, so only the difference hash finds it; and this label."""
    before = look(file.read_bytes(), file.suffix[1:])
    after = look(path.read_bytes(), path.suffix[1:])
    assert after.image_sha256 != before.image_sha256
    assert hamming_distance(after.dhash, before.dhash) <= SAME_IMAGE
    assert read_label(path.read_bytes()) == label


# Tools that change metadata alone.


@pytest.fixture
def folder(originals: Mapping[str, bytes], tmp_path: Path) -> Path:
    """A labelled file of each format, for a tool that takes all of them in one call."""
    for name, body in originals.items():
        (tmp_path / f"original.{name}").write_bytes(body)
    return tmp_path


def edit_all(folder: Path, *arguments: str | Path) -> list[Path]:
    """Copies of all files, changed by ExifTool in place (-o of 12.57 refuses webp)."""
    copies = [folder / f"edited.{name}" for name in FORMATS]
    for copy in copies:
        shutil.copy(copy.with_stem("original"), copy)
    tool("exiftool", "-q", "-overwrite_original", *arguments, *copies)
    return copies


def test_tags_added_by_exiftool_change_neither_label_nor_pixels(folder: Path) -> None:
    for copy in edit_all(folder, "-EXIF:Artist=somebody", "-XMP-dc:Title=edited"):
        assert_same(copy, copy.with_stem("original"), label=LABEL)
        assert b"edited" in (read_xmp(copy.read_bytes()) or b"")


def test_everything_stripped_by_exiftool_leaves_the_pixel_hash(folder: Path) -> None:
    for copy in edit_all(folder, "-all="):
        assert read_xmp(copy.read_bytes()) is None
        assert_same(copy, copy.with_stem("original"), label=None)


def test_a_label_copied_to_another_image_by_exiftool_is_read_and_its_pixels_deny_it(
    folder: Path,
) -> None:
    kept = folder / "label.png"
    shutil.copy(folder / "original.png", kept)
    for name in FORMATS:
        body = encode(picture(WIDTH, HEIGHT, seed=9), _PILLOW[f".{name}"])
        (folder / f"original.{name}").write_bytes(body)
    for copy in edit_all(folder, "-TagsFromFile", kept, "-XMP"):
        assert_same(copy, copy.with_stem("original"), label=LABEL)


def test_webpmux_takes_the_packet_out_and_puts_it_in(folder: Path) -> None:
    file, packet = folder / "original.webp", folder / "packet.xmp"
    bare, again = folder / "bare.webp", folder / "again.webp"
    tool("webpmux", "-get", "xmp", file, "-o", packet)
    assert packet.read_bytes() == read_xmp(file.read_bytes())
    tool("webpmux", "-strip", "xmp", file, "-o", bare)
    assert_same(bare, file, label=None)
    tool("webpmux", "-set", "xmp", packet, bare, "-o", again)
    assert_same(again, file, label=LABEL)


def test_a_signed_file_after_each_kind_of_tool(
    originals: Mapping[str, bytes], tmp_path: Path
) -> None:
    """An edit breaks the manifest and leaves the label; a strip takes the label and breaks it."""
    pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
    signer = open_signer(*issue(tmp_path / "studio").paths)
    assert signer is not None
    for name, body in originals.items():
        file = tmp_path / f"original.{name}"
        file.write_bytes(signer.sign(body, LABEL))
        assert read_manifest(file.read_bytes()) is not None
    for copy in edit_all(tmp_path, "-XMP-dc:Title=edited"):
        manifest = inspect_manifest(copy.read_bytes())
        assert manifest is not None
        assert not manifest.valid
        assert_same(copy, copy.with_stem("original"), label=LABEL)
    for copy in edit_all(tmp_path, "-all="):
        assert read_manifest(copy.read_bytes()) is None
        assert_same(copy, copy.with_stem("original"), label=None)
    with Image.open(tmp_path / "original.jpg") as image:
        assert inspect_manifest(encode(image, "JPEG")) is None


# Tools that write the image again.


_PILLOW = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}


def resave(change: Callable[[Image.Image], Image.Image], **options: object) -> Callable[..., bytes]:
    def save(body: bytes, suffix: str) -> bytes:
        with Image.open(io.BytesIO(body)) as image:
            return encode(change(image).convert("RGB"), _PILLOW[suffix], **options)

    return save


@pytest.mark.parametrize(
    "save",
    [
        pytest.param(resave(lambda image: image, quality=60), id="q60"),
        pytest.param(
            resave(lambda image: image.resize((WIDTH // 2, HEIGHT // 2)), quality=60), id="half"
        ),
        pytest.param(resave(lambda image: image.convert("L"), quality=60), id="grey"),
        pytest.param(
            resave(lambda image: image.resize((120, 90)).resize((600, 450))), id="thumbnail"
        ),
    ],
)
def test_an_image_saved_again_by_pillow_is_found_by_its_looks(
    save: Callable[[bytes, str], bytes], originals: Mapping[str, bytes]
) -> None:
    before = look(originals["png"], "png")
    for suffix in _PILLOW:
        again = save(originals["png"], suffix)
        assert hamming_distance(look(again, suffix[1:]).dhash, before.dhash) <= SAME_IMAGE
        assert read_label(again) is None


def test_an_image_of_each_format_saved_again_by_pillow_has_lost_its_label(
    originals: Mapping[str, bytes],
) -> None:
    save = resave(lambda image: image, quality=60)
    for name, body in originals.items():
        again = save(body, f".{name}")
        assert read_label(again) is None
        before, after = look(body, name), look(again, name)
        assert hamming_distance(after.dhash, before.dhash) <= SAME_IMAGE


def test_a_png_saved_again_by_pillow_has_the_same_picture_in_other_bytes(
    originals: Mapping[str, bytes],
) -> None:
    """The pixel hash is of the coded pixels: another compressor makes other ones."""
    with Image.open(io.BytesIO(originals["png"])) as image:
        again = encode(image, "PNG", compress_level=1)
    assert image_sha256(again) != image_sha256(originals["png"])
    before, after = look(originals["png"], "png"), look(again, "png")
    assert before.dhash == after.dhash


def test_a_crop_of_a_fifth_is_lost(originals: Mapping[str, bytes]) -> None:
    with Image.open(io.BytesIO(originals["png"])) as image:
        cropped = encode(image.crop((WIDTH // 5, HEIGHT // 5, WIDTH, HEIGHT)), "PNG")
    before, after = look(originals["png"], "png"), look(cropped, "png")
    assert hamming_distance(before.dhash, after.dhash) > SAME_IMAGE


@pytest.mark.parametrize("keep", ["none", "xmp"])
def test_an_image_converted_by_cwebp_is_found_by_its_looks(keep: str, file: Path) -> None:
    out = file.with_suffix(".webp").with_stem("converted")
    tool("cwebp", "-quiet", "-q", "60", "-metadata", keep, file, "-o", out)
    assert_similar(out, file, label=LABEL if keep == "xmp" else None)


def test_an_image_halved_by_cwebp_is_found_by_its_looks(file: Path) -> None:
    out = file.with_suffix(".webp").with_stem("half")
    tool("cwebp", "-quiet", "-q", "60", "-resize", str(WIDTH // 2), "0", file, "-o", out)
    assert_similar(out, file, label=None)


def test_an_image_decoded_by_dwebp_is_found_by_its_looks(
    originals: Mapping[str, bytes], tmp_path: Path
) -> None:
    file, out = tmp_path / "original.webp", tmp_path / "decoded.png"
    file.write_bytes(originals["webp"])
    tool("dwebp", "-quiet", file, "-o", out)
    assert_similar(out, file, label=None)


@pytest.mark.parametrize("copy", ["none", "all"])
def test_jpegtran_keeps_the_picture_and_changes_its_code(
    copy: str, originals: Mapping[str, bytes], tmp_path: Path
) -> None:
    file, out = tmp_path / "original.jpg", tmp_path / "optimized.jpg"
    file.write_bytes(originals["jpg"])
    tool("jpegtran", "-copy", copy, "-optimize", "-progressive", "-outfile", out, file)
    with Image.open(file) as before, Image.open(out) as after:
        assert before.tobytes() == after.tobytes()
    assert_similar(out, file, label=LABEL if copy == "all" else None)


def test_a_jpg_encoded_again_by_cjpeg_is_found_by_its_looks(
    originals: Mapping[str, bytes], tmp_path: Path
) -> None:
    file, raw, out = (tmp_path / name for name in ("original.jpg", "raw.ppm", "again.jpg"))
    file.write_bytes(originals["jpg"])
    tool("djpeg", "-scale", "1/2", "-outfile", raw, file)
    tool("cjpeg", "-quality", "60", "-outfile", out, raw)
    assert_similar(out, file, label=None)
