"""What was made is read without Dagster: lazily, the prompts of now, or all that is recorded."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as Picture

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.errors import ConfigError, StoreError
from flux_pipeline.image_maker import make_images
from flux_pipeline.image_reader import read_images
from flux_pipeline.store.open import open_store
from flux_pipeline.testing import ImageStudio, open_studio

HEAD = "model: lucataco/flux-schnell-lora\n"
WINTER = "prompts: {castle: a castle, moon: {prompt: the moon, takes: 2}, zoo: a zoo}\n"


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageStudio]:
    """Its prompt set winter is made, but for the zoo, which fails."""
    faults = FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="zoo", cap=100)
    write(tmp_path, WINTER)
    with open_studio(tmp_path, faults) as opened:
        monkeypatch.setenv("FLUX_CONFIGS", str(tmp_path / "configs"))
        for item in opened.environment.items():
            monkeypatch.setenv(*item)
        list(make_images("winter"))
        yield opened


def write(folder: Path, text: str) -> None:
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs/winter.yaml").write_text(HEAD + text)


def test_images_come_with_record_bytes_and_file(studio: ImageStudio) -> None:
    images = read_images("winter")
    assert images.partitions == ("castle", "moon")
    assert images.missing == ("zoo",)
    found = list(images)
    assert [(each.partition, each.record.take) for each in found] == [
        ("castle", 1),
        ("moon", 1),
        ("moon", 2),
    ]
    castle = found[0]
    assert castle.record.prompt == "a castle"
    assert castle.path is not None
    assert castle.path.as_uri() == castle.uri
    assert castle.path.read_bytes() == castle.bytes
    with castle.open() as file, Picture.open(file) as picture:
        assert picture.size == (castle.record.width, castle.record.height)
    assert [each.record.take for each in images.of("moon")] == [1, 2]
    assert [each.record for each in images] == [each.record for each in found]


def test_an_edited_prompt_is_missing_and_its_earlier_image_is_no_longer_given(
    studio: ImageStudio,
) -> None:
    write(studio.folder, WINTER.replace("a castle", "a castle at dawn"))
    images = read_images("winter", ["castle", "moon"])
    assert (images.partitions, images.missing) == (("moon",), ("castle",))
    assert {each.partition for each in images} == {"moon"}


def test_a_partition_that_does_not_exist_is_named(studio: ImageStudio) -> None:
    with pytest.raises(ConfigError, match="no partition castel; near it: castle"):
        read_images("winter", "castel")
    with pytest.raises(ConfigError, match="has no prompt set summer; it has winter"):
        read_images("summer")


def test_a_store_alone_gives_all_that_is_recorded(
    studio: ImageStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FLUX_CONFIGS", *studio.environment):
        monkeypatch.delenv(name)
    images = read_images("winter", store=studio.image_producer.store)
    assert (images.partitions, images.missing) == (("castle", "moon"), ())
    assert sorted(each.partition for each in images) == ["castle", "moon", "moon"]
    some = read_images("winter", ["moon", "zoo"], store=studio.store)
    assert (some.partitions, some.missing) == (("moon",), ("zoo",))
    assert {each.record.prompt for each in some} == {"the moon"}
    assert not list(read_images("summer", store=studio.store))


def test_a_picture_of_another_store_is_said_to_be_one(studio: ImageStudio, tmp_path: Path) -> None:
    (image, *_) = read_images("winter", "castle")
    elsewhere = type(image)(image.record, "castle", open_store(f"file:{tmp_path}/elsewhere"))
    with pytest.raises(StoreError, match="lies in another store than"):
        _ = elsewhere.bytes


def test_a_picture_has_the_name_that_its_prompt_has_now(studio: ImageStudio) -> None:
    seeded = "prompts: {ship: {prompt: a ship, seed: 7}}\n"
    write(studio.folder, seeded)
    list(make_images("winter"))
    write(studio.folder, seeded.replace("ship:", "boat:"))
    (image,) = read_images("winter")
    assert (image.record.prompt_name, image.record.partition) == ("boat", "boat")
