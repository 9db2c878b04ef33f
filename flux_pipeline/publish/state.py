"""What a publisher remembers of a target, in a hidden file beside the index.

``.index-state.json`` holds for each published picture what its files were made of, so that what is
unchanged is neither fetched nor decoded, and every path that was ever written and not removed yet,
so that nothing of others is removed. It may be deleted: all variants are then made once more.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, BinaryIO, Self

from flux_pipeline.publish.index import dump
from flux_pipeline.publish.scratch import Scratch

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One file as it was written."""

    path: str
    made_by: str
    """What of ``publish.variants`` and of the renderer makes its bytes; see ``Renderer.keys``."""
    tag: str
    """Of the target; another one means that somebody else has written there."""
    sha256: str
    bytes: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """One published picture: where it comes from and what its files are."""

    partition: str
    prompt_name: str
    take: int
    output_index: int
    source_sha256: str
    """Of the stored file that its variants were made of."""
    published_at: str
    """ISO 8601, UTC: when a file of this very picture was first published under its name."""
    color: str
    placeholder: str
    files: tuple[FileFacts, ...]

    @property
    def place(self) -> tuple[str, str]:
        """Partition and prompt."""
        return self.partition, self.prompt_name

    def line(self) -> bytes:
        """One line of JSON."""
        files = [dict(zip(_FILE_NAMES, _file_values(file), strict=True)) for file in self.files]
        values = zip(_PICTURE_NAMES, _picture_values(self), strict=True)
        return dump({**dict(values), "files": files})

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """The facts of such an object. Raises KeyError or TypeError where it is another one."""
        files = tuple(FileFacts(**file) for file in values["files"])
        return cls(**{**values, "files": files})


_FILE_NAMES = tuple(each.name for each in fields(FileFacts))
_PICTURE_NAMES = tuple(each.name for each in fields(PictureFacts) if each.name != "files")
# dataclasses.asdict copies every value, which takes several times as long.
_file_values = attrgetter(*_FILE_NAMES)
_picture_values = attrgetter(*_PICTURE_NAMES)


class State:
    """The facts of every picture, as lines of JSON on disk; memory stays flat."""

    def __init__(self, scratch: Scratch) -> None:
        self.pictures = scratch.lines()
        """By the picture's name in the index, what ``PictureFacts.line`` gives."""
        self.others = scratch.texts()
        """Paths that were written, or are about to be, and belong to no picture, with their tags;
        an empty tag where that isn't known."""
        self.owned = scratch.texts()
        """Every path that was ours when the state was read, with its tag."""
        self.indexes: dict[str, str] = {}
        """Paths of ``index.csv`` and the feed, with tag and checksum."""

    def find(self, name: str) -> PictureFacts | None:
        """The facts of one picture."""
        line = self.pictures.get(name)
        return None if line is None else PictureFacts.parse(json.loads(line))

    def add(self, name: str, facts: PictureFacts) -> None:
        """Note the facts of a picture that is new here."""
        self.pictures[name] = facts.line()

    def put(self, name: str, facts: PictureFacts) -> None:
        """Note the facts of one picture; its earlier files belong to no picture then."""
        self.drop(name)
        self.pictures[name] = facts.line()
        self.others.remove_all(file.path for file in facts.files)

    def put_all(self, other: "State") -> None:
        """Note the facts of every picture of another state."""
        for name, line in other.pictures.pairs():
            if self.pictures.get(name) != line and (facts := other.find(name)) is not None:
                self.put(name, facts)

    def drop(self, name: str) -> None:
        """Forget a picture, but not that its files are ours."""
        facts = self.find(name)
        if facts is not None:
            del self.pictures[name]
            self.others.add_all((file.path, file.tag) for file in facts.files)

    def body(self) -> Iterator[bytes]:
        """The bytes of the file, in pieces: a line a picture."""
        head = {"version": _VERSION, "indexes": dict(sorted(self.indexes.items()))}
        yield dump(head)[:-1] + b', "others": {'
        comma = b""
        for path, tag in self.others.sorted_pairs():
            yield comma + dump({path: tag})[1:-1]
            comma = b", "
        yield b"}}\n"
        for name, line in self.pictures.sorted_pairs():
            yield dump({"name": name})[:-1] + b", " + line[1:] + b"\n"


def read_state(file: BinaryIO, scratch: Scratch) -> State:
    """The state in an open file; an empty one where that is empty, or not what was written."""
    file.seek(0)
    state = State(scratch)
    try:
        head = json.loads(next(file, b""))
        if head["version"] != _VERSION:
            return state
        state.indexes = dict(head["indexes"])
        state.others.add_all(head["others"].items())
        state.owned.add_all(state.others.pairs())
        for line in file:
            _read_picture(state, json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError):
        return State(scratch)
    return state


def _read_picture(state: State, values: dict[str, Any]) -> None:
    name = str(values.pop("name"))
    facts = PictureFacts.parse(values)
    files = [(file.path, file.tag) for file in facts.files]
    if not all(isinstance(text, str) for file in files for text in file):
        raise TypeError
    state.add(name, facts)
    state.owned.add_all(files)


def state_path(index: str) -> str:
    """``.index-state.json`` beside ``index.json``; ``index`` is its path without the ending."""
    folder, slash, stem = index.rpartition("/")
    return f"{folder}{slash}.{stem}-state.json"
