"""Parses YAML into text with line numbers, and refuses what a prompt set has no use for.

Every scalar stays the text that stands in the file (``16:9``, ``010``, ``no`` and ``2025-07-29``
included); the schema gives it a type later. It is built from libyaml's events rather than by a
loader: an alias bomb, 5,000 levels or a tag are refused before they cost anything, and a duplicate
key, which PyYAML's loaders drop silently, is reported with both lines.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from flux_pipeline.errors import ConfigError, Problem, Problems
from flux_pipeline.prompts.encodings import SAMPLE_BYTES, describe_encoding
from flux_pipeline.text import quoted

MAX_BYTES = 2**20
MAX_DEPTH = 20
WIDE_COLON = "\N{FULLWIDTH COLON}"
WIDE_HINT = f"a full-width colon ({WIDE_COLON}) stands there; YAML takes : and a blank behind it"
KeyPath: TypeAlias = tuple[str, ...]
# libyaml's parser where PyYAML was built with it: it gives the same events faster.
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """A mapping as a file or a caller gave it, with the lines of its keys."""

    path: str
    value: Mapping[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """1-based lines by path of keys; empty where the caller knows none."""
    duplicates: tuple[Problem, ...] = ()
    """Problems about keys that stand twice; ``value`` holds the first of each."""

    def line(self, *keys: str) -> int:
        """The line of a key, or of the nearest one around it; 0 where no line is known."""
        for end in range(len(keys), 0, -1):
            if (line := self.lines.get(keys[:end])) is not None:
                return line
        return 0


@dataclass(frozen=True, slots=True)
class YamlSection:
    """A part of a file to read: the value of ``key`` in the document that starts in ``line``."""

    line: int
    """1-based, of the document's first key: several documents may share a file (``---``)."""
    key: str

    def select(self, events: Iterable[yaml.Event]) -> Iterator[yaml.Event]:
        """The events of the value alone; of both values, where the key stands twice."""
        depth, is_in_document, is_value, is_selected = 0, False, False, False
        for event in events:
            ends = isinstance(event, yaml.CollectionEndEvent)
            starts = isinstance(event, yaml.CollectionStartEvent)
            depth -= ends
            if depth == 0:
                mark = event.start_mark
                is_in_document = starts and mark is not None and mark.line + 1 == self.line
                is_value = is_selected = False
            else:
                # At depth 1, keys and values alternate; deeper events belong to the last key.
                if depth == 1 and not is_value:
                    key = event.value if isinstance(event, yaml.ScalarEvent) else None
                    is_selected = is_in_document and key == self.key
                elif is_selected:
                    yield event
                if depth == 1 and not starts:
                    is_value = not is_value
            depth += starts


def parse_yaml(data: bytes, path: str, section: YamlSection | None = None) -> Document:
    """The document, or a section of one as if it stood alone, with every scalar as text.

    Raises:
        ConfigError: Not UTF-8, too large or deep, no YAML, not one mapping, or with aliases or
            tags; all of these that can be found at once.
    """
    text = decode_text(data, path)
    problems = Problems()
    builder = _Builder(path, problems)
    try:
        # As yaml.parse, without its generator. None follows the last event.
        events = iter(_Loader(text).get_event, None)
        for event in section.select(events) if section else events:
            if not builder.add(event):
                break
    except yaml.YAMLError as error:
        problems.add(path, *_describe_error(error, text))
    if problems:
        # A file that is refused names its duplicate keys too; in others they come with the rest.
        problems.add_all(builder.duplicates.as_tuple())
    problems.raise_if_any()
    root = builder.root
    if isinstance(root, dict):
        return Document(path, root, builder.lines, builder.duplicates.as_tuple())
    if root is None or root == "":
        raise ConfigError([Problem(path, 0, "", "is empty: no prompts")])
    what = "a list" if isinstance(root, list) else "a single value"
    line = section.line if section else 1
    message = f"holds {what}; a prompt set is a mapping with the key prompts"
    if isinstance(root, str) and WIDE_COLON in root:
        message += f": {WIDE_HINT}"
    raise ConfigError([Problem(path, line, "", message)])


def decode_text(data: bytes, path: str) -> str:
    """The text of a YAML file.

    Raises:
        ConfigError: Not UTF-8, or too large.
    """
    line = 0
    if len(data) > MAX_BYTES:
        message = f"has more than {MAX_BYTES:,} bytes (1 MiB): use a table for many prompts"
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[1:2] == b"\0" or data[:1] == b"\0":
        message = "is UTF-16 or UTF-32: save as UTF-8"
    elif (nul := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, nul) + 1
        message = "holds a NUL byte: is it a text file?"
    else:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # utf-8-sig counts from behind the byte order mark.
            start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
            line = data.count(b"\n", 0, start) + 1
            known = describe_encoding(data[:SAMPLE_BYTES])
            # What to do is said for tables there: this file is no spreadsheet's.
            what = known.partition(":")[0] or f"is not UTF-8 at byte {start}"
            message = f"{what}: save as UTF-8"
    raise ConfigError([Problem(path, line, "", message)])


def _describe_error(error: yaml.YAMLError, text: str) -> tuple[int, str, str]:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        number = error.problem_mark.line
        lines = text.splitlines()
        hint = _hint(error.problem or "", lines, number)
        return number + 1, "", f"is not valid YAML: {error.problem}{hint}"
    position = getattr(error, "position", 0)
    reason = getattr(error, "reason", "") or "unreadable"
    line = text.encode()[:position].count(b"\n") + 1
    return line, "", f"is not valid YAML: {reason} (write it as an escape in double quotes)"


def _hint(problem: str, lines: Sequence[str], number: int) -> str:
    """What mostly causes an error in this line (0-based); empty where nothing is known."""
    line = lines[number] if number < len(lines) else ""
    if re.match(r" *\t", line):
        return ": a tab stands in the indentation; YAML takes only spaces there"
    # libyaml finds a key without its colon only in a line that follows.
    if any(WIDE_COLON in each for each in lines[max(number - 1, 0) : number + 1]):
        return f": {WIDE_HINT}"
    if "mapping values are not allowed" in problem:
        return ': text that holds a colon and a blank needs quotes, as in key: "one: two"'
    return ""


class _Container:
    """A mapping or list whose end has not come yet."""

    __slots__ = ("container", "expects_key", "is_list", "key", "path")

    def __init__(self, container: Any, path: KeyPath) -> None:
        self.container = container
        self.is_list = isinstance(container, list)
        self.path = path
        self.key = ""
        """In a mapping, the key whose value comes next, unless a key does."""
        self.expects_key = not self.is_list


class _Builder:
    """Builds the document from events, with a stack of its own instead of recursion."""

    def __init__(self, path: str, problems: Problems) -> None:
        self.root: Any = None
        self.lines: dict[KeyPath, int] = {}
        self.duplicates = Problems()
        self._path = path
        self._problems = problems
        self._open: list[_Container] = []
        self._documents = 0

    def add(self, event: yaml.Event) -> bool:
        """Add one event; False where the rest of the file can't be read."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        if type(event) is yaml.ScalarEvent and event.anchor is None and event.tag is None:
            self._add_scalar(event.value, line)  # nearly all of them
            return True
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
                self._add_problem(line, "aliases (*name) are not supported: write the value out")
                self._add_scalar("", line)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    message = "a second document starts here (---): one file holds one prompt set"
                    self._add_problem(line, message)
                    return False
        return True

    def _start(self, container: dict[str, Any] | list[Any], event: Any, line: int) -> bool:
        self._refuse_node(event, line)
        if len(self._open) == MAX_DEPTH:
            self._add_problem(line, f"is nested more than {MAX_DEPTH} levels deep")
            return False
        if self._open and self._open[-1].expects_key:
            self._add_problem(
                line, "a key must be text, not a mapping or list (braces need quotes)"
            )
            return False
        parent = self._open[-1] if self._open else None
        key_path: KeyPath = ()
        if parent is not None:
            last = str(len(parent.container)) if parent.is_list else parent.key
            key_path = (*parent.path, last)
        self._add_value(parent, container, line)
        self._open.append(_Container(container, key_path))
        return True

    def _add_scalar(self, text: str, line: int) -> None:
        parent = self._open[-1] if self._open else None
        if parent is None or not parent.expects_key:
            self._add_value(parent, text, line)
            return
        parent.key, parent.expects_key = text, False
        key_path = (*parent.path, text)
        first = self.lines.setdefault(key_path, line)
        if text in parent.container:
            message = f"duplicate key {quoted(text)}: it stands in line {first} already"
            self.duplicates.add(self._path, line, ".".join(key_path), message)

    def _add_value(self, parent: _Container | None, value: Any, line: int) -> None:
        """Add a value to the innermost container."""
        if parent is None:
            if self.root is not None:
                self._add_problem(line, "stands twice: write all keys under one of them")
            self.root = value
        elif parent.is_list:
            self.lines[*parent.path, str(len(parent.container))] = line
            parent.container.append(value)
        else:
            # The first of two equal keys stays; the second is reported already.
            parent.container.setdefault(parent.key, value)
            parent.expects_key = True

    def _refuse_node(self, event: Any, line: int) -> None:
        if event.anchor is not None:
            self._add_problem(
                line, f"aliases (&{event.anchor}) are not supported: write the value out"
            )
        if event.tag is not None:
            self._add_problem(
                line, f"the tag {quoted(event.tag)} is refused: tags are not supported"
            )

    def _add_problem(self, line: int, message: str) -> None:
        key_path: KeyPath = ()
        if self._open:
            parent = self._open[-1]
            has_key = not (parent.is_list or parent.expects_key)
            key_path = (*parent.path, parent.key) if has_key else parent.path
        self._problems.add(self._path, line, ".".join(key_path), message)
