"""What models make of a picture can be seen in it."""

import pytest
from PIL import Image, ImageChops

from flux_pipeline.emulator.edits import Result, cut_out, edit, result_size
from flux_pipeline.emulator.files import FetchedPicture, sha256_of
from flux_pipeline.emulator.jobs import Job
from tests.emulator.samples import opened, picture


def result(content: bytes, **job: object) -> Result:
    size = opened(content).size
    source = FetchedPicture("image", -1, sha256_of(content), len(content), *size)
    return Result(Job.model_validate({"kind": "uri", **job}), 1, 0, (source,))


@pytest.mark.parametrize("output_format", ["png", "webp", "jpg"])
def test_an_upscaler_enlarges_its_picture(output_format: str) -> None:
    source = picture((40, 30), "red")
    made = result(source, task="enlarge", factor=2.5, output_format=output_format)
    for file in (made.file([source]), made.cheap_file()):
        assert opened(file).size == (100, 75)
    red, green, _ = opened(made.file([source])).convert("RGB").getpixel((50, 40))  # type: ignore[misc]
    assert red > 240
    assert green < 20


def test_a_cut_out_keeps_the_middle_and_loses_the_corners() -> None:
    image = cut_out(Image.new("RGB", (80, 60), "red"))
    assert image.mode == "RGBA"
    assert image.getpixel((40, 30)) == (255, 0, 0, 255)
    assert image.getpixel((0, 0)) == (255, 0, 0, 0)


def test_an_edit_differs_from_its_picture_and_from_other_prompts() -> None:
    source = Image.linear_gradient("L").convert("RGB")
    one, other = edit(source, b"1" * 32, "red at night"), edit(source, b"1" * 32, "green at noon")
    assert ImageChops.difference(source, one).getbbox() is not None
    assert ImageChops.difference(one, other).getbbox() is not None
    assert one.size == source.size


def test_further_pictures_are_inset() -> None:
    source = Image.new("RGB", (80, 80), "white")
    made = edit(source, b"1" * 32, "x", [Image.new("RGB", (9, 9), (1, 2, 3))])
    assert made.getpixel((5, 75)) == (1, 2, 3)


def test_other_bytes_make_another_picture() -> None:
    one, other = picture(colour="red"), picture(colour="blue")
    assert result(one, task="edit").digest() != result(other, task="edit").digest()


def test_without_a_picture_the_size_is_the_asked_one() -> None:
    job = Job(task="draw", kind="uri", asked_size=(64, 48))
    assert result_size(job, ()) == (64, 48)
    assert opened(Result(job, 1, 0).file([])).size == (64, 48)
