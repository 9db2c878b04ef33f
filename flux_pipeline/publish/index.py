"""The index of what is published: ``index.json`` for programs, ``index.csv`` for spreadsheets.

``index.json`` is ``{set, generated_at, images: [{name, alt, prompt, request_sha256, source_uri,
made_at, color, placeholder, files: [{variant, path, format, width, height, bytes, sha256}]}]}``;
paths are relative to ``publish.to``. ``index.schema.json`` beside this module is its JSON Schema.
Each image stands on a line of its own, so that an index of any size is compared, merged and written
again as lines, and never held as objects.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flux_pipeline.errors import StoreError

SCHEMA_FILE = Path(__file__).with_name("index.schema.json")
FILE_COLUMNS = ("variant", "path", "format", "width", "height", "bytes", "sha256")
PICTURE_COLUMNS = (
    "name",
    "alt",
    "prompt",
    "request_sha256",
    "source_uri",
    "made_at",
    "color",
    "placeholder",
)
_BOM = b"\xef\xbb\xbf"
"""Without it spreadsheets take UTF-8 for something else."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One published picture, as a line of the index."""

    name: str
    paths: tuple[str, ...]
    """Of its files, relative to the target."""
    line: bytes
    """The JSON object."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Entry":
        """The entry of an object with ``PICTURE_COLUMNS`` and ``files``.

        Raises:
            KeyError, TypeError: It is no such object.
        """
        paths = tuple(str(file["path"]) for file in values["files"])
        return cls(str(values["name"]), paths, dump(values))

    def values(self) -> dict[str, Any]:
        """The JSON object, parsed."""
        found: dict[str, Any] = json.loads(self.line)
        return found

    @property
    def source(self) -> tuple[str, int]:
        """Request and output (0-based), which the name of the stored file ends with."""
        values = self.values()
        number = str(values["source_uri"]).rpartition("-")[2].partition(".")[0]
        return str(values["request_sha256"]), int(number) if number.isdecimal() else 0

    def without(self, paths: Iterable[str]) -> "Entry":
        """The same but for some of its files."""
        values = self.values()
        left_out = set(paths)
        values["files"] = [file for file in values["files"] if file["path"] not in left_out]
        return Entry.of(values)


@dataclass(frozen=True, slots=True)
class Index:
    """An index that was read, or is to be written."""

    prompt_set: str
    generated_at: str
    """ISO 8601, UTC; empty where nothing was published yet."""
    entries: Mapping[str, Entry]
    """By name, in their order."""

    def body(self) -> bytes:
        """The bytes of ``index.json``."""
        head = {"set": self.prompt_set, "generated_at": self.generated_at}
        lines = b",\n".join(entry.line for entry in self.entries.values())
        inside = b"\n" + lines + b"\n" if lines else b""
        return dump(head)[:-1] + b', "images": [' + inside + b"]}\n"

    def csv_body(self) -> bytes:
        """The bytes of ``index.csv``: a row a file, with its picture's values."""
        rows = [_BOM + _csv_lines([(*PICTURE_COLUMNS, *FILE_COLUMNS)])]
        for entry in self.entries.values():
            values = entry.values()
            of_picture = [values[name] for name in PICTURE_COLUMNS]
            files = ([file[name] for name in FILE_COLUMNS] for file in values["files"])
            rows.append(_csv_lines([*of_picture, *of_file] for of_file in files))
        return b"".join(rows)


def _csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    # One buffer for all of them would take four bytes a character.
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def dump(values: Mapping[str, Any]) -> bytes:
    """An object as one line of JSON."""
    return json.dumps(values, ensure_ascii=False, separators=(", ", ": ")).encode()


def read_index(place: str, body: bytes | None, prompt_set: str) -> Index:
    """The index of these bytes; an empty one where there are none. ``place`` names it in errors.

    Raises:
        StoreError: It is no index, or that of another prompt set.
    """
    if body is None:
        return Index(prompt_set, "", {})
    try:
        head = _read_head(body)
        entries = {entry.name: entry for entry in map(Entry.of, _read_images(body))}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(
            f"{place}: is there already and is no index of published pictures: move it away, or"
            " give publish.index another name"
        ) from None
    if head["set"] != prompt_set:
        raise StoreError(
            f"{place}: is the index of the prompt set {head['set']}: give publish.index of"
            f" {prompt_set} another name, such as {prompt_set}.json, or publish.to another place"
        )
    return Index(prompt_set, str(head["generated_at"]), entries)


def _read_head(body: bytes) -> dict[str, Any]:
    first = body.partition(b"\n")[0]
    is_ours = first.endswith(b'"images": [')  # else somebody formatted it anew
    found = json.loads(first + b"]}" if is_ours else body)
    return {"set": found["set"], "generated_at": found["generated_at"]}


def _read_images(body: bytes) -> Iterator[Mapping[str, Any]]:
    """The images, line by line where each has one: objects take ten times as much memory."""
    lines = io.BytesIO(body)  # which shares the bytes
    if not next(lines).rstrip(b"\n").endswith(b'"images": ['):
        yield from json.loads(body)["images"]
        return
    for line in lines:
        if line.rstrip() != b"]}":
            yield json.loads(line.rstrip().removesuffix(b","))
