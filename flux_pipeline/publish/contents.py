"""What lies in a target at one moment: its index, its state, and the tags of the files that matter.

All of it is read onto disk, so that a target of any size takes the same memory.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flux_pipeline.publish.index import Index, fetch_index
from flux_pipeline.publish.scratch import DiskDict, Scratch, spooled
from flux_pipeline.publish.selection import Selection, index_paths
from flux_pipeline.publish.state import State, read_state, state_path
from flux_pipeline.store.base import sha256_of
from flux_pipeline.store.target import Target


@dataclass(frozen=True, slots=True)
class Contents:
    """A target at one moment."""

    index: Index
    index_tag: str
    """Empty where there is no index."""
    state: State
    state_sha256: str
    """Of the state's file as it lies there; empty where there is none."""
    files: DiskDict[str]
    """The tags of the files that lie there, by path: of our own, and where pictures are to go."""

    def owns(self, path: str) -> bool:
        """Whether we have written there, and not removed it since."""
        return path in self.state.owned or path in self.index.paths

    def owned(self) -> Iterator[tuple[str, str]]:
        """Every such path, with the tag that it had then; empty where that isn't known."""
        yield from self.state.owned.pairs()
        yield from ((path, "") for path in self.index.paths if path not in self.state.owned)

    def has_index(self, path: str, sha256: str) -> bool:
        """Whether these very bytes lie under the path of what is written beside ``index.json``."""
        return self.state.indexes.get(path) == index_fact(self.files.get(path, ""), sha256)


def read_contents(target: Target, prompt_set: str, selection: Selection) -> Contents:
    """Look at a target: two files are read, and one listing or a few.

    Raises:
        StoreError: The target can't be read, or another set's index lies there.
    """
    publication, scratch = selection.publication, Scratch()
    index, tag = fetch_index(target, f"{publication.index}.json", prompt_set, scratch)
    with spooled() as file:
        has_state = target.fetch(state_path(publication.index), file) is not None
        state = read_state(file, scratch)
        state_sha256 = sha256_of(file) if has_state else ""
    contents = Contents(index, tag, state, state_sha256, scratch.texts())
    contents.files.add_all(_find_files(target, selection, contents))
    return contents


def _find_files(
    target: Target, selection: Selection, contents: Contents
) -> Iterator[tuple[str, str]]:
    """Path and tag of each file that is ours, or that lies where one is to go."""
    owned, indexed, chosen = contents.state.owned, contents.index.paths, selection.paths
    beside = {*index_paths(selection.publication), *contents.state.indexes}
    beginning = _common_beginning(path for paths in (owned, indexed, chosen) for path in paths)
    prefixes = [*([] if beginning is None else [beginning]), *sorted(beside)]
    for prefix in prefixes:
        for file in target.find(prefix):
            if any(file.path in paths for paths in (beside, owned, chosen, indexed)):
                yield file.path, file.tag


def _common_beginning(paths: Iterable[str]) -> str | None:
    """The longest text that all paths begin with, in whichever part of them; None without paths."""
    found: str | None = None
    for path in paths:
        if found is None:
            found = path
        while not path.startswith(found):
            found = found[:-1]
    return found


def index_fact(tag: str, sha256: str) -> str:
    """What the state notes of ``index.csv`` and of the feed."""
    return f"{tag} {sha256}"


def sha256_of_pieces(pieces: Iterable[bytes]) -> str:
    """The SHA-256 of bytes that come in pieces, 64 hex digits."""
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()
