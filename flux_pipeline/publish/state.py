"""What a publisher remembers of a target, in a hidden file beside the index.

``.index-state.json`` holds for each published picture what its files were made of, so that what is
unchanged is neither fetched nor decoded, and every path that was ever written and not removed yet,
so that nothing of others is removed. It may be deleted: all variants are then made once more.
"""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flux_pipeline.publish.index import dump

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One file as it was written."""

    path: str
    made_by: str
    """What of ``publish.variants`` and of the renderer makes its bytes; see ``render_key``."""
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


@dataclass(slots=True)
class State:
    """The facts of every picture, as lines of JSON, which take a tenth of objects' memory."""

    pictures: dict[str, bytes] = field(default_factory=dict)
    """By the picture's name in the index."""
    others: dict[str, str] = field(default_factory=dict)
    """Paths that were written, or are about to be, and belong to no picture, with their tags; an
    empty tag where that isn't known."""
    indexes: dict[str, str] = field(default_factory=dict)
    """Paths of ``index.csv`` and the feed, with tag and checksum."""

    def find(self, name: str) -> PictureFacts | None:
        """The facts of one picture."""
        line = self.pictures.get(name)
        return None if line is None else _parse(json.loads(line))

    def put(self, name: str, facts: PictureFacts) -> None:
        """Note the facts of one picture; its earlier files belong to no picture then."""
        self.drop(name)
        self.pictures[name] = dump(asdict(facts))
        for file in facts.files:
            self.others.pop(file.path, None)

    def drop(self, name: str) -> None:
        """Forget a picture, but not that its files are ours."""
        facts = self.find(name)
        if facts is not None:
            del self.pictures[name]
            self.others |= {file.path: file.tag for file in facts.files}

    def owned(self) -> dict[str, str]:
        """Every path that is ours, with its tag."""
        found = dict(self.others)
        for line in self.pictures.values():
            found |= {file["path"]: file["tag"] for file in json.loads(line)["files"]}
        return found

    def body(self) -> bytes:
        """The bytes of the file: a line a picture."""
        indexes, others = (dict(sorted(found.items())) for found in (self.indexes, self.others))
        head = {"version": _VERSION, "indexes": indexes, "others": others}
        lines = (dump({"name": name})[:-1] + b", " + line[1:] for name, line in self._lines())
        return dump(head) + b"\n" + b"".join(line + b"\n" for line in lines)

    def _lines(self) -> Iterable[tuple[str, bytes]]:
        return sorted(self.pictures.items())


def read_state(body: bytes | None) -> State:
    """The state of these bytes; an empty one where there are none, or others than were written."""
    if not body:
        return State()
    try:
        lines = io.BytesIO(body)
        values = json.loads(next(lines))
        if values["version"] != _VERSION:
            return State()
        pictures = {}
        for line in lines:
            found = json.loads(line)
            name = found.pop("name")
            pictures[str(name)] = dump(asdict(_parse(found)))
        return State(pictures, dict(values["others"]), dict(values["indexes"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return State()


def _parse(values: Mapping[str, Any]) -> PictureFacts:
    files = tuple(FileFacts(**file) for file in values["files"])
    return PictureFacts(**{**values, "files": files})


def state_path(index: str) -> str:
    """``.index-state.json`` beside ``index.json``; ``index`` is its path without the ending."""
    folder, slash, stem = index.rpartition("/")
    return f"{folder}{slash}.{stem}-state.json"
