"""Reads YAML as text with line numbers, and refuses what a prompt set has no use for.

Every scalar stays the text that stands in the file (``16:9``, ``010``, ``no`` and ``2025-07-29``
included); its field gives it a type later. Built from libyaml's events rather than by a loader:
an alias bomb, 5,000 levels or a tag are refused before they cost anything, and a duplicate key,
which PyYAML's loaders drop silently, is reported with both lines.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from flux_pipeline.errors import Problem, Problems
from flux_pipeline.text import quoted

MAX_BYTES = 2**20
MAX_DEPTH = 20
KeyPath: TypeAlias = tuple[str, ...]
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """A mapping as a file or a caller gave it, and where its keys stand."""

    path: str
    value: Mapping[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """1-based lines by path of keys; empty where the caller knows none."""
    duplicates: tuple[Problem, ...] = ()
    """Keys that stand twice, of which ``value`` holds the first: mistakes like any other."""

    def line(self, *keys: str) -> int:
        """The line of a key, or of the nearest one around it; 0 where no line is known."""
        for end in range(len(keys), 0, -1):
            if (line := self.lines.get(keys[:end])) is not None:
                return line
        return 0


@dataclass(frozen=True, slots=True)
class Part:
    """What is read of a file: the value of ``key`` in the document that starts in ``line``."""

    line: int
    """1-based, of the document's first key: several documents may share a file (``---``)."""
    key: str

    def of(self, events: Iterable[yaml.Event]) -> Iterator[yaml.Event]:
        """The events of the value alone; of both values, where the key stands twice."""
        level, is_here, is_value, is_wanted = 0, False, False, False
        for event in events:
            ends = isinstance(event, yaml.CollectionEndEvent)
            starts = isinstance(event, yaml.CollectionStartEvent)
            level -= ends
            if level == 0:
                mark = event.start_mark
                is_here = starts and mark is not None and mark.line + 1 == self.line
                is_value = is_wanted = False
            else:
                if level == 1 and not is_value:
                    key = event.value if isinstance(event, yaml.ScalarEvent) else None
                    is_wanted = is_here and key == self.key
                elif is_wanted:
                    yield event
                if level == 1 and not starts:
                    is_value = not is_value
            level += starts


def parse_yaml(data: bytes, path: str, part: Part | None = None) -> Document:
    """The document, or a part of one as if it stood alone, every scalar as text.

    Raises:
        ConfigError: not UTF-8, too large or deep, no YAML, not one mapping, or with aliases or
            tags; all of these that can be found at once.
    """
    problems = Problems()
    text = _decoded(data, path, problems)
    builder = _Builder(path, problems)
    try:
        events = yaml.parse(text, Loader=_Loader)
        for event in part.of(events) if part else events:
            if not builder.take(event):
                break
    except yaml.YAMLError as error:
        problems.add(path, *_explained(error, text))
    if problems:
        problems.add_all(builder.duplicates.as_tuple())
    problems.raise_if_any()
    if builder.root is None or builder.root == "":
        problems.add(path, 0, "", "is empty: no prompts")
    elif not isinstance(builder.root, dict):
        what = "a list" if isinstance(builder.root, list) else "a single value"
        line = part.line if part else 1
        problems.add(
            path, line, "", f"holds {what}; a prompt set is a mapping with the key prompts"
        )
    problems.raise_if_any()
    assert isinstance(builder.root, dict)  # noqa: S101 -- said for the type checker
    return Document(path, builder.root, builder.lines, builder.duplicates.as_tuple())


def _decoded(data: bytes, path: str, problems: Problems) -> str:
    if len(data) > MAX_BYTES:
        problems.add(
            path, 0, "", f"has more than {MAX_BYTES:,} bytes (1 MiB): use a table for many prompts"
        )
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[1:2] == b"\0" or data[:1] == b"\0":
        problems.add(path, 0, "", "is UTF-16 or UTF-32: save as UTF-8")
    elif (nul := data.find(b"\0")) >= 0:
        problems.add(
            path, data.count(b"\n", 0, nul) + 1, "", "holds a NUL byte: is it a text file?"
        )
    problems.raise_if_any()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the byte order mark.
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        problems.add(path, line, "", f"is not UTF-8 at byte {start}: save as UTF-8")
    problems.raise_if_any()
    return ""


def _explained(error: yaml.YAMLError, text: str) -> tuple[int, str, str]:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        number = error.problem_mark.line
        lines = text.splitlines()
        hint = ""
        if number < len(lines) and re.match(r" *\t", lines[number]):
            hint = ": a tab stands in the indentation; YAML takes only spaces there"
        return number + 1, "", f"is not valid YAML: {error.problem}{hint}"
    position = getattr(error, "position", 0)
    reason = getattr(error, "reason", "") or "unreadable"
    line = text.encode()[:position].count(b"\n") + 1
    return line, "", f"is not valid YAML: {reason} (write it as an escape in double quotes)"


class _Open:
    """A mapping or list that is being read."""

    __slots__ = ("container", "key", "path")

    def __init__(self, container: dict[str, Any] | list[Any], path: KeyPath) -> None:
        self.container = container
        self.path = path
        self.key: str | None = None
        """In a mapping, the key that waits for its value."""


class _Builder:
    """Grows the document from events, with a stack of its own instead of recursion."""

    def __init__(self, path: str, problems: Problems) -> None:
        self.root: Any = None
        self.lines: dict[KeyPath, int] = {}
        self.duplicates = Problems()
        self._path = path
        self._problems = problems
        self._open: list[_Open] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> bool:
        """Take one event; False where there is no sense in going on."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        match event:
            case yaml.ScalarEvent():
                self._refuse_node(event, line)
                self._add_scalar(event.value, line)
            case yaml.MappingStartEvent():
                return self._start({}, event, line)
            case yaml.SequenceStartEvent():
                return self._start([], event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()
            case yaml.AliasEvent():
                self._problem(line, "aliases (*name) are not supported: write the value out")
                self._add_scalar("", line)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    said = "a second document starts here (---): one file holds one prompt set"
                    self._problem(line, said)
                    return False
        return True

    def _start(self, container: dict[str, Any] | list[Any], event: Any, line: int) -> bool:
        self._refuse_node(event, line)
        if len(self._open) == MAX_DEPTH:
            self._problem(line, f"is nested more than {MAX_DEPTH} levels deep")
            return False
        if self._waits_for_key():
            self._problem(line, "a key must be text, not a mapping or list (braces need quotes)")
            return False
        self._open.append(_Open(container, self._add_value(container, line)))
        return True

    def _waits_for_key(self) -> bool:
        if not self._open:
            return False
        parent = self._open[-1]
        return parent.key is None and isinstance(parent.container, dict)

    def _add_scalar(self, text: str, line: int) -> None:
        if not self._waits_for_key():
            self._add_value(text, line)
            return
        parent = self._open[-1]
        parent.key = text
        where = (*parent.path, text)
        if text in parent.container:
            said = f"duplicate key {quoted(text)}: it stands in line {self.lines[where]} already"
            self.duplicates.add(self._path, line, ".".join(where), said)
        self.lines.setdefault(where, line)

    def _add_value(self, value: Any, line: int) -> KeyPath:
        """Put a value where it belongs; return its path."""
        if not self._open:
            if self.root is not None:
                self._problem(line, "stands twice: write all keys under one of them")
            self.root = value
            return ()
        parent = self._open[-1]
        if isinstance(parent.container, list):
            where = (*parent.path, str(len(parent.container)))
            self.lines[where] = line
            parent.container.append(value)
            return where
        where = (*parent.path, parent.key or "")
        # The first of two equal keys stays; the second is reported already.
        parent.container.setdefault(parent.key or "", value)
        parent.key = None
        return where

    def _refuse_node(self, event: Any, line: int) -> None:
        if event.anchor is not None:
            self._problem(line, f"aliases (&{event.anchor}) are not supported: write the value out")
        if event.tag is not None:
            self._problem(line, f"the tag {quoted(event.tag)} is refused: tags are not supported")

    def _problem(self, line: int, message: str) -> None:
        where: KeyPath = ()
        if self._open:
            parent = self._open[-1]
            where = parent.path if parent.key is None else (*parent.path, parent.key)
        self._problems.add(self._path, line, ".".join(where), message)
