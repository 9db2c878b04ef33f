"""A feed of what is newly published, as JSON Feed 1.1 or RSS 2.0.

Sources: https://www.jsonfeed.org/version/1.1/ and https://www.rssboard.org/rss-specification.
Without ``publish.url`` its addresses are relative to the target, which readers of feeds mostly
don't follow, and programs do.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import quote
from xml.etree import ElementTree as ET

from flux_pipeline.variant import FORMATS

MOST_ITEMS = 100
CONTENT_TYPES: Mapping[str, str] = {
    "json": "application/feed+json",
    "rss": "application/rss+xml",
}


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One picture of a feed."""

    values: Mapping[str, Any]
    """Its object in the index."""
    published_at: str
    """ISO 8601, UTC: when this very picture was first in the index; empty where nobody knows."""


def feed_path(index: str, kind: Literal["json", "rss"]) -> str:
    """``feed.json`` or ``feed.xml`` beside ``index.json``; ``shop-feed.json`` beside ``shop.json``.

    ``index`` is the path of the index without its ending.
    """
    folder, slash, stem = index.rpartition("/")
    name = "feed" if stem == "index" else f"{stem}-feed"
    return f"{folder}{slash}{name}.{'xml' if kind == 'rss' else 'json'}"


def build_feed(
    kind: Literal["json", "rss"],
    prompt_set: str,
    items: Sequence[FeedItem],
    *,
    url: str,
    index: str,
) -> bytes:
    """The bytes of a feed, the items as they come.

    ``url`` is the target's address or empty, ``index`` the path of the index without its ending.
    """
    if kind == "json":
        return _json_feed(prompt_set, items, url)
    return _rss(prompt_set, items, url, link=f"{url}/" if url else quote(f"{index}.json"))


def _json_feed(prompt_set: str, items: Sequence[FeedItem], url: str) -> bytes:
    found = []
    for item in items:
        largest = _largest(item.values)
        address = _address(url, str(largest["path"]))
        found.append(
            {
                "id": _id_of(item),
                "url": address,
                "title": item.values["name"],
                "content_text": item.values["alt"],
                "image": address,
                **({"date_published": item.published_at} if item.published_at else {}),
                "attachments": [
                    {
                        "url": _address(url, str(file["path"])),
                        "mime_type": FORMATS[file["format"]].content_type,
                        "title": file["variant"],
                        "size_in_bytes": file["bytes"],
                    }
                    for file in item.values["files"]
                ],
            }
        )
    feed = {"version": "https://jsonfeed.org/version/1.1", "title": prompt_set}
    if url:
        feed["home_page_url"] = f"{url}/"
    return json.dumps({**feed, "items": found}, ensure_ascii=False, indent=1).encode() + b"\n"


def _rss(prompt_set: str, items: Sequence[FeedItem], url: str, *, link: str) -> bytes:
    root = ET.Element("rss", version="2.0")
    channel = ET.SubElement(root, "channel")
    _add(channel, "title", prompt_set)
    _add(channel, "link", link)
    _add(channel, "description", f"Published pictures of {prompt_set}")
    for item in items:
        largest = _largest(item.values)
        address = _address(url, str(largest["path"]))
        one = ET.SubElement(channel, "item")
        _add(one, "title", str(item.values["name"]))
        _add(one, "description", str(item.values["alt"]))
        _add(one, "link", address)
        ET.SubElement(one, "guid", isPermaLink="false").text = _id_of(item)
        if item.published_at:
            _add(one, "pubDate", format_datetime(datetime.fromisoformat(item.published_at)))
        kind = FORMATS[largest["format"]].content_type
        ET.SubElement(one, "enclosure", url=address, length=str(largest["bytes"]), type=kind)
    ET.indent(root, " ")
    body: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return body + b"\n"


def _add(parent: ET.Element, name: str, text: str) -> None:
    # XML has no form for most control characters.
    ET.SubElement(parent, name).text = "".join(each for each in text if each.isprintable())


def _id_of(item: FeedItem) -> str:
    """Another one when a picture is made anew or re-chosen, and the same as long as it is not."""
    return f"{item.values['name']}:{item.values['request_sha256']}"


def _largest(values: Mapping[str, Any]) -> Mapping[str, Any]:
    largest: Mapping[str, Any] = max(
        values["files"], key=lambda file: int(file["width"]) * int(file["height"])
    )
    return largest


def _address(url: str, path: str) -> str:
    encoded = quote(path)
    return f"{url}/{encoded}" if url else encoded
