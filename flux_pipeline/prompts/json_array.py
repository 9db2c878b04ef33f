"""Reads a JSON array from a file value by value, so that a file of any size is never held whole."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, NoReturn

from flux_pipeline.prompts.encodings import SAVE_AS
from flux_pipeline.text import quoted

MAX_VALUE_CHARACTERS = 2**20
_CHUNK_BYTES = 2**16
_SPACE = re.compile(r"[ \t\r\n]*")
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{},"]', re.DOTALL)


class Element(NamedTuple):
    """One value of the array, or what is wrong in its place."""

    line: int
    """1-based line where it starts."""
    value: Any
    problem: str = ""
    """Empty where ``value`` could be read."""
    is_last: bool = False
    """Whether the rest of the file can't be read after this problem."""


def parse_json(text: str) -> Any:
    """The value of a JSON text; its numbers stay as they are written.

    Raises:
        ValueError: No JSON, NaN or Infinity, a key that stands twice, or nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json_array(file: BinaryIO) -> Iterator[Element]:
    """Every value of the array that the file holds; one of at most 1 MiB is held at a time.

    Raises:
        ValueError: It holds no array, or bytes that are not UTF-8.
    """
    text = _Window(file)
    if text.skip_space() != "[":
        raise ValueError(
            'holds no JSON array: write [{...}, {...}], from pandas with orient="records"; '
            "a file with an object a line is called .jsonl"
        )
    text.start += 1
    if text.skip_space() == "]":
        return
    while True:
        text.skip_space()
        line = text.line
        end = text.find_end()
        if end is None:
            what = "is longer than 1 MiB" if text.is_long else "is cut off: the file ends within it"
            yield Element(line, None, what, is_last=True)
            return
        element = _parse_element(line, text.take(end))
        yield element
        separator = text.skip_space()
        text.start += 1
        if element.is_last or separator == "]":
            break
    if not element.is_last and text.skip_space():
        yield Element(text.line, None, "more stands behind the array's end", is_last=True)


def _parse_element(line: int, text: str) -> Element:
    try:
        return Element(line, parse_json(text))
    except json.JSONDecodeError as error:
        what = f"is no JSON: {error.msg} at its character {error.pos + 1}"
        # A quotation mark that is missing makes texts of what lies between them, other rows too.
        swallowed = any("\n" in found[0] for found in _STRUCTURE.finditer(text))
        return Element(line, None, what, is_last=swallowed)
    except ValueError as error:
        return Element(line, None, f"is no JSON: {error}")


class _Window:
    """The part of a file that is being read, as text."""

    def __init__(self, file: BinaryIO) -> None:
        self.start = 0
        """Where the next value starts in the text."""
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._is_whole = False
        self._line = 1
        self._counted = 0

    @property
    def line(self) -> int:
        """1-based, of ``start``."""
        self._line += self._text.count("\n", self._counted, self.start)
        self._counted = self.start
        return self._line

    @property
    def is_long(self) -> bool:
        """Whether the value is too long to be read."""
        return len(self._text) - self.start > MAX_VALUE_CHARACTERS

    def skip_space(self) -> str:
        """Go on to the next character that is no white space, and return it; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self.start)
            self.start = found.end() if found else self.start
            if self.start < len(self._text):
                return self._text[self.start]
            if not self._read():
                return ""

    def find_end(self) -> int | None:
        """The length of the value at ``start``; None where it has no end, or is too long."""
        depth, offset = 0, 0
        while not self.is_long:
            for found in _STRUCTURE.finditer(self._text, self.start + offset):
                sign = found[0]
                if sign == '"':
                    break  # a text whose end has not been read yet
                if depth == 0 and sign in {",", "]"}:
                    return found.start() - self.start
                depth += (sign in {"[", "{"}) - (sign in {"]", "}"})
                offset = found.end() - self.start
            # Nothing is looked at twice but a text that is cut by the chunk's end.
            if not self._read():
                return None
        return None

    def take(self, length: int) -> str:
        """The next characters, which are then behind ``start``."""
        self.start += length
        return self._text[self.start - length : self.start].rstrip(" \t\r\n")

    def _read(self) -> bool:
        if self._is_whole:
            return False
        data = self._file.read(_CHUNK_BYTES)
        self._is_whole = not data
        try:
            more = self._decoder.decode(data, final=self._is_whole)
        except UnicodeDecodeError as error:
            raise ValueError(f"holds bytes that are not UTF-8: {SAVE_AS}") from error
        self._line = self.line
        self._text = self._text[self.start :] + more
        self.start = self._counted = 0
        return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quoted(duplicate)} stands twice")
    return value


_DECODER = json.JSONDecoder(
    parse_int=str,  # as it is written: 1.10 stays 1.10
    parse_float=str,
    parse_constant=_refuse_constant,
    object_pairs_hook=_without_duplicates,
)
