"""The page in a real Chromium: found, filtered, opened, copied, and never made to run a prompt."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import expect

from flux_pipeline.gallery import manifest
from flux_pipeline.gallery.build import build_gallery, build_overview
from flux_pipeline.gallery.manifest import OVERVIEW, data_key, gallery_key
from flux_pipeline.lineage.asked import AskedRequests
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.store.base import Store
from flux_pipeline.store.local import FolderStore
from tests.gallery.samples import HOSTILE, SCRIPTS, an_image, made_from, pack, record
from tests.gallery.visit import Visit, Visiting
from tests.lineage.samples import NOON, a_failure, a_record, digest

MANY = 4_000
MODELS = ("owner/second", "black-forest-labs/first")
ELSEWHERE = ("https://example.invalid/a.png", HOSTILE[0], "castle.png")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two prompt sets: one with every script and every hostile text, one plain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", bool)
        folder = tmp_path_factory.mktemp("galleries")
        store = FolderStore(folder)
        texts = [*SCRIPTS.values(), *HOSTILE]
        hours = [NOON + timedelta(hours=number) for number in range(len(texts))]
        rows = [
            an_image(store, number, prompt=text, prompt_name=f"text-{number}", stored_at=at)
            for number, (text, at) in enumerate(zip(texts, hours, strict=True))
        ]
        rows[0] = replace(rows[0], seed=2**62 + 1, prompt_name="first", partition="snow")
        failures = [
            a_failure(f"none {number}", prompt=text, error=f"reason {text}")
            for number, text in enumerate(HOSTILE)
        ]
        failures[0] = replace(failures[0], status=ImageStatus.REFUSED, error="its safety check")
        failures[1] = replace(failures[1], error="held: it may have been paid")
        write(store, [*rows, *failures])
        write(store, [an_image(store, number, "summer") for number in range(3)])
        build_gallery(store, "winter", description=HOSTILE[0], now=NOON)
        build_gallery(store, "summer", now=NOON)
        build_gallery(store, "nothing", now=NOON)
        build_overview(store, now=NOON)
        yield folder


def write(store: Store, rows: Sequence[ImageRecord]) -> None:
    record(store, rows)
    pack(store, rows)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of thousands of images, which share some files: ten chapters of 400."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", bool)
        patch.setattr(manifest, "CHAPTER_PAGES", 2)
        folder = tmp_path_factory.mktemp("large")
        store = FolderStore(folder)
        files = [an_image(store, number) for number in range(12)]
        rows = [
            replace(
                files[number % 12],
                image_sha256=digest(f"pixels {number}"),
                request_sha256=digest(f"request {number}"),
                prediction_id=f"prediction-{number}",
                prompt=f"a castle, number {number}",
                stored_at=NOON + timedelta(seconds=number),
            )
            for number in range(MANY)
        ]
        write(store, rows)
        build_gallery(store, "winter", now=NOON)
        return folder


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that is made from the images of another one, and a set that compares two models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", bool)
        folder = tmp_path_factory.mktemp("chain")
        store = FolderStore(folder)
        book = [an_image(store, number, "book") for number in range(3)]
        # Without a prompt, as an upscaler's.
        follow = partial(replace, prompt="", model="nightmareai/real-esrgan", prompt_set="print")
        single = follow(an_image(store, 3, "print"), input_images=made_from(book[0].uri))
        both = made_from(book[1].uri, book[2].uri, *ELSEWHERE)
        several = follow(an_image(store, 4, "print"), input_images=both)
        failed = follow(a_failure("upscaled"), input_images=made_from(book[1].uri))
        compared = [
            an_image(
                store,
                number,
                "compared",
                prompt=f"a {animal}",
                prompt_name=f"pet-{model.replace('/', '-')}-{animal}",
                partition=f"pet-{model.replace('/', '-')}-{animal}",
                model=model,
                take=take,
                stored_at=NOON + timedelta(seconds=number),
            )
            for number, (take, model, animal) in enumerate(
                product((1, 2), MODELS, ("dog", "cat")), start=5
            )
        ]
        for rows in (book, [single, several, failed], compared):
            write(store, rows)
            build_gallery(store, rows[0].prompt_set, now=NOON)
        build_overview(store, now=NOON)
        return folder


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def winter(root: Path) -> str:
    return (root / gallery_key("winter")).as_uri()


@pytest.mark.parametrize("key", [gallery_key("winter"), OVERVIEW])
@pytest.mark.parametrize("over_http", [False, True])
def test_it_opens_from_a_folder_and_from_a_server_and_shows_the_images_themselves(
    root: Path, served: str, visit: Visiting, key: str, over_http: bool
) -> None:
    seen = visit(f"{served}/{key}" if over_http else (root / key).as_uri())
    first = seen.page.locator(".tile img").first
    expect(first).to_have_attribute("src", f"{'../' * key.count('/')}images/winter/13.webp")
    assert first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 10


def test_thumbnails_come_first(served: str, visit: Visiting) -> None:
    seen = visit(f"{served}/{gallery_key('winter')}", waiting="**/images/**")
    for number, kind in enumerate(["webp", "jpeg"]):  # as earlier versions wrote them, and as now
        thumbnail = seen.page.locator(".tile img").nth(number)
        expect(thumbnail).to_have_attribute("src", re.compile(f"^data:image/{kind};base64,"))
        assert thumbnail.evaluate("image => image.decode().then(() => image.naturalWidth)") == 10


def test_no_text_runs_or_becomes_markup(root: Path, visit: Visiting) -> None:
    seen = visit(winter(root), size=(1400, 2400))
    expect(seen.page.locator(".tile")).to_have_count(len(SCRIPTS) + 2 * len(HOSTILE))
    seen.wait(lambda: set(HOSTILE) <= set(seen.tiles()))
    assert seen.page.locator("#description").inner_text() == HOSTILE[0]
    allowed = {"data-id", "role", "class", "aria-setsize", "aria-posinset", "style"}
    names = seen.page.evaluate(
        "[...new Set([...document.querySelectorAll('.tile')].flatMap(e => e.getAttributeNames()))]"
    )
    assert set(names) <= allowed
    seen.page.locator(".tile .open").first.click()
    for number in range(len(SCRIPTS) + 2 * len(HOSTILE)):
        expect(seen.page.locator("#viewer-place")).to_have_text(f"{number + 1} of 22")
        expect(seen.page.locator("#panel pre")).to_be_visible()
        assert seen.page.locator("#viewer :is(script, svg, iframe)").count() == 0
        seen.page.keyboard.press("ArrowRight")
    assert seen.page.locator("body script").count() == 2


def test_the_policy_stops_what_the_script_would_let_through(root: Path, visit: Visiting) -> None:
    seen = visit(winter(root))
    seen.page.evaluate(
        """() => {
          const tries = [
            () => document.body.setAttribute("onclick", "window.hacked = 1"),
            () => { document.body.innerHTML = "<img src=x onerror='window.hacked = 1'>"; },
            () => { document.createElement("script").text = "window.hacked = 1"; },
            () => { document.createElement("script").src = "https://example.invalid/x.js"; },
          ];
          for (const each of tries) try { each(); } catch { violations.push("refused"); }
          new Image().src = "https://example.invalid/x.png";
          document.body.style.cssText = "";
          document.body.setAttribute("style", "color: red");
        }"""
    )
    seen.page.wait_for_function("violations.join().includes('style-src')")
    seen.page.wait_for_function("violations.join().includes('img-src')")
    said = seen.page.evaluate("violations")
    assert said.count("refused") == 4
    assert any(each.startswith("img-src https://example.invalid") for each in said)
    assert any(each.startswith("style-src-attr inline") for each in said)
    seen.page.evaluate("violations.length = 0")
    seen.complaints.clear()


def test_search_finds_prompts_in_every_script(root: Path, visit: Visiting) -> None:
    seen = visit(winter(root))
    for text, found in (
        ("城堡", "chinese"),
        ("الثلج قلعة", "arabic"),
        ("🏰", "emoji"),
        ("👩🏽‍🚀 CASTLE", "emoji"),
        ("schloss strasse", "german"),
        ("SCHLOẞ", "german"),
        ("οδος", "greek"),
        ("ΧΙΟΝΙ", "greek"),
        ("chateau ENNEIGE", "french"),
        ("ｃｈâteau", "french"),
    ):
        seen.search(text)
        seen.wait(lambda found=found: seen.tiles() == [SCRIPTS[found]])
        seen.count("1 of 22 images")


def test_hostile_text_can_be_searched_for(root: Path, visit: Visiting) -> None:
    seen = visit(winter(root))
    seen.search('"><img src=x onerror=')
    seen.count("2 of 22 images")


def test_nothing_found_is_said_and_undone(root: Path, visit: Visiting) -> None:
    seen = visit(winter(root))
    seen.search("zebra")
    seen.count("0 of 22 images")
    seen.page.get_by_role("button", name="Clear the filters").click()
    seen.count("all 22")
    expect(seen.page).not_to_have_url(re.compile("#"))


def test_a_view_is_in_the_address_and_can_be_shared(root: Path, visit: Visiting) -> None:
    for hash_, count in (
        ("status=stored", 14),
        ("status=missing", 8),
        ("status=refused", 1),
        ("status=held", 1),
        ("status=failed", 6),
        (f"seed={2**62 + 1}", 1),
        ("partition=SNOW", 1),
        ("from=2026-11-02", 2),
        ("to=2026-11-01", 20),
        ("status=stored&from=2026-11-01&to=2026-11-01&q=window", 6),
    ):
        seen = visit(f"{winter(root)}#{hash_}")
        seen.count(f"{count} of 22 images")
        seen.choose("Size", "large")
        assert all(part in seen.page.url for part in hash_.split("&"))


def test_the_set_is_a_filter_of_the_page_over_all(root: Path, visit: Visiting) -> None:
    seen = visit((root / OVERVIEW).as_uri())
    seen.count("all 25")
    seen.choose("Set", "summer")
    seen.count("3 of 25 images")
    assert not visit(winter(root)).page.get_by_label("Set").is_visible()


def test_order(root: Path, visit: Visiting) -> None:
    seen = visit(f"{winter(root)}#status=stored&sort=oldest")
    seen.wait(lambda: seen.tiles()[: len(SCRIPTS)] == list(SCRIPTS.values()))
    seen.choose("Order", "seed")
    # Its seed is beyond what a double holds.
    seen.wait(lambda: seen.tiles()[-1:] == [SCRIPTS["chinese"]])
    seen.choose("Order", "name")
    seen.wait(lambda: seen.tiles()[:1] == [SCRIPTS["chinese"]])


def test_keys_lead_through_the_grid_and_focus_comes_back(root: Path, visit: Visiting) -> None:
    seen = visit(f"{winter(root)}#status=stored")
    page = seen.page
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    page.keyboard.press("Enter")
    buttons = page.locator(".tile .open")
    expect(buttons.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(buttons.nth(1)).to_be_focused()
    assert [each.get_attribute("tabindex") for each in buttons.all()].count("0") == 1
    page.keyboard.press("End")
    expect(buttons.last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-place")).to_have_text("2 of 14")
    seen.leave(buttons.nth(1))
    page.keyboard.press("/")
    expect(page.get_by_label("Search prompts")).to_be_focused()


def test_an_image_is_zoomed_moved_and_left(root: Path, visit: Visiting) -> None:
    seen = visit(f"{winter(root)}#status=stored")
    page = seen.page
    page.locator(".tile .open").nth(3).click()
    zoom, place = page.locator("#viewer-zoom"), page.locator("#viewer-place")
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect(zoom).to_have_text("2.3×")
    page.keyboard.press("ArrowRight")  # looks around, and stays with the image
    expect(place).to_have_text("4 of 14")
    expect(page.locator("#stage img")).to_have_attribute("style", re.compile(r"translate\(-80px"))
    page.keyboard.press("-")
    expect(zoom).to_have_text("1.5×")
    page.keyboard.press("0")
    expect(zoom).to_have_text("fit")
    page.keyboard.press("ArrowLeft")
    expect(place).to_have_text("3 of 14")
    page.get_by_role("button", name="Next image").click()
    expect(place).to_have_text("4 of 14")
    expect(page.locator("#stage img")).to_have_attribute("src", "../../images/winter/10.webp")
    page.keyboard.press("i")
    expect(page.locator("#panel")).to_be_hidden()


def test_an_image_that_is_opened_while_another_closes_stays_open(
    root: Path, visit: Visiting
) -> None:
    page = visit(f"{winter(root)}#status=stored").page
    page.locator(".tile .open").first.click()
    expect(page.locator("#panel pre")).to_be_visible()
    page.evaluate(
        """() => {
          document.getElementById("viewer").close(); // the event of it comes later
          document.querySelectorAll(".tile .open")[1].click();
        }"""
    )
    expect(page.locator("#viewer-place")).to_have_text("2 of 14")
    expect(page.locator("#panel pre")).to_be_visible()
    expect(page.locator("#stage img")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-place")).to_have_text("3 of 14")


def test_the_panel_has_the_lineage_and_the_address_leads_back(root: Path, visit: Visiting) -> None:
    seen = visit(f"{winter(root)}#q=城堡")
    seen.page.locator(".tile .open").click()
    expect(seen.page.locator("#panel pre")).to_be_visible()
    assert seen.fact("seed") == str(2**62 + 1)
    assert seen.fact("image_sha256") == digest("image winter 0")
    assert seen.fact("stored_at") == "2026-11-01 12:00:00 UTC"
    assert seen.fact("format") == "96 × 96 px webp"
    shown = {each.get_attribute("data-field") for each in seen.page.locator("#panel dd").all()}
    known = {name for name in ImageRecord.__slots__ if getattr(a_record(), name) is not None}
    assert shown >= known - {"prompt", "input", "width", "height"}
    link = seen.page.get_by_role("link", name="Open the file")
    assert link.get_attribute("href") == "../../images/winter/0.webp"
    again = visit(seen.page.url)
    expect(again.page.locator("#viewer-title")).to_have_text("first")


def test_a_command_is_copied(root: Path, visit: Visiting) -> None:
    seen = visit(f"{winter(root)}#q=城堡", permissions=["clipboard-read", "clipboard-write"])
    seen.page.locator(".tile .open").click()
    for verb in ("trace", "reproduce"):
        copy_command(seen, verb, into="navigator.clipboard.readText()")


def test_a_command_is_copied_where_there_is_no_clipboard_to_ask_for(
    root: Path, visit: Visiting
) -> None:
    seen = visit(f"{winter(root)}#q=城堡")
    seen.page.evaluate(
        """() => {  // as over plain http
          Object.defineProperty(navigator, "clipboard", {value: undefined});
          document.addEventListener("copy", () => { window.copied = String(getSelection()); });
        }"""
    )
    seen.page.locator(".tile .open").click()
    for verb in ("trace", "reproduce"):
        copy_command(seen, verb, into="window.copied")


def copy_command(seen: Visit, verb: str, *, into: str) -> None:
    seen.page.get_by_role("button", name=f"Copy the command flux-pipeline {verb}").click()
    expect(seen.page.locator("#viewer-says")).to_have_text("The command was copied.")
    command = f"flux-pipeline {verb} {digest('image winter 0')}"
    seen.wait(lambda: seen.page.evaluate(into) == command)


def test_what_did_not_come_says_why_and_can_be_traced_alone(root: Path, visit: Visiting) -> None:
    seen = visit(f"{winter(root)}#status=refused")
    page = seen.page
    expect(page.locator(".tile")).to_contain_text("its safety check")
    page.locator(".tile .open").click()
    expect(page.locator("#stage")).to_contain_text("its safety check")
    expect(page.locator("#panel .bad")).to_have_text("refused: its safety check")
    assert page.locator(".command code").all_inner_texts() == [
        f"flux-pipeline trace {digest('request none 0')}"
    ]
    assert page.get_by_role("link", name="Open the file").count() == 0


def test_an_empty_gallery_says_what_to_do(root: Path, visit: Visiting) -> None:
    seen = visit((root / gallery_key("nothing")).as_uri())
    expect(seen.page.locator("#empty")).to_have_text(
        "Nothing was made yet. This makes it: flux-pipeline run nothing"
    )


def test_names_roles_and_places_are_said(root: Path, visit: Visiting) -> None:
    seen = visit(f"{winter(root)}#status=stored")
    page = seen.page
    items = page.get_by_role("list", name="Images").get_by_role("listitem")
    assert items.nth(4).get_attribute("aria-posinset") == "5"
    assert items.nth(4).get_attribute("aria-setsize") == "14"
    expect(page.get_by_role("status").filter(has_text="14 of 22")).to_have_count(1)
    page.get_by_role("button", name=SCRIPTS["arabic"]).click()
    expect(page.get_by_role("dialog", name="text-1")).to_be_visible()
    expect(page.locator("#viewer-says")).to_contain_text(SCRIPTS["arabic"])
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select")].filter((each) =>
          !each.ariaLabel && !each.textContent.trim() && !each.labels?.length
          && !each.querySelector("img[alt]")).length"""
    )
    assert unnamed == 0


def test_nothing_is_wider_than_a_phone(root: Path, visit: Visiting) -> None:
    seen = visit(winter(root), size=(390, 700))
    page = seen.page
    expect(page.get_by_label("Status")).to_be_hidden()
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Status").select_option("stored")
    expect(page.locator("#chosen")).to_have_text("1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 320, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.locator(".tile .open").first.click()
    for width in (320, 390):
        page.set_viewport_size({"width": width, "height": 700})
        for name in ("Close", "Next image", "Zoom in"):
            box = page.get_by_role("button", name=name).bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= width


def test_text_stands_out_in_both_themes(root: Path, visit: Visiting) -> None:
    seen = visit(f"{winter(root)}#status=missing", color_scheme="light", reduced_motion="reduce")
    assert least_contrast(seen) >= 4.5
    assert paper(seen) == "rgb(250, 249, 247)"
    seen.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert least_contrast(seen) >= 4.5
    assert paper(seen) == "rgb(18, 18, 19)"
    duration = "getComputedStyle(document.querySelector('.tile .open')).transitionDuration"
    assert seen.page.evaluate(duration) == "0s"


def paper(seen: Visit) -> str:
    return str(seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))


def least_contrast(seen: Visit) -> float:
    contrasts = seen.page.evaluate(
        """() => {
          const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number)
            .map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const under = (e) => { for (; e; e = e.parentElement) {
            const color = getComputedStyle(e).backgroundColor;
            if (color !== "rgba(0, 0, 0, 0)") return color;
          } };
          return ["h1", "#facts", "#count", ".choices label", ".why", ".reason b"].map((name) => {
            const one = document.querySelector(name);
            const [a, b] = [light(getComputedStyle(one).color), light(under(one))].sort();
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          });
        }"""
    )
    return float(min(contrasts))


def test_a_lost_file_of_data_is_named_and_the_rest_is_shown(large: Path, visit: Visiting) -> None:
    path = large / data_key("chapter", "winter", 7)
    hidden = path.rename(path.with_suffix(".away"))
    try:
        seen = visit((large / gallery_key("winter")).as_uri())
        seen.search("castle")
        expect(seen.page.get_by_role("alert")).to_contain_text("winter/chapter-00007.js")
        seen.count("3,600 of 3,600 images")
    finally:
        hidden.rename(path)
    assert all("ERR_FILE_NOT_FOUND" in said for said in seen.complaints)
    seen.complaints.clear()


def test_a_lost_image_leaves_its_thumbnail(root: Path, visit: Visiting) -> None:
    path = root / "images/summer/1.webp"
    hidden = path.rename(path.with_suffix(".away"))
    try:
        seen = visit((root / gallery_key("summer")).as_uri(), waiting=f"**/{path.name}")
        thumbnails = seen.page.locator(".tile img[src^='data:image/webp']")
        expect(thumbnails).to_have_count(1)  # the other two have their pictures
        seen.wait(lambda: seen.held)
        seen.held[0].continue_()
        seen.wait(lambda: seen.complaints)
    finally:
        hidden.rename(path)
    seen.page.evaluate("new Promise((next) => requestAnimationFrame(() => setTimeout(next)))")
    expect(seen.page.locator(".tile img")).to_have_count(3)
    expect(thumbnails).to_have_count(1)
    assert all("ERR_FILE_NOT_FOUND" in said for said in seen.complaints)
    seen.complaints.clear()


def test_a_large_gallery_reads_its_newest_rows_and_the_others_when_they_are_asked_for(
    large: Path, visit: Visiting
) -> None:
    address = (large / gallery_key("winter")).as_uri()
    seen = visit(address, size=(1280, 800))
    with seen.requests() as read:

        def rows_read() -> list[str]:
            names = [address.rpartition("/")[2] for address in read]
            return [name[:13] for name in names if name.startswith("chapter-")]

        seen.open(address)
        seen.count("all 4,000")
        assert rows_read() == [f"chapter-{number:05d}" for number in (10, 9, 8)]
        seen.wait(lambda: seen.tiles()[:1] == ["a castle, number 3999"])
        expect(seen.page.locator(".tile").first).to_have_attribute("aria-setsize", "4000")
        seen.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        seen.wait(lambda: len(rows_read()) == 6)

        read.clear()
        seen.open(address)
        seen.search("number 777")
        seen.count("4 of 4,000 images")
        assert len(set(rows_read())) == len(rows_read()) == 10


def test_an_old_image_is_opened_by_its_address_though_it_is_not_read_at_first(
    large: Path, visit: Visiting
) -> None:
    seen = visit(f"{(large / gallery_key('winter')).as_uri()}#sort=oldest")
    seen.page.locator(".tile button.open").first.click()
    expect(seen.page).to_have_url(re.compile("image="))
    address = seen.page.url.replace("sort=oldest&", "")
    seen.open(address)
    expect(seen.page.locator("#viewer-title")).to_be_visible()
    expect(seen.page.locator("#viewer-place")).to_have_text("4,000 of 4,000")


def test_thousands_of_images_scroll_with_few_of_them_in_the_document(
    large: Path, visit: Visiting
) -> None:
    seen = visit((large / gallery_key("winter")).as_uri(), size=(1280, 800))
    page = seen.page
    seen.count("all 4,000")
    most, blank = page.evaluate(
        """async () => {
          const frame = () => new Promise((next) => requestAnimationFrame(next));
          const end = document.body.scrollHeight;
          let most = 0, blank = 0;
          for (let y = 0; y < end; y += end / 25) {
            scrollTo(0, y);
            await frame();
            await frame();
            most = Math.max(most, document.querySelectorAll("*").length);
            const middle = document.elementFromPoint(500, 500)?.closest(".tile");
            blank += !middle && !document.elementFromPoint(500, 512)?.closest(".tile");
          }
          return [most, blank];
        }"""
    )
    assert most < 1_200
    assert blank == 0
    page.keyboard.press("Tab")
    page.evaluate("document.getElementById('skip').click()")
    page.keyboard.press("End")
    last = page.locator(".tile", has=page.locator("button:focus"))
    expect(last).to_have_attribute("aria-posinset", "4000")
    expect(last.locator("img")).to_have_attribute("alt", "a castle, number 0")
    seen.search("number 777")
    seen.count("4 of 4,000 images")


def test_what_an_image_was_made_from_stands_beside_it_and_takes_turns_with_it(
    chain: Path, visit: Visiting
) -> None:
    seen = visit(f"{(chain / gallery_key('print')).as_uri()}#seed=3")
    page = seen.page
    page.locator(".tile .open").click()
    source, result = page.locator("#stage .source img"), page.locator("#stage .result img")
    expect(source).to_have_attribute("src", "../../images/book/0.webp")
    for each in (source, result):
        expect(each).to_be_visible()
        assert each.evaluate("image => image.decode().then(() => image.naturalWidth)") > 10
    page.keyboard.press("+")
    for each in (source, result):
        expect(each).to_have_attribute("style", re.compile(r"scale\(1\.5\)"))
    assert source.get_attribute("style") == result.get_attribute("style")
    page.keyboard.press("b")
    expect(result).to_be_hidden()
    expect(page.locator("#viewer-says")).to_have_text("before: image_1")
    before = source.bounding_box()
    page.keyboard.press("b")
    expect(source).to_be_hidden()
    assert result.bounding_box() == before  # in the same place, as near
    page.keyboard.press("s")
    expect(source).to_be_visible()
    expect(result).to_be_visible()
    page.get_by_role("button", name="Before and after").click()
    expect(result).to_be_hidden()
    keys = {each.get_attribute("aria-keyshortcuts") for each in page.locator("[data-do]").all()}
    assert keys >= {"b", "s"}


def test_a_source_leads_to_itself_in_the_gallery_of_its_own_set(
    chain: Path, visit: Visiting
) -> None:
    seen = visit(f"{(chain / gallery_key('print')).as_uri()}#seed=3")
    page = seen.page
    page.locator(".tile .open").click()
    small = page.locator("#panel .sources img")
    assert small.evaluate("image => image.decode().then(() => image.naturalWidth)") > 10
    page.get_by_role("link", name="book / 0").click()
    page.wait_for_url("**/galleries/book/index.html#image=*")
    expect(page.locator("#viewer-title")).to_have_text("prompt-book 0")
    expect(page.get_by_role("button", name="Before and after")).to_be_hidden()
    assert page.locator("#panel .sources").count() == 0


def test_the_page_over_all_sets_opens_a_source_in_place_and_goes_back(
    chain: Path, visit: Visiting
) -> None:
    seen = visit(f"{(chain / OVERVIEW).as_uri()}#set=print&seed=3")
    page = seen.page
    page.locator(".tile .open").click()
    page.get_by_role("link", name="book / 0").click()
    expect(page.locator("#viewer-title")).to_have_text("prompt-book 0")
    expect(page.locator("#stage img")).to_have_attribute("src", "../images/book/0.webp")
    page.go_back()
    expect(page.locator("#viewer-title")).to_have_text("prompt-print 3")
    seen.count("1 of 14 images")


def test_a_source_that_lies_elsewhere_is_named_and_never_asked_for(
    chain: Path, visit: Visiting
) -> None:
    address = (chain / gallery_key("print")).as_uri()
    seen = visit(f"{address}#seed=3", size=(1400, 900))
    with seen.requests() as asked:
        seen.open(f"{address}#seed=4")
        seen.page.locator(".tile .open").click()
        expect(seen.page.locator("#panel .sources li")).to_have_count(5)
        words = seen.page.locator("#panel .sources").inner_text()
        assert all(f"{address}, which lies elsewhere" in words for address in ELSEWHERE)
        expect(seen.page.locator("#panel .sources img")).to_have_count(2)
        expect(seen.page.locator("#stage .source img")).to_have_count(2)
        for _ in range(3):  # each source in turn, and the result again
            seen.page.keyboard.press("b")
            expect(seen.page.locator("#stage figure:visible")).to_have_count(1)
        expect(seen.page.locator("#stage .result")).to_be_visible()
    assert asked
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


def test_what_failed_stands_beside_what_it_was_to_be_made_from(
    chain: Path, visit: Visiting
) -> None:
    page = visit(f"{(chain / gallery_key('print')).as_uri()}#status=failed").page
    page.locator(".tile .open").click()
    expect(page.locator("#stage .source img")).to_have_attribute("src", "../../images/book/1.webp")
    expect(page.locator("#stage .result")).to_contain_text("no connection")
    page.keyboard.press("b")
    expect(page.locator("#stage .result")).to_be_hidden()


@pytest.mark.parametrize("sort", ["", "name"])
def test_takes_of_one_prompt_by_two_models_stand_side_by_side(
    chain: Path, visit: Visiting, sort: str
) -> None:
    seen = visit(f"{(chain / gallery_key('compared')).as_uri()}#sort={sort}")
    seen.count("all 8")
    labels = [each.inner_text() for each in seen.page.locator(".tile .model").all()]
    assert labels == ["first", "second"] * 4
    prompts = seen.tiles()
    assert prompts == sorted(prompts)  # the last of all is a cat
    first = seen.page.locator(".tile").first
    expect(first.get_by_role("button", name="a cat first")).to_have_count(1)
    expect(first.locator("img")).to_have_attribute("src", "../../images/compared/8.webp")


def test_the_model_is_a_filter_and_is_found_where_several_are_shown(
    chain: Path, visit: Visiting
) -> None:
    seen = visit((chain / gallery_key("compared")).as_uri())
    seen.search("owner/second dog")
    seen.count("2 of 8 images")
    seen.page.get_by_role("button", name="Clear", exact=True).click()
    seen.count("all 8")
    seen.page.get_by_label("Model").select_option(MODELS[1])
    seen.count("4 of 8 images")
    expect(seen.page.locator(".tile .model").first).to_have_text("first")
    seen = visit((chain / OVERVIEW).as_uri())
    expect(seen.page.get_by_label("Model").locator("option")).to_have_count(5)
    expect(seen.page.locator(".tile .model")).to_have_count(8)
    seen = visit((chain / gallery_key("book")).as_uri())
    expect(seen.page.get_by_label("Model")).to_be_hidden()
    assert seen.page.locator(".tile .model").count() == 0
    seen.search("lucataco")
    seen.count("0 of 3 images")


def test_a_phone_holds_source_and_result(chain: Path, visit: Visiting) -> None:
    seen = visit(f"{(chain / gallery_key('print')).as_uri()}#seed=3", size=(320, 640))
    seen.page.locator(".tile .open").click()
    for shown in (".source img", ".result img", "[data-do=swap]", "[data-do=close]"):
        box = seen.page.locator(f"#viewer {shown}").bounding_box()
        assert box is not None
        assert box["width"] > 30
        assert box["x"] + box["width"] <= 320


def test_images_of_earlier_texts_are_shown_where_that_is_chosen(
    tmp_path: Path, visit: Visiting
) -> None:
    store = FolderStore(tmp_path)
    rows = [an_image(store, number, "edited") for number in range(3)]
    write(store, rows)
    noted = AskedRequests()
    for _, requests in noted.watch([("castle", rows[:2])]):
        list(requests)
    noted.write(store, "edited", known=["castle"], run_id="run-1", now=NOON)
    build_gallery(store, "edited", now=NOON)

    seen = visit((tmp_path / gallery_key("edited")).as_uri())
    seen.count("2 of 3 images")
    seen.choose("Shown", "obsolete")
    seen.count("1 of 3 images")
    seen.choose("Shown", "all")
    seen.count("3 of 3 images")
