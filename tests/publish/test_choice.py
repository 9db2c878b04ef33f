"""Which pictures are chosen: all, the first, the technically best, or those of a file of picks."""

import tracemalloc
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from flux_pipeline.errors import ConfigError
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.prompts import PromptSet, load_prompt_set
from flux_pipeline.prompts.picks import Pick
from flux_pipeline.publish.choice import Chosen, is_blank, resolve_choice
from tests.publish.records import images, record, sha, streamed

HEAD = "model: lucataco/flux-schnell-lora\n"
SHOP = "prompts: {shoe: {prompt: a shoe, takes: 3}, hat: a hat, bag: a bag}\n"
DAILY = "partitions: {by: day, start: 2026-11-01}\nprompts: {shoe: {prompt: a shoe, takes: 2}}\n"


def loaded(folder: Path, text: str) -> PromptSet:
    (folder / "shop.yaml").write_text(HEAD + text)
    return load_prompt_set(folder / "shop.yaml")


def places(chosen: Chosen) -> list[tuple[str, int, int]]:
    return [(each.prompt_name, each.take, each.output) for each in chosen.chosen]


TAKES = (record("shoe", 2), record("shoe", 1), record("shoe", 3), record("hat"))


def test_all_pictures_are_chosen_where_nothing_is_said(tmp_path: Path) -> None:
    found = resolve_choice(loaded(tmp_path, SHOP), images(*TAKES))
    assert places(found) == [("shoe", 1, 1), ("shoe", 2, 1), ("shoe", 3, 1), ("hat", 1, 1)]
    assert (found.undecided, found.stale, found.unknown) == ((), (), ())
    assert found.chosen[0].image_sha256 == TAKES[1].image_sha256


def test_the_first_is_the_first_output_of_the_first_take_that_is_there(tmp_path: Path) -> None:
    pictures = (record("shoe", 3), record("shoe", 2, 2), record("shoe", 2), record("hat"))
    found = resolve_choice(loaded(tmp_path, "choose: first\n" + SHOP), images(*pictures))
    assert places(found) == [("shoe", 2, 1), ("hat", 1, 1)]


def test_the_best_is_not_blank_without_remark_no_duplicate_and_of_the_most_bytes_a_pixel(
    tmp_path: Path,
) -> None:
    best = loaded(tmp_path, "choose: best\n" + SHOP)

    def take(**flaws: object) -> int:
        takes = (
            record("hat"),
            record("shoe", 1, **{"bytes": 3000, "error": "blank: all of one colour", **flaws}),
            record("shoe", 2, bytes=1000),
            record("shoe", 3, bytes=2000),
        )
        return places(resolve_choice(best, images(*takes)))[1][1]

    assert take() == 3
    assert take(error="the last row is the decoder's own grey: rows may be missing") == 3
    assert take(error=None) == 1
    assert take(error=None, image_sha256=record("hat").image_sha256) == 3
    assert take(error=None, width=400) == 3
    assert take(error=None, bytes=2000) == 1


@pytest.mark.parametrize(("undecided", "chosen"), [("hold", []), ("first", [("shoe", 1, 1)])])
def test_a_prompt_with_blank_pictures_alone_is_undecided(
    tmp_path: Path, undecided: str, chosen: list[tuple[str, int, int]]
) -> None:
    blank = record("shoe", error="blank: all of one colour; 8 x 8 px were asked for")
    best = loaded(tmp_path, f"choose: best\nundecided: {undecided}\n{SHOP}")
    found = resolve_choice(best, images(blank))
    assert (places(found), found.undecided) == (chosen, ("shoe",))


def test_what_inspection_calls_blank_is_blank() -> None:
    def error(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> str:
        out = BytesIO()
        Picture.fromarray(pixels).save(out, "PNG")
        seen = inspect_image(out.getvalue(), image_format="png", width=0, height=0)
        return "; ".join(seen.flags)

    grey = np.full((64, 64, 3), 77, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    assert is_blank(record("shoe", error=error(grey)))
    assert not is_blank(record("shoe", error=error(noise)))


def test_picks_name_pictures_and_say_what_they_name_no_more(tmp_path: Path) -> None:
    (tmp_path / "picks").mkdir()
    (tmp_path / "picks/shop.csv").write_text(
        "prompt,take,image_sha256,note\n"
        f"shoe,3,{TAKES[2].image_sha256},the sharp one\n"
        f"shoe,2,{sha('made anew')},\n"
        "shoe,9,,\n"
        "bag,,,\n"
        "tie,,,\n"
    )
    shop = loaded(tmp_path, "choose: picks/shop.csv\n" + SHOP)
    found = resolve_choice(shop, images(*TAKES))
    assert places(found) == [("shoe", 3, 1)]
    assert found.undecided == ("hat",)
    assert [(pick.prompt, pick.take) for pick in found.stale] == [("shoe", 2)]
    assert [(pick.prompt, pick.take) for pick in found.unknown] == [("shoe", 9), ("tie", 1)]
    assert [pick.prompt for pick in found.waiting] == ["bag"]
    assert found.nearest == {}
    (tmp_path / "picks/shop.csv").write_text("prompt,take\nshoe,none\n")
    with pytest.raises(ConfigError, match=r"picks/shop\.csv:2: row 1: take is"):
        resolve_choice(shop, images(*TAKES))


def test_for_a_name_that_is_none_of_the_sets_the_nearest_is_proposed(tmp_path: Path) -> None:
    shop = loaded(tmp_path, "choose: picks/shop.csv\n" + SHOP)
    picks = [Pick(prompt=name) for name in ("shoes", "Hat", "zeppelin")] + [
        Pick(prompt="hat", take=7)
    ]
    found = resolve_choice(shop, images(*TAKES), picks)
    assert found.nearest == {"shoes": "shoe", "Hat": "hat"}
    assert len(found.unknown) == 4


def test_a_prompt_whose_only_pick_is_stale_is_held_and_not_undecided(tmp_path: Path) -> None:
    shop = loaded(tmp_path, "choose: picks/shop.csv\nundecided: first\n" + SHOP)
    stale = Pick(prompt="shoe", take=2, image_sha256=sha("before"))
    found = resolve_choice(shop, images(*TAKES), [stale])
    assert places(found) == [("hat", 1, 1)]
    assert (found.undecided, found.stale) == (("hat",), (stale,))


def test_a_pick_by_day_counts_before_one_for_every_day(tmp_path: Path) -> None:
    daily = loaded(tmp_path, "choose: picks/shop.csv\n" + DAILY)
    days = ("2026-11-01", "2026-11-02", "2026-11-03")
    taken = [record("shoe", take, partition=day) for day in days for take in (1, 2)]
    picks = [
        Pick(prompt="shoe", take=1, image_sha256=taken[0].image_sha256 or ""),
        Pick(prompt="shoe", take=2, partition=days[1]),
        Pick(prompt="shoe", take=2, partition=days[2], image_sha256=sha("before")),
        Pick(prompt="shoe", take=2, partition="2026-11-09"),
    ]
    found = resolve_choice(daily, images(*taken), picks)
    assert [(each.partition, each.take) for each in found.chosen] == [(days[0], 1), (days[1], 2)]
    assert found.stale == (picks[2],)
    assert found.waiting == (picks[3],)
    none = resolve_choice(daily, images(*taken[:2]), [])
    assert none.undecided == (f"{days[0]}/shoe",)


def test_pictures_are_read_one_prompt_at_a_time(tmp_path: Path) -> None:
    first = loaded(tmp_path, "choose: first\n" + SHOP)

    def peak(count: int) -> int:
        made = (record(f"p{number}", take) for number in range(count) for take in (1, 2))
        tracemalloc.start()
        found = resolve_choice(first, streamed(made))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found.chosen) == count
        return size

    few, many = peak(100), peak(1100)
    assert (many - few) / 1000 < 600  # bytes a chosen picture, where a record has 2,000
