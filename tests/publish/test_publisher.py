"""What is chosen lies in the target with its index; what is unchanged costs nothing."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image as Picture

from flux_pipeline.errors import ConfigError, StoreError
from flux_pipeline.image_maker import make_images
from flux_pipeline.publish.index import SCHEMA_FILE
from flux_pipeline.publish.publisher import publish_set
from flux_pipeline.publish.renderer import Renderer
from flux_pipeline.testing import open_studio
from tests.publish.conftest import PUBLISH, SHOP, Shop

PICKED = PUBLISH.replace("choose: first", "choose: picks.csv")
ALL = PUBLISH.replace("choose: first", "choose: all").replace(
    "  variants:", '  name: "{{set}}/{{name}}-{{take}}-{{variant}}.{{format}}"\n  variants:'
)


class Counted:
    """How often pictures are fetched and decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.variants: list[tuple[str, int]] = []
        render = Renderer.render

        def counted(renderer: Renderer, image: Any, numbers: Any) -> Any:
            self.variants += [(image.name, number) for number in numbers]
            return render(renderer, image, numbers)

        monkeypatch.setattr(Renderer, "render", counted)


def test_every_file_that_the_index_names_is_there_as_it_says(shop: Shop) -> None:
    report = shop.publish(shop.write())
    counts = {"images": 3, "files": 6, "written": 6, "unchanged": 0, "removed": 0, "undecided": 0}
    assert (report.counts(), report.problems) == (counts, ())
    files, index = shop.files(), shop.index()
    jsonschema.validate(index, json.loads(SCHEMA_FILE.read_text()))
    assert (index["set"], index["generated_at"]) == ("shop", "2026-11-30T08:00:00Z")
    assert shop.names() == ["shoe", "hat", "bag"]
    hat = index["images"][1]
    assert (hat["alt"], hat["prompt"]) == ("a hat", "a hat")
    assert hat["source_uri"].startswith(f"{shop.studio.store.uri}/images/shop/hat-")
    for image in index["images"]:
        assert [file["variant"] for file in image["files"]] == ["web", "thumb"]
        for file in image["files"]:
            body = files.pop(file["path"])
            with Picture.open(io.BytesIO(body)) as picture:
                assert picture.size == (file["width"], file["height"])
                assert picture.format == file["format"].upper()
            assert len(body) == file["bytes"]
    rows = list(csv.DictReader(io.StringIO(files.pop("index.csv").decode("utf-8-sig"))))
    assert [(row["name"], row["variant"]) for row in rows[:3]] == [
        ("shoe", "web"),
        ("shoe", "thumb"),
        ("hat", "web"),
    ]
    assert set(files) == {"index.json"}


def test_what_is_unchanged_is_neither_fetched_nor_decoded_nor_written(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(shop.write())
    before = {path: path.stat().st_mtime_ns for path in shop.public.rglob("*")}
    counted = Counted(monkeypatch)
    shop.now = shop.now.replace(hour=9)
    report = shop.publish(shop.write())
    assert (report.written, report.unchanged, counted.variants) == (0, 6, [])
    assert {path: path.stat().st_mtime_ns for path in shop.public.rglob("*")} == before


def test_another_variant_is_made_alone_and_another_alt_text_without_any_picture(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(shop.write())
    counted = Counted(monkeypatch)
    report = shop.publish(shop.write(PUBLISH.replace("width: 64", "width: 48")))
    assert counted.variants == [("shoe", 0), ("hat", 0), ("bag", 0)]
    assert (report.written, report.unchanged) == (3, 3)
    assert {file["width"] for image in shop.index()["images"] for file in image["files"]} == {
        48,
        16,
    }
    counted.variants.clear()
    text = PUBLISH.replace("width: 64", "width: 48") + '  alt: "{{name}}, studio light"\n'
    assert shop.publish(shop.write(text)).written == 0
    assert counted.variants == []
    assert shop.index()["images"][0]["alt"] == "shoe, studio light"


def test_a_file_that_was_deleted_or_changed_by_hand_comes_back(shop: Shop) -> None:
    shop.publish(shop.write())
    before = shop.files()
    (shop.public / "hat-web.webp").unlink()
    (shop.public / "bag-thumb.png").write_bytes(b"scribbled")
    (shop.public / "index.csv").unlink()
    assert shop.publish(shop.write()).written == 2
    assert shop.files() == before
    (shop.public / "index.json").unlink()
    assert shop.publish(shop.write()).written == 0
    assert shop.files() == before
    (shop.public / ".index-state.json").unlink()
    assert shop.publish(shop.write()).problems == ()
    assert shop.files() == before


def test_a_file_of_others_is_never_written_over_nor_removed(shop: Shop) -> None:
    shop.public.mkdir()
    (shop.public / "hat-web.webp").write_bytes(b"theirs")
    (shop.public / "other.webp").write_bytes(b"theirs")
    dry = shop.publish(shop.write(prune=True), dry_run=True)
    report = shop.publish(shop.write(prune=True))
    for found in (dry, report):
        assert "hat-web.webp" in found.problems[0]
        assert (found.images, found.written, found.removed) == (2, 4, 0)
    assert shop.names() == ["shoe", "bag"]
    assert shop.files()["hat-web.webp"] == shop.files()["other.webp"] == b"theirs"
    (shop.public / "hat-web.webp").unlink()
    assert shop.publish(shop.write(prune=True)).problems == ()
    assert shop.names() == ["shoe", "hat", "bag"]


@pytest.mark.parametrize("prune", [False, True])
def test_what_is_no_longer_chosen_goes_only_where_prune_says_so(shop: Shop, prune: bool) -> None:
    shop.publish(shop.write())
    without = SHOP.replace("  hat: a hat\n", "")
    dry = shop.publish(shop.write(prompts=without, prune=prune), dry_run=True)
    assert shop.names() == ["shoe", "hat", "bag"]
    report = shop.publish(shop.write(prompts=without, prune=prune))
    assert dry.counts() == report.counts()
    assert report.removed == (2 if prune else 0)
    assert shop.names() == (["shoe", "bag"] if prune else ["shoe", "bag", "hat"])
    assert ("hat-web.webp" in shop.files()) is not prune
    assert ("hat" in (shop.public / "index.csv").read_text()) is not prune


def test_files_of_a_variant_that_is_gone_leave_the_index_and_stay_until_prune(shop: Shop) -> None:
    shop.publish(shop.write())
    one = PUBLISH.partition("    thumb")[0]
    report = shop.publish(shop.write(one))
    assert (report.removed, report.left, report.unchanged) == (0, 3, 3)
    assert "3 no longer chosen (prune: true removes them)" in report.line()
    assert [len(image["files"]) for image in shop.index()["images"]] == [1, 1, 1]
    assert "hat-thumb.png" in shop.files()
    report = shop.publish(shop.write(one, prune=True))
    assert (report.removed, report.left) == (3, 0)
    assert "hat-thumb.png" not in shop.files()


def test_another_pick_replaces_the_picture_under_its_name(shop: Shop) -> None:
    picks = shop.folder / "picks.csv"
    picks.write_text("prompt,take\nshoe,1\nhat,1\n")
    report = shop.publish(shop.write(PICKED))
    assert (report.images, report.undecided) == (2, ("bag",))
    first = shop.index()["images"][0]
    picks.write_text("prompt,take\nshoe,2\nhat,1\n")
    report = shop.publish(shop.write(PICKED))
    assert (report.written, report.unchanged) == (2, 2)
    second = shop.index()["images"][0]
    assert second["name"] == first["name"] == "shoe"
    assert second["request_sha256"] != first["request_sha256"]
    assert second["files"][0]["path"] == first["files"][0]["path"]
    picks.write_text("prompt,take\nshoe,2\n")
    assert shop.publish(shop.write(PICKED, prune=True)).removed == 2
    assert shop.names() == ["shoe"]
    picks.unlink()
    report = shop.publish(shop.write(PICKED, prune=True))
    assert (report.removed, len(report.undecided)) == (0, 3)
    assert shop.names() == ["shoe"]


def test_picks_that_can_not_be_delivered_are_said_and_the_published_picture_stays(
    shop: Shop,
) -> None:
    picks = shop.folder / "picks.csv"
    picks.write_text("prompt,take\nshoe,1\nhat,1\n")
    shop.publish(shop.write(PICKED))
    before = shop.index()
    picks.write_text(f"prompt,take,image_sha256\nshoe,1,{'0' * 64}\nhat,7,\nhut,1,\n")
    report = shop.publish(shop.write(PICKED, prune=True))
    assert [problem.rpartition("picks.csv: ")[2] for problem in report.problems] == [
        (
            "row 1: shoe, take 1, output 1: was made anew after it was chosen: look at it and"
            " choose again"
        ),
        "row 2: hat, take 7, output 1: names no picture: correct it or take the row out",
        "row 3: hut, take 1, output 1: names no picture: did you mean hat?",
    ]
    assert shop.index() == before


def test_takes_have_names_of_their_own_where_the_files_have(shop: Shop) -> None:
    shop.publish(shop.write(ALL))
    assert shop.names() == ["shoe-1", "shoe-2", "hat-1", "bag-1"]
    assert "shop/shoe-2-web.webp" in shop.files()


def test_collisions_are_all_said_before_anything_is_written(shop: Shop) -> None:
    picks = shop.folder / "picks.csv"
    picks.write_text("prompt,take\nshoe,1\nshoe,2\n")
    with pytest.raises(ConfigError) as found:
        shop.publish(shop.write(PICKED))
    assert len(found.value.problems) == 2
    assert "shoe-web.webp would be the file of two: shoe, take 1, output 1, web; and shoe" in str(
        found.value
    )
    assert not shop.public.exists()


def test_a_picture_that_can_not_be_read_keeps_its_earlier_files_and_the_others_are_delivered(
    shop: Shop, tmp_path: Path
) -> None:
    with open_studio(tmp_path / "own") as studio:
        own = Shop(studio, shop.folder, shop.to)
        own.make(own.write())
        own.publish(own.write())
        before = own.index()["images"][0]
        shoe = Path(before["source_uri"].removeprefix("file://"))
        shoe.write_bytes(b"not a picture")
        smaller = PUBLISH.replace("width: 64", "width: 32")
        report = own.publish(own.write(smaller, prune=True))
        assert (report.images, report.written) == (2, 2)
        assert len(report.problems) == 1
        assert report.problems[0].startswith("shoe: ")
        assert "other bytes than were stored" in report.problems[0]
        assert own.index()["images"][0] == before
        assert own.names() == ["shoe", "hat", "bag"]


def test_a_prompt_that_was_edited_keeps_its_picture_until_the_new_one_is_made(shop: Shop) -> None:
    shop.publish(shop.write())
    edited = SHOP.replace("a hat", "a green hat")
    report = shop.publish(shop.write(prompts=edited, prune=True))
    assert (report.images, report.removed, report.problems) == (2, 0, ())
    assert shop.names() == ["shoe", "bag", "hat"]


def test_one_partition_is_published_and_the_others_stay(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(shop.write(), ["shoe"])
    shop.publish(shop.write(prune=True), ["hat"])
    assert shop.names() == ["shoe", "hat"]
    counted = Counted(monkeypatch)
    report = shop.publish(shop.write(PUBLISH.replace("width: 64", "width: 32")), ["hat"])
    assert (report.images, counted.variants) == (1, [("hat", 0)])
    (shop.public / "shoe-web.webp").unlink()
    report = shop.publish(shop.write(), ["hat"])
    assert "shoe: shoe-web.webp is gone: publish its partition again" in report.problems
    assert [len(image["files"]) for image in shop.index()["images"]] == [1, 2]


def test_picks_of_other_partitions_are_no_problem_of_one(shop: Shop) -> None:
    (shop.folder / "picks.csv").write_text("prompt,take\nshoe,2\nhat,1\n")
    report = shop.publish(shop.write(PICKED), ["hat"])
    assert (report.images, report.problems) == (1, ())


def test_days_are_published_one_by_one_into_one_index(shop: Shop) -> None:
    text = PUBLISH.replace("choose: first", "partitions: {{by: day, start: 2026-11-01}}")
    text = text.replace("  variants:", '  name: "{{date}}-{{variant}}.{{format}}"\n  variants:')
    prompts = "prompts: {cover: 'a cover of {date}'}\n"
    daily = shop.write(text, prompts)
    days = ["2026-11-03", "2026-11-01"]

    list(make_images(daily, days, producer=shop.studio.image_producer))
    for day in days:
        assert shop.publish(daily, [day]).images == 1
    assert shop.names() == ["cover-2026-11-01", "cover-2026-11-03"]
    assert {"2026-11-01-web.webp", "2026-11-03-web.webp"} < shop.files().keys()
    assert shop.publish(daily, ["2026-11-02"]).images == 0
    assert len(shop.names()) == 2


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(shop: Shop) -> None:
    report = shop.publish(shop.write(), dry_run=True)
    assert (report.written, report.images, report.is_dry) == (6, 3, True)
    assert report.line() == "3 images, 6 files: 6 would be written, 0 unchanged"
    assert not shop.public.exists()


def test_prompts_are_not_published_where_they_are_not_embedded(shop: Shop) -> None:

    publish_set(shop.write(), publishing=replace(shop.publishing, embed_prompt=False))
    assert (shop.index()["images"][0]["prompt"], shop.index()["images"][0]["alt"]) == ("", "shoe")
    assert b"a red shoe" not in (shop.public / "index.csv").read_bytes()


def test_without_a_place_the_store_has_it(shop: Shop) -> None:
    text = PUBLISH.replace("  to: {to}\n", "")
    report = shop.publish(shop.write(text), dry_run=True)
    assert report.uri == f"{shop.studio.store.uri}/published/shop"
    assert report.index_uri == f"{report.uri}/index.json"


def test_an_index_of_another_set_or_of_something_else_is_left_alone(shop: Shop) -> None:
    shop.publish(shop.write())
    index = shop.public / "index.json"
    index.write_text(index.read_text().replace('"set": "shop"', '"set": "winter"'))
    with pytest.raises(
        StoreError, match=r"is the index of the prompt set winter: give publish\.ind"
    ):
        shop.publish(shop.write())
    index.write_text("{}")
    with pytest.raises(StoreError, match="is no index of published pictures: move it away"):
        shop.publish(shop.write())
    assert index.read_text() == "{}"


def test_a_set_that_publishes_nothing_is_a_mistake_in_its_file(shop: Shop) -> None:
    with pytest.raises(ConfigError, match=r"shop\.yaml: publish: is not there"):
        shop.publish(shop.write(""))
