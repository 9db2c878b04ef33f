"""The manifest of a gallery: a narrow row for each current image, and what was read for them.

The images are divided into pages of 200, each with a file of details, and ten pages are a chapter,
whose rows share a file. The manifest remembers which lineage parts and thumbnail packs are in the
gallery, and the hash of each file, so that a build reads only what is new. Where it is missing or
of another form, everything is made again from the lineage parts. About 0.2 KB a row in the store.
"""

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flux_pipeline.gallery.rows import ROWS, Rows
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.lineage.table import in_row_groups, open_parquet
from flux_pipeline.store.base import Store

_ABOUT = b"flux-pipeline.gallery"
_COLUMNS_SUM = f"{zlib.crc32(' '.join(SCHEMA.names).encode()):08x}"
FORM = f"4-{_COLUMNS_SUM}"
"""Names the form of a gallery's files: another one where a release or a new column changes them.

Of the rows, the pages and the page's script together."""
_FORM_BEFORE_CHAPTERS = f"3-{_COLUMNS_SUM}"
CHAPTER_PAGES = 10
"""Pages whose rows share a file: a browser takes longer to load ten than one of their size."""

Page = TypeVar("Page", int, npt.NDArray[np.int32])

GALLERIES = "galleries/"
OVERVIEW = f"{GALLERIES}index.html"
"""The page over all prompt sets."""


class Manifest:
    """The state of one prompt set's gallery."""

    def __init__(
        self,
        rows: Rows | None = None,
        *,
        parts: Iterable[str] = (),
        packs: Iterable[str] = (),
        pages: Mapping[int, str] | None = None,
        chapters: Mapping[int, str] | None = None,
    ) -> None:
        self.parts = set(parts)
        """Keys of the lineage parts that were read."""
        self.packs = set(packs)
        """Keys of the thumbnail packs that were read."""
        self.pages = dict(pages or {})
        """SHA-256 of each page's file of details, as it was written."""
        self.chapters = dict(chapters or {})
        """SHA-256 of each chapter's file of rows, as it was written."""
        self.rows = rows or Rows()

    def files(self, prompt_set: str) -> Mapping[str, str]:
        """SHA-256 of each file of data, by its key."""
        hashes = {"details": self.pages, "chapter": self.chapters}
        return {
            data_key(kind, prompt_set, number): digest
            for kind, found in hashes.items()
            for number, digest in found.items()
        }

    def to_bytes(self) -> bytes:
        """The manifest as one Parquet object; the same state makes the same bytes."""
        about = {
            "form": FORM,
            "parts": sorted(self.parts),
            "packs": sorted(self.packs),
            "pages": {str(n): digest for n, digest in sorted(self.pages.items())},
            "chapters": {str(n): digest for n, digest in sorted(self.chapters.items())},
        }
        packed = b64encode(zlib.compress(json.dumps(about).encode()))
        schema, body = ROWS.with_metadata({_ABOUT: packed}), BytesIO()
        with pq.ParquetWriter(body, schema, compression="zstd") as writer:
            for rows in in_row_groups(self.rows.batches(*ROWS.names)):
                writer.write_table(rows.replace_schema_metadata(schema.metadata))
        return body.getvalue()


def load_manifest(store: Store, key: str) -> Manifest:
    """The manifest, an empty one where there is none that can be used. Raises StoreError."""
    if key not in store.list(key):
        return Manifest()
    try:
        return _decode(open_parquet(store, key))
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, zlib.error):
        return Manifest()


def _decode(source: pa.NativeFile) -> Manifest:
    file = pq.ParquetFile(source)
    about = json.loads(zlib.decompress(b64decode((file.schema_arrow.metadata or {})[_ABOUT])))
    pages, chapters = about["pages"], about.get("chapters", {})
    if about.get("form") == _FORM_BEFORE_CHAPTERS:
        pages = {number: details for number, (_rows, details) in pages.items()}
    elif about.get("form") != FORM:
        return Manifest()
    return Manifest(
        Rows(file),
        parts=about["parts"],
        packs=about["packs"],
        pages={int(number): digest for number, digest in pages.items()},
        chapters={int(number): digest for number, digest in chapters.items()},
    )


def chapter_of(page: Page) -> Page:
    """The number of the chapter that a page is in, or of each of many pages; they count from 1."""
    return (page - 1) // CHAPTER_PAGES + 1


def pages_of(chapter: int) -> range:
    """The numbers of the pages that a chapter may have."""
    return range((chapter - 1) * CHAPTER_PAGES + 1, chapter * CHAPTER_PAGES + 1)


def gallery_key(prompt_set: str) -> str:
    """The page of one prompt set."""
    return f"{GALLERIES}{prompt_set}/index.html"


def manifest_key(prompt_set: str) -> str:
    """The manifest of one prompt set."""
    return f"{GALLERIES}{prompt_set}/manifest.parquet"


def summary_key(prompt_set: str) -> str:
    """The summary of one prompt set, which the page over all of them reads."""
    return f"{GALLERIES}{prompt_set}/summary.json"


def data_key(kind: str, prompt_set: str, number: int) -> str:
    """A file of data that the page loads: the ``details`` of a page, or a ``chapter``'s rows."""
    return f"{GALLERIES}{prompt_set}/{kind}-{number:05d}.js"
