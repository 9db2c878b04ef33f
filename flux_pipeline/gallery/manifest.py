"""The manifest of a gallery: a narrow row for each current image, and what was read for them.

The images are divided into pages of 200, each with a file of details, and ten pages are a chapter,
whose rows share a file. The manifest remembers which lineage parts and thumbnail packs are in the
gallery, and the hash of each file, so that a build reads only what is new. Where it is missing or
of another form, everything is made again from the lineage parts. About 0.2 KB a row in the store. A
build of which only what is asked for has changed reads the columns that it adds up, 0.2 KB a row in
memory; one that adds or mends something reads whole rows, 1 KB each.
"""

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flux_pipeline.lineage.arrays import array_of, mask_of, numbers_of
from flux_pipeline.lineage.schema import SCHEMA, to_parquet
from flux_pipeline.lineage.table import KEY_COLUMNS, Candidates
from flux_pipeline.store.base import Store

LISTED = (
    "prompt_name",
    "partition",
    "take",
    "prompt",
    "seed",
    "model",
    "status",
    "error",
    "uri",
    "width",
    "height",
)
"""What the page searches, filters and lays out, beside the row's id and time."""
COLUMNS = tuple(dict.fromkeys((*KEY_COLUMNS, *LISTED, "image_sha256", "cost_usd", "provider")))

ROWS = pa.schema(
    [
        *(SCHEMA.field(name) for name in COLUMNS),
        pa.field("part", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("pack", pa.string()),
    ]
)

_BATCH_ROWS = 10_000
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


class DamagedManifestError(Exception):
    """A column of a manifest can't be read; the manifest is to be made again."""


class Manifest:
    """The state of one prompt set's gallery. Its rows are read as far as they are asked for."""

    def __init__(
        self,
        file: pq.ParquetFile | None = None,
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
        self._file = file
        self._rows = pa.Table.from_batches([], ROWS) if file is None else None

    def files(self, prompt_set: str) -> Mapping[str, str]:
        """SHA-256 of each file of data, by its key."""
        hashes = {"details": self.pages, "chapter": self.chapters}
        return {
            data_key(kind, prompt_set, number): digest
            for kind, found in hashes.items()
            for number, digest in found.items()
        }

    @property
    def rows(self) -> pa.Table:
        """Current rows alone, in the order in which they came. Raises DamagedManifestError.

        The trap: all of their columns stay in memory, 1 KB a row.
        """
        if self._rows is None:
            self._rows = self._read(ROWS.names)
            self._file = None
        return self._rows

    @rows.setter
    def rows(self, rows: pa.Table) -> None:
        self._rows = rows

    def columns(self, *names: str) -> pa.Table:
        """Some columns of ``rows``; no others are read for them. Raises DamagedManifestError."""
        return self._read(names) if self._rows is None else self._rows.select(names)

    def batches(self, *names: str) -> Iterator[pa.Table]:
        """As ``columns``, some thousand rows at a time. Raises DamagedManifestError."""
        if self._rows is not None or self._file is None:
            table = self.columns(*names)
            yield from (
                table.slice(start, _BATCH_ROWS) for start in range(0, len(table), _BATCH_ROWS)
            )
            return
        try:
            for batch in self._file.iter_batches(_BATCH_ROWS, columns=list(names)):
                yield pa.Table.from_batches([batch]).select(names)
        except (pa.ArrowException, OSError, LookupError) as error:
            raise DamagedManifestError(str(error)) from None

    def _read(self, names: Sequence[str]) -> pa.Table:
        schema = pa.schema([ROWS.field(name) for name in names])
        if self._file is None:
            return pa.Table.from_batches([], schema)
        try:
            table = self._file.read(columns=list(names)).select(names)
            return table.replace_schema_metadata(None).cast(schema)
        except (pa.ArrowException, OSError, LookupError) as error:
            raise DamagedManifestError(str(error)) from None

    def drop_superseded(self, added: pa.Table) -> tuple[set[int], npt.NDArray[np.bool_]]:
        """Drop the rows that ``added`` supersedes, by the rule of ``lineage.table``.

        Returns the pages that lost a row, and for each row of ``added`` whether it is current.
        """
        candidates = Candidates()
        for table in (self.rows, added):
            candidates.add(table, [str(part) for part in table.column("part").to_pylist()])
        current = candidates.current()
        before = len(self.rows)
        return self.keep(current[:before]), current[before:]

    def add(self, rows: pa.Table) -> None:
        """Add rows, which are of ROWS and current."""
        self.rows = pa.concat_tables([self.rows, rows]).combine_chunks()

    def keep(self, mask: npt.NDArray[np.bool_]) -> set[int]:
        """Drop the rows where ``mask`` is False; return the pages that they were on."""
        lost = numbers_of(self.rows.column("page"), np.int32)[~mask]
        if len(lost):
            self.rows = self.rows.filter(mask_of(mask))
        return {int(page) for page in lost}

    def page_rows(self, number: int) -> pa.Table:
        """The rows of one page."""
        return self._rows_of([number])

    def chapter_rows(self, number: int) -> pa.Table:
        """The rows of one chapter, page by page."""
        rows = self._rows_of(pages_of(number))
        return rows.take(pc.array_sort_indices(rows.column("page").combine_chunks()))

    def _rows_of(self, pages: Sequence[int]) -> pa.Table:
        wanted = array_of(pages, pa.int32())
        return self.rows.filter(pc.is_in(self.rows.column("page"), wanted))

    def set_packs(self, packs: Iterable[str | None]) -> None:
        """Replace the column that says where each row's thumbnail is from."""
        column = array_of(list(packs), pa.string())
        self.rows = self.rows.set_column(self.rows.schema.get_field_index("pack"), "pack", column)

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
        table = self.rows.combine_chunks().replace_schema_metadata({_ABOUT: packed})
        return to_parquet(table)


def load_manifest(store: Store, key: str) -> Manifest:
    """The manifest, an empty one where there is none that can be used. Raises StoreError."""
    if key not in store.list(key):
        return Manifest()
    try:
        return _decode(store.get(key))
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, zlib.error):
        return Manifest()


def _decode(body: bytes) -> Manifest:
    file = pq.ParquetFile(pa.BufferReader(body))
    about = json.loads(zlib.decompress(b64decode((file.schema_arrow.metadata or {})[_ABOUT])))
    pages, chapters = about["pages"], about.get("chapters", {})
    if about.get("form") == _FORM_BEFORE_CHAPTERS:
        pages = {number: details for number, (_rows, details) in pages.items()}
    elif about.get("form") != FORM:
        return Manifest()
    return Manifest(
        file,
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
