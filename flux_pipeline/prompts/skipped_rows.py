"""Counts the rows of tables that are skipped, so that a warning says how many and which."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from flux_pipeline.errors import Problem, Problems
from flux_pipeline.text import count_noun

_NAMED = 5
_ROW = re.compile(r"row [0-9]+")


class Skip(StrEnum):
    """Why a row is skipped, in the words of the warning."""

    BETWEEN = "of blank cells between others"
    CELL = "with a blank cell (blank: skip)"
    BAD = "that can't be used (bad_rows: skip)"


@dataclass(slots=True)
class _Count:
    total: int = 0
    first: list[str] = field(default_factory=list)
    last: str = ""


class SkippedRows:
    """The rows that one pass over a set skipped, by table, entry and reason."""

    def __init__(self) -> None:
        self._details = Problems()
        self._counts: dict[tuple[str, str, Skip], _Count] = {}

    def add(self, path: str, key: str, why: Skip, place: str, rows: int = 1) -> None:
        """Count rows from a place such as ``row 7`` on; the same place again changes nothing."""
        count = self._counts.setdefault((path, key, why), _Count())
        if place != count.last:
            count.last = place
            count.total += rows
            if len(count.first) < _NAMED:
                count.first.append(place)

    def add_bad(self, path: str, key: str, line: int, message: str) -> None:
        """Count a row that is wrong, and keep what is wrong with it."""
        found = _ROW.match(message)
        self.add(path, key, Skip.BAD, found[0] if found else f"line {line}")
        self._details.add(path, line, key, f"skipped: {message}")

    def has_bad(self, path: str, key: str) -> bool:
        """Whether a row of this entry was skipped because it is wrong."""
        return (path, key, Skip.BAD) in self._counts

    def warnings(self) -> Problems:
        """What is wrong with bad rows, at most a hundred of a table, and the number of all."""
        found = Problems()
        found.add_all(self._details.as_tuple())
        for (path, key, why), count in self._counts.items():
            # One place may stand for several rows that follow each other.
            is_more = count.total > len(count.first)
            named = f"{', '.join(count.first)}{' ...' if is_more else ''}"
            message = f"skipped {count_noun(count.total, 'row')} {why}: {named}"
            found.add_all([Problem(path, 0, key, message)])
        return found
