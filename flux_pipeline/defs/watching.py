"""Which files prompt sets were loaded from, and which of them are others by now."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from flux_pipeline.prompts import PromptSet, load_prompt_sets

Stamp: TypeAlias = tuple[int, int, str]
"""Bytes, time of the last change in ns, SHA-256."""
Stamps: TypeAlias = Mapping[Path, Stamp]


@dataclass(frozen=True, slots=True)
class Watched:
    """Prompt sets, and the state of their files before they were loaded."""

    files: Stamps
    prompt_sets: Sequence[PromptSet]
    find: Callable[[], Iterable[Path]]
    """The files that there are now, besides those above."""
    load: Callable[[], Sequence[PromptSet]]
    """Loads them all anew; raises ConfigError."""

    def changed_files(self) -> Mapping[str, str]:
        """What is new, gone or other now, by path, with its hash (empty: gone).

        A file that was merely touched is none. A thousand files cost some milliseconds.
        """
        changed = {}
        for path in sorted({*self.files, *self.find()}):
            before, now = self.files.get(path), _stat(path)
            if now != (before and before[:2]):
                digest = _sha256(path)
                if before is None or digest != before[2]:
                    changed[str(path)] = digest
        for entry in (e for s in self.prompt_sets for e in s.expansion.entries):
            if entry.table is not None and not entry.table.is_unchanged():
                changed[str(entry.table.path)] = _sha256(entry.table.path)
        return changed


def watch_folder(folder: Path) -> Watched:
    """Load every prompt set of the folder; remember the files as they were before.

    Raises:
        ConfigError: As ``load_prompt_sets``.
    """
    stamps = stamp_files(_prompt_set_files(folder))
    find, load = partial(_prompt_set_files, folder), partial(load_prompt_sets, folder)
    return Watched(stamps, load(), find, load)


def stamp_files(paths: Iterable[Path]) -> Stamps:
    """Say how files are now: before they are read, so that no edit falls in between."""
    stamps = {path: (_stat(path), _sha256(path)) for path in paths}
    return {path: (*stat, digest) for path, (stat, digest) in stamps.items() if stat}


def _prompt_set_files(folder: Path) -> Iterator[Path]:
    for ending in ("*.yaml", "*.yml"):
        yield from folder.glob(ending)


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
