"""A feed names what is newly published, the newest first, by addresses that lead there."""

import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from flux_pipeline.publish.feed import FeedItem, build_feed
from tests.publish.conftest import PUBLISH, SHOP, Shop

URL = "https://cdn.example.com/p"


def text(kind: str, url: str = URL) -> str:
    address = f"  url: {url}\n" if url else ""
    return PUBLISH.replace("  variants:", f"  feed: {kind}\n{address}  variants:")


def test_a_json_feed_has_the_newest_first_and_changes_with_what_is_published(shop: Shop) -> None:
    without = SHOP.replace("  hat: a hat\n", "")
    shop.publish(shop.write(text("json"), without))
    shop.now = shop.now.replace(hour=9)
    shop.publish(shop.write(text("json")))
    feed = json.loads((shop.public / "feed.json").read_bytes())
    assert (feed["version"], feed["title"]) == ("https://jsonfeed.org/version/1.1", "shop")
    first = feed["items"][0]
    assert [item["title"] for item in feed["items"]] == ["hat", "shoe", "bag"]
    assert (first["url"], first["content_text"]) == (f"{URL}/hat-web.webp", "a hat")
    assert [item["date_published"][11:13] for item in feed["items"]] == ["09", "08", "08"]
    sizes = [each["size_in_bytes"] for each in first["attachments"]]
    assert sizes == [file["bytes"] for file in shop.index()["images"][1]["files"]]
    before = (shop.public / "feed.json").stat().st_mtime_ns
    shop.now = shop.now.replace(hour=10)
    shop.publish(shop.write(text("json")))
    assert (shop.public / "feed.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("url", [URL, ""])
def test_an_rss_feed_is_read_as_xml_whatever_a_prompt_holds(shop: Shop, url: str) -> None:
    alt = text("rss", url) + '  alt: "<{{name}}> & \x85 雪"\n'
    shop.publish(shop.write(alt))
    channel = ET.parse(shop.public / "feed.xml").getroot()[0]  # noqa: S314  it is our own
    items = channel.findall("item")
    assert [item.findtext("title") for item in items] == ["shoe", "hat", "bag"]
    assert items[0].findtext("description") == "<shoe> & 雪"
    link = items[0].findtext("link")
    assert link == (f"{url}/shoe-web.webp" if url else "shoe-web.webp")
    enclosure = items[0].find("enclosure")
    assert enclosure is not None
    assert (enclosure.get("url"), enclosure.get("type")) == (link, "image/webp")


@pytest.mark.parametrize("kind", ["json", "rss"])
def test_a_picture_of_which_nobody_knows_when_it_was_made_has_no_date(kind: Any) -> None:
    values = {"name": "hat", "alt": "a hat", "request_sha256": "ab"}
    file = {"path": "hat.webp", "format": "webp", "variant": "web", "width": 1, "height": 1}
    item = FeedItem({**values, "files": [{**file, "bytes": 1}]}, "")
    feed = build_feed(kind, "shop", [item], url="", index="pages/shop").decode()
    assert "hat.webp" in feed
    assert "pubDate" not in feed
    assert "date_published" not in feed
    assert ("<link>pages/shop.json</link>" in feed) is (kind == "rss")


def test_a_feed_that_is_switched_off_goes_with_prune(shop: Shop) -> None:
    shop.publish(shop.write(text("json")))
    shop.publish(shop.write())
    assert (shop.public / "feed.json").exists()
    assert shop.publish(shop.write(prune=True)).removed == 1
    assert not (shop.public / "feed.json").exists()
