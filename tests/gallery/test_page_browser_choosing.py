"""Choosing images for publishing on the page in a real Chromium, with the mouse and with keys."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect

from flux_pipeline.gallery.build import build_gallery, build_overview
from flux_pipeline.gallery.manifest import OVERVIEW, gallery_key
from flux_pipeline.gallery.selection import read_selection
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.prompts import load_prompt_set
from flux_pipeline.prompts.picks import Pick, read_picks
from flux_pipeline.store.local import FolderStore
from tests.gallery.samples import HOSTILE, an_image, pack, record
from tests.gallery.visit import Visit, Visiting
from tests.lineage.samples import NOON, digest

PROMPTS = ("owl", "fox", "elk", "cat")
HEADER = "prompt,take,output,image_sha256,note\n"
ANEW = digest("what it was when it was chosen")


class Shop:
    """A prompt set with two takes of each prompt, its file of picks, and its gallery."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        self.store = FolderStore(self.root)
        self.configs = folder / "configs"
        self.picks = self.configs / "picks/shop.csv"
        self.picks.parent.mkdir(parents=True)
        self.write("shop", "choose: picks/shop.csv\n")
        self.write("plain", "")
        self.write("news", "choose: news.csv\npartitions: {by: day, start: 2026-11-01}\n")
        self.rows = [
            self.image("shop", *each) for each in enumerate((n, t) for n in PROMPTS for t in (1, 2))
        ]
        days = [self.image("news", n, ("owl", 1), f"2026-11-0{n}") for n in (1, 2)]
        for rows in (self.rows, [self.image("plain", 1, ("owl", 1))], days):
            record(self.store, rows)
            pack(self.store, rows)

    def write(self, name: str, more: str) -> None:
        prompts = ", ".join(f"{each}: '{{{{{{{{ {each}'" for each in PROMPTS)
        text = f"model: lucataco/flux-schnell-lora\nprompts: {{{prompts}}}\n{more}"
        (self.configs / f"{name}.yaml").write_text(text)

    def image(self, name: str, number: int, which: tuple[str, int], day: str = "") -> ImageRecord:
        prompt, take = which
        return an_image(
            self.store,
            number,
            name,
            prompt=f"{prompt} {take}",
            prompt_name=prompt,
            partition=day or prompt,
            take=take,
            stored_at=NOON + timedelta(seconds=number),
        )

    def build(self, picks: str = "", name: str = "shop") -> str:
        """Build the gallery with these rows in the file; return its address."""
        if picks:
            self.picks.write_text(HEADER + picks, encoding="utf-8")
        else:
            self.picks.unlink(missing_ok=True)
        loaded = load_prompt_set(self.configs / f"{name}.yaml")
        build_gallery(self.store, name, selection=read_selection(loaded), now=NOON)
        build_overview(self.store, now=NOON)
        return (self.root / gallery_key(name)).as_uri()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", bool)
        yield Shop(tmp_path_factory.mktemp("shop"))


def ring(seen: Visit, prompt: str, take: int = 1) -> Locator:
    return seen.page.get_by_role("button", name=f"hoose {prompt}, take {take}").or_(
        seen.page.get_by_role("button", name=f"choose again: {prompt}, take {take}")
    )


def expect_chosen(seen: Visit, counts: str) -> None:
    """Wait for the numbers of the bar: chosen, undecided, made anew."""
    expect(seen.page.locator("#picks [data-count]")).to_have_text(counts.split())


def download(page: Page, folder: Path, name: str = "shop.csv") -> tuple[str, tuple[Pick, ...]]:
    with page.expect_download() as came:
        page.get_by_role("button", name=f"Download {name}").click()
    assert came.value.suggested_filename == name
    path = folder / name
    came.value.save_as(path)
    return path.read_text("utf-8"), read_picks(path, by_day=name == "news.csv")


def test_the_mouse_chooses_and_the_file_is_what_a_prompt_set_reads(
    shop: Shop, visit: Visiting, tmp_path: Path
) -> None:
    seen = visit(shop.build())
    expect_chosen(seen, "0 4 0")
    ring(seen, "elk", 2).click()
    expect(ring(seen, "elk", 2)).to_have_attribute("aria-pressed", "true")
    ring(seen, "cat").click()
    ring(seen, "fox").click(modifiers=["Shift"])  # the newest first: all of elk lie between them
    expect_chosen(seen, "5 1 0")
    ring(seen, "fox").click()
    seen.page.locator(".tile .open").first.click(modifiers=["Control"])
    expect_chosen(seen, "5 1 0")
    count = "5 images chosen, 1 of 4 prompts undecided"
    expect(seen.page.locator("#picks-count")).to_have_text(count)
    expect(seen.page.locator("#picks-say")).to_contain_text("5 changes to the picks, kept in this")
    text, picks = download(seen.page, tmp_path)
    assert text.startswith(HEADER)
    of = {(row.prompt_name, row.take): row.image_sha256 or "" for row in shop.rows}
    assert {(pick.prompt, pick.take): pick.image_sha256 for pick in picks} == {
        place: of[place] for place in (("elk", 1), ("elk", 2), ("cat", 1), ("cat", 2), ("fox", 2))
    }
    expect(seen.page.locator("#picks-say")).to_contain_text("takes the place of picks/shop.csv")
    seen.page.reload()
    seen.page.wait_for_selector("html[data-ready]")
    expect_chosen(seen, "5 1 0")


def test_keys_choose_one_and_a_range_and_an_opened_image(shop: Shop, visit: Visiting) -> None:
    seen = visit(f"{shop.build()}#sort=oldest")
    page = seen.page
    page.evaluate("document.getElementById('skip').click()")
    page.keyboard.press("x")
    expect(ring(seen, "owl")).to_have_attribute("aria-pressed", "true")
    first = page.locator(".tile .open").first
    expect(first).to_be_focused()
    expect(first).to_have_attribute("aria-description", "chosen")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+X")
    expect_chosen(seen, "4 2 0")
    page.keyboard.press("x")
    expect_chosen(seen, "3 2 0")
    page.keyboard.press("Control+x")  # cuts, as everywhere
    page.keyboard.press("Enter")
    button = page.locator("#viewer [data-do=pick]")
    expect(button).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("x")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#viewer-says")).to_have_text("Chosen.")
    page.keyboard.press("ArrowRight")
    expect(button).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Escape")
    expect_chosen(seen, "4 2 0")
    page.get_by_role("radio", name="All").focus()
    page.keyboard.press("ArrowRight")
    seen.count("4 of 8 images")
    expect(page.locator(".tile")).to_have_count(4)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tile")).to_have_count(4)
    # Both filters count four: what is told apart is which.
    seen.wait(lambda: {each.split()[0] for each in seen.tiles()} == {"elk", "cat"})
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text(
        "chooses an image for publishing"
    )
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_the_file_of_the_set_is_loaded_and_what_is_wrong_with_it_is_marked(
    shop: Shop, visit: Visiting, tmp_path: Path
) -> None:
    owl = shop.rows[0].image_sha256
    picks = f'owl,1,1,{owl},"warm, 红"\nfox,2,1,{ANEW},{HOSTILE[1]}\n"{HOSTILE[4]}",7,,,\n'
    seen = visit(shop.build(picks))
    page = seen.page
    expect_chosen(seen, "2 2 1")
    expect(ring(seen, "fox", 2)).to_have_attribute("aria-pressed", "mixed")
    expect(page.locator("#picks-say")).to_contain_text(
        f"1 pick names no image of shop: {HOSTILE[4]} take 7"
    )
    page.get_by_role("radio", name="Made anew").check(force=True)
    seen.count("1 of 8 images")
    page.locator(".tile .open").click()
    expect(page.locator("#panel")).to_contain_text("made anew after it was chosen")
    expect(page.get_by_label("Note on the choice")).to_have_value(HOSTILE[1])
    page.keyboard.press("x")  # again, as it is now
    expect(page.locator("#panel")).not_to_contain_text("made anew")
    page.get_by_label("Note on the choice").fill("xx, good")
    page.keyboard.press("Enter")
    page.locator("#viewer [data-do=close]").click()
    page.get_by_role("button", name="Leave out").click()
    expect_chosen(seen, "2 2 0")
    text, found = download(page, tmp_path)
    assert [pick.note for pick in found] == ["warm, 红", "xx, good"]
    assert found[1].image_sha256 == shop.rows[3].image_sha256
    assert text.startswith("\ufeff")  # Excel reads Chinese by it
    page.get_by_role("button", name="Back to the file").click()
    expect_chosen(seen, "2 2 1")


def test_a_file_that_changed_comes_below_what_was_chosen_here(
    shop: Shop, visit: Visiting, tmp_path: Path
) -> None:
    address = shop.build("owl,1,,,\n")
    seen = visit(address)
    ring(seen, "fox").click()
    ring(seen, "owl").click()
    shop.build("owl,1,,,\nelk,2,,,\n")  # without any new image
    seen.open(address)
    expect_chosen(seen, "2 2 0")  # elk from the file, fox from here, and owl was taken out
    assert "owl" not in {pick.prompt for pick in download(seen.page, tmp_path)[1]}
    shop.build("cat,1,,,\n")
    seen.open(address)
    expect_chosen(seen, "1 3 0")  # what was downloaded gives way to the file
    expect(seen.page.locator("#picks-say")).to_be_empty()


FILES = (
    (b"name\nowl\n", "has no column prompt"),
    (b"prompt,take\nowl,two\nfox,1\n", "row 1 has no number from 1 on as take: two"),
    (b"prompt,take\nowl,1\nowl,1\n", "owl, take 1 stands there twice"),
    (b'prompt,note\nowl,"x\n', "quotation mark that is never closed"),
    (b"prompt\n\xba\xec\n", "is not UTF-8: save it as CSV UTF-8"),
)


def test_a_file_is_loaded_by_hand_and_a_wrong_one_changes_nothing(
    shop: Shop, visit: Visiting
) -> None:
    seen = visit(shop.build("cat,1,,,\n"))
    said = seen.page.locator("#picks-loaded")
    for body, why in FILES:
        load(seen, body)
        expect(said).to_contain_text(why)
        expect_chosen(seen, "1 3 0")
    load(seen, '\ufeffprompt;take;note\r\nowl;2;"a; b"\r\n;;\r\nfox;;\r\n'.encode())
    expect(said).to_have_text("shop (1).csv was loaded: 2 picks.")
    expect_chosen(seen, "2 2 0")


def load(seen: Visit, body: bytes, name: str = "shop (1).csv") -> None:
    file: FilePayload = {"name": name, "mimeType": "text/csv", "buffer": body}
    seen.page.locator("#picks-load").set_input_files(files=[file])


def test_a_file_that_cannot_be_read_is_told(shop: Shop, visit: Visiting) -> None:
    seen = visit(shop.build("cat,zero,,,\n"))
    expect(seen.page.locator("#picks-say")).to_contain_text(
        'picks/shop.csv can\'t be read: line 2: row 1: take is "zero"'
    )


def test_a_set_by_day_is_chosen_by_day(shop: Shop, visit: Visiting, tmp_path: Path) -> None:
    seen = visit(shop.build(name="news"))
    seen.page.locator(".tile .mark").first.click()
    expect_chosen(seen, "1 1 0")
    text, [pick] = download(seen.page, tmp_path, "news.csv")
    assert text.startswith("prompt,partition,take,output,image_sha256,note\n")
    assert pick.partition == "2026-11-02"
    load(seen, b"prompt,take,image_sha256\nowl,1," + b"0f" * 32 + b"\n", "news.csv")
    expect_chosen(seen, "2 0 0")  # without a day it means every one, whatever their images are


def test_without_a_file_nothing_of_choosing_is_in_the_way(shop: Shop, visit: Visiting) -> None:
    seen = visit(shop.build(name="plain"))
    expect(seen.page.locator("#picks")).to_be_hidden()
    seen.page.locator(".tile").hover()
    ring(seen, "owl").click()
    expect(seen.page.locator("#picks")).to_be_visible()
    expect(seen.page.locator("#picks-say")).to_contain_text("download plain.csv")


def test_the_page_over_all_sets_chooses_for_each_of_them(
    shop: Shop, visit: Visiting, tmp_path: Path
) -> None:
    for name in ("plain", "news", "shop"):
        shop.build(name=name)
    seen = visit((shop.root / OVERVIEW).as_uri())
    page = seen.page
    expect(page.locator("#picks-files button")).to_have_count(0)
    ring(seen, "owl", 2).click()
    assert [pick.take for pick in download(page, tmp_path)[1]] == [2]
    load(seen, b"prompt,partition\nowl,\n", "news.csv")
    expect(page.locator("#picks-loaded")).to_contain_text("1 pick")
    expect_chosen(seen, "3 3 0")  # of news both days; plain is published without picks
    own = visit((shop.root / gallery_key("shop")).as_uri())
    assert own.page.locator("#picks [data-count]").count() == 3


def test_choosing_fits_a_phone_and_every_button_has_a_name(shop: Shop, visit: Visiting) -> None:
    address = shop.build(f"owl,1,1,{ANEW},\ngone,1,,,\n")
    seen = visit(address, size=(320, 700), touch=True)
    page = seen.page
    ring(seen, "cat").tap()
    expect_chosen(seen, "2 2 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.locator(".tile .open").first.tap()
    expect(page.locator("#viewer")).to_be_visible()
    for name in ("chosen", "choose", "Close"):
        button = page.get_by_role("button", name=name, exact=True).first
        if button.is_visible():
            box = button.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= 320
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select")].filter((each) =>
          !each.ariaLabel && !each.textContent.trim() && !each.labels?.length
          && !each.querySelector("img[alt]")).length"""
    )
    assert unnamed == 0
