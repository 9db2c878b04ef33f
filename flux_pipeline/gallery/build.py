"""One prompt set's gallery, brought up to date: what is new is read and added, the rest stays.

Everything here is derived from lineage parts and thumbnail packs. Pages are replaced in place, each
whole; the manifest has their hashes, so a page that was deleted, damaged or written by another
build at the same time is found by the next build, and made again from the parts of its rows.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.gallery.manifest import (
    COLUMNS,
    GALLERIES,
    OVERVIEW,
    ROWS,
    PageHashes,
    data_key,
    gallery_key,
    load_manifest,
    manifest_key,
    summary_key,
)
from flux_pipeline.gallery.page import (
    SCRIPT,
    Summary,
    detailed,
    lines_of,
    listed,
    page_data,
    render_page,
    script,
    when,
)
from flux_pipeline.iteration import map_ahead
from flux_pipeline.lineage.parts import is_part_of, list_parts, read_parts
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.lineage.thumbnails import list_packs, read_pack
from flux_pipeline.store.base import Store

PAGE = 200
"""Rows of a page: its file of details, with thumbnails, is about 1 MB."""
_AT_ONCE = 5_000
"""New rows held at most, about 2 KB each, unless one part has more."""
_THREADS = 8
_TITLE = "All prompt sets"


@dataclass(frozen=True, slots=True)
class Gallery:
    """One prompt set's gallery as it was built."""

    uri: str
    size: int
    """bytes of the page a person opens"""
    summary: Summary
    images_version: str
    """SHA-256 of the sorted hashes of all images that are shown."""
    parts_read: int
    files_written: int
    """Of data, beside the page and what leads to it."""


def build_gallery(
    store: Store, prompt_set: str, *, description: str = "", run_id: str = "", now: datetime
) -> Gallery:
    """Bring the gallery up to date; again at once, and it reads no part and writes no page.

    The parts of ``run_id`` are read again: a run that is resumed writes its own anew. Memory grows
    by less than 1 KB an image. Raises StoreError.
    """
    with Spool() as spool:
        builder = _Builder(store, prompt_set, spool)
        builder.check()
        builder.add_new(run_id)
        builder.mend()
        builder.write_rows()
        return builder.finish(description, now)


class Spool:
    """Thumbnails by the hash of their image. A context; for one thread."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by this context
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._file.close()


class _Builder:
    """The steps of one build, in order."""

    def __init__(self, store: Store, prompt_set: str, spool: Spool) -> None:
        self._store, self._set, self._spool = store, prompt_set, spool
        self._manifest = load_manifest(store, manifest_key(prompt_set))
        self._details = {n: page.details for n, page in self._manifest.pages.items()}
        self._rows = {n: page.rows for n, page in self._manifest.pages.items()}
        self._broken: set[int] = set()  # pages whose details are made again
        self._changed: set[int] = set()  # pages whose rows are written again
        self._parts_read = 0
        self._written = 0

    def check(self) -> None:
        """Find pages that are not as they were written: a HEAD for each file."""
        files = [
            (kind, page, wanted)
            for kind, hashes in (("details", self._details), ("rows", self._rows))
            for page, wanted in hashes.items()
        ]
        keys = [data_key(kind, self._set, page) for kind, page, _ in files]
        heads = map_ahead(self._store.head, keys, threads=_THREADS)
        for (kind, page, wanted), found in zip(files, heads, strict=True):
            if found is None or found.sha256 != wanted:
                (self._broken if kind == "details" else self._changed).add(page)

    def add_new(self, run_id: str) -> None:
        """Read the parts and packs that came since, and add their rows to pages."""
        known = self._manifest.parts
        self._present = {
            key for key in list_parts(self._store) if is_part_of(key, asset=f"{self._set}/images")
        }
        todo = sorted(
            key
            for key in self._present
            if key not in known or (run_id and is_part_of(key, run_id=run_id))
        )
        self._read_packs()
        again = pa.array(sorted(known & set(todo)), pa.string())
        stay = ~np.asarray(pc.is_in(self._manifest.rows.column("part"), again))
        self._changed |= self._manifest.keep(stay)
        for table in self._batches(todo):
            self._add(table)
        known.update(todo)
        self._parts_read += len(todo)

    def mend(self) -> None:
        """Make broken pages again, from the parts and packs of their rows."""
        for page in sorted(self._broken):
            rows = self._manifest.of_page(page)
            parts = sorted(self._present & _texts(rows, "part"))
            packs = _texts(rows, "pack") - set(self._spool.packs.values())
            self._spool.read(self._store, sorted(packs))
            ids = [str(row_id) for row_id in rows.column("id").to_pylist()]
            found: dict[str, str] = {}
            for table in self._batches(parts):
                theirs = _ids(table)
                lines = dict(zip(theirs, self._detailed(table, theirs), strict=True))
                found |= {row_id: lines[row_id] for row_id in ids if row_id in lines}
            self._write_details(page, [found[row_id] for row_id in ids if row_id in found])
            self._parts_read += len(parts)
        self._broken.clear()

    def write_rows(self) -> None:
        """Write the rows of pages that changed; a page without any is left out of the gallery."""
        for page in sorted(self._changed):
            rows = self._manifest.of_page(page)
            if not len(rows):
                self._rows.pop(page, None)
                self._details.pop(page, None)
                continue
            self._rows[page] = self._write("rows", page, listed(rows, self._store.uri))

    def finish(self, description: str, now: datetime) -> Gallery:
        """Write what leads to the pages: the manifest before the page that a person opens."""
        manifest, store = self._manifest, self._store
        manifest.pages = {n: PageHashes(self._rows[n], self._details[n]) for n in self._rows}
        parquet = "application/vnd.apache.parquet"
        store.put(manifest_key(self._set), manifest.to_bytes(), content_type=parquet)
        summary = Summary.of(self._set, description, manifest)
        store.put(summary_key(self._set), summary.to_bytes(), content_type="application/json")
        data = page_data(self._set, [summary], root="../../", folders=False, now=now)
        page = render_page(self._set, data)
        stored = store.put(gallery_key(self._set), page, content_type="text/html; charset=utf-8")
        return Gallery(
            stored.uri,
            stored.size,
            summary,
            _images_version(manifest.rows),
            self._parts_read,
            self._written,
        )

    def _read_packs(self) -> None:
        """Read new packs; a page that was made before its thumbnails came is made again."""
        manifest = self._manifest
        packs = [key for key in list_packs(self._store, self._set) if key not in manifest.packs]
        self._spool.read(self._store, packs)
        manifest.packs.update(packs)
        if not packs or not len(manifest.rows):
            return
        images, before = _lists(manifest.rows, "image_sha256", "pack")
        late = [
            None if pack else self._spool.packs.get(image or "")
            for image, pack in zip(images, before, strict=True)
        ]
        numbers = np.asarray(manifest.rows.column("page")).tolist()
        self._broken |= {page for page, pack in zip(numbers, late, strict=True) if pack}
        manifest.set_packs(new or old for new, old in zip(late, before, strict=True))

    def _batches(self, parts: Sequence[str]) -> Iterator[pa.Table]:
        """Whole rows of this prompt set, with the key of their part."""
        waiting, held = [SCHEMA.append(ROWS.field("part")).empty_table()], 0
        for key, table in read_parts(self._store, parts):
            origin = pa.array([key] * len(table), pa.string())
            waiting.append(table.append_column(ROWS.field("part"), origin))
            held += len(table)
            if held >= _AT_ONCE:
                yield self._of_set(waiting)
                waiting, held = waiting[:1], 0
        if held:
            yield self._of_set(waiting)

    def _of_set(self, tables: Iterable[pa.Table]) -> pa.Table:
        whole = pa.concat_tables(tables).combine_chunks()
        return whole.filter(pc.equal(whole.column("prompt_set"), pa.scalar(self._set)))

    def _add(self, table: pa.Table) -> None:
        """Add what is current of these rows to the pages, the oldest first."""
        order = pc.array_sort_indices(
            when(table).combine_chunks(), order="ascending", null_placement="at_start"
        )
        table = table.take(order)
        narrow = self._narrow(table)
        lost, current = self._manifest.settle(narrow)
        self._changed |= lost
        mask = pa.array(current)
        table, narrow = table.filter(mask), narrow.filter(mask)
        done = 0
        while done < len(table):
            page, lines = self._tail()
            end = min(len(table), done + PAGE - len(lines))
            piece = narrow.slice(done, end - done)
            ids = [str(row_id) for row_id in piece.column("id").to_pylist()]
            lines += self._detailed(table.slice(done, end - done), ids)
            self._write_details(page, lines)
            numbers = pa.array([page] * len(piece), pa.int32())
            at = ROWS.get_field_index("page")
            self._manifest.add(piece.set_column(at, ROWS.field("page"), numbers))
            self._changed.add(page)
            done = end

    def _tail(self) -> tuple[int, list[str]]:
        """The page that the next rows go to, and the lines of its details so far."""
        last = max(self._details, default=0)
        if last in self._details and last not in self._broken:
            body = self._store.get(data_key("details", self._set, last))
            if hashlib.sha256(body).hexdigest() == self._details[last]:
                lines = lines_of(body)
                if len(lines) < PAGE:
                    return last, lines
        return last + 1, []

    def _narrow(self, table: pa.Table) -> pa.Table:
        packs = [self._spool.packs.get(image or "") for image in _lists(table, "image_sha256")[0]]
        columns = [table.column(name) for name in (*COLUMNS, "part")]
        ids, pages = pa.array(_ids(table), pa.string()), pa.array([0] * len(table), pa.int32())
        return pa.table([*columns, ids, pages, pa.array(packs, pa.string())], schema=ROWS)

    def _detailed(self, table: pa.Table, ids: Sequence[str]) -> list[str]:
        thumbnails = self._spool.get(_lists(table, "image_sha256")[0])
        return detailed(table, ids, thumbnails)

    def _write_details(self, page: int, lines: Sequence[str]) -> None:
        self._details[page] = self._write("details", page, lines)

    def _write(self, kind: str, page: int, lines: Sequence[str]) -> str:
        body = script(kind, self._set, page, lines)
        self._written += 1
        key = data_key(kind, self._set, page)
        return self._store.put(key, body, content_type=SCRIPT).sha256


def _lists(table: pa.Table, *names: str) -> list[list[str | None]]:
    return [table.column(name).to_pylist() for name in names]


def _texts(table: pa.Table, name: str) -> set[str]:
    return {str(text) for text in table.column(name).drop_null().unique().to_pylist()}


def _ids(table: pa.Table) -> list[str]:
    """A short name for each row key."""
    names = zip(*_lists(table, "request_sha256", "prediction_id", "output_index"), strict=True)
    return [hashlib.sha256(json.dumps(name).encode()).hexdigest()[:16] for name in names]


def _images_version(rows: pa.Table) -> str:
    stored = rows.filter(pc.equal(rows.column("status"), pa.scalar("stored")))
    images = sorted(str(image) for image in stored.column("image_sha256").drop_null().to_pylist())
    return hashlib.sha256("".join(images).encode()).hexdigest()


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
