"""The index of what is published: ``index.json`` for programs, ``index.csv`` for spreadsheets.

``index.json`` is ``{set, generated_at, images: [{name, alt, prompt, request_sha256, source_uri,
made_at, color, placeholder, files: [{variant, path, format, width, height, bytes, sha256}]}]}``;
paths are relative to ``publish.to``. ``index.schema.json`` beside this module is its JSON Schema.
Each image stands on a line of its own, so that an index of any size is compared, merged and written
again line by line, and never held.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Self

from flux_pipeline.errors import StoreError
from flux_pipeline.publish.scratch import DiskDict, Scratch, spooled
from flux_pipeline.store.target import Target

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
_IMAGES = b'"images": ['
"""How the first line of an index ends, as we write it."""
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
        _check(values)
        return cls(str(values["name"]), _paths_of(values), dump(values))

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """The entry of such a line."""
        values = json.loads(line)
        return cls(str(values["name"]), _paths_of(values), line)

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


def _check(values: Mapping[str, Any]) -> None:
    """Pass where nothing is missing."""
    for name in PICTURE_COLUMNS:
        values[name]
    for file in values["files"]:
        for name in FILE_COLUMNS:
            file[name]


def _paths_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(file["path"]) for file in values["files"])


class Index:
    """An index that was read, or is to be written; on disk, so that memory stays flat."""

    def __init__(self, prompt_set: str, scratch: Scratch, generated_at: str = "") -> None:
        self.prompt_set = prompt_set
        self.generated_at = generated_at
        """ISO 8601, UTC; empty where nothing was published yet."""
        self.entries = DiskDict(scratch, attrgetter("line"), Entry.parse)
        """By name, in their order; see ``add``."""
        self.paths = scratch.texts()
        """The names of the pictures, by the paths of their files."""

    def add(self, entry: Entry) -> None:
        """Add an entry at the end, or in the place of the one of its name."""
        self.entries[entry.name] = entry
        self.paths.add_all((path, entry.name) for path in entry.paths)

    def has_same_entries(self, other: "Index") -> bool:
        """Whether another one has the very same lines, in the same order."""
        pairs = zip_longest(self.entries.encoded_pairs(), other.entries.encoded_pairs())
        return all(one == another for one, another in pairs)

    def body(self) -> Iterator[bytes]:
        """The bytes of ``index.json``, in pieces."""
        head = {"set": self.prompt_set, "generated_at": self.generated_at}
        yield dump(head)[:-1] + b', "images": ['
        before = b"\n"
        for _, line in self.entries.encoded_pairs():
            yield before + line
            before = b",\n"
        yield b"]}\n" if before == b"\n" else b"\n]}\n"

    def csv_body(self) -> Iterator[bytes]:
        """The bytes of ``index.csv``, in pieces: a row a file, with its picture's values."""
        yield _BOM + _csv_lines([(*PICTURE_COLUMNS, *FILE_COLUMNS)])
        for _, line in self.entries.encoded_pairs():
            values = json.loads(line)
            of_picture = [values[name] for name in PICTURE_COLUMNS]
            files = ([file[name] for name in FILE_COLUMNS] for file in values["files"])
            yield _csv_lines([*of_picture, *of_file] for of_file in files)


def _csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def dump(values: Mapping[str, Any]) -> bytes:
    """An object as one line of JSON."""
    return _ENCODER.encode(values).encode()


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(", ", ": "))


def fetch_index(
    target: Target, path: str, prompt_set: str, scratch: Scratch | None = None
) -> tuple[Index, str]:
    """The index at a path of a target, and its tag; an empty one and no tag where there is none.

    Raises:
        StoreError: The target can't be read; it is no index, or that of another prompt set.
    """
    with spooled() as file:
        tag = target.fetch(path, file)
        found = read_index(
            f"{target.uri}/{path}", file if tag is not None else None, prompt_set, scratch
        )
        return found, tag or ""


def read_index(
    place: str, file: BinaryIO | None, prompt_set: str, scratch: Scratch | None = None
) -> Index:
    """The index in an open file; an empty one where there is none. ``place`` names it in errors.

    Raises:
        StoreError: It is no index, or that of another prompt set.
    """
    index = Index(prompt_set, scratch or Scratch())
    if file is None:
        return index
    try:
        head = _read_head(file)
        for values in _read_images(file):
            index.add(Entry.of(values))
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
    index.generated_at = str(head["generated_at"])
    return index


def _read_head(file: BinaryIO) -> dict[str, Any]:
    file.seek(0)
    first = file.readline().rstrip(b"\n")
    is_ours = first.endswith(_IMAGES)  # else somebody formatted it anew
    found = json.loads(first + b"]}" if is_ours else first + file.read())
    return {"set": found["set"], "generated_at": found["generated_at"]}


def _read_images(file: BinaryIO) -> Iterator[Mapping[str, Any]]:
    """The images, line by line where each has one: objects take ten times as much memory."""
    file.seek(0)
    if not file.readline().rstrip(b"\n").endswith(_IMAGES):
        file.seek(0)
        yield from json.load(file)["images"]
        return
    for line in file:
        if line.rstrip() != b"]}":
            yield json.loads(line.rstrip().removesuffix(b","))
