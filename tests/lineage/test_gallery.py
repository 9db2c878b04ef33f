"""The gallery: a page that shows what is there, and that no text from outside can change."""

import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given

from flux_pipeline.lineage.gallery import build_gallery, gallery_key
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.lineage.spending import Totals
from flux_pipeline.store.keys import check_key
from tests.lineage.samples import NOON, TEXTS, a_failure, a_record

STORE = "s3://bucket"
HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\" ' & {0} {title} %s"


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(*records: ImageRecord, totals: Totals | None = None, **changes: Any) -> Page:
    return Page(html(*records, totals=totals, **changes))


def html(*records: ImageRecord, totals: Totals | None = None, **changes: Any) -> str:
    known = {"store_uri": STORE, "now": NOON, **changes}
    return build_gallery("winter", records, totals=totals or Totals(1, 0, 0.003), **known)


def test_a_picture_is_linked_from_where_the_page_lies() -> None:
    record = a_record(1, uri="s3://bucket/images/winter/a.webp", prompt="a castle")
    (image,) = page(record).all("img")
    assert image["src"] == "../images/winter/a.webp"
    assert image["alt"] == "a castle"
    assert (image["width"], image["height"]) == ("1024", "1024")
    assert page(record).all("a") == [{"href": "../images/winter/a.webp"}]


def test_the_pages_key_is_one_that_every_store_takes() -> None:
    check_key(gallery_key("winter_1"))
    assert gallery_key("winter").count("/") == 1


def test_what_did_not_come_is_shown_with_its_reason() -> None:
    refused = a_failure(1, status=ImageStatus.REFUSED, error="NSFW content detected")
    shown = page(refused, a_failure(2, error=None))
    assert shown.all("img") == []
    assert "refused NSFW content detected" in shown.text
    assert "failed no reason was given" in shown.text


def test_a_picture_in_another_store_is_named_and_not_loaded() -> None:
    shown = page(a_record(1, uri="s3://elsewhere/images/a.webp"))
    assert shown.all("img") == []
    assert "s3://elsewhere/images/a.webp" in shown.text


def test_prompts_are_sections_in_order_and_the_newest_run_comes_first() -> None:
    later = NOON + timedelta(hours=1)
    shown = page(
        a_record(1, prompt_name="zoo"),
        a_record(2, prompt_name="ape", uri="s3://bucket/old.webp"),
        a_record(
            3, prompt_name="ape", uri="s3://bucket/b.webp", take=2, run_id="2", stored_at=later
        ),
        a_record(
            4, prompt_name="ape", uri="s3://bucket/a.webp", take=1, run_id="2", stored_at=later
        ),
    )
    assert [heading["id"] for heading in shown.all("h2")] == ["ape", "zoo"]
    sources = [image["src"] for image in shown.all("img")]
    assert sources[:3] == ["../a.webp", "../b.webp", "../old.webp"]


def test_days_are_shown_newest_first() -> None:
    shown = page(
        *(
            a_record(day, partition=f"2026-11-0{day}", uri=f"s3://bucket/{day}.webp")
            for day in (1, 3, 2)
        ),
    )
    by_heading = re.findall(r"2026-11-0\d(?= · seed)", shown.text)
    assert by_heading == ["2026-11-01", "2026-11-02", "2026-11-03"]  # each is a prompt of its own
    one_prompt = page(
        *(a_record(day, prompt_name="a", partition=f"2026-11-0{day}") for day in (1, 3, 2))
    )
    assert re.findall(r"2026-11-0\d(?= · seed)", one_prompt.text) == [
        "2026-11-03",
        "2026-11-02",
        "2026-11-01",
    ]


def test_the_head_adds_up() -> None:
    shown = page(a_record(1), totals=Totals(12_345, 6, 37.0), description="Winter campaign")
    assert "12,345 images · 6 not made · 37.00 USD · as of 2026-11-01 12:00 UTC" in shown.text
    assert "the newest are shown" in shown.text
    assert "Winter campaign" in shown.text
    assert "the newest are shown" not in page(a_record(1)).text


def test_nothing_made_yet_is_a_page_too() -> None:
    assert "Nothing was made yet." in page(totals=Totals(0, 0, 0.0)).text


@pytest.mark.parametrize(
    "field", ["prompt", "prompt_name", "error", "uri", "partition", "format", "request_sha256"]
)
def test_text_from_outside_stays_text(field: str) -> None:
    for make in (a_record, a_failure):
        changes = {field: f"{STORE}/{HOSTILE}" if field == "uri" else HOSTILE}
        plain, hostile = page(make(1)), page(make(1, **changes))
        assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
        for _, attributes in hostile.tags:
            assert not [name for name in attributes if name.startswith("on")]


def test_a_description_from_outside_stays_text() -> None:
    shown = page(a_record(1), description=HOSTILE)
    assert HOSTILE in shown.text
    assert shown.all("script") == []


@given(TEXTS, TEXTS, TEXTS)
def test_any_text_is_shown_to_the_letter(prompt: str, error: str, description: str) -> None:
    shown = page(a_record(1, prompt=prompt), a_failure(2, error=error), description=description)
    assert shown.all("img")[0]["alt"] == prompt
    assert [tag for tag, _ in shown.tags].count("img") == 1


def test_no_link_leaves_the_store() -> None:
    record = a_record(1, uri="s3://bucket/javascript:alert(1)")
    assert page(record).all("a") == [{"href": "../javascript%3Aalert%281%29"}]


def test_the_policy_allows_pictures_and_this_style_alone() -> None:
    text = html(a_record(1))
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    fingerprint = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [
        meta["content"] for meta in Page(text).all("meta") if "Policy" in meta.get("http-equiv", "")
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "'self' file:",
        "style-src": f"'sha256-{fingerprint}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not re.search(r"<script|javascript:|style=|https?://", text)


def test_the_page_can_be_read_by_everybody() -> None:
    shown = page(a_record(1), a_failure(2))
    assert shown.all("html") == [{"lang": "en"}]
    assert all(image["alt"] and image["loading"] == "lazy" for image in shown.all("img"))
    assert len(shown.all("h1")) == len(shown.all("main")) == 1
    headings = {heading["id"] for heading in shown.all("h2")}
    assert {section["aria-labelledby"] for section in shown.all("section")} == headings
