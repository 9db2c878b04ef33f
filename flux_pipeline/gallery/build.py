"""Builds the gallery of one prompt set, and the page over all prompt sets.

A gallery's images are divided into pages, a file of details for every 200, and ten pages share a
file of rows: a chapter. A build reads the lineage parts and thumbnail packs that are new, and adds
their rows to the last page; the other pages stay. Where nothing is new it reads what the last build
came to, and not the manifest, which grows with the set.

All files are derived from parts and packs, and replaced in place, each as a whole. The manifest has
their hashes: a file that was deleted, damaged or written by another build at the same time is found
by the next build, and made again from the parts of its rows.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from tempfile import TemporaryFile
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.gallery.last_build import (
    Inputs,
    LastBuild,
    find_damaged,
    list_inputs,
    load_last_build,
)
from flux_pipeline.gallery.manifest import (
    GALLERIES,
    OVERVIEW,
    Manifest,
    chapter_of,
    data_key,
    gallery_key,
    load_manifest,
    manifest_key,
    pages_of,
    summary_key,
)
from flux_pipeline.gallery.page import (
    SCRIPT,
    GridLines,
    Summary,
    data_file,
    data_lines,
    detail_lines,
    page_data,
    render_page,
)
from flux_pipeline.gallery.rows import COLUMNS, ROWS, DamagedManifestError
from flux_pipeline.gallery.selection import NOTHING_CHOSEN, Selection
from flux_pipeline.lineage.arrays import array_of, mask_of, scalar_of
from flux_pipeline.lineage.asked import Asked, read_asked
from flux_pipeline.lineage.parts import is_part_of, read_parts
from flux_pipeline.lineage.schema import PARQUET, SCHEMA
from flux_pipeline.lineage.table import last_times
from flux_pipeline.lineage.thumbnails import read_pack
from flux_pipeline.store.base import Store

PAGE_ROWS = 200
"""Rows of a page. Its file of details, with thumbnails, is about 1 MB."""
_ROWS_AT_ONCE = 5_000
"""New rows held at most, about 2 KB each, unless one part has more."""
_TITLE = "All prompt sets"


@dataclass(frozen=True, slots=True)
class Gallery:
    """One prompt set's gallery as it was built."""

    uri: str
    size: int
    """bytes of the HTML page"""
    summary: Summary
    images_version: str
    """SHA-256 of the sorted hashes of all images that are shown."""
    parts_read: int
    files_written: int
    """Files of data; the HTML page, manifest and summary are not counted."""


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


def build_gallery(
    store: Store,
    prompt_set: str,
    *,
    description: str = "",
    run_id: str = "",
    selection: Selection = NOTHING_CHOSEN,
    asked: Asked | None = None,
    now: datetime,
) -> Gallery:
    """Bring the gallery up to date; again at once, and it reads no part and writes no page.

    What is chosen for publishing reaches the page at each build, also without any new image. The
    parts of ``run_id`` are read again: a run that is resumed writes its own anew. ``asked`` is what
    all sets ask for, where the caller has read it. Memory grows by less than 1 KB an image. Raises
    StoreError.
    """
    asked = asked or read_asked(store)
    inputs = list_inputs(store, prompt_set, asked.version_for(prompt_set))
    last = load_last_build(store, prompt_set)
    if last is not None and last.is_current(store, inputs, run_id):
        summary = replace(last.summary, description=description, selection=selection)
        return _publish(store, summary, last.images_version, now)
    manifest = load_manifest(store, manifest_key(prompt_set))
    with TemporaryFile() as file:
        builder = _Builder(store, prompt_set, inputs, manifest, _ThumbnailSpool(file))
        try:
            builder.update(run_id)
            return builder.finish(description, asked, selection, now)
        except DamagedManifestError:
            builder = _Builder(store, prompt_set, inputs, Manifest(), _ThumbnailSpool(file))
            builder.update(run_id)
            return builder.finish(description, asked, selection, now)


def _publish(store: Store, summary: Summary, images_version: str, now: datetime) -> Gallery:
    """Write the summary, and then the page that people open. Raises StoreError."""
    store.put(summary_key(summary.name), summary.to_bytes(), content_type="application/json")
    data = page_data(summary.name, [summary], root="../../", folders=False, now=now)
    page = render_page(summary.name, data)
    stored = store.put(gallery_key(summary.name), page, content_type="text/html; charset=utf-8")
    return Gallery(stored.uri, stored.size, summary, images_version, 0, 0)


class _ThumbnailSpool:
    """Thumbnails in a temporary file, by the hash of their image: 0.2 KB of memory each.

    For one thread.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        self.packs: dict[str, str] = {}
        """For each image the pack that its thumbnail is from."""

    def read(self, store: Store, packs: Iterable[str]) -> None:
        """Copy the thumbnails of these packs. Raises StoreError."""
        for pack in packs:
            for image, thumbnail in read_pack(store, pack):
                self._places[image] = self._file.seek(0, 2), len(thumbnail)
                self._file.write(thumbnail)
                self.packs[image] = pack

    def get(self, images: Iterable[str | None]) -> Mapping[str, bytes]:
        """The thumbnails of those images that have one."""
        found = {}
        for image in images:
            if image is not None and (place := self._places.get(image)):
                self._file.seek(place[0])
                found[image] = self._file.read(place[1])
        return found


class _Builder:
    """The steps of one build, in order."""

    def __init__(
        self,
        store: Store,
        prompt_set: str,
        inputs: Inputs,
        manifest: Manifest,
        spool: _ThumbnailSpool,
    ) -> None:
        self._store, self._set, self._inputs, self._spool = store, prompt_set, inputs, spool
        self._manifest = manifest
        self._stale_details: set[int] = set()  # numbers of pages
        self._stale_chapters: set[int] = set()
        self._parts_read = self._packs_read = 0
        self._written = 0

    def update(self, run_id: str) -> None:
        """Bring the files of data up to date. Raises DamagedManifestError."""
        self.find_stale_files()
        self.add_new(run_id)
        self.write_stale_details()
        self.write_stale_chapters()

    def find_stale_files(self) -> None:
        """Find files that are not as they were written: a HEAD for each."""
        pages, chapters = self._manifest.pages, self._manifest.chapters
        damaged = find_damaged(self._store, self._manifest.files(self._set))
        self._stale_details = {n for n in pages if data_key("details", self._set, n) in damaged}
        self._stale_chapters = {
            n
            for n in map(chapter_of, pages)
            if n not in chapters or data_key("chapter", self._set, n) in damaged
        }

    def add_new(self, run_id: str) -> None:
        """Read the parts and packs that came since, and add their rows to pages."""
        known = self._manifest.parts
        todo = sorted(
            key
            for key in self._inputs.parts
            if key not in known or (run_id and is_part_of(key, run_id=run_id))
        )
        self._read_packs()
        # A part that is read again may have lost rows, so all of its rows go first.
        if again := known & set(todo):
            self._note_lost(self._manifest.rows.drop_parts(again))
        for table in self._batches(todo):
            self._add(table)
        known.update(todo)
        self._parts_read += len(todo)

    def _note_lost(self, pages: Iterable[int]) -> None:
        """Note that these pages have lost rows."""
        self._stale_chapters.update(map(chapter_of, pages))

    def write_stale_details(self) -> None:
        """Make the stale details again, from the parts and packs of their rows."""
        for page, rows in self._manifest.rows.of_pages(self._stale_details):
            parts = sorted(_texts(rows, "part").intersection(self._inputs.parts))
            packs = _texts(rows, "pack") - set(self._spool.packs.values())
            self._spool.read(self._store, sorted(packs))
            ids = [str(row_id) for row_id in rows.column("id").to_pylist()]
            found: dict[str, str] = {}
            for table in self._batches(parts):
                theirs = _ids(table)
                lines = dict(zip(theirs, self._detail_lines(table, theirs), strict=True))
                found |= {row_id: lines[row_id] for row_id in ids if row_id in lines}
            self._write_details(page, [found[row_id] for row_id in ids if row_id in found])
            self._parts_read += len(parts)
        self._stale_details.clear()

    def write_stale_chapters(self) -> None:
        """Write the stale chapters again; a page without any row is left out of the gallery."""
        manifest = self._manifest
        empty_chapters = set(self._stale_chapters)
        empty_pages = {page for chapter in empty_chapters for page in pages_of(chapter)}
        found = manifest.rows.of_pages(frozenset(empty_pages))
        for chapter, pages in groupby(found, key=lambda each: chapter_of(each[0])):
            grid = GridLines(self._store.uri)
            for page, rows in pages:
                grid.add(page, rows)
                empty_pages.discard(page)
            manifest.chapters[chapter] = self._write("chapter", chapter, grid.lines)
            empty_chapters.discard(chapter)
        for page in empty_pages:
            manifest.pages.pop(page, None)
        for chapter in empty_chapters:
            manifest.chapters.pop(chapter, None)

    def finish(
        self, description: str, asked: Asked, selection: Selection, now: datetime
    ) -> Gallery:
        """Write manifest and summary, then the page that people open: it lists what exists.

        Raises DamagedManifestError.
        """
        manifest, key = self._manifest, manifest_key(self._set)
        if self._parts_read or self._packs_read or self._written or not manifest.pages:
            self._store.put(key, manifest.to_bytes(), content_type=PARQUET)
        stored = self._store.head(key)
        summary = Summary.of(self._set, description, manifest, asked, selection)
        images_version = _images_version(manifest.rows.batches("status", "image_sha256"))
        built = _publish(self._store, summary, images_version, now)
        LastBuild(
            inputs=self._inputs.version,
            manifest=stored.sha256 if stored else "",
            files=manifest.files(self._set),
            summary=summary,
            images_version=images_version,
        ).write(self._store)
        return replace(built, parts_read=self._parts_read, files_written=self._written)

    def _read_packs(self) -> None:
        """Read new packs; a page that was made before its thumbnails came is made again."""
        manifest = self._manifest
        packs = [key for key in self._inputs.packs if key not in manifest.packs]
        self._spool.read(self._store, packs)
        manifest.packs.update(packs)
        self._packs_read = len(packs)
        if self._spool.packs:
            self._stale_details |= manifest.rows.add_packs(self._spool.packs)

    def _batches(self, parts: Sequence[str]) -> Iterator[pa.Table]:
        """Whole rows of this prompt set, with the key of their part."""
        nothing = pa.Table.from_batches([], SCHEMA.append(ROWS.field("part")))
        waiting, held = [nothing], 0
        for key, table in read_parts(self._store, parts):
            origin = array_of([key] * len(table), pa.string())
            waiting.append(table.append_column(ROWS.field("part"), origin))
            held += len(table)
            if held >= _ROWS_AT_ONCE:
                yield self._of_set(waiting)
                waiting, held = waiting[:1], 0
        if held:
            yield self._of_set(waiting)

    def _of_set(self, tables: Iterable[pa.Table]) -> pa.Table:
        whole = pa.concat_tables(tables).combine_chunks()
        name = scalar_of(self._set, pa.string())
        return whole.filter(pc.equal(whole.column("prompt_set"), name))

    def _add(self, table: pa.Table) -> None:
        """Add what is current of these rows to the pages, the oldest first."""
        # By time, so that the newest images share the last pages whatever their parts are called.
        order = pc.array_sort_indices(
            last_times(table).combine_chunks(), order="ascending", null_placement="at_start"
        )
        table = table.take(order)
        narrow = self._manifest_rows(table)
        lost, current = self._manifest.rows.drop_superseded(narrow)
        self._note_lost(lost)
        mask = mask_of(current)
        table, narrow = table.filter(mask), narrow.filter(mask)
        done = 0
        while done < len(table):
            page, lines = self._last_page()
            end = min(len(table), done + PAGE_ROWS - len(lines))
            piece = narrow.slice(done, end - done)
            ids = [str(row_id) for row_id in piece.column("id").to_pylist()]
            lines += self._detail_lines(table.slice(done, end - done), ids)
            self._write_details(page, lines)
            numbers = array_of([page] * len(piece), pa.int32())
            at = ROWS.get_field_index("page")
            self._manifest.rows.add(piece.set_column(at, ROWS.field("page"), numbers))
            self._stale_chapters.add(chapter_of(page))
            done = end

    def _last_page(self) -> tuple[int, list[str]]:
        """The page that the next rows go to, and the lines of its details so far."""
        hashes = self._manifest.pages
        last = max(hashes, default=0)
        if last in hashes and last not in self._stale_details:
            body = self._store.get(data_key("details", self._set, last))
            # Another build may have written it meanwhile: then a new page is begun.
            if hashlib.sha256(body).hexdigest() == hashes[last]:
                lines = data_lines(body)
                if len(lines) < PAGE_ROWS:
                    return last, lines
        return last + 1, []

    def _manifest_rows(self, table: pa.Table) -> pa.Table:
        packs = [self._spool.packs.get(image or "") for image in _lists(table, "image_sha256")[0]]
        columns = [table.column(name) for name in (*COLUMNS, "part")]
        ids = array_of(_ids(table), pa.string())
        pages = array_of([0] * len(table), pa.int32())
        return pa.table([*columns, ids, pages, array_of(packs, pa.string())], schema=ROWS)

    def _detail_lines(self, table: pa.Table, ids: Sequence[str]) -> list[str]:
        thumbnails = self._spool.get(_lists(table, "image_sha256")[0])
        return detail_lines(table, ids, thumbnails, self._store.uri)

    def _write_details(self, page: int, lines: Sequence[str]) -> None:
        self._manifest.pages[page] = self._write("details", page, lines)

    def _write(self, kind: str, number: int, lines: Sequence[str]) -> str:
        body = data_file(kind, self._set, number, lines)
        self._written += 1
        key = data_key(kind, self._set, number)
        return self._store.put(key, body, content_type=SCRIPT).sha256


def _lists(table: pa.Table, *names: str) -> list[list[str | None]]:
    return [table.column(name).to_pylist() for name in names]


def _texts(table: pa.Table, name: str) -> set[str]:
    return {str(text) for text in table.column(name).drop_null().unique().to_pylist()}


def _ids(table: pa.Table) -> list[str]:
    """A short name for each row key."""
    names = zip(*_lists(table, "request_sha256", "prediction_id", "output_index"), strict=True)
    return [hashlib.sha256(json.dumps(name).encode()).hexdigest()[:16] for name in names]


def _images_version(batches: Iterable[pa.Table]) -> str:
    stored = scalar_of("stored", pa.string())
    found = [
        rows.column("image_sha256").filter(pc.equal(rows.column("status"), stored)).drop_null()
        for rows in batches
    ]
    # As one, because rows are taken from chunks by joining them each time.
    images = pa.concat_arrays(
        [array_of([], pa.string()), *(chunk for each in found for chunk in each.chunks)]
    )
    order, digest = pc.sort_indices(images), hashlib.sha256()
    for start in range(0, len(order), _ROWS_AT_ONCE):
        piece = images.take(order.slice(start, _ROWS_AT_ONCE)).to_pylist()
        digest.update("".join(map(str, piece)).encode())
    return digest.hexdigest()


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
