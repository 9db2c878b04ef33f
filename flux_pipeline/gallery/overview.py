"""The page over all prompt sets: it has no data of its own and shows the pages of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from flux_pipeline.gallery.build import build_gallery
from flux_pipeline.gallery.keys import GALLERIES, OVERVIEW, summary_key
from flux_pipeline.gallery.shell import render_page
from flux_pipeline.gallery.summary import Summary, page_data
from flux_pipeline.store.base import Store

_TITLE = "All prompt sets"


@dataclass(frozen=True, slots=True)
class Overview:
    """The page over all prompt sets, as it was built."""

    uri: str
    size: int
    """bytes"""
    sets: int
    stored: int
    """Images."""
    missing: int


def build_overview(store: Store, *, now: datetime) -> Overview:
    """Write the page over every prompt set that has a gallery, also those without a file today.

    A gallery without a readable summary is built again. Raises StoreError.
    """
    summaries = [_summary(store, name, now) for name in _names(store)]
    data = page_data(_TITLE, summaries, root="../", folders=True, now=now)
    body = render_page(_TITLE, data)
    stored = store.put(OVERVIEW, body, content_type="text/html; charset=utf-8")
    return Overview(
        stored.uri,
        stored.size,
        len(summaries),
        sum(summary.stored for summary in summaries),
        sum(summary.missing for summary in summaries),
    )


def _names(store: Store) -> Iterator[str]:
    """The prompt sets that have a manifest or a page, in order."""
    seen = ""
    for key in store.list(GALLERIES):
        name, _, file = key.removeprefix(GALLERIES).partition("/")
        if file in ("index.html", "manifest.parquet", "summary.json") and name != seen:
            seen = name
            yield name


def _summary(store: Store, name: str, now: datetime) -> Summary:
    key = summary_key(name)
    if key in store.list(key):
        try:
            return Summary.load(store.get(key))
        except ValueError:
            pass
    return build_gallery(store, name, now=now).summary
