"""The HTML page of a gallery, and the files of data that it loads.

The page is one file with its style and script inside, the same for every gallery; only the title
and a block of JSON differ. Its Content-Security-Policy allows that style and script by their
hashes, and the files that the script adds: no other script, no other host, no form.

The files of data are scripts too, because a browser loads nothing else from a folder. Each is one
call with arrays of plain values, a line for each row. All text in them is JSON in which every
character is escaped that means something to HTML or ends a line in a script, so that no prompt is
ever code.
"""

import base64
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.gallery.manifest import FORM, Manifest, chapter_of
from flux_pipeline.gallery.selection import NOTHING_CHOSEN, Selection
from flux_pipeline.html import csp_hash, read_text, render_template
from flux_pipeline.images.formats import thumbnail_type
from flux_pipeline.lineage.arrays import dicts_of, numbers_of, scalar_of, values_of
from flux_pipeline.lineage.asked import Asked
from flux_pipeline.lineage.record import EMULATED, TIMES
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.lineage.table import last_times, sorted_distinct
from flux_pipeline.store.base import is_key

SCRIPT = "text/javascript; charset=utf-8"
"""The content type of files of data."""
FIELDS = SCHEMA.names
"""What the lineage panel is given of each image, in this order."""

_PACKAGE = "flux_pipeline.gallery"
_SCRIPTS = (
    *("words.js", "data.js", "csv.js", "picks.js", "filters.js", "grid.js"),
    *("panel.js", "viewer.js", "choosing.js", "page.js"),
)
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029\x7f\x85"}
_LINE_END = ",\n"
_SUMMED = ("status", "cost_usd", "provider", "model", "page", *TIMES)
"""The columns of the manifest that are added up."""
_TAG = 8
"""Digits of a file's hash that tell its versions apart."""
_MOST_REASON = 300
"""Characters of a reason on a tile; the panel has all of it."""
_MOST_THUMBNAIL = 65_536
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
"""Made once, because ``json.dumps`` makes one for each row."""
_PICTURE_INPUT = re.compile("image|mask|reference|picture|photo")
_MOST_SOURCES = 32
"""Pictures that an image is shown beside; a model takes at most 14."""
_HELD = "held: "
"""What the reason of a failed image begins with, where `flux-pipeline held` ends it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What one prompt set's gallery holds: all that a page needs to begin with."""

    name: str
    description: str
    stored: int
    """Images."""
    missing: int
    """Images that were refused, failed or are held."""
    usd: float
    """By estimate."""
    emulated: bool
    """Whether the images are the emulator's placeholders, and USD are no money."""
    chapters: tuple[tuple[int, int, str, int, int], ...]
    """Number, rows, the beginning of its file's hash, which tells versions apart, the time of its
    newest row in ms since 1970, and the number of its last page."""
    pages: tuple[tuple[int, str], ...]
    """Number, and the beginning of the hash of its file of details."""
    models: tuple[str, ...] = ()
    """``owner/name`` of every model that made or was to make one of the images, in order."""
    obsolete: tuple[str, ...] = ()
    """The ids of the rows that the prompt set does not ask for now."""
    selection: Selection = NOTHING_CHOSEN
    """What is chosen for publishing."""
    form: str = FORM
    """The form of the JSON and of the files of data."""

    @classmethod
    def of(
        cls,
        name: str,
        description: str,
        manifest: Manifest,
        asked: Asked,
        selection: Selection = NOTHING_CHOSEN,
    ) -> "Summary":
        """Add up a manifest."""
        totals = _Totals()
        for rows in manifest.rows.batches(*_SUMMED):
            totals.add(rows)
        statuses = totals.statuses
        stored = statuses.pop("stored", 0)
        statuses.pop("removed", None)  # on purpose: it misses nobody
        return cls(
            name,
            description,
            stored,
            statuses.total(),
            round(totals.usd, 6),
            EMULATED in totals.providers,
            tuple(totals.listed(manifest.chapters)),
            tuple((number, digest[:_TAG]) for number, digest in sorted(manifest.pages.items())),
            tuple(sorted(totals.models)),
            tuple(_obsolete(name, manifest, asked)),
            selection,
        )

    @classmethod
    def load(cls, body: bytes) -> "Summary":
        """Read what ``to_bytes`` wrote. Raises ValueError for anything else."""
        return cls.of_json(json.loads(body))

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Summary":
        """Read what ``asdict`` gave for JSON. Raises ValueError for anything else."""
        try:
            chapters = tuple(
                (int(number), int(rows), str(tag), int(newest), int(last))
                for number, rows, tag, newest, last in found["chapters"]
            )
            pages = tuple((int(number), str(tag)) for number, tag in found["pages"])
            models = tuple(map(str, found.get("models", ())))
            obsolete = tuple(map(str, found.get("obsolete", ())))
            lists = {"chapters": chapters, "pages": pages, "models": models, "obsolete": obsolete}
            selection = Selection.load(found.get("selection", {}))
            summary = cls(**{**found, **lists, "selection": selection})
        except (LookupError, TypeError) as error:
            raise ValueError(f"no summary of a gallery: {error}") from None
        if summary.form != FORM:
            raise ValueError("a summary of another version")
        return summary

    def to_bytes(self) -> bytes:
        """JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode()


@dataclass(slots=True)
class _Chapter:
    rows: int = 0
    newest: int = 0
    """ms since 1970"""
    last_page: int = 0


@dataclass(slots=True)
class _Totals:
    """What the rows of a manifest add up to."""

    statuses: Counter[str] = field(default_factory=Counter)
    usd: float = 0.0
    providers: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    chapters: dict[int, _Chapter] = field(default_factory=lambda: defaultdict(_Chapter))

    def listed(self, hashes: Mapping[int, str]) -> Iterator[tuple[int, int, str, int, int]]:
        """The chapters as a ``Summary`` has them, by the hashes of their files."""
        for number, digest in sorted(hashes.items()):
            found = self.chapters[number]
            yield number, found.rows, digest[:_TAG], found.newest, found.last_page

    def add(self, rows: pa.Table) -> None:
        """Add some rows."""
        self.statuses.update(map(str, rows.column("status").to_pylist()))
        self.usd += pc.sum(rows.column("cost_usd")).as_py() or 0.0
        self.providers.update(map(str, rows.column("provider").unique().to_pylist()))
        self.models.update(map(str, rows.column("model").unique().to_pylist()))
        # NumPy, because importing Arrow's ``group_by`` costs more than a page.
        times = last_times(rows).cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
        times = numbers_of(times.fill_null(scalar_of(0, pa.int64())), np.int64)
        pages = numbers_of(rows.column("page"), np.int32)
        of_rows = chapter_of(pages)
        for number in sorted_distinct(of_rows).tolist():
            chapter, is_its = self.chapters[number], of_rows == number
            chapter.rows += int(is_its.sum())
            chapter.newest = max(chapter.newest, int(times[is_its].max()))
            chapter.last_page = max(chapter.last_page, int(pages[is_its].max()))


def _obsolete(prompt_set: str, manifest: Manifest, asked: Asked) -> Iterator[str]:
    for rows in manifest.rows.batches("request_sha256", "partition", "id"):
        requests, partitions, ids = (
            [str(one) for one in each.to_pylist()] for each in rows.columns
        )
        current = asked.are_current(requests, [prompt_set] * len(ids), partitions)
        for row_id, is_current in zip(ids, current, strict=True):
            if is_current is False:
                yield row_id


def page_data(
    title: str, summaries: Sequence[Summary], *, root: str, folders: bool, now: datetime
) -> Mapping[str, Any]:
    """What the page's script is given.

    ``root`` leads from the page to the store's keys; with ``folders`` each prompt set's files lie
    in a folder of its name.
    """
    return {
        "title": title,
        "root": root,
        "folders": folders,
        "asOf": now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "fields": FIELDS,
        "sets": [asdict(summary) for summary in summaries],
    }


def render_page(title: str, data: Mapping[str, Any]) -> bytes:
    """The page with this title, that shows what ``data`` lists."""
    return render_template(
        _PACKAGE, "page/page.html.jinja", **_parts_of_all_pages(), title=title, data=to_json(data)
    ).encode()


@cache
def _parts_of_all_pages() -> Mapping[str, str]:
    """Style and script of a page, and the policy that allows them alone."""
    style = read_text(_PACKAGE, "page/page.css")
    code = "".join(read_text(_PACKAGE, f"page/{name}") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{code}}})();\n'
    policy = (
        f"default-src 'none'; script-src {csp_hash(script)} 'strict-dynamic'; style-src"
        f" {csp_hash(style)}; img-src 'self' file: data:; base-uri 'none'; form-action 'none';"
        " require-trusted-types-for 'script'; trusted-types flux-gallery"
    )
    return {"policy": policy, "style": style, "script": script}


def to_json(value: Any) -> str:
    """JSON that is safe in a script, inside HTML too, and reads back as the same value."""
    return _ENCODER.encode(value).translate(_ESCAPES)


def data_file(kind: str, prompt_set: str, number: int, lines: Iterable[str]) -> bytes:
    """A file of data, as ``data_key`` names it; each line is one row as JSON."""
    head = to_json([kind, prompt_set, number])[1:-1]
    return f"fluxGallery({head},[\n{_LINE_END.join(lines)}\n]);\n".encode()


def data_lines(body: bytes) -> list[str]:
    """The lines that ``data_file`` was given. Raises ValueError where there are none."""
    text = body.decode()
    _, start, rest = text.partition("[\n")
    lines, end, _ = rest.rpartition("\n]);")
    if not (start and end):
        raise ValueError("no file of a gallery's data")
    return lines.split(_LINE_END) if lines else []


class GridLines:
    """The rows of a chapter as the page's grid needs them, page by page.

    A row names its model only where that of the row before it is another, and its page where it is
    the first of it.
    """

    def __init__(self, store_uri: str) -> None:
        self.lines: list[str] = []
        self._store_uri = store_uri
        self._model: str | None = None

    def add(self, page: int, rows: pa.Table) -> None:
        """Add the rows of a page, which are the manifest's."""
        first = [page]
        for row, time in zip(dicts_of(rows), values_of(last_times(rows)), strict=True):
            model = None if row["model"] == self._model else row["model"]
            changed = [model, *first] if model or first else []
            self.lines.append(to_json(_grid_row(row, time, self._store_uri) + changed))
            self._model, first = row["model"], []


def _grid_row(row: Mapping[str, Any], time: datetime | None, store_uri: str) -> list[Any]:
    status, reason = row["status"], row["error"] or ""
    if reason.startswith(_HELD):
        status, reason = "held", reason.removeprefix(_HELD)
    uri = row["uri"] or ""
    key = _key_of(uri, store_uri) if status == "stored" else ""
    if not key:
        reason = reason if status != "stored" else f"lies in another store: {uri}"
    return [
        row["id"],
        row["prompt_name"],
        row["partition"],
        row["take"],
        row["prompt"],
        None if row["seed"] is None else str(row["seed"]),  # JavaScript rounds above 2^53
        status,
        reason[:_MOST_REASON],
        key,
        row["width"] or 0,
        row["height"] or 0,
        int(time.timestamp() * 1000) if time else 0,
        row["output_index"],
        _base64_of_hex(row["image_sha256"] or "") if status == "stored" else "",
    ]


def _base64_of_hex(digest: str) -> str:
    """A checksum in two thirds of the characters; empty for anything else."""
    try:
        return base64.b64encode(bytes.fromhex(digest)).decode().rstrip("=")
    except ValueError:
        return ""


def _key_of(uri: str, store_uri: str) -> str:
    """The key of an object of the store; empty for what lies elsewhere."""
    key = uri.removeprefix(f"{store_uri}/")
    return "" if key == uri or not is_key(key) else key


def detail_lines(
    rows: pa.Table, ids: Sequence[str], thumbnails: Mapping[str, bytes], store_uri: str
) -> list[str]:
    """Whole records with their thumbnails, as the lineage panel needs them.

    The pictures that an image was made from follow the record, where there are any.
    """
    shown = (_shown_values(name, rows.column(name)) for name in FIELDS)
    images, pictures, inputs = (
        rows.column(name).to_pylist() for name in ("image_sha256", "input_images", "input")
    )
    lines = []
    for row_id, image, known, given, *values in zip(
        ids, images, pictures, inputs, *shown, strict=True
    ):
        thumbnail = _thumbnail_base64(thumbnails.get(image or "", b""))
        sources = _sources(known or "", given or "", store_uri)
        lines.append(to_json([row_id, thumbnail, *values, *([sources] if sources else [])]))
    return lines


def _sources(recorded_pictures: str, recorded_input: str, store_uri: str) -> list[list[str]]:
    """Of each picture that went in: its input, its address, and its key in the same store."""
    found = []
    if recorded_pictures:
        # Where they were written by another hand, the input still names them.
        with suppress(LookupError, TypeError, ValueError):
            known = json.loads(recorded_pictures)
            found = [(str(each["name"]), str(each["uri"])) for each in known]
    found += _linked_pictures(recorded_input)
    return [[name, uri, _key_of(uri, store_uri)] for name, uri in found[:_MOST_SOURCES]]


def _linked_pictures(recorded_input: str) -> Iterator[tuple[str, str]]:
    """The inputs that hold a picture's address in the web, by their names: weights have one too."""
    if "https://" not in recorded_input:
        return
    try:
        values = json.loads(recorded_input)
    except ValueError:
        return
    for name, value in values.items() if isinstance(values, dict) else ():
        if _PICTURE_INPUT.search(name):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str) and each.startswith("https://"):
                    yield name, each


def _thumbnail_base64(thumbnail: bytes) -> str:
    """Base64 of a JPEG or a WebP, whose first letters tell which; empty for anything else."""
    if not thumbnail_type(thumbnail) or len(thumbnail) > _MOST_THUMBNAIL:
        return ""
    return base64.b64encode(thumbnail).decode()


def _shown_values(name: str, column: Any) -> list[str | None]:
    """A column as the panel shows it; numbers as text, because JavaScript rounds above 2^53."""
    values = values_of(column)
    if pa.types.is_string(column.type) or column.null_count == len(column):
        return values
    if pa.types.is_timestamp(column.type):
        return [value and f"{value.isoformat(timespec='milliseconds')[:-6]}Z" for value in values]
    form = "016x" if name == "dhash" else ".6g" if pa.types.is_floating(column.type) else ""
    return [None if value is None else format(value, form) for value in values]
