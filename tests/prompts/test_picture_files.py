"""Files that prompts name as pictures are checked before anything is paid."""

import hashlib
import os
from pathlib import Path

import pytest
from PIL import Image

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import load_prompt_set
from flux_pipeline.prompts.picture_files import MAX_BYTES, read_picture


def make(path: Path, kind: str, size: tuple[int, int] = (12, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 90)).save(path, kind)
    return path


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_type_size_and_checksum_come_from_the_bytes(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path / "refs" / "castle.dat", kind)
    picture = read_picture(tmp_path, "refs/castle.dat")
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (picture.width, picture.height) == (12, 7)
    assert picture.content_type == f"image/{kind.lower()}"
    assert picture.bytes == path.stat().st_size
    assert picture.uri == str(path)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    make(tmp_path / "a.png", "PNG")
    before = read_picture(tmp_path, "a.png")
    make(tmp_path / "a.png", "PNG", size=(30, 30))
    assert read_picture(tmp_path, "a.png").sha256 != before.sha256


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_without_its_end_is_refused(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path / "a", kind, size=(500, 500))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cut off|no picture"):
        read_picture(tmp_path, "a")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing.png", "no such file"),
        ("../a.png", "must lie in the folder"),
        ("/etc/hosts", "must lie in the folder"),
        ("~/a.png", "must lie in the folder"),
        ("sub", "is a folder"),
        ("link.png", "leads out"),
        ("text.png", "is no picture"),
        ("bitmap.png", "is BMP; models take"),
        ("large.png", "at most"),
        ("http://example.com/a.png", "neither a file nor an https"),
        (" ", "is empty"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, name: str, expected: str) -> None:
    folder = tmp_path / "configs"
    (folder / "sub").mkdir(parents=True)
    make(tmp_path / "a.png", "PNG")
    (folder / "link.png").symlink_to(tmp_path / "a.png")
    (folder / "text.png").write_text("no picture")
    make(folder / "bitmap.png", "BMP")
    with (folder / "large.png").open("wb") as file:
        os.truncate(file.fileno(), MAX_BYTES + 1)
    with pytest.raises(ValueError, match=expected):
        read_picture(folder, name)


def test_every_bad_file_of_a_set_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "winter.yaml"
    path.write_text(
        "model: lucataco/flux-schnell-lora\n"
        "prompts:\n"
        "  a: {prompt: x, image: a.png}\n"
        "  b: {prompt: x, image: b.png}\n"
    )
    with pytest.raises(ConfigError) as error:
        load_prompt_set(path)
    assert [(each.line, each.key) for each in error.value.problems] == [
        (3, "prompts.a.image"),
        (4, "prompts.b.image"),
    ]


def test_the_bytes_decide_the_fingerprint_and_not_the_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(tmp_path / f"{name}.png", "PNG")
    make(tmp_path / "c.png", "PNG", size=(9, 9))
    path = tmp_path / "winter.yaml"
    path.write_text(
        "model: lucataco/flux-schnell-lora\n"
        "defaults: {seed: 5}\n"
        "prompts:\n"
        '  p: {prompt: x, image: "{f}.png", matrix: {f: [a, b, c]}}\n'
    )
    a, b, c = (each.request_sha256 for each in load_prompt_set(path).requests())
    assert a == b
    assert a != c
